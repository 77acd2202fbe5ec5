"""Coordinate vectors to keypoints."""

from __future__ import annotations

from typing import Any

import torch

from ._arguments import argument, array_argument, expect_shape, refuse_grad
from ._codec import VectorCodec, check_vectors
from ._native import Array
from ._plain import in_torch
from .reference.simcc_decode import simcc_decode as reference

__all__ = ["simcc_decode"]


def simcc_decode(
    x: Array,
    y: Array,
    codec: VectorCodec,
    input_size: tuple[int, int],
    *,
    flipped: tuple[Array, Array] | None = None,
    flip_index: Any = None,
    inverse: Any = None,
) -> tuple[Any, Any, Any]:
    """Finds each keypoint of a batch in its vector along x and in that along y.

    The arg-maxima (of equal values the first; NaN never wins) over the split ratio, refined with ``dark``; the score is
    the smaller of the two maxima.

    Args:
        x: [B,K,Wx] float32, float16 or bfloat16.
        y: [B,K,Wy], of the same dtype.
        codec: A `fastpose.codecs.SimCC`.
        input_size: (height, width) of the network's input, pixels.
        flipped: The two of the mirrored input; averaged with the others after they have been mirrored back.
        flip_index: [K] keypoint that each keypoint becomes in a mirror; with ``flipped``.
        inverse: [B,2,3] matrices from crop pixels to source pixels.

    Returns:
        Keypoints [B,K,2] float32 (x, y) in pixels of the input (of the source with ``inverse``), -1 in bins where the
        score is not above 0; scores [B,K] float32; and, where the codec tells it, visibility [B,K] float32: the
        smaller peak of the two softmaxes of 150 sigma times the vectors. Else None.

    Raises:
        TypeError: A dtype is wrong, arrays and tensors are mixed, or a gradient is wanted.
        ValueError: A shape does not fit, or ``flipped`` and ``flip_index`` do not come together.

    Example:
        >>> import torch
        >>> from fastpose import build_codec
        >>> from fastpose.ops import simcc_decode
        >>> x, y = torch.zeros(1, 1, 384), torch.zeros(1, 1, 512)
        >>> x[..., 192], y[..., 129] = 0.75, 0.5
        >>> points, scores, _ = simcc_decode(x, y, build_codec("simcc"), (256, 192))
        >>> points.tolist(), scores.tolist()
        ([[[96.0, 64.5]]], [[0.5]])

    Source: SimCC, https://arxiv.org/abs/2107.03332; RTMW, https://arxiv.org/abs/2407.08634.
    """
    refuse_grad("simcc_decode", x=x, y=y, inverse=inverse)
    sizes = check_vectors(codec, input_size)
    across = array_argument("x", x)
    expect_shape("x", across, (None, None, sizes[0]), "[B, K, Wx]")
    people = tuple(across.shape[:2])
    down = _like(across, "y", y, (*people, sizes[1]), "[B, K, Wy]")
    if (flipped is None) != (flip_index is None):
        raise ValueError("flip_index: expected [K] indices together with flipped, and none without it")
    mirrored = None
    if flipped is not None:
        mirrored = (
            _like(across, "flipped[0]", flipped[0], tuple(across.shape), "[B, K, Wx]"),
            _like(across, "flipped[1]", flipped[1], tuple(down.shape), "[B, K, Wy]"),
        )
    pairs = None if flip_index is None else argument("flip_index", flip_index, torch.int64, across)
    if pairs is not None:
        expect_shape("flip_index", pairs, (people[1],), "[K]")
    matrices = None if inverse is None else argument("inverse", inverse, torch.float64, across)
    if matrices is not None:
        expect_shape("inverse", matrices, (people[0], 2, 3), "[B, 2, 3]")
    return in_torch(reference, across, down, codec, input_size, flipped=mirrored, flip_index=pairs, inverse=matrices)


def _like(first: Any, name: str, value: Any, shape: tuple[int, ...], legend: str) -> Any:
    array = array_argument(name, value)
    if array.dtype != first.dtype or type(array) is not type(first):
        raise TypeError(f"{name}: expected {type(first).__name__} of {first.dtype} as x is, got {array.dtype}")
    expect_shape(name, array, shape, legend)
    return array
