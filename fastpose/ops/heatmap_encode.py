"""Keypoints to target heatmaps."""

from __future__ import annotations

from typing import Any

import torch

from ..spec import CodecSpec
from . import reference
from ._native import Array

__all__ = ["heatmap_encode"]


def heatmap_encode(
    keypoints: Array,
    visible: Array,
    codec: CodecSpec,
    input_size: tuple[int, int],
    *,
    joint_weights: Any = None,
    out: Array | None = None,
    out_weights: Array | None = None,
) -> tuple[Array, Array]:
    """Makes the target heatmaps of a batch of poses."""
    points, levels = torch.as_tensor(keypoints), torch.as_tensor(visible)
    weights = None if joint_weights is None else torch.as_tensor(joint_weights)
    maps, factors = reference.heatmap_encode(points.float(), levels, codec, input_size, joint_weights=weights)
    if isinstance(keypoints, torch.Tensor):
        return maps, factors
    return maps.numpy(), factors.numpy()
