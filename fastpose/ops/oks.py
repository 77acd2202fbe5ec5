"""Object keypoint similarity of poses."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from ._native import (
    LIBRARY,
    Array,
    C,
    as_input,
    contiguous,
    detached,
    empty,
    is_compiling,
    needs_grad,
    stream,
    symbolic,
    torch_dtype,
)

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

    Source: https://cocodataset.org/#keypoints-eval
    """
    if not is_compiling():
        result = C.oks_eager(poses_a, poses_b, areas, sigmas, visible, areas_b, out)
        if result is not None:
            return result
    refuse_grad("oks", poses_a, poses_b, areas)
    a, b = poses_argument("poses_a", poses_a), poses_argument("poses_b", poses_b)
    area_a, sigma = number_argument("areas", areas, a), number_argument("sigmas", sigmas, a)
    area_b = None if areas_b is None else number_argument("areas_b", areas_b, a)
    counted = None if visible is None else _visible_argument(visible, a)
    if symbolic(a, b) and out is None:
        return torch.ops.fastpose.oks(a, b, area_a, sigma, counted, area_b)
    return _run(a, b, area_a, sigma, counted, area_b, out)


def _run(a: Any, b: Any, areas: Any, sigmas: Any, visible: Any, areas_b: Any, out: Any = None) -> Any:
    if out is None:
        out = empty((_people(a), _people(b)), torch_dtype(a.dtype), a)
    C.oks(a, b, areas, sigmas, visible, areas_b, out, stream(a))
    return out


def _people(poses: Any) -> int:
    return poses.shape[0] if poses.ndim else 0  # the binding refuses what is not [N,K,C]


def _visible_argument(visible: Any, like: Array) -> Any:
    """Bool or uint8 as it is, anything else by its sign."""
    kind = getattr(visible, "dtype", None)
    for flags, numpy_flags in ((torch.bool, np.bool_), (torch.uint8, np.uint8)):
        if kind is flags or (isinstance(kind, np.dtype) and kind == numpy_flags):
            return as_input(visible, flags, like, "visible")
    return as_input(detached(visible), torch.float64, like, "visible") > 0


def poses_argument(name: str, poses: Any) -> Any:
    """Poses as the bindings take them: contiguous and without a graph; dtype and shape are theirs to check.

    Raises:
        TypeError: Neither an array nor a tensor.
    """
    if isinstance(poses, Tensor):
        return contiguous(detached(poses), name)
    if isinstance(poses, np.ndarray):
        return poses if poses.flags.c_contiguous else np.ascontiguousarray(poses)
    raise TypeError(f"{name}: expected a NumPy array or a tensor, got {type(poses).__name__}")


def number_argument(name: str, value: Any, like: Array, dtype: torch.dtype = torch.float64) -> Any:
    """A small argument as :func:`as_input` gives it, without a graph; errors name it.

    Raises:
        TypeError: Not an array of numbers of that kind.
    """
    try:
        return as_input(detached(value), dtype, like)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{name}: {error}") from None


def refuse_grad(op: str, *values: Any) -> None:
    """Raises TypeError if a gradient is wanted, which the op has not."""
    if needs_grad(*values):
        raise TypeError(f"{op} has no gradient: detach its inputs, or use fastpose.ops.reference.{op}")


def _fake(
    poses_a: Tensor, poses_b: Tensor, areas: Tensor, sigmas: Tensor, visible: Tensor | None, areas_b: Tensor | None
) -> Tensor:
    return poses_a.new_empty((poses_a.shape[0], poses_b.shape[0]))


LIBRARY.define(
    "oks(Tensor poses_a, Tensor poses_b, Tensor areas, Tensor sigmas, Tensor? visible, Tensor? areas_b) -> Tensor"
)
LIBRARY.impl("oks", _run, "CPU")
LIBRARY.impl("oks", _run, "CUDA")
torch.library.register_fake("fastpose::oks", _fake)
