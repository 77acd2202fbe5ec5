"""MobileNetV2 (Sandler et al., "MobileNetV2: Inverted Residuals and Linear Bottlenecks", CVPR 2018)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from fastpose.spec import PoseSpec

from ..baseline import simple_baseline
from ..layers import ConvUnit, init_kaiming
from ..pose_model import PoseModel
from ..registry import register_model

# Table 2 of the paper: expansion, width, blocks, stride of the first block.
_STAGES = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))


class MobileNetV2(nn.Module):
    """MobileNetV2 of width 1 without its classifier: 1280 channels at 1/32 of the input.

    The maps of `forward_features` are the last at each of 1/4, 1/8, 1/16 and 1/32.
    """

    stride = 32
    out_channels = 1280
    feature_channels = (24, 32, 96, 1280)
    feature_strides = (4, 8, 16, 32)

    def __init__(self) -> None:
        super().__init__()
        channels = 32
        self.conv1 = ConvUnit(3, channels, 3, stride=2, activation=nn.ReLU6(inplace=True))
        stages = []
        for expansion, width, depth, stride in _STAGES:
            blocks = [InvertedResidual(channels, width, expansion, stride)]
            blocks += [InvertedResidual(width, width, expansion) for _ in range(depth - 1)]
            stages.append(nn.Sequential(*blocks))
            channels = width
        self.layer1, self.layer2, self.layer3, self.layer4, self.layer5, self.layer6, self.layer7 = stages
        self.conv2 = ConvUnit(channels, self.out_channels, activation=nn.ReLU6(inplace=True))
        self.init_weights()

    def init_weights(self) -> None:
        """Kaiming for every convolution."""
        init_kaiming(self)

    def forward_features(self, x: Tensor) -> list[Tensor]:
        """[B, 3, h, w] → [B, feature_channels[i], h / feature_strides[i], w / feature_strides[i]]."""
        quarter = self.layer2(self.layer1(self.conv1(x)))
        eighth = self.layer3(quarter)
        sixteenth = self.layer5(self.layer4(eighth))
        return [quarter, eighth, sixteenth, self.conv2(self.layer7(self.layer6(sixteenth)))]

    def forward(self, x: Tensor) -> Tensor:
        """[B, 3, h, w] → [B, 1280, h / 32, w / 32]."""
        return self.forward_features(x)[-1]


class InvertedResidual(nn.Module):
    """1x1 convolution to many channels, 3x3 depthwise, 1x1 to few; a shortcut between the narrow ends.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        expansion: how many times more channels there are between; without the first convolution where it is 1.
        stride: stride of the depthwise convolution.
    """

    def __init__(self, in_channels: int, out_channels: int, expansion: int, stride: int = 1) -> None:
        super().__init__()
        width = in_channels * expansion
        layers = [ConvUnit(in_channels, width, activation=nn.ReLU6(inplace=True))] if expansion != 1 else []
        layers += [
            ConvUnit(width, width, 3, stride=stride, groups=width, activation=nn.ReLU6(inplace=True)),
            ConvUnit(width, out_channels),
        ]
        self.conv = nn.Sequential(*layers)
        self.shortcut = stride == 1 and in_channels == out_channels

    def forward(self, x: Tensor) -> Tensor:
        """[B, in_channels, h, w] → [B, out_channels, h / stride, w / stride]."""
        out = self.conv(x)
        return out.add_(x) if self.shortcut else out


@register_model
def mobilenetv2(
    spec: PoseSpec, *, deconv_channels: Sequence[int] = (256, 256, 256), head: str = "heatmap"
) -> PoseModel:
    """SimpleBaseline, DeepPose or RLE on MobileNetV2."""
    return simple_baseline(spec, MobileNetV2(), deconv_channels=deconv_channels, head=head)
