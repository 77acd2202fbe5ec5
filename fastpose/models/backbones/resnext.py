"""ResNeXt (Xie et al., "Aggregated Residual Transformations for Deep Neural Networks", CVPR 2017), 32x4d."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from fastpose.spec import PoseSpec

from ..baseline import simple_baseline
from ..layers import Bottleneck
from ..pose_model import PoseModel
from ..registry import register_model
from .resnet import ResNet


class ResNeXtBottleneck(Bottleneck):
    """Bottleneck whose 3x3 convolution has 32 groups, of 4 channels where the width is 64, and twice the channels.

    Args:
        in_channels: channels of the input.
        width: the 3x3 convolution has two, the output four times as many channels.
        stride: stride of the 3x3 convolution (and of the shortcut).
        downsample: the shortcut's projection; None where the input is added as it is.
    """

    def __init__(self, in_channels: int, width: int, stride: int = 1, downsample: nn.Module | None = None) -> None:
        super().__init__(in_channels, width, stride, downsample, inner=2 * width, groups=32)


@register_model
def resnext50(spec: PoseSpec, *, deconv_channels: Sequence[int] = (256, 256, 256)) -> PoseModel:
    """SimpleBaseline on ResNeXt-50 (32x4d)."""
    return simple_baseline(spec, ResNet(ResNeXtBottleneck, (3, 4, 6, 3)), deconv_channels=deconv_channels)


@register_model
def resnext101(spec: PoseSpec, *, deconv_channels: Sequence[int] = (256, 256, 256)) -> PoseModel:
    """SimpleBaseline on ResNeXt-101 (32x4d)."""
    return simple_baseline(spec, ResNet(ResNeXtBottleneck, (3, 4, 23, 3)), deconv_channels=deconv_channels)


@register_model
def resnext152(spec: PoseSpec, *, deconv_channels: Sequence[int] = (256, 256, 256)) -> PoseModel:
    """SimpleBaseline on ResNeXt-152 (32x4d)."""
    return simple_baseline(spec, ResNet(ResNeXtBottleneck, (3, 8, 36, 3)), deconv_channels=deconv_channels)
