"""Coordinate vectors of keypoints, plainly in torch."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .._codec import VectorCodec, vector_sizes

__all__ = ["simcc_encode", "simcc_targets"]


def simcc_encode(
    keypoints: Tensor,
    visible: Tensor,
    codec: VectorCodec,
    input_size: tuple[int, int],
    *,
    joint_weights: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Vectors [B,K,Wx], [B,K,Wy] and weights [B,K]; see :func:`fastpose.ops.simcc_encode`."""
    levels = torch.where(visible > 0, visible.clamp(max=1), torch.zeros_like(visible))  # NaN is 0
    drawn = levels >= 0.5
    x, y, inside = simcc_targets(keypoints, drawn, codec, input_size)
    finite = keypoints.isfinite().all(-1)
    weights = torch.where((inside | ~drawn) & finite, levels, torch.zeros_like(levels)).to(x.dtype)
    return x, y, weights if joint_weights is None else weights * joint_weights.to(weights)


def simcc_targets(
    keypoints: Tensor, drawn: Tensor, codec: VectorCodec, input_size: tuple[int, int]
) -> tuple[Tensor, Tensor, Tensor]:
    """Vectors of the keypoints that are drawn (the others are zero), and bool [B,K]: which reach both of their vectors.

    Args:
        keypoints: [B,K,2] (x, y), input pixels.
        drawn: bool [B,K].
        codec: What the vectors are.
        input_size: (height, width) of the network's input.
    """
    sizes = vector_sizes(codec, input_size)
    finite = keypoints.isfinite().all(-1)
    bins = (torch.where(finite[..., None], keypoints, torch.zeros_like(keypoints)) * codec.split_ratio).round()
    inside, beyond = finite, 1 if codec.smoothing == "gaussian" else 0
    for axis, size in enumerate(sizes):
        place, reach = bins[..., axis], 3 * codec.sigma[axis] * beyond
        inside = inside & (place - reach < size) & (place + reach + beyond >= 0)
    vectors = []
    for axis, size in enumerate(sizes):
        distance = torch.arange(size, device=bins.device, dtype=bins.dtype) - bins[..., axis, None]
        if codec.smoothing == "gaussian":
            sigma = codec.sigma[axis]
            vector = torch.exp(-(distance**2) / (2 * sigma**2))
            if codec.normalized:
                vector = vector / (sigma * math.sqrt(2 * math.pi))
        else:
            rest = codec.label_smoothing / (size - 1) if size > 1 else 0.0
            vector = torch.where(distance == 0, 1.0 - codec.label_smoothing, rest).to(bins.dtype)
        vectors.append(torch.where((inside & drawn)[..., None], vector, torch.zeros_like(vector)))
    return vectors[0], vectors[1], inside
