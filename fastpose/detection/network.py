"""A small network that finds people: no anchor boxes, three levels, a score and four distances at every place.

Ordinary 3x3 convolutions throughout: on CPUs, a network of depthwise ones with as many parameters takes two to three
times as long.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

from fastpose.models.layers import ConvUnit

__all__ = ["PersonNet", "decode_boxes", "fold_norms", "place_centers"]

STRIDES = (8, 16, 32)


class PersonNet(nn.Module):
    """Residual network, a path down and a path up over its last three stages, and a head that the levels share.

    Args:
        widths: Channels of the stem at 1/2 and of the stages at 1/4, 1/8, 1/16 and 1/32.
        depths: Residual blocks of the stages.
        neck: Channels of the three levels and of the head.
    """

    def __init__(
        self,
        widths: Sequence[int] = (12, 24, 48, 96, 160),
        depths: Sequence[int] = (0, 1, 2, 1),
        neck: int = 48,
    ) -> None:
        super().__init__()
        self.stem = _unit(3, widths[0], stride=2)
        self.stages = nn.ModuleList(
            nn.Sequential(_unit(narrow, wide, stride=2), *(_Block(wide) for _ in range(depth)))
            for narrow, wide, depth in zip(widths[:-1], widths[1:], depths, strict=True)
        )
        self.pooling = _PyramidPooling(widths[-1])
        self.laterals = nn.ModuleList(_unit(width, neck, 1) for width in widths[2:])
        self.down = nn.ModuleList(_unit(neck, neck) for _ in STRIDES[1:])
        self.shrink = nn.ModuleList(_unit(neck, neck, stride=2) for _ in STRIDES[1:])
        self.up = nn.ModuleList(_unit(neck, neck) for _ in STRIDES[1:])
        self.head = _Head(neck)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """What is at every place, row by row, the finest level first.

        Args:
            x: [B, 3, h, w], h and w multiples of 32.

        Returns:
            Logits [B, A] of "a person's box", and the distances [B, A, 4] from the place to the box's left, upper,
            right and lower edge, pixels.
        """
        x = self.stages[0](self.stem(x))
        features = []
        for stage in list(self.stages)[1:]:
            x = stage(x)
            features.append(x)
        features[-1] = self.pooling(features[-1])
        maps = [lateral(feature) for lateral, feature in zip(self.laterals, features, strict=True)]
        for level in (1, 0):
            maps[level] = self.down[level](maps[level] + F.interpolate(maps[level + 1], scale_factor=2.0))
        for level in (1, 2):
            maps[level] = self.up[level - 1](maps[level] + self.shrink[level - 1](maps[level - 1]))
        logits, distances = self.head(maps)
        return logits, distances


class _Head(nn.Module):
    """Convolutions that the levels share; each level has its own normalisation, as its statistics differ."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.score_convs = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1, bias=False) for _ in range(1))
        self.box_convs = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1, bias=False) for _ in range(1))
        self.score_norms = nn.ModuleList(nn.BatchNorm2d(width) for _ in STRIDES)
        self.box_norms = nn.ModuleList(nn.BatchNorm2d(width) for _ in STRIDES)
        self.score = nn.Conv2d(width, 1, 1)
        self.box = nn.Conv2d(width, 4, 1)
        # At first one place in a hundred is a person, and boxes reach four strides from it: about right for many.
        nn.init.normal_(self.score.weight, std=0.01)
        nn.init.constant_(cast(Tensor, self.score.bias), -4.6)
        nn.init.normal_(self.box.weight, std=0.01)
        nn.init.constant_(cast(Tensor, self.box.bias), 1.4)

    def forward(self, maps: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        logits, distances = [], []
        for level, x in enumerate(maps):
            scores = F.relu(self.score_norms[level](self.score_convs[0](x)))
            boxes = F.relu(self.box_norms[level](self.box_convs[0](x)))
            logits.append(self.score(scores).flatten(1))
            reach = self.box(boxes).float().clamp(max=7.0).exp() * STRIDES[level]
            distances.append(reach.flatten(2).transpose(1, 2))
        return torch.cat(logits, 1).float(), torch.cat(distances, 1)


class _Block(nn.Module):
    """Two 3x3 convolutions beside a shortcut."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = _unit(width, width)
        self.conv2 = ConvUnit(width, width, 3)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.conv2(self.conv1(x)) + x)


class _PyramidPooling(nn.Module):
    """The map beside its maxima over 5x5 and 9x9 neighbourhoods, so that the last level sees a whole photo."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.reduce = _unit(width, width // 2, 1)
        self.mix = _unit(width // 2 * 3, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        maps = [self.reduce(x)]
        for _ in range(2):
            maps.append(F.max_pool2d(maps[-1], 5, stride=1, padding=2))
        return self.mix(torch.cat(maps, 1))


def _unit(in_channels: int, out_channels: int, kernel: int = 3, *, stride: int = 1) -> ConvUnit:
    return ConvUnit(in_channels, out_channels, kernel, stride=stride, activation=nn.ReLU(inplace=True))


def fold_norms(net: PersonNet) -> PersonNet:
    """A copy for prediction: the normalisations of all but the head are folded into the convolutions before them."""
    folded = copy.deepcopy(net).eval().requires_grad_(False)
    for unit in folded.modules():
        if isinstance(unit, ConvUnit) and unit.bn is not None:
            unit.conv, unit.bn = fuse_conv_bn_eval(unit.conv, unit.bn), None
    return folded


def place_centers(size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Where the places of a network's output are.

    Args:
        size: (height, width) of the input, multiples of 32.

    Returns:
        Centres [A, 2] (x, y) in pixels from the input's upper left corner, and strides [A], both float32.
    """
    centers, strides = [], []
    for stride in STRIDES:
        height, width = size[0] // stride, size[1] // stride
        y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
        centers.append((torch.stack([x, y], 2).reshape(-1, 2) + 0.5) * stride)
        strides.append(torch.full((height * width,), float(stride)))
    return torch.cat(centers), torch.cat(strides)


def decode_boxes(distances: Tensor, centers: Tensor) -> Tensor:
    """Boxes xyxy [B, A, 4] of the distances [B, A, 4] from the centres [A, 2]."""
    return torch.cat([centers - distances[..., :2], centers + distances[..., 2:]], dim=-1)
