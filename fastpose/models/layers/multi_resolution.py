"""What HRNet and its kin share: parallel branches at falling resolutions that exchange what they know."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, cast

from torch import Tensor, nn
from torch.nn import functional as F

from .checkpointing import run_checkpointed
from .depthwise import DepthwiseConv
from .norm import NormSequential

# (in_channels, out_channels, whether a ReLU ends it) → layers that halve the resolution.
Halving = Callable[[int, int, bool], nn.Sequential]


def conv_step(in_channels: int, out_channels: int, *, stride: int, relu: bool) -> nn.Sequential:
    """3x3 convolution of that stride with BatchNorm, and ReLU if wanted."""
    layers: list[nn.Module] = [
        nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False),
        nn.BatchNorm2d(out_channels),
    ]
    return NormSequential(*layers, nn.ReLU(inplace=True)) if relu else NormSequential(*layers)


def conv_halving(in_channels: int, out_channels: int, relu: bool) -> nn.Sequential:
    """`conv_step` of stride 2."""
    return conv_step(in_channels, out_channels, stride=2, relu=relu)


def separable_conv(in_channels: int, out_channels: int, *, stride: int, relu: bool) -> nn.Sequential:
    """3x3 depthwise convolution of that stride and 1x1 convolution, each with BatchNorm, and ReLU if wanted."""
    layers: list[nn.Module] = [
        DepthwiseConv(in_channels, stride=stride),
        nn.BatchNorm2d(in_channels),
        nn.Conv2d(in_channels, out_channels, 1, bias=False),
        nn.BatchNorm2d(out_channels),
    ]
    return NormSequential(*layers, nn.ReLU(inplace=True)) if relu else NormSequential(*layers)


def separable_halving(in_channels: int, out_channels: int, relu: bool) -> nn.Sequential:
    """`separable_conv` of stride 2."""
    return separable_conv(in_channels, out_channels, stride=2, relu=relu)


def fusion_path(widths: Sequence[int], source: int, to: int, halving: Halving) -> nn.Module:
    """What brings one branch to the channels of another, and downwards also to its size.

    Args:
        widths: channels of all branches, the highest resolution first.
        source: index of the branch that gives.
        to: index of the branch that takes.
        halving: makes each step downwards; every one but the last ends with ReLU.
    """
    if source == to:
        return nn.Identity()
    if source > to:
        return NormSequential(nn.Conv2d(widths[source], widths[to], 1, bias=False), nn.BatchNorm2d(widths[to]))
    steps = to - source
    return nn.Sequential(
        *(halving(widths[source], widths[source], True) for _ in range(steps - 1)),
        halving(widths[source], widths[to], False),
    )


def new_branch(in_channels: int, out_channels: int, position: int, halving: Halving) -> nn.ModuleList:
    """The transition that adds a branch at half the lowest resolution; the present branches pass as they are.

    Args:
        in_channels: channels of the lowest branch there is.
        out_channels: channels of the new one.
        position: index of the new one.
        halving: makes the step.
    """
    kept = [nn.Identity() for _ in range(position)]
    return nn.ModuleList([*kept, nn.Sequential(halving(in_channels, out_channels, True))])


class MultiResolutionModule(nn.Module):
    """Every branch goes through its own blocks; then each gets the sum of all, brought to its channels and size.

    Attributes:
        grad_checkpointing: while training, keep only what enters each block, and compute the rest again in backward.

    Args:
        branches: blocks of each branch, the highest resolution first; they keep channels and size.
        widths: channels of each branch; every branch has half the resolution of the one before.
        halving: makes each step from one resolution to the next lower one.
        interpolation: how lower resolutions are enlarged.
        fused: so many branches, the highest resolutions, get the sum; the others leave as their blocks made them.
    """

    def __init__(
        self,
        branches: Sequence[nn.Module],
        widths: Sequence[int],
        *,
        halving: Halving,
        interpolation: Literal["nearest", "bilinear"],
        fused: int,
    ) -> None:
        super().__init__()
        self.grad_checkpointing = False
        self.interpolation = interpolation
        self.branches = nn.ModuleList(branches)
        self.fuse_layers = nn.ModuleList(
            [
                nn.ModuleList([fusion_path(widths, source, to, halving) for source in range(len(widths))])
                for to in range(fused)
            ]
        )

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        """Maps [B, widths[i], h / 2**i, w / 2**i] → the same shapes."""
        maps = [self._run(cast(nn.Sequential, branch), x) for branch, x in zip(self.branches, maps, strict=True)]
        fused = [self._fuse(maps, to, cast(nn.ModuleList, paths)) for to, paths in enumerate(self.fuse_layers)]
        return [*fused, *maps[len(fused) :]]

    def _run(self, branch: nn.Sequential, x: Tensor) -> Tensor:
        if not (self.grad_checkpointing and self.training):
            return branch(x)
        for block in branch:
            x = run_checkpointed(block, x)
        return x

    def _fuse(self, maps: list[Tensor], to: int, paths: nn.ModuleList) -> Tensor:
        """Sum of all maps in the size of `maps[to]`, which stays as it is, and ReLU."""
        total = self._from_below(maps, to, paths) if to + 1 < len(maps) else None
        for source in range(to):
            x = paths[source](maps[source])
            total = maps[to] + x if total is None else total.add_(x)
        return F.relu_(cast(Tensor, total))

    def _from_below(self, maps: list[Tensor], to: int, paths: nn.ModuleList) -> Tensor:
        """Sum of `maps[to]` and of all lower resolutions, enlarged."""
        if self.interpolation == "nearest":
            # Doubling n times enlarges by 2**n exactly, so each resolution adds its part on the way up.
            total = paths[-1](maps[-1])
            for source in range(len(maps) - 2, to, -1):
                total = F.interpolate(total, scale_factor=2.0).add_(paths[source](maps[source]))
            return F.interpolate(total, scale_factor=2.0).add_(maps[to])
        total = maps[to]
        for source in range(to + 1, len(maps)):
            x = paths[source](maps[source])
            total = total + F.interpolate(x, scale_factor=2.0 ** (source - to), mode=self.interpolation)
        return total
