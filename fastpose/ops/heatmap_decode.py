"""Heatmaps to keypoints."""

from __future__ import annotations

from typing import Any

import torch

from ..spec import CodecSpec
from . import reference
from ._native import Array

__all__ = ["heatmap_decode"]


def heatmap_decode(
    heatmaps: Array,
    codec: CodecSpec,
    input_size: tuple[int, int],
    *,
    flipped: Array | None = None,
    flip_index: Any = None,
    flip_shift: bool = False,
    inverse: Any = None,
    out: Array | None = None,
    out_scores: Array | None = None,
) -> tuple[Array, Array]:
    """Finds one keypoint in each heatmap of a batch."""
    maps = torch.as_tensor(heatmaps).detach()
    points, scores = reference.heatmap_decode(
        maps,
        codec,
        input_size,
        flipped=None if flipped is None else torch.as_tensor(flipped).detach(),
        flip_index=flip_index,
        flip_shift=flip_shift,
        inverse=None if inverse is None else torch.as_tensor(inverse),
    )
    if isinstance(heatmaps, torch.Tensor):
        return points, scores
    return points.numpy(), scores.numpy()
