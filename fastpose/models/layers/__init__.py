"""Blocks that several families share, each written once."""

from .conv import ConvUnit, SeparableConvUnit, channel_shuffle
from .residual import BasicBlock, Bottleneck

__all__ = ["BasicBlock", "Bottleneck", "ConvUnit", "SeparableConvUnit", "channel_shuffle"]
