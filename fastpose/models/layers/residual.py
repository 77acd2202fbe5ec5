"""Residual blocks (He et al., "Deep Residual Learning for Image Recognition", CVPR 2016)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from torch import Tensor, nn

from .norm import norm_act


class ResidualBlock(nn.Module, ABC):
    """What residual blocks have in common: a shortcut, a branch beside it, their sum and a ReLU.

    A block class is called with (in_channels, width, stride, downsample) and gives `expansion * width` channels. It
    registers its layers itself, `relu` and `downsample` among them, because checkpoints fix their order.
    """

    expansion: ClassVar[int]
    relu: nn.ReLU
    downsample: nn.Module | None

    @abstractmethod
    def residual(self, x: Tensor) -> Tensor:
        """The branch up to its last normalisation, which is applied together with what follows."""

    @property
    @abstractmethod
    def last_norm(self) -> nn.BatchNorm2d:
        """The normalisation that ends the branch."""

    def forward(self, x: Tensor) -> Tensor:
        """[B, in_channels, h, w] → [B, expansion * width, h / stride, w / stride]."""
        shortcut = x if self.downsample is None else self.downsample(x)
        return norm_act(self.last_norm, self.residual(x), self.relu, shortcut)


class BasicBlock(ResidualBlock):
    """Two 3x3 convolutions and a shortcut.

    Args:
        in_channels: channels of the input.
        width: channels of both convolutions, and of the output.
        stride: stride of the first convolution (and of the shortcut).
        downsample: the shortcut's projection; None where the input is added as it is.
    """

    expansion = 1

    def __init__(self, in_channels: int, width: int, stride: int = 1, downsample: nn.Module | None = None) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, width, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = downsample

    def residual(self, x: Tensor) -> Tensor:
        """[B, in_channels, h, w] → [B, width, h / stride, w / stride]."""
        return self.conv2(norm_act(self.bn1, self.conv1(x), self.relu))

    @property
    def last_norm(self) -> nn.BatchNorm2d:
        """The normalisation that ends the branch."""
        return self.bn2


class Bottleneck(ResidualBlock):
    """1x1, 3x3 and 1x1 convolutions and a shortcut; the stride is on the 3x3 (as in torchvision).

    Args:
        in_channels: channels of the input.
        width: the output has four times as many channels.
        stride: stride of the 3x3 convolution (and of the shortcut).
        downsample: the shortcut's projection; None where the input is added as it is.
        inner: channels of the 3x3 convolution; `width` by default.
        groups: groups of the 3x3 convolution.
    """

    expansion = 4

    def __init__(
        self,
        in_channels: int,
        width: int,
        stride: int = 1,
        downsample: nn.Module | None = None,
        *,
        inner: int | None = None,
        groups: int = 1,
    ) -> None:
        super().__init__()
        inner = width if inner is None else inner
        out_channels = width * self.expansion
        self.conv1 = nn.Conv2d(in_channels, inner, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(inner)
        self.conv2 = nn.Conv2d(inner, inner, 3, stride, padding=1, groups=groups, bias=False)
        self.bn2 = nn.BatchNorm2d(inner)
        self.conv3 = nn.Conv2d(inner, out_channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out_channels)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = downsample

    def residual(self, x: Tensor) -> Tensor:
        """[B, in_channels, h, w] → [B, 4 * width, h / stride, w / stride]."""
        x = norm_act(self.bn1, self.conv1(x), self.relu)
        return self.conv3(norm_act(self.bn2, self.conv2(x), self.relu))

    @property
    def last_norm(self) -> nn.BatchNorm2d:
        """The normalisation that ends the branch."""
        return self.bn3
