"""ShuffleNet (Zhang et al., "ShuffleNet: An Extremely Efficient CNN for Mobile Devices", CVPR 2018)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fastpose.spec import PoseSpec

from ..baseline import simple_baseline
from ..layers import ConvUnit, MaxPool, channel_shuffle, init_shufflenet
from ..pose_model import PoseModel
from ..registry import register_model

_GROUPS = 3
_STEM_WIDTH = 24
_WIDTHS = (240, 480, 960)  # of the stages, for three groups
_DEPTHS = (4, 8, 4)


class ShuffleNetV1(nn.Module):
    """ShuffleNet of three groups without its classifier: 960 channels at 1/32 of the input.

    The maps of `forward_features` are the stem's, pooled, and those of the three stages.
    """

    stride = 32
    out_channels = _WIDTHS[-1]
    feature_channels = (_STEM_WIDTH, *_WIDTHS)
    feature_strides = (4, 8, 16, 32)

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = ConvUnit(3, _STEM_WIDTH, 3, stride=2, activation=nn.ReLU(inplace=True))
        self.maxpool = MaxPool(3, stride=2, padding=1)
        channels = _STEM_WIDTH
        self.layers = nn.ModuleList()
        for width, depth in zip(_WIDTHS, _DEPTHS, strict=True):
            # The first convolution of all has too few channels to be worth grouping.
            first = ShuffleUnit(channels, width, groups=1 if channels == _STEM_WIDTH else _GROUPS)
            self.layers.append(nn.Sequential(first, *(ShuffleUnit(width, width) for _ in range(depth - 1))))
            channels = width
        self.init_weights()

    def init_weights(self) -> None:
        """As the authors' training draws them."""
        init_shufflenet(self)

    def forward_features(self, x: Tensor) -> list[Tensor]:
        """[B, 3, h, w] → [B, feature_channels[i], h / feature_strides[i], w / feature_strides[i]]."""
        maps = [self.maxpool(self.conv1(x))]
        for stage in self.layers:
            maps.append(stage(maps[-1]))
        return maps

    def forward(self, x: Tensor) -> Tensor:
        """[B, 3, h, w] → [B, 960, h / 32, w / 32]."""
        return self.forward_features(x)[-1]


class ShuffleUnit(nn.Module):
    """Grouped 1x1 convolution to a quarter of the width, 3x3 depthwise, shuffle, grouped 1x1, and a shortcut.

    Where the width grows, the stride is 2 and the pooled input stands beside the output; else it is added to it.

    Args:
        in_channels: channels of the input.
        width: channels of the output.
        groups: groups of the first convolution.
    """

    def __init__(self, in_channels: int, width: int, groups: int = _GROUPS) -> None:
        super().__init__()
        self.grows = in_channels != width
        quarter = width // 4
        self.g_conv_1x1_compress = ConvUnit(in_channels, quarter, groups=groups, activation=nn.ReLU(inplace=True))
        self.depthwise_conv3x3_bn = ConvUnit(quarter, quarter, 3, stride=2 if self.grows else 1, groups=quarter)
        self.g_conv_1x1_expand = ConvUnit(quarter, width - in_channels if self.grows else width, groups=_GROUPS)

    def forward(self, x: Tensor) -> Tensor:
        """[B, in_channels, h, w] → [B, width, h, w], or half the sides where the width grows."""
        out = self.depthwise_conv3x3_bn(self.g_conv_1x1_compress(x))
        out = self.g_conv_1x1_expand(channel_shuffle(out, _GROUPS))
        if self.grows:
            return torch.cat((F.avg_pool2d(x, 3, stride=2, padding=1), out), dim=1).relu_()
        return out.add_(x).relu_()


@register_model
def shufflenetv1(spec: PoseSpec, *, deconv_channels: Sequence[int] = (256, 256, 256)) -> PoseModel:
    """SimpleBaseline on ShuffleNet with three groups."""
    return simple_baseline(spec, ShuffleNetV1(), deconv_channels=deconv_channels)
