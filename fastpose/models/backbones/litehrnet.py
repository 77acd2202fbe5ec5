"""Lite-HRNet (Yu et al., "Lite-HRNet: A Lightweight High-Resolution Network", CVPR 2021)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fastpose.spec import PoseSpec

from ..heads import HeatmapHead
from ..layers import ConvUnit, SeparableConvUnit, channel_shuffle
from ..pose_model import PoseModel, check_sizes
from ..registry import register_model

_WIDTHS = (40, 80, 160, 320)  # channels of the branches, from 1/4 to 1/32 of the input
_STEM_WIDTH = 32


class LiteHRNet(nn.Module):
    """Lite-HRNet with its iterative head: features of 40 channels at 1/4 of the input.

    Args:
        modules: fusion modules in the stages of two, three and four branches.
    """

    stride = 32
    out_channels = _WIDTHS[0]

    def __init__(self, modules: Sequence[int]) -> None:
        super().__init__()
        if len(modules) != 3:
            raise ValueError(f"modules: expected three stages, got {tuple(modules)}")
        self.stem = Stem(_STEM_WIDTH)
        self.transition0 = nn.ModuleList(
            [_separable(_STEM_WIDTH, _WIDTHS[0], 1), nn.Sequential(_separable(_STEM_WIDTH, _WIDTHS[1], 2))]
        )
        self.stage0 = _stage(modules[0], _WIDTHS[:2])
        self.transition1 = _new_branch(_WIDTHS[1], _WIDTHS[2], position=2)
        self.stage1 = _stage(modules[1], _WIDTHS[:3])
        self.transition2 = _new_branch(_WIDTHS[2], _WIDTHS[3], position=3)
        self.stage2 = _stage(modules[2], _WIDTHS)
        self.head_layer = IterativeHead(_WIDTHS)
        self.init_weights()

    def init_weights(self) -> None:
        """Draw every convolution from N(0, 0.001), as the official training does; BatchNorm sets the scale."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, std=0.001)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, x: Tensor) -> Tensor:
        """[B, 3, h, w] → [B, 40, h / 4, w / 4]."""
        x = self.stem(x)
        branches = self.stage0([transition(x) for transition in self.transition0])
        branches = self.stage1([*branches, self.transition1[-1](branches[-1])])
        branches = self.stage2([*branches, self.transition2[-1](branches[-1])])
        return self.head_layer(branches)


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
        return channel_shuffle(torch.cat((first, second), dim=1), 2)


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
        height, width = branches[-1].shape[-2:]
        pooled = [F.adaptive_avg_pool2d(branch, (height, width)) for branch in branches[:-1]]
        weights = self.conv2(self.conv1(torch.cat((*pooled, branches[-1]), dim=1)))
        return [
            branch * F.interpolate(weight, size=branch.shape[-2:])
            for branch, weight in zip(branches, weights.split(self.widths, dim=1), strict=True)
        ]


class SpatialWeighting(nn.Module):
    """Channel weights from the branch's own mean over all positions (squeeze and excitation).

    Args:
        width: channels.
        reduction: the hidden layer has so many times fewer channels.
    """

    def __init__(self, width: int, reduction: int = 4) -> None:
        super().__init__()
        self.conv1 = ConvUnit(width, width // reduction, norm=False, activation=nn.ReLU(inplace=True))
        self.conv2 = ConvUnit(width // reduction, width, norm=False, activation=nn.Sigmoid())

    def forward(self, x: Tensor) -> Tensor:
        """[B, width, h, w] → the same shape."""
        return x * self.conv2(self.conv1(F.adaptive_avg_pool2d(x, 1)))


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
        self.spatial_weighting = nn.ModuleList([SpatialWeighting(half) for half in halves])

    def forward(self, branches: list[Tensor]) -> list[Tensor]:
        """Branches [B, widths[i], h_i, w_i] → the same shapes."""
        halves = [branch.chunk(2, dim=1) for branch in branches]
        changed = self.cross_resolution_weighting([half for _, half in halves])
        changed = [
            weighting(conv(half))
            for half, conv, weighting in zip(changed, self.depthwise_convs, self.spatial_weighting, strict=True)
        ]
        return [
            channel_shuffle(torch.cat((kept, half), dim=1), 2) for (kept, _), half in zip(halves, changed, strict=True)
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
            [nn.ModuleList([_fusion_path(widths, source, to) for source in range(count)]) for to in range(count)]
        )

    def forward(self, branches: list[Tensor]) -> list[Tensor]:
        """Branches [B, widths[i], h_i, w_i] → the same shapes."""
        first, *lower = self.layers(branches)
        to_first, *to_lower = cast(list[nn.ModuleList], list(self.fuse_layers))
        first = _sum(2 * first, lower, to_first)
        fused = [_sum(2 * paths[0](first), lower, paths) for paths in to_lower]
        return [F.relu(branch) for branch in (first, *fused)]


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

    def forward(self, branches: list[Tensor]) -> Tensor:
        """Branches [B, widths[i], h_i, w_i] → the first one's [B, widths[0], h_0, w_0]."""
        x = self.projects[0](branches[-1])
        for branch, project in zip(branches[-2::-1], self.projects[1:], strict=True):
            x = project(branch + F.interpolate(x, size=branch.shape[-2:], mode="bilinear", align_corners=True))
        return x


def _separable(in_channels: int, out_channels: int, stride: int, *, relu: bool = True) -> nn.Sequential:
    """3x3 depthwise and 1x1 convolution, each with BatchNorm, as transitions and fusions name them."""
    layers: list[nn.Module] = [
        nn.Conv2d(in_channels, in_channels, 3, stride, padding=1, groups=in_channels, bias=False),
        nn.BatchNorm2d(in_channels),
        nn.Conv2d(in_channels, out_channels, 1, bias=False),
        nn.BatchNorm2d(out_channels),
    ]
    return nn.Sequential(*layers, nn.ReLU(inplace=True)) if relu else nn.Sequential(*layers)


def _new_branch(in_channels: int, out_channels: int, position: int) -> nn.ModuleList:
    """The transition that adds a branch at half the lowest resolution; the present branches pass as they are."""
    kept = [nn.Identity() for _ in range(position)]
    return nn.ModuleList([*kept, nn.Sequential(_separable(in_channels, out_channels, 2))])


def _sum(total: Tensor, lower: list[Tensor], paths: nn.ModuleList) -> Tensor:
    """Add the branches below the first, each through its path."""
    for branch, path in zip(lower, list(paths)[1:], strict=True):
        total = total + path(branch)
    return total


def _stage(modules: int, widths: Sequence[int]) -> nn.Sequential:
    return nn.Sequential(*(FusionModule(widths) for _ in range(modules)))


def _fusion_path(widths: Sequence[int], source: int, to: int) -> nn.Module:
    """What brings branch `source` to the channels and the size of branch `to`."""
    if source == to:
        return nn.Identity()
    if source > to:
        return nn.Sequential(
            nn.Conv2d(widths[source], widths[to], 1, bias=False),
            nn.BatchNorm2d(widths[to]),
            nn.Upsample(scale_factor=2 ** (source - to), mode="nearest"),
        )
    steps = to - source
    return nn.Sequential(
        *(_separable(widths[source], widths[source], 2) for _ in range(steps - 1)),
        _separable(widths[source], widths[to], 2, relu=False),
    )


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
