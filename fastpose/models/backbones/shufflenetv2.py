"""ShuffleNetV2 (Ma et al., "ShuffleNet V2: Practical Guidelines for Efficient CNN Architecture Design", ECCV 2018)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from fastpose.spec import PoseSpec

from ..baseline import simple_baseline
from ..layers import ConvUnit, MaxPool, init_shufflenet, interleave
from ..pose_model import PoseModel
from ..registry import register_model

_STEM_WIDTH = 24
_WIDTHS = (116, 232, 464)  # of the stages, for the width factor 1
_DEPTHS = (4, 8, 4)


class ShuffleNetV2(nn.Module):
    """ShuffleNetV2 of width 1 without its classifier: 1024 channels at 1/32 of the input.

    The maps of `forward_features` are the stem's, pooled, those of two stages, and the last.
    """

    stride = 32
    out_channels = 1024
    feature_channels = (_STEM_WIDTH, *_WIDTHS[:2], out_channels)
    feature_strides = (4, 8, 16, 32)

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = ConvUnit(3, _STEM_WIDTH, 3, stride=2, activation=nn.ReLU(inplace=True))
        self.maxpool = MaxPool(3, stride=2, padding=1)
        channels = _STEM_WIDTH
        self.layers = nn.ModuleList()
        for width, depth in zip(_WIDTHS, _DEPTHS, strict=True):
            first = DownUnit(channels, width)
            self.layers.append(nn.Sequential(first, *(ShuffleUnit(width) for _ in range(depth - 1))))
            channels = width
        self.layers.append(ConvUnit(channels, self.out_channels, activation=nn.ReLU(inplace=True)))
        self.init_weights()

    def init_weights(self) -> None:
        """As the authors' training draws them."""
        init_shufflenet(self)

    def forward_features(self, x: Tensor) -> list[Tensor]:
        """[B, 3, h, w] → [B, feature_channels[i], h / feature_strides[i], w / feature_strides[i]]."""
        maps = [self.maxpool(self.conv1(x))]
        *stages, last = self.layers
        for stage in stages:
            maps.append(stage(maps[-1]))
        return [*maps[:-1], last(maps[-1])]

    def forward(self, x: Tensor) -> Tensor:
        """[B, 3, h, w] → [B, 1024, h / 32, w / 32]."""
        return self.forward_features(x)[-1]


class DownUnit(nn.Module):
    """Both branches see the whole input and halve its sides; their outputs are shuffled.

    Args:
        in_channels: channels of the input.
        width: channels of the output.
    """

    def __init__(self, in_channels: int, width: int) -> None:
        super().__init__()
        self.branch1 = nn.Sequential(
            ConvUnit(in_channels, in_channels, 3, stride=2, groups=in_channels),
            ConvUnit(in_channels, width // 2, activation=nn.ReLU(inplace=True)),
        )
        self.branch2 = _branch(in_channels, width // 2, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        """[B, in_channels, h, w] → [B, width, h / 2, w / 2]."""
        return interleave((self.branch1(x), self.branch2(x)))


class ShuffleUnit(nn.Module):
    """Half of the channels pass, the others go through a branch; then all are shuffled.

    Args:
        width: channels of input and output.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.branch2 = _branch(width // 2, width // 2, stride=1)

    def forward(self, x: Tensor) -> Tensor:
        """[B, width, h, w] → the same shape."""
        kept, changed = x.chunk(2, dim=1)
        return interleave((kept, self.branch2(changed)))


def _branch(in_channels: int, width: int, stride: int) -> nn.Sequential:
    """1x1 convolution, 3x3 depthwise convolution, 1x1 convolution."""
    return nn.Sequential(
        ConvUnit(in_channels, width, activation=nn.ReLU(inplace=True)),
        ConvUnit(width, width, 3, stride=stride, groups=width),
        ConvUnit(width, width, activation=nn.ReLU(inplace=True)),
    )


@register_model
def shufflenetv2(spec: PoseSpec, *, deconv_channels: Sequence[int] = (256, 256, 256)) -> PoseModel:
    """SimpleBaseline on ShuffleNetV2."""
    return simple_baseline(spec, ShuffleNetV2(), deconv_channels=deconv_channels)
