"""Necks: what stands between backbone and head."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class ConcatMaps(nn.Module):
    """Maps of all resolutions side by side, in the size of the first: HRNetV2 (Sun et al., 2019)."""

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Maps [B, widths[i], h / 2**i, w / 2**i] → [B, sum of widths, h, w]."""
        size = maps[0].shape[2:]
        return torch.cat([maps[0], *(F.interpolate(x, size=size, mode="bilinear") for x in maps[1:])], dim=1)


class FeatureMapProcessor(nn.Module):
    """ReLU if wanted, then bilinear upsampling: the light decoder of ViTPose (Xu et al., NeurIPS 2022, section 3.1).

    Args:
        scale: factor of the upsampling.
        relu: whether negative features become zero before it.
    """

    def __init__(self, *, scale: int = 1, relu: bool = False) -> None:
        super().__init__()
        self.scale = scale
        self.relu = relu

    def forward(self, x: Tensor) -> Tensor:
        """[B, c, h, w] → [B, c, h * scale, w * scale]."""
        if self.relu:
            x = F.relu(x)
        if self.scale != 1:
            x = F.interpolate(x, size=(x.shape[2] * self.scale, x.shape[3] * self.scale), mode="bilinear")
        return x
