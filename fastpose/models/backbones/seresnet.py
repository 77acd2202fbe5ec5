"""SE-ResNet (Hu et al., "Squeeze-and-Excitation Networks", CVPR 2018)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from fastpose.spec import PoseSpec

from ..baseline import simple_baseline
from ..layers import Bottleneck, SqueezeExcitation, norm_act
from ..pose_model import PoseModel
from ..registry import register_model
from .resnet import ResNet


class SEBottleneck(Bottleneck):
    """Bottleneck whose branch is gated per channel before the shortcut is added.

    Args:
        in_channels: channels of the input.
        width: channels of the 3x3 convolution; the output has four times as many.
        stride: stride of the 3x3 convolution (and of the shortcut).
        downsample: the shortcut's projection; None where the input is added as it is.
    """

    def __init__(self, in_channels: int, width: int, stride: int = 1, downsample: nn.Module | None = None) -> None:
        super().__init__(in_channels, width, stride, downsample)
        self.se_layer = SqueezeExcitation(width * self.expansion, reduction=16)

    def forward(self, x: Tensor) -> Tensor:
        """[B, in_channels, h, w] → [B, 4 * width, h / stride, w / stride]."""
        shortcut = x if self.downsample is None else self.downsample(x)
        x = norm_act(self.last_norm, self.residual(x))
        return self.relu(torch.addcmul(shortcut, x, self.se_layer.weights(x)))  # product and sum in one pass


@register_model
def seresnet50(spec: PoseSpec, *, deconv_channels: Sequence[int] = (256, 256, 256)) -> PoseModel:
    """SimpleBaseline on SE-ResNet-50."""
    return simple_baseline(spec, ResNet(SEBottleneck, (3, 4, 6, 3)), deconv_channels=deconv_channels)


@register_model
def seresnet101(spec: PoseSpec, *, deconv_channels: Sequence[int] = (256, 256, 256)) -> PoseModel:
    """SimpleBaseline on SE-ResNet-101."""
    return simple_baseline(spec, ResNet(SEBottleneck, (3, 4, 23, 3)), deconv_channels=deconv_channels)


@register_model
def seresnet152(spec: PoseSpec, *, deconv_channels: Sequence[int] = (256, 256, 256)) -> PoseModel:
    """SimpleBaseline on SE-ResNet-152."""
    return simple_baseline(spec, ResNet(SEBottleneck, (3, 8, 36, 3)), deconv_channels=deconv_channels)
