"""SCNet (Liu et al., "Improving Convolutional Networks with Self-Calibrated Convolutions", CVPR 2020)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fastpose.spec import PoseSpec

from ..baseline import simple_baseline
from ..layers import NormSequential, ResidualBlock, norm_act, with_enlarged
from ..pose_model import PoseModel
from ..registry import register_model
from .resnet import ResNet


class SCBottleneck(ResidualBlock):
    """Bottleneck in two halves: a plain 3x3 convolution beside a self-calibrated one.

    Args:
        in_channels: channels of the input.
        width: channels of both halves together; the output has four times as many.
        stride: stride of both halves (and of the shortcut).
        downsample: the shortcut's projection; None where the input is added as it is.
    """

    expansion = 4

    def __init__(self, in_channels: int, width: int, stride: int = 1, downsample: nn.Module | None = None) -> None:
        super().__init__()
        half = width // 2
        out_channels = width * self.expansion
        self.conv1 = nn.Conv2d(in_channels, half, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(half)
        self.conv2 = nn.Conv2d(in_channels, half, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(half)
        self.conv3 = nn.Conv2d(2 * half, out_channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out_channels)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = downsample
        self.k1 = NormSequential(*_conv(half, stride), nn.ReLU(inplace=True))
        self.scconv = SelfCalibratedConv(half, stride)

    def residual(self, x: Tensor) -> Tensor:
        """[B, in_channels, h, w] → [B, 4 * width, h / stride, w / stride]."""
        plain = self.k1(norm_act(self.bn1, self.conv1(x), self.relu))
        calibrated = self.scconv(norm_act(self.bn2, self.conv2(x), self.relu))
        return self.conv3(torch.cat((plain, calibrated), dim=1))

    @property
    def last_norm(self) -> nn.BatchNorm2d:
        """The normalisation that ends the branch."""
        return self.bn3


class SelfCalibratedConv(nn.Module):
    """A convolution gated by the input and by what a convolution sees of it at a quarter of the resolution.

    Args:
        channels: of the input and of the output.
        stride: stride of the last convolution.
    """

    def __init__(self, channels: int, stride: int) -> None:
        super().__init__()
        self.k2 = NormSequential(_Shrink(4), *_conv(channels))
        self.k3 = NormSequential(*_conv(channels))
        self.k4 = NormSequential(*_conv(channels, stride), nn.ReLU(inplace=True))

    def forward(self, x: Tensor) -> Tensor:
        """[B, channels, h, w] → [B, channels, h / stride, w / stride]."""
        gate = with_enlarged(torch.add, x, self.k2(x)).sigmoid_()
        return self.k4(self.k3(x) * gate)


class _Shrink(nn.Module):
    """Average over squares; a map that is smaller than one is averaged whole."""

    def __init__(self, factor: int) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        return F.avg_pool2d(x, (min(self.factor, height), min(self.factor, width)))


def _conv(channels: int, stride: int = 1) -> tuple[nn.Module, nn.Module]:
    return nn.Conv2d(channels, channels, 3, stride, padding=1, bias=False), nn.BatchNorm2d(channels)


@register_model
def scnet50(spec: PoseSpec, *, deconv_channels: Sequence[int] = (256, 256, 256)) -> PoseModel:
    """SimpleBaseline on SCNet-50."""
    return simple_baseline(spec, ResNet(SCBottleneck, (3, 4, 6, 3)), deconv_channels=deconv_channels)


@register_model
def scnet101(spec: PoseSpec, *, deconv_channels: Sequence[int] = (256, 256, 256)) -> PoseModel:
    """SimpleBaseline on SCNet-101."""
    return simple_baseline(spec, ResNet(SCBottleneck, (3, 4, 23, 3)), deconv_channels=deconv_channels)
