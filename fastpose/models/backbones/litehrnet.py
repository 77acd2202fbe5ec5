"""Lite-HRNet (Yu et al., "Lite-HRNet: A Lightweight High-Resolution Network", CVPR 2021)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fastpose.spec import PoseSpec

from ..heads import HeatmapHead
from ..layers import (
    ConvUnit,
    SeparableConvUnit,
    SqueezeExcitation,
    fusion_path,
    halve,
    init_normal,
    interleave,
    new_branch,
    separable_conv,
    separable_halving,
    with_enlarged,
)
from ..pose_model import PoseModel, check_sizes
from ..registry import register_model

_WIDTHS = (40, 80, 160, 320)  # channels of the branches, from 1/4 to 1/32 of the input
_STEM_WIDTH = 32


class LiteHRNet(nn.Module):
    """Lite-HRNet with its iterative head: features of 40 channels at 1/4 of the input.

    The coarser features are the head's too: what it makes of each branch and the branches below it.

    Args:
        modules: fusion modules in the stages of two, three and four branches.
    """

    stride = 32
    out_channels = _WIDTHS[0]
    feature_channels = (_WIDTHS[0], *_WIDTHS[:-1])
    feature_strides = (4, 8, 16, 32)

    def __init__(self, modules: Sequence[int]) -> None:
        super().__init__()
        if len(modules) != 3:
            raise ValueError(f"modules: expected three stages, got {tuple(modules)}")
        self.stem = Stem(_STEM_WIDTH)
        self.transition0 = nn.ModuleList(
            [
                separable_conv(_STEM_WIDTH, _WIDTHS[0], stride=1, relu=True),
                nn.Sequential(separable_halving(_STEM_WIDTH, _WIDTHS[1], relu=True)),
            ]
        )
        self.stage0 = _stage(modules[0], _WIDTHS[:2])
        self.transition1 = new_branch(_WIDTHS[1], _WIDTHS[2], 2, separable_halving)
        self.stage1 = _stage(modules[1], _WIDTHS[:3])
        self.transition2 = new_branch(_WIDTHS[2], _WIDTHS[3], 3, separable_halving)
        self.stage2 = _stage(modules[2], _WIDTHS)
        self.head_layer = IterativeHead(_WIDTHS)
        init_normal(self)

    def forward_features(self, x: Tensor) -> list[Tensor]:
        """[B, 3, h, w] → maps [B, feature_channels[i], h / feature_strides[i], w / feature_strides[i]]."""
        x = self.stem(x)
        branches = self.stage0([transition(x) for transition in self.transition0])
        branches = self.stage1([*branches, self.transition1[-1](branches[-1])])
        branches = self.stage2([*branches, self.transition2[-1](branches[-1])])
        return self.head_layer(branches)

    def forward(self, x: Tensor) -> Tensor:
        """[B, 3, h, w] → [B, 40, h / 4, w / 4]."""
        return self.forward_features(x)[0]


class Stem(nn.Module):
    """3x3 convolution of stride 2, then a shuffle block of stride 2.

    Args:
        width: channels, of both and of the output.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        half = width // 2
        self.conv1 = ConvUnit(3, width, 3, stride=2, activation=nn.ReLU(inplace=True))
        self.branch1 = nn.Sequential(
            ConvUnit(half, half, 3, stride=2, groups=half), ConvUnit(half, half, activation=nn.ReLU(inplace=True))
        )
        self.expand_conv = ConvUnit(half, width, activation=nn.ReLU(inplace=True))
        self.depthwise_conv = ConvUnit(width, width, 3, stride=2, groups=width)
        self.linear_conv = ConvUnit(width, half, activation=nn.ReLU(inplace=True))

    def forward(self, x: Tensor) -> Tensor:
        """[B, 3, h, w] → [B, width, h / 4, w / 4]."""
        first, second = self.conv1(x).chunk(2, dim=1)
        first = self.branch1(first)
        second = self.linear_conv(self.depthwise_conv(self.expand_conv(second)))
        return interleave((first, second))


