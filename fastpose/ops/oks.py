"""Object keypoint similarity of poses."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from ._arguments import argument, array_argument, dispatched, filled, refuse_grad
from ._native import Array, C, is_dynamo_compiling
from ._registration import plain, register

__all__ = ["oks"]


def oks(
    poses_a: Array,
    poses_b: Array,
    areas: Any,
    sigmas: Any,
    *,
    visible: Any = None,
    areas_b: Any = None,
    out: Array | None = None,
) -> Any:
    """Object keypoint similarity of every pose of ``a`` with every pose of ``b``.

    The mean over the counted keypoints of exp(-d² / (2 (2 sigma)² area)), as COCO defines it. Only x and y of a
    keypoint are looked at; a third number (a score) says nothing here. NumPy arrays in, NumPy array out, or tensors
    in, tensor out.

    Args:
        poses_a: [N,K,2 or 3] (x, y, …) in pixels, float32 or float64.
        poses_b: [M,K,2 or 3], of the same dtype.
        areas: [N] area of each pose of ``a`` in square pixels; below 0 is taken as 0.
        sigmas: [K], above 0 (``Skeleton.sigmas``).
        visible: [N,K]; keypoints of ``a`` count where this is above 0. By default all do.
        areas_b: [M]; with it a pair has the mean of both areas, without it that of ``a``.
        out: [N,M] contiguous, of the poses' dtype: filled and returned.

    Returns:
        [N,M] between 0 and 1, of the poses' dtype; float32 within 1e-6. 0 where no keypoint counts; a keypoint that is
        not finite agrees with nothing.

    Raises:
        TypeError: A dtype is wrong, arrays and tensors are mixed, or a gradient is wanted
            (``fastpose.ops.reference.oks`` is differentiable).
        ValueError: A shape is wrong, or a sigma is not a finite number above 0 (not checked on CUDA).

    Example:
        >>> import numpy as np
        >>> from fastpose.ops import oks
        >>> pose = np.array([[[10.0, 20.0], [30.0, 40.0]]])
        >>> others = np.concatenate([pose, pose + 10])
        >>> oks(pose, others, areas=[2500.0], sigmas=[0.1, 0.1]).round(3)
        array([[1.   , 0.368]])

    Source: https://cocodataset.org/#keypoints-eval
    """
    if not is_dynamo_compiling():
        result = C.try_oks(poses_a, poses_b, areas, sigmas, visible, areas_b, out)
        if result is not None:
            return result
    refuse_grad("oks", poses_a=poses_a, poses_b=poses_b, areas=areas, sigmas=sigmas, visible=visible, areas_b=areas_b)
    a, b = array_argument("poses_a", poses_a), array_argument("poses_b", poses_b)
    area_a, sigma = argument("areas", areas, torch.float64, a), argument("sigmas", sigmas, torch.float64, a)
    area_b = None if areas_b is None else argument("areas_b", areas_b, torch.float64, a)
    counted = None if visible is None else _visible_argument(visible, a)
    if dispatched(a, b, area_a, sigma, counted, area_b):
        return filled("out", out, torch.ops.fastpose.oks(a, b, area_a, sigma, counted, area_b))
    return C.oks(a, b, area_a, sigma, counted, area_b, out)


def _registered(*arguments: Any) -> Any:
    return C.oks(*map(plain, arguments), None)


def _visible_argument(visible: Any, like: Array) -> Any:
    """Bool or uint8 as it is, anything else by its sign."""
    kind = getattr(visible, "dtype", None)
    for flags, numpy_flags in ((torch.bool, np.bool_), (torch.uint8, np.uint8)):
        if kind is flags or (isinstance(kind, np.dtype) and kind == numpy_flags):
            return argument("visible", visible, flags, like)
    return argument("visible", visible, torch.float64, like) > 0


def _fake(
    poses_a: Tensor, poses_b: Tensor, areas: Tensor, sigmas: Tensor, visible: Tensor | None, areas_b: Tensor | None
) -> Tensor:
    return poses_a.new_empty((poses_a.shape[0], poses_b.shape[0]))


register(
    "oks",
    "(Tensor poses_a, Tensor poses_b, Tensor areas, Tensor sigmas, Tensor? visible, Tensor? areas_b) -> Tensor",
    _registered,
    _fake,
)
