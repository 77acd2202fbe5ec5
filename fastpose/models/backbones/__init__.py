"""Backbones, one family a file; importing this package registers every architecture."""

from .resnet import ResNet

__all__ = ["ResNet"]
