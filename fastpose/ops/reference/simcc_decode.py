"""Keypoints of coordinate vectors, plainly in torch."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from .._codec import VectorCodec, gaussian_taps, vector_blur, vector_sizes

__all__ = ["VISIBILITY_BETA", "simcc_decode", "unmirror_vectors"]

VISIBILITY_BETA = 150.0
"""Factor on the vectors, beside sigma, before the softmax whose peak says how visible a keypoint is (RTMW)."""


def simcc_decode(
    x: Tensor,
    y: Tensor,
    codec: VectorCodec,
    input_size: tuple[int, int],
    *,
    flipped: tuple[Tensor, Tensor] | None = None,
    flip_index: Tensor | None = None,
    inverse: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Keypoints [B,K,2], scores [B,K], visibility [B,K] or None; see :func:`fastpose.ops.simcc_decode`."""
    wide = x.dtype == torch.float64
    vectors = [part if wide else part.float() for part in (x, y)]
    for name, part, size in zip("xy", vectors, vector_sizes(codec, input_size), strict=True):
        if part.shape[-1] != size:
            raise ValueError(f"{name}: expected {size} bins, got {part.shape[-1]}")
    if flipped is not None:
        assert flip_index is not None
        other = [part if wide else part.float() for part in flipped]
        mirrored = unmirror_vectors(other[0], other[1], flip_index)
        vectors = [(a + b) * 0.5 for a, b in zip(vectors, mirrored, strict=True)]
    # NaN never wins.
    found = [torch.nan_to_num(part, nan=-math.inf, posinf=math.inf, neginf=-math.inf).max(-1) for part in vectors]
    scores = torch.minimum(found[0].values, found[1].values)
    scores = torch.where(scores.isneginf(), torch.zeros_like(scores), scores)
    places = [torch.where(scores > 0, part.indices, -1).to(scores.dtype) for part in found]
    if codec.dark:
        refined = [_refine(part, place, sigma) for part, place, sigma in zip(vectors, places, codec.sigma, strict=True)]
        places = [torch.where(scores > 0, moved, place) for moved, place in zip(refined, places, strict=True)]
    points = torch.stack(places, -1) / codec.split_ratio
    visibility = None
    if codec.visibility:
        peaks = [
            _sharpness(part, most.values, VISIBILITY_BETA * sigma)
            for part, most, sigma in zip(vectors, found, codec.sigma, strict=True)
        ]
        visibility = torch.minimum(peaks[0], peaks[1])
    if inverse is not None:
        matrices = inverse.to(points.device, torch.float64)
        points = (points.double() @ matrices[..., :2].mT + matrices[:, None, :, 2]).to(scores.dtype)
    return points, scores, visibility


def unmirror_vectors(x: Tensor, y: Tensor, flip_index: Tensor) -> tuple[Tensor, Tensor]:
    """Vectors of the mirrored input as if it had not been mirrored: pairs swapped, x from right to left."""
    index = torch.as_tensor(flip_index, device=x.device)
    return x[:, index].flip(-1), y[:, index]


def _sharpness(vectors: Tensor, most: Tensor, factor: float) -> Tensor:
    """The softmax's peak, without what is not a number; 0 where the maximum is not finite."""
    exponents = ((vectors - most[..., None]) * factor).nan_to_num(nan=-math.inf, neginf=-math.inf)
    return torch.where(most.isfinite(), 1 / exponents.exp().sum(-1), torch.zeros_like(most))


def _refine(vectors: Tensor, places: Tensor, sigma: float) -> Tensor:
    """A Newton step on the logarithm of the blurred vectors, on a scale of two bins."""
    taps = vector_blur(sigma)
    if not vectors.numel():
        return places
    kernel = torch.tensor(gaussian_taps(taps), dtype=vectors.dtype, device=vectors.device)
    flat = vectors.reshape(-1, 1, vectors.shape[-1])
    blurred = F.conv1d(flat, kernel[None, None], padding=taps // 2).view_as(vectors)
    blurred = blurred * (vectors.amax(-1, keepdim=True) / blurred.amax(-1, keepdim=True))
    logs = F.pad(blurred.clamp(1e-3, 50.0).log().flatten(0, 1)[None], (2, 2), mode="replicate")[0].view(
        *vectors.shape[:2], -1
    )
    at = (places.clamp(min=0) + 2.5).long()[..., None]
    left2, left, here, right, right2 = (logs.gather(-1, at + step)[..., 0] for step in (-2, -1, 0, 1, 2))
    slope, curve = 0.5 * (right - left), 1e-9 + 0.25 * (right2 - 2 * here + left2)
    moved = places - slope / curve
    return torch.where(moved.isfinite(), moved, places)
