"""Suppression of poses that describe the same person."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ._arguments import (
    argument,
    array_argument,
    dispatched,
    flag_argument,
    number_argument,
    refuse_grad,
)
from ._native import Array, C, is_dynamo_compiling
from ._registration import plain, register
from ._suppression import filled_places, kept_places, limit_argument

__all__ = ["oks_nms"]


def oks_nms(
    poses: Array,
    scores: Any,
    areas: Any,
    sigmas: Any,
    threshold: float = 0.9,
    *,
    image_index: Any = None,
    soft: bool = False,
    max_per_image: int | None = None,
    padded: bool = False,
    out: Array | None = None,
    out_scores: Array | None = None,
) -> Any:
    """Keeps the best of the poses that resemble each other, for many images in one call.

    Hard: from the best pose down, a pose is dropped if its OKS with a better kept one is above ``threshold``. Soft:
    none is dropped; the best is taken, the scores of the others are multiplied by exp(-OKS² / ``threshold``), and so
    on. The OKS of a pair counts all keypoints and has the mean of both areas. Of equal scores the lower index is the
    better one; a score that is not a number is the worst. Decided in double: the same for every number of threads and
    every SIMD level (soft: scores within 1e-8). NumPy arrays in, NumPy arrays out, or tensors in, tensors out.

    Args:
        poses: [N,K,2 or 3] (x, y, …) in pixels, float32 or float64; float32 is the faster one.
        scores: [N].
        areas: [N] square pixels; below 0 is taken as 0.
        sigmas: [K], above 0 (``Skeleton.sigmas``).
        threshold: Hard: an OKS, 0 or more. Soft: width of the Gaussian, above 0.
        image_index: [N] int: poses with different numbers leave each other alone. By default all are of one image.
        soft: Lower scores instead of dropping poses.
        max_per_image: Take at most so many poses of each image.
        padded: Return all N places, the unused ones with index -1 and score 0. Then nothing waits for a GPU, and
            ``torch.compile(fullgraph=True)`` and ``torch.export`` work; otherwise the number of kept poses is read.
        out: [N] int64, contiguous: holds the indices.
        out_scores: [N] float64, contiguous: holds the lowered scores.

    Returns:
        Hard: [M] int64, ``kept[i] = j`` means that pose j is the i-th best of the kept. Soft: the same, and [M] scores
        after lowering, of the dtype of ``scores``. With ``padded`` M is N.

    Raises:
        TypeError: A dtype is wrong, arrays and tensors are mixed, or a gradient is wanted.
        ValueError: A shape or parameter is wrong, a sigma is not a finite number above 0 (not checked on CUDA), or
            there are more than 131072 poses on CUDA.

    Example:
        >>> import numpy as np
        >>> from fastpose.ops import oks_nms
        >>> pose = np.array([[10.0, 20.0], [30.0, 40.0]], np.float32)
        >>> poses = np.stack([pose, pose + 1, pose + 100])  # the second one is much like the first
        >>> oks_nms(poses, [0.8, 0.9, 0.7], [2500.0] * 3, [0.1, 0.1], 0.9)
        array([1, 2])
        >>> kept, lowered = oks_nms(poses, [0.8, 0.9, 0.7], [2500.0] * 3, [0.1, 0.1], 0.5, soft=True)
        >>> kept, lowered.round(2)
        (array([1, 2, 0]), array([0.9 , 0.7 , 0.11]))

    Source: Papandreou et al., CVPR 2017 (OKS-NMS); Bodla et al., ICCV 2017 (soft).
    """
    if not is_dynamo_compiling():
        result = C.try_oks_nms(
            poses, scores, areas, sigmas, threshold, image_index, soft, max_per_image, padded, out, out_scores
        )
        if result is not None:
            return result
    refuse_grad("oks_nms", poses=poses, scores=scores, areas=areas, sigmas=sigmas)
    pose = array_argument("poses", poses)
    score, area = argument("scores", scores, torch.float64, pose), argument("areas", areas, torch.float64, pose)
    sigma = argument("sigmas", sigmas, torch.float64, pose)
    image = None if image_index is None else argument("image_index", image_index, torch.int64, pose)
    width, soft = number_argument("threshold", threshold), flag_argument("soft", soft)
    limit, padded = limit_argument("max_per_image", max_per_image), flag_argument("padded", padded)
    if dispatched(pose, score, area, sigma, image):
        result = torch.ops.fastpose.oks_nms(pose, score, area, sigma, image, width, soft, limit)
        found = filled_places(result, out, out_scores)
    else:
        found = C.oks_nms(pose, score, area, sigma, width, image, soft, limit, padded, out, out_scores)
    return kept_places(found, scores, soft=soft, padded=padded)


def _registered(
    poses: Tensor,
    scores: Tensor,
    areas: Tensor,
    sigmas: Tensor,
    image_index: Tensor | None,
    threshold: float,
    soft: bool,
    max_per_image: int,
) -> Any:
    """Indices [N] padded with -1, scores [N] float64 padded with 0, count [1] int64; reads nothing back."""
    arrays = (plain(poses), plain(scores), plain(areas), plain(sigmas))
    return C.oks_nms(*arrays, threshold, plain(image_index), soft, max_per_image, True, None, None)


def _fake(
    poses: Tensor,
    scores: Tensor,
    areas: Tensor,
    sigmas: Tensor,
    image_index: Tensor | None,
    threshold: float,
    soft: bool,
    max_per_image: int,
) -> tuple[Tensor, Tensor, Tensor]:
    people = poses.shape[0]
    return (
        poses.new_empty((people,), dtype=torch.int64),
        poses.new_empty((people,), dtype=torch.float64),
        poses.new_empty((1,), dtype=torch.int64),
    )


register(
    "oks_nms",
    "(Tensor poses, Tensor scores, Tensor areas, Tensor sigmas, Tensor? image_index, float threshold, bool soft, "
    "int max_per_image) -> (Tensor indices, Tensor rescored, Tensor count)",
    _registered,
    _fake,
)
