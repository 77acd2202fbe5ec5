"""Encoder-decoder stages in a row (Li et al., "Rethinking on Multi-Stage Networks for Human Pose Estimation", 2019)."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Protocol, cast

import torch.nn.functional as F
from torch import Tensor, nn

from .conv import ConvUnit

_TOP_CHANNELS = 64


class ResidualBlock(Protocol):
    """What the stages ask of the class of their blocks."""

    expansion: int

    def __call__(self, in_channels: int, width: int, stride: int, downsample: nn.Module | None) -> nn.Module:
        """Make a block: [B, in_channels, h, w] → [B, width * expansion, h / stride, w / stride]."""


class MultiStageNet(nn.Module):
    """Stages that each shrink the map three times and grow it back; a stage hands its maps on to the next one.

    MSPN and RSN are this network with their own block. Every stage starts at a quarter of the input; a stage's encoder
    adds to its maps what the encoder and the decoder before it found at the same size.

    Args:
        block: class of the encoders' blocks.
        depths: blocks at each of the encoder's sizes, largest map first.
        stages: how many stages, at least 1.
        name: what the list of stages is called in checkpoints.
        unit_channels: channels of all of the decoders' maps.

    Attributes:
        stride: the input's sides must be divisible by it; the finest map is so many times smaller.
        out_channels: channels of every map.
        feature_channels: channels of `forward_features`' maps.
        feature_strides: input pixels per pixel of those; where a side does not divide, maps round it up.
    """

    def __init__(
        self, block: ResidualBlock, depths: Sequence[int], *, stages: int, name: str, unit_channels: int = 256
    ) -> None:
        super().__init__()
        if stages < 1:
            raise ValueError(f"stages: expected at least 1, got {stages}")
        self.stride = 4
        self.out_channels = unit_channels
        self.feature_channels = (unit_channels,) * len(depths)
        self.feature_strides = tuple(self.stride << level for level in range(len(depths)))
        # The ReLU commutes with the pooling, which leaves it a quarter of the map.
        stem = nn.Sequential(
            ConvUnit(3, _TOP_CHANNELS, 7, stride=2),
            nn.MaxPool2d(3, stride=2, padding=1),
            nn.ReLU(inplace=True),
        )
        self.top = nn.Sequential(OrderedDict(top=stem))
        self._name = name
        self.add_module(
            name,
            nn.ModuleList(_Stage(block, depths, unit_channels, last=index == stages - 1) for index in range(stages)),
        )
        self.init_weights()

    def init_weights(self) -> None:
        """Kaiming for every convolution."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> list[list[Tensor]]:
        """[B, 3, h, w] → for every stage its decoder's maps [B, out_channels, h', w'], coarsest first."""
        x = self.top(x)
        skips: list[Tensor] = []
        outputs = []
        for stage in cast(nn.ModuleList, getattr(self, self._name)):
            maps, skips, x = stage(x, skips)
            outputs.append(maps)
        return outputs

    def forward_features(self, x: Tensor) -> list[Tensor]:
        """[B, 3, h, w] → the last stage's maps [B, out_channels, h / stride, w / stride], finest first."""
        return self.forward(x)[-1][::-1]


class _Stage(nn.Module):
    """One encoder and decoder: map and the stage before's skips → (maps, coarsest first; skips; the next one's map)."""

    def __init__(self, block: ResidualBlock, depths: Sequence[int], unit_channels: int, *, last: bool) -> None:
        super().__init__()
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        widths = []
        channels = _TOP_CHANNELS
        for level, depth in enumerate(depths):
            width, stride = _TOP_CHANNELS << level, 1 if level == 0 else 2
            out_channels = width * block.expansion
            blocks = []
            for index in range(depth):
                step = stride if index == 0 else 1
                projected = step != 1 or channels != out_channels
                downsample = ConvUnit(channels, out_channels, stride=step) if projected else None
                blocks.append(block(channels, width, step, downsample))
                channels = out_channels
            layers[f"layer{level + 1}"] = nn.Sequential(*blocks)
            widths.append(channels)
        self.downsample = nn.ModuleDict(layers)
        units: OrderedDict[str, nn.Module] = OrderedDict()
        for index, width in enumerate(reversed(widths)):
            is_finest = index == len(widths) - 1
            units[f"up{index + 1}"] = _DecoderUnit(
                width, unit_channels, coarsest=index == 0, skip=not last, cross=not last and is_finest
            )
        self.upsample = nn.ModuleDict(units)

    def forward(self, x: Tensor, skips: list[Tensor]) -> tuple[list[Tensor], list[Tensor], Tensor]:
        encoded = []
        for level, layer in enumerate(self.downsample.values()):
            x = layer(x)
            if skips:
                x = x + skips[level]
            encoded.append(x)
        maps: list[Tensor] = []
        handed_on: list[Tensor] = []
        for unit, x in zip(self.upsample.values(), reversed(encoded), strict=True):
            unit = cast(_DecoderUnit, unit)
            maps.append(unit(x, maps[-1] if maps else None))
            if unit.out_skip1 is not None and unit.out_skip2 is not None:
                handed_on.append(unit.out_skip1(x) + unit.out_skip2(maps[-1]))
            if unit.cross_conv is not None:
                x = unit.cross_conv(maps[-1])
        return maps, handed_on[::-1], x


class _DecoderUnit(nn.Module):
    """An encoder's map and the next coarser decoder's map → this size's map [B, unit_channels, h, w].

    The convolutions to the next stage stand here because checkpoints have them here; the stage applies them.
    """

    def __init__(self, in_channels: int, unit_channels: int, *, coarsest: bool, skip: bool, cross: bool) -> None:
        super().__init__()
        self.in_skip = ConvUnit(in_channels, unit_channels)
        self.relu = nn.ReLU(inplace=True)
        self.up_conv = None if coarsest else ConvUnit(unit_channels, unit_channels)
        self.out_skip1 = ConvUnit(in_channels, in_channels, activation=nn.ReLU(inplace=True)) if skip else None
        self.out_skip2 = ConvUnit(unit_channels, in_channels, activation=nn.ReLU(inplace=True)) if skip else None
        self.cross_conv = ConvUnit(unit_channels, _TOP_CHANNELS, activation=nn.ReLU(inplace=True)) if cross else None

    def forward(self, x: Tensor, coarser: Tensor | None) -> Tensor:
        out = self.in_skip(x)
        if self.up_conv is not None and coarser is not None:
            # A pointwise convolution commutes with the resize, and is cheaper before it; but BatchNorm in training
            # takes its statistics from the large map.
            if self.training:
                out = out + self.up_conv(resize(coarser, x))
            else:
                out = out + resize(self.up_conv(coarser), x)
        return self.relu(out)


def resize(x: Tensor, like: Tensor) -> Tensor:
    """Bilinear, corner pixels onto corner pixels: [B, c, h, w] → the height and width of `like`."""
    size = like.shape[-2:]
    return x if x.shape[-2:] == size else F.interpolate(x, size=size, mode="bilinear", align_corners=True)