class CrossResolutionWeighting(nn.Module):
    """Channel weights computed from all branches at the lowest resolution (section 3.3 of the paper).

    Args:
        widths: channels of each branch.
        reduction: the hidden layer has so many times fewer channels.
    """

    def __init__(self, widths: Sequence[int], reduction: int = 8) -> None:
        super().__init__()
        self.widths = list(widths)
        total = sum(widths)
        self.conv1 = ConvUnit(total, total // reduction, activation=nn.ReLU(inplace=True))
        self.conv2 = ConvUnit(total // reduction, total, activation=nn.Sigmoid())

    def forward(self, branches: list[Tensor]) -> list[Tensor]:
        """Multiply every branch [B, widths[i], h_i, w_i] by its weights."""
        *higher, lowest = branches
        pooled = [F.avg_pool2d(branch, 2 ** (len(higher) - level)) for level, branch in enumerate(higher)]
        weights = self.conv2(self.conv1(torch.cat((*pooled, lowest), dim=1)))
        *weights_of_higher, weights_of_lowest = weights.split(self.widths, dim=1)
        weighted = [with_enlarged(torch.mul, *pair) for pair in zip(higher, weights_of_higher, strict=True)]
        return [*weighted, lowest * weights_of_lowest]


class ConditionalChannelWeighting(nn.Module):
    """The paper's block: half of every branch's channels is weighted and filtered, then all are shuffled.

    Args:
        widths: channels of each branch.
    """

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        halves = [width // 2 for width in widths]
        self.cross_resolution_weighting = CrossResolutionWeighting(halves)
        self.depthwise_convs = nn.ModuleList([ConvUnit(half, half, 3, groups=half) for half in halves])
        self.spatial_weighting = nn.ModuleList([SqueezeExcitation(half, reduction=4) for half in halves])

    def forward(self, branches: list[Tensor]) -> list[Tensor]:
        """Branches [B, widths[i], h_i, w_i] → the same shapes."""
        halves = [halve(branch) for branch in branches]
        changed = self.cross_resolution_weighting([half for _, half in halves])
        changed = [conv(half) for half, conv in zip(changed, self.depthwise_convs, strict=True)]
        return [
            interleave((kept, half), cast(SqueezeExcitation, weighting).weights(half))
            for (kept, _), half, weighting in zip(halves, changed, self.spatial_weighting, strict=True)
        ]


class FusionModule(nn.Module):
    """Two conditional channel weighting blocks, then every branch gets the sum of all, brought to its size.

    The published networks do not quite compute the paper's sums: the first branch counts twice, and what the lower
    branches receive from it is its fused value, not the one before fusion. Weights that were trained so need it so.

    Args:
        widths: channels of each branch.
    """

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        self.layers = nn.Sequential(ConditionalChannelWeighting(widths), ConditionalChannelWeighting(widths))
        count = len(widths)
        self.fuse_layers = nn.ModuleList(
            [
                nn.ModuleList([fusion_path(widths, source, to, separable_halving) for source in range(count)])
                for to in range(count)
            ]
        )

    def forward(self, branches: list[Tensor]) -> list[Tensor]:
        """Branches [B, widths[i], h_i, w_i] → the same shapes."""
        first, *lower = self.layers(branches)
        to_first, *to_lower = cast("list[nn.ModuleList]", list(self.fuse_layers))
        first = _fuse([first, *lower], 0, to_first)
        fused = [_fuse([first, *lower], to, paths) for to, paths in enumerate(to_lower, 1)]
        return [F.relu(first), *(F.relu_(branch) for branch in fused)]


class IterativeHead(nn.Module):
    """From the lowest resolution up: project, enlarge, add to the next branch.

    Args:
        widths: channels of each branch, the highest resolution first.
    """

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        rising = list(reversed(widths))
        self.projects = nn.ModuleList(
            [
                SeparableConvUnit(width, following)
                for width, following in zip(rising, [*rising[1:], rising[-1]], strict=True)
            ]
        )

    def forward(self, branches: list[Tensor]) -> list[Tensor]:
        """Branches [B, widths[i], h_i, w_i] → [B, widths[max(i - 1, 0)], h_i, w_i]."""
        x = self.projects[0](branches[-1])
        maps = [x]
        for branch, project in zip(branches[-2::-1], self.projects[1:], strict=True):
            x = project(branch + F.interpolate(x, size=branch.shape[-2:], mode="bilinear", align_corners=True))
            maps.append(x)
        return maps[::-1]


def _fuse(branches: list[Tensor], to: int, paths: nn.ModuleList) -> Tensor:
    """The sum of all branches, the first one twice, in the channels and the size of branch `to`."""
    total = 2 * paths[0](branches[0])
    for source in range(1, to + 1):
        total += paths[source](branches[source])
    if to == len(branches) - 1:
        return total
    below = paths[-1](branches[-1])  # from the bottom up, so that each resolution is enlarged by no more than 2
    for source in range(len(branches) - 2, to, -1):
        below = with_enlarged(torch.add, paths[source](branches[source]), below)
    return with_enlarged(torch.add, total, below)


def _stage(modules: int, widths: Sequence[int]) -> nn.Sequential:
    return nn.Sequential(*(FusionModule(widths) for _ in range(modules)))


def _lite_hrnet(spec: PoseSpec, modules: Sequence[int]) -> PoseModel:
    backbone = LiteHRNet(modules)
    check_sizes(spec, backbone_stride=backbone.stride, output_stride=4)
    return PoseModel(backbone, HeatmapHead(backbone.out_channels, spec.output_channels, deconv_channels=()), spec)


@register_model
def litehrnet18(spec: PoseSpec) -> PoseModel:
    """Lite-HRNet-18."""
    return _lite_hrnet(spec, (2, 4, 2))


@register_model
def litehrnet30(spec: PoseSpec) -> PoseModel:
    """Lite-HRNet-30."""
    return _lite_hrnet(spec, (3, 8, 3))
