"""CSPNeXt (Lyu et al., "RTMDet: An Empirical Study of Designing Real-Time Object Detectors", 2022)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fastpose.spec import PoseSpec

from ..baseline import simple_baseline
from ..layers import ConvUnit, SeparableConvUnit
from ..pose_model import PoseModel
from ..registry import register_model


class CSPNeXt(nn.Module):
    """CSPNeXt: the last stage's features at 1/32 of the input; the maps of `forward_features` are the four stages'.

    Args:
        depth: factor on the blocks of each stage, which are 3, 6, 6 and 3 (at least one stays).
        width: factor on the channels of each stage, which are 128, 256, 512 and 1024.
        levels: give the maps of so many last stages, the finest first; 1: the last one itself.
    """

    stride = 32
    feature_strides = (4, 8, 16, 32)

    def __init__(self, depth: float, width: float, *, levels: int = 1) -> None:
        super().__init__()
        self.levels = levels
        stem, *widths = (int(channels * width) for channels in (64, 128, 256, 512, 1024))
        depths = [max(round(blocks * depth), 1) for blocks in (3, 6, 6, 3)]
        self.stem = nn.Sequential(
            _unit(3, stem // 2, 3, stride=2), _unit(stem // 2, stem // 2, 3), _unit(stem // 2, stem, 3)
        )
        # All convolutions start as PyTorch draws them, which is how the official training starts.
        self.stage1 = nn.Sequential(_unit(stem, widths[0], 3, stride=2), CSPLayer(widths[0], widths[0], depths[0]))
        self.stage2 = nn.Sequential(_unit(widths[0], widths[1], 3, stride=2), CSPLayer(widths[1], widths[1], depths[1]))
        self.stage3 = nn.Sequential(_unit(widths[1], widths[2], 3, stride=2), CSPLayer(widths[2], widths[2], depths[2]))
        self.stage4 = nn.Sequential(
            _unit(widths[2], widths[3], 3, stride=2),
            PyramidPooling(widths[3]),
            CSPLayer(widths[3], widths[3], depths[3], shortcut=False),
        )
        self.out_channels = widths[-1]
        self.feature_channels = tuple(widths)

    def forward_features(self, x: Tensor) -> list[Tensor]:
        """[B, 3, h, w] → [B, feature_channels[i], h / feature_strides[i], w / feature_strides[i]]."""
        x = self.stem(x)
        maps = []
        for stage in (self.stage1, self.stage2, self.stage3, self.stage4):
            x = stage(x)
            maps.append(x)
        return maps

    def forward(self, x: Tensor) -> Tensor | list[Tensor]:
        """[B, 3, h, w] → [B, out_channels, h / 32, w / 32], or the maps of the last stages."""
        maps = self.forward_features(x)
        return maps[-1] if self.levels == 1 else maps[-self.levels :]


class PyramidPooling(nn.Module):
    """The map beside its maxima over 5x5, 9x9 and 13x13 neighbourhoods, mixed by a 1x1 convolution.

    Args:
        width: channels of input and output.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = _unit(width, width // 2)
        self.conv2 = _unit(width // 2 * 4, width)

    def forward(self, x: Tensor) -> Tensor:
        """[B, width, h, w] → the same shape."""
        maps = [self.conv1(x)]
        for _ in range(3):  # the maximum over 5x5 of the maximum over 5x5 is the one over 9x9, and so on
            maps.append(F.max_pool2d(maps[-1], 5, stride=1, padding=2))
        return self.conv2(torch.cat(maps, dim=1))


class CSPLayer(nn.Module):
    """Cross-stage partial layer: half of the channels go through the blocks, half pass by, then all are weighted.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        depth: blocks.
        shortcut: whether the blocks have shortcuts.
        attention: whether channels are weighted.
    """

    def __init__(
        self, in_channels: int, out_channels: int, depth: int, *, shortcut: bool = True, attention: bool = True
    ) -> None:
        super().__init__()
        half = out_channels // 2
        self.main_conv = _unit(in_channels, half)
        self.short_conv = _unit(in_channels, half)
        self.final_conv = _unit(2 * half, out_channels)
        self.blocks = nn.Sequential(*(CSPNeXtBlock(half, shortcut=shortcut) for _ in range(depth)))
        self.attention: nn.Module = ChannelAttention(2 * half) if attention else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """[B, in_channels, h, w] → [B, out_channels, h, w]."""
        halves = torch.cat((self.blocks(self.main_conv(x)), self.short_conv(x)), dim=1)
        return self.final_conv(self.attention(halves))


class CSPNeXtBlock(nn.Module):
    """3x3 convolution, then 5x5 depthwise and 1x1.

    Args:
        width: channels of input and output.
        shortcut: whether the input is added to the output.
    """

    def __init__(self, width: int, *, shortcut: bool) -> None:
        super().__init__()
        self.conv1 = _unit(width, width, 3)
        self.conv2 = SeparableConvUnit(
            width, width, 5, depthwise_activation=nn.SiLU(inplace=True), activation=nn.SiLU(inplace=True)
        )
        self.shortcut = shortcut

    def forward(self, x: Tensor) -> Tensor:
        """[B, width, h, w] → the same shape."""
        out = self.conv2(self.conv1(x))
        return out.add_(x) if self.shortcut else out


class ChannelAttention(nn.Module):
    """Multiply every channel by a weight that one layer computes from all channels' means.

    Args:
        width: channels.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc = nn.Conv2d(width, width, 1)
        nn.init.zeros_(cast(Tensor, self.fc.bias))

    def forward(self, x: Tensor) -> Tensor:
        """[B, width, h, w] → the same shape."""
        return x * F.hardsigmoid(self.fc(x.mean((2, 3), keepdim=True)))


def _unit(in_channels: int, out_channels: int, kernel: int = 1, *, stride: int = 1) -> ConvUnit:
    return ConvUnit(in_channels, out_channels, kernel, stride=stride, activation=nn.SiLU(inplace=True))


class CSPNeXtPAFPN(nn.Module):
    """Exchanges between resolutions, down and up again (Liu et al., PANet, CVPR 2018), of CSPNeXt's layers.

    Args:
        widths: channels of the maps, the finest first; each has half the resolution of the one before.
        depth: blocks of each layer.
        given: so many of the coarsest maps are given.
    """

    def __init__(self, widths: Sequence[int], *, depth: int = 2, given: int = 2) -> None:
        super().__init__()
        self.given = given
        steps = list(pairwise(widths))
        self.reduce_layers = nn.ModuleList(_unit(coarse, fine) for fine, coarse in reversed(steps))
        self.top_down_blocks = nn.ModuleList(self._layer(2 * fine, fine, depth) for fine, _ in reversed(steps))
        self.downsamples = nn.ModuleList(_unit(fine, fine, 3, stride=2) for fine, _ in steps)
        self.bottom_up_blocks = nn.ModuleList(self._layer(2 * fine, coarse, depth) for fine, coarse in steps)

    @staticmethod
    def _layer(in_channels: int, out_channels: int, depth: int) -> CSPLayer:
        return CSPLayer(in_channels, out_channels, depth, shortcut=False, attention=False)

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Maps [B, widths[i], h / 2**i, w / 2**i] → the coarsest ones, in the same shapes."""
        x, *finer = reversed(maps)
        reduced = []
        for reduce, block, fine in zip(self.reduce_layers, self.top_down_blocks, finer, strict=True):
            reduced.append(reduce(x))
            x = block(torch.cat([F.interpolate(reduced[-1], scale_factor=2.0), fine], dim=1))
        out = [x]
        for down, block, coarse in zip(self.downsamples, self.bottom_up_blocks, reversed(reduced), strict=True):
            out.append(block(torch.cat([down(out[-1]), coarse], dim=1)))
        return out[-self.given :]


@register_model
def cspnext_tiny(spec: PoseSpec, *, deconv_channels: Sequence[int] = (256, 256, 256)) -> PoseModel:
    """SimpleBaseline on CSPNeXt-tiny."""
    return simple_baseline(spec, CSPNeXt(0.167, 0.375), deconv_channels=deconv_channels)


@register_model
def cspnext_s(spec: PoseSpec, *, deconv_channels: Sequence[int] = (256, 256, 256)) -> PoseModel:
    """SimpleBaseline on CSPNeXt-s."""
    return simple_baseline(spec, CSPNeXt(0.33, 0.5), deconv_channels=deconv_channels)


@register_model
def cspnext_m(spec: PoseSpec, *, deconv_channels: Sequence[int] = (256, 256, 256)) -> PoseModel:
    """SimpleBaseline on CSPNeXt-m."""
    return simple_baseline(spec, CSPNeXt(0.67, 0.75), deconv_channels=deconv_channels)


@register_model
def cspnext_l(spec: PoseSpec, *, deconv_channels: Sequence[int] = (256, 256, 256)) -> PoseModel:
    """SimpleBaseline on CSPNeXt-l."""
    return simple_baseline(spec, CSPNeXt(1.0, 1.0), deconv_channels=deconv_channels)
