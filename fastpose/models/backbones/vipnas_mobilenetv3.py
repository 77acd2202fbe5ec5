"""ViPNAS-MobileNetV3 (Xu et al., "ViPNAS: Efficient Video Pose Estimation via NAS", CVPR 2021)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor, nn

from fastpose.spec import PoseSpec

from ..baseline import simple_baseline
from ..layers import ConvUnit, SqueezeExcitation, init_kaiming, init_normal
from ..pose_model import PoseModel
from ..registry import register_model


class _Stage(NamedTuple):
    """What the search found for a stage."""

    width: int
    expansion: int
    depth: int
    kernel: int
    groups: int
    attention: bool
    stride: int
    activation: type[nn.ReLU] | type[nn.Hardswish]


_STAGES = (
    _Stage(16, 1, 1, 3, 8, True, 1, nn.ReLU),
    _Stage(24, 5, 4, 7, 120, True, 2, nn.ReLU),
    _Stage(40, 4, 4, 7, 20, False, 2, nn.ReLU),
    _Stage(80, 5, 4, 5, 100, True, 2, nn.Hardswish),
    _Stage(112, 5, 4, 7, 280, True, 1, nn.Hardswish),
    _Stage(160, 6, 4, 5, 240, True, 2, nn.Hardswish),
)


class ViPNASMobileNetV3(nn.Module):
    """The searched MobileNetV3: 160 channels at 1/32 of the input.

    The maps of `forward_features` are the last at each of 1/4, 1/8, 1/16 and 1/32.
    """

    stride = 32
    out_channels = 160
    feature_channels = (24, 40, 112, 160)
    feature_strides = (4, 8, 16, 32)

    def __init__(self) -> None:
        super().__init__()
        channels = 16
        self.conv1 = ConvUnit(3, channels, 3, stride=2, activation=nn.Hardswish(inplace=True))
        self._last_blocks = []  # of the maps of forward_features
        number = 0
        for position, stage in enumerate(_STAGES):
            for index in range(stage.depth):
                number += 1
                self.add_module(f"layer{number}", InvertedResidual(channels, stage, 1 if index else stage.stride))
                channels = stage.width
            if position in (1, 2, 4, 5):
                self._last_blocks.append(number)
        self.init_weights()

    def init_weights(self) -> None:
        """Draw every convolution from N(0, 0.001) but the first, which is Kaiming, as the official training does."""
        init_normal(self)
        init_kaiming(self.conv1)

    def forward_features(self, x: Tensor) -> list[Tensor]:
        """[B, 3, h, w] → [B, feature_channels[i], h / feature_strides[i], w / feature_strides[i]]."""
        x = self.conv1(x)
        maps = []
        for number in range(1, self._last_blocks[-1] + 1):
            x = self.get_submodule(f"layer{number}")(x)
            if number in self._last_blocks:
                maps.append(x)
        return maps

    def forward(self, x: Tensor) -> Tensor:
        """[B, 3, h, w] → [B, 160, h / 32, w / 32]."""
        return self.forward_features(x)[-1]


class InvertedResidual(nn.Module):
    """1x1 convolution to many channels, grouped kxk, perhaps channel attention, 1x1 to few; perhaps a shortcut.

    Args:
        in_channels: channels of the input.
        stage: what the search found for the block's stage.
        stride: stride of the grouped convolution; a shortcut where it is 1 and the widths agree.
    """

    def __init__(self, in_channels: int, stage: _Stage, stride: int) -> None:
        super().__init__()
        width = stage.width * stage.expansion
        self.expand_conv = None
        if stage.expansion != 1:
            self.expand_conv = ConvUnit(in_channels, width, activation=stage.activation(inplace=True))
        self.depthwise_conv = ConvUnit(
            width,
            width,
            stage.kernel,
            stride=stride,
            groups=stage.groups,
            activation=stage.activation(inplace=True),
        )
        self.se = SqueezeExcitation(width, 4, gate=SteepHardsigmoid()) if stage.attention else None
        self.linear_conv = ConvUnit(width, stage.width)
        self.shortcut = stride == 1 and in_channels == stage.width

    def forward(self, x: Tensor) -> Tensor:
        """[B, in_channels, h, w] → [B, stage.width, h / stride, w / stride]."""
        out = x if self.expand_conv is None else self.expand_conv(x)
        out = self.depthwise_conv(out)
        if self.se is not None:
            out = self.se(out)
        out = self.linear_conv(out)
        return out.add_(x) if self.shortcut else out


class SteepHardsigmoid(nn.Module):
    """min(max((x + 1) / 2, 0), 1): three times as steep as PyTorch's; the networks were trained with it."""

    def forward(self, x: Tensor) -> Tensor:
        """Any shape → the same shape."""
        return ((x + 1) / 2).clamp(0, 1)


@register_model
def vipnas_mobilenetv3(
    spec: PoseSpec,
    *,
    deconv_channels: Sequence[int] = (160, 160, 160),
    deconv_groups: int = 160,
    head: str = "heatmap",
) -> PoseModel:
    """ViPNAS-MobileNetV3 with depthwise deconvolutions."""
    return simple_baseline(
        spec, ViPNASMobileNetV3(), deconv_channels=deconv_channels, deconv_groups=deconv_groups, head=head
    )
