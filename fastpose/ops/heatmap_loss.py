"""Loss between predicted heatmaps and keypoints."""

from __future__ import annotations

import torch

from ..spec import CodecSpec
from . import reference

__all__ = ["heatmap_loss"]


def heatmap_loss(
    predicted: torch.Tensor,
    keypoints: torch.Tensor | None,
    weights: torch.Tensor | None,
    codec: CodecSpec,
    input_size: tuple[int, int],
    *,
    target: torch.Tensor | None = None,
    ohkm_topk: int | None = None,
) -> torch.Tensor:
    """Mean squared error between predicted heatmaps and those of keypoints."""
    return reference.heatmap_loss(predicted, keypoints, weights, codec, input_size, target=target, ohkm_topk=ohkm_topk)
