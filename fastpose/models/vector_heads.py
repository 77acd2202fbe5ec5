"""Heads of coordinate vectors (SimCC): from feature maps to a distribution along x and one along y for a keypoint."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from fastpose.checks import Size

from .heads import HeatmapHead
from .layers import ConvUnit, GatedAttention, ScaleNorm
from .output import Output

_HIDDEN = 256  # numbers that stand for a keypoint in the heads of RTMPose and RTMW


class SimCCHead(nn.Module):
    """A linear layer along x and one along y on each keypoint's flattened map.

    Li et al., "SimCC: A Simple Coordinate Classification Perspective for Human Pose Estimation", ECCV 2022.

    Args:
        in_channels: channels of the backbone's feature map.
        num_keypoints: K.
        map_size: (height, width) of the feature map.
        bins: of the two vectors, (x, y).
        deconv_channels: output channels of deconvolutions that double the resolution first; none: a 1x1 convolution
            alone.
        deconv_groups: groups of each.
    """

    gives = "vectors"
    stages = 1

    def __init__(
        self,
        in_channels: int,
        num_keypoints: int,
        map_size: Size,
        bins: tuple[int, int],
        *,
        deconv_channels: Sequence[int] = (),
        deconv_groups: int = 1,
    ) -> None:
        super().__init__()
        if deconv_channels:
            self.deconv_head: nn.Module = HeatmapHead(
                in_channels, num_keypoints, deconv_channels=deconv_channels, deconv_groups=deconv_groups
            )
        else:
            self.final_layer = nn.Conv2d(in_channels, num_keypoints, 1)
        cells = map_size[0] * map_size[1] << 2 * len(deconv_channels)
        self.mlp_head_x, self.mlp_head_y = (nn.Linear(cells, size) for size in bins)
        _init(self)

    def forward(self, x: Tensor) -> Output:
        """Features [B, in_channels, h, w] → one stage of vectors [B, K, Wx] and [B, K, Wy]."""
        maps = self.deconv_head(x).last if hasattr(self, "deconv_head") else self.final_layer(x)
        flat = maps.flatten(2)
        return Output(((self.mlp_head_x(flat), self.mlp_head_y(flat)),))


class RTMCCHead(nn.Module):
    """A 7x7 convolution to a map a keypoint, a gated attention unit among keypoints, and two linear layers.

    Jiang et al., "RTMPose: Real-Time Multi-Person Pose Estimation based on MMPose", 2023.

    Args:
        in_channels: channels of the backbone's feature map.
        num_keypoints: K.
        map_size: (height, width) of the feature map.
        bins: of the two vectors, (x, y).
    """

    gives = "vectors"
    stages = 1

    def __init__(self, in_channels: int, num_keypoints: int, map_size: Size, bins: tuple[int, int]) -> None:
        super().__init__()
        cells = map_size[0] * map_size[1]
        self.final_layer = nn.Conv2d(in_channels, num_keypoints, 7, padding=3)
        self.mlp = nn.Sequential(ScaleNorm(cells), nn.Linear(cells, _HIDDEN, bias=False))
        self.gau = GatedAttention(_HIDDEN)
        self.cls_x, self.cls_y = (nn.Linear(_HIDDEN, size, bias=False) for size in bins)
        _init(self)

    def forward(self, x: Tensor) -> Output:
        """Features [B, in_channels, h, w] → one stage of vectors [B, K, Wx] and [B, K, Wy]."""
        tokens = self.gau(self.mlp(self.final_layer(x).flatten(2)))
        return Output(((self.cls_x(tokens), self.cls_y(tokens)),))


class RTMWHead(nn.Module):
    """RTMPose's head on two resolutions: half of what stands for a keypoint comes from either.

    The coarse map also goes into the fine one, by a pixel shuffle. Jiang et al., "RTMW: Real-Time Multi-Person 2D and
    3D Whole-body Pose Estimation", 2024.

    Args:
        in_channels: channels of the coarse map; the fine one has half as many.
        num_keypoints: K.
        map_size: (height, width) of the coarse map; the fine one has twice as many rows and columns.
        bins: of the two vectors, (x, y).
    """

    gives = "vectors"
    stages = 1

    def __init__(self, in_channels: int, num_keypoints: int, map_size: Size, bins: tuple[int, int]) -> None:
        super().__init__()
        cells, quarter = map_size[0] * map_size[1], in_channels // 4
        self.ps = nn.PixelShuffle(2)
        self.conv_dec = _unit(quarter, quarter)
        self.final_layer = _unit(in_channels, num_keypoints)
        self.final_layer2 = _unit(in_channels // 2 + quarter, num_keypoints)
        self.mlp = nn.Sequential(ScaleNorm(cells), nn.Linear(cells, _HIDDEN // 2, bias=False))
        self.mlp2 = nn.Sequential(ScaleNorm(cells * 4), nn.Linear(cells * 4, _HIDDEN // 2, bias=False))
        self.gau = GatedAttention(_HIDDEN)
        self.cls_x, self.cls_y = (nn.Linear(_HIDDEN, size, bias=False) for size in bins)
        _init(self)

    def forward(self, maps: Sequence[Tensor]) -> Output:
        """Maps [B, in_channels / 2, 2h, 2w] and [B, in_channels, h, w] → vectors [B, K, Wx] and [B, K, Wy]."""
        fine, coarse = maps
        of_coarse = self.mlp(self.final_layer(coarse).flatten(2))
        joined = torch.cat([self.conv_dec(self.ps(coarse)), fine], dim=1)
        of_fine = self.mlp2(self.final_layer2(joined).flatten(2))
        tokens = self.gau(torch.cat([of_coarse, of_fine], dim=2))
        return Output(((self.cls_x(tokens), self.cls_y(tokens)),))


def _unit(in_channels: int, out_channels: int) -> ConvUnit:
    return ConvUnit(in_channels, out_channels, 7, activation=nn.ReLU(inplace=True))


def _init(head: nn.Module) -> None:
    """Draw convolutions from N(0, 0.001) and linear layers from N(0, 0.01), as the published trainings begin."""
    for module in head.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            nn.init.normal_(module.weight, std=0.01 if isinstance(module, nn.Linear) else 0.001)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
