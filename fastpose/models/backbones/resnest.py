"""ResNeSt (Zhang et al., "ResNeSt: Split-Attention Networks", CVPR 2022 workshops)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from fastpose.spec import PoseSpec

from ..baseline import simple_baseline
from ..layers import ResidualBlock, norm_act
from ..pose_model import PoseModel
from ..registry import register_model
from .resnet import ResNet


class ResNeStBottleneck(ResidualBlock):
    """Bottleneck with split attention in the middle; where it shrinks the map, it does so by averaging after it.

    Args:
        in_channels: channels of the input.
        width: channels in the middle; the output has four times as many.
        stride: step of the averaging (and of the shortcut).
        downsample: the shortcut's projection; None where the input is added as it is.
    """

    expansion = 4

    def __init__(self, in_channels: int, width: int, stride: int = 1, downsample: nn.Module | None = None) -> None:
        super().__init__()
        out_channels = width * self.expansion
        self.conv1 = nn.Conv2d(in_channels, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = SplitAttention(width)
        self.shrink = nn.AvgPool2d(3, stride, padding=1) if stride != 1 else nn.Identity()
        self.conv3 = nn.Conv2d(width, out_channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out_channels)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = downsample

    def residual(self, x: Tensor) -> Tensor:
        """[B, in_channels, h, w] → [B, 4 * width, h / stride, w / stride]."""
        x = self.conv2(norm_act(self.bn1, self.conv1(x), self.relu))
        return self.conv3(self.shrink(x))

    @property
    def last_norm(self) -> nn.BatchNorm2d:
        """The normalisation that ends the branch."""
        return self.bn3


class SplitAttention(nn.Module):
    """Two 3x3 convolutions, mixed per channel by weights computed from the mean of their sum (radix 2, cardinality 1).

    Args:
        channels: of the input, of each convolution and of the output.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = max(channels // 2, 32)
        self.conv = nn.Conv2d(channels, 2 * channels, 3, padding=1, groups=2, bias=False)
        self.bn0 = nn.BatchNorm2d(2 * channels)
        self.relu = nn.ReLU(inplace=True)
        self.fc1 = nn.Conv2d(channels, hidden, 1)
        self.bn1 = nn.BatchNorm2d(hidden)
        self.fc2 = nn.Conv2d(hidden, 2 * channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """[B, channels, h, w] → the same shape."""
        x = norm_act(self.bn0, self.conv(x), self.relu)
        first_mean, second_mean = x.mean((2, 3), keepdim=True).chunk(2, dim=1)
        scores = self.fc2(self.relu(self.bn1(self.fc1(first_mean + second_mean))))
        first_score, second_score = scores.chunk(2, dim=1)
        first, second = x.chunk(2, dim=1)
        # A softmax over two is a sigmoid of their difference, and mixing by weights that sum to one a single pass.
        return torch.lerp(second, first, torch.sigmoid(first_score - second_score))


def _resnest(spec: PoseSpec, depths: Sequence[int], deconv_channels: Sequence[int]) -> PoseModel:
    backbone = ResNet(ResNeStBottleneck, depths, deep_stem=True, average_downsample=True)
    return simple_baseline(spec, backbone, deconv_channels=deconv_channels)


@register_model
def resnest50(spec: PoseSpec, *, deconv_channels: Sequence[int] = (256, 256, 256)) -> PoseModel:
    """SimpleBaseline on ResNeSt-50."""
    return _resnest(spec, (3, 4, 6, 3), deconv_channels)


@register_model
def resnest101(spec: PoseSpec, *, deconv_channels: Sequence[int] = (256, 256, 256)) -> PoseModel:
    """SimpleBaseline on ResNeSt-101."""
    return _resnest(spec, (3, 4, 23, 3), deconv_channels)


@register_model
def resnest200(spec: PoseSpec, *, deconv_channels: Sequence[int] = (256, 256, 256)) -> PoseModel:
    """SimpleBaseline on ResNeSt-200."""
    return _resnest(spec, (3, 24, 36, 3), deconv_channels)


@register_model
def resnest269(spec: PoseSpec, *, deconv_channels: Sequence[int] = (256, 256, 256)) -> PoseModel:
    """SimpleBaseline on ResNeSt-269."""
    return _resnest(spec, (3, 30, 48, 8), deconv_channels)
