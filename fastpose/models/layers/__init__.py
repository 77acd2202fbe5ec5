"""Blocks that several families share, each written once."""

from .residual import BasicBlock, Bottleneck

__all__ = ["BasicBlock", "Bottleneck"]
