"""Stacked hourglasses (Newell et al., ECCV 2016), as CornerNet builds them (Law and Deng, ECCV 2018: Hourglass-52)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

from fastpose.spec import PoseSpec

from ..layers import BasicBlock, ConvUnit, NormSequential
from ..multi_stage_heads import MultiStageHead
from ..pose_model import PoseModel, check_sizes
from ..registry import register_model


class Hourglass(nn.Module):
    """Hourglasses in a row, at a quarter of the input; each takes in the features that the one before gave.

    Args:
        stacks: how many hourglasses, at least 1.
        widths: channels at each of an hourglass's sizes, largest map first.
        depths: blocks at each of them; the smallest map has the last number.

    Attributes:
        stride: the input's sides must be divisible by it; features are so many times smaller.
        out_channels: channels of every stack's features.
        feature_channels: channels of `forward_features`' map.
        feature_strides: input pixels per pixel of it.
    """

    def __init__(
        self,
        stacks: int = 1,
        *,
        widths: Sequence[int] = (256, 256, 384, 384, 384, 512),
        depths: Sequence[int] = (2, 2, 2, 2, 2, 4),
    ) -> None:
        super().__init__()
        if stacks < 1:
            raise ValueError(f"stacks: expected at least 1, got {stacks}")
        if len(widths) != len(depths) or len(widths) < 2:
            raise ValueError(f"widths, depths: expected two or more of each, got {tuple(widths)} and {tuple(depths)}")
        width = widths[0]
        self.stride = 4
        self.out_channels = width
        self.feature_channels = (width,)
        self.feature_strides = (self.stride,)
        self.stem = nn.Sequential(
            ConvUnit(3, 128, 7, stride=2, activation=nn.ReLU(inplace=True)), _blocks(128, width, stride=2)
        )
        self.hourglass_modules = nn.ModuleList(_Level(widths, depths) for _ in range(stacks))
        self.inters = _blocks(*[width] * max(stacks, 2))
        if stacks == 1:
            # Nothing comes after the only hourglass, but checkpoints hold a block for it.
            self.inters.requires_grad_(False)
        self.conv1x1s = nn.ModuleList(ConvUnit(width, width) for _ in range(stacks - 1))
        self.out_convs = nn.ModuleList(
            ConvUnit(width, width, 3, activation=nn.ReLU(inplace=True)) for _ in range(stacks)
        )
        self.remap_convs = nn.ModuleList(ConvUnit(width, width) for _ in range(stacks - 1))
        self.relu = nn.ReLU(inplace=True)
        self.init_weights()

    def init_weights(self) -> None:
        """Draw every convolution from N(0, 0.001)."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, std=0.001)

    def forward(self, x: Tensor) -> list[Tensor]:
        """[B, 3, h, w] → every stack's features [B, out_channels, h / stride, w / stride]."""
        x = self.stem(x)
        features = [self.out_convs[0](self.hourglass_modules[0](x))]
        between = zip(
            self.conv1x1s,
            self.remap_convs,
            self.inters.children(),
            self.hourglass_modules[1:],
            self.out_convs[1:],
            strict=False,  # a single stack has an idle block
        )
        for keep, remap, inter, hourglass, out_conv in between:
            x = inter(self.relu(keep(x) + remap(features[-1])))
            features.append(out_conv(hourglass(x)))
        return features

    def forward_features(self, x: Tensor) -> list[Tensor]:
        """[B, 3, h, w] → the last stack's features, in a list."""
        return self.forward(x)[-1:]


class _Level(nn.Module):
    """An hourglass from one of its sizes down: [B, widths[0], h, w] → the same shape."""

    def __init__(self, widths: Sequence[int], depths: Sequence[int]) -> None:
        super().__init__()
        width, inner = widths[:2]
        depth = depths[0]
        self.up1 = _blocks(*[width] * (depth + 1))
        self.low1 = _blocks(width, *[inner] * depth, stride=2)
        self.low2 = _Level(widths[1:], depths[1:]) if len(widths) > 2 else _blocks(*[inner] * (depths[1] + 1))
        self.low3 = _blocks(*[inner] * depth, width)

    def forward(self, x: Tensor) -> Tensor:
        low = self.low3(self.low2(self.low1(x)))
        # By size, not by factor: a side that is odd was rounded up on the way down.
        return F.interpolate(low, size=x.shape[-2:], mode="nearest") + self.up1(x)


def _blocks(*channels: int, stride: int = 1) -> nn.Sequential:
    """Residual blocks from each number of channels to the next; the first one takes the stride."""
    blocks = []
    for in_channels, out_channels in pairwise(channels):
        downsample = None
        if stride != 1 or in_channels != out_channels:
            downsample = NormSequential(
                nn.Conv2d(in_channels, out_channels, 1, stride, bias=False), nn.BatchNorm2d(out_channels)
            )
        blocks.append(BasicBlock(in_channels, out_channels, stride, downsample))
        stride = 1
    return nn.Sequential(*blocks)


@register_model
def hourglass52(spec: PoseSpec, *, stacks: int = 1) -> PoseModel:
    """Hourglass-52; with `stacks=2` Hourglass-104. One map a stack."""
    backbone = Hourglass(stacks)
    check_sizes(spec, backbone_stride=backbone.stride, output_stride=backbone.stride)
    head = MultiStageHead(backbone.out_channels, spec.output_channels, stacks)
    return PoseModel(backbone, head, spec)
