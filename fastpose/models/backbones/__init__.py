"""Backbones, one family a file; importing this package registers every architecture."""

from .litehrnet import LiteHRNet
from .resnet import ResNet

__all__ = ["LiteHRNet", "ResNet"]
