"""Blocks that several families share, each written once."""

from .conv import ConvUnit, SeparableConvUnit, channel_shuffle
from .drop_path import DropPath
from .residual import BasicBlock, Bottleneck

__all__ = ["BasicBlock", "Bottleneck", "ConvUnit", "DropPath", "SeparableConvUnit", "channel_shuffle"]
