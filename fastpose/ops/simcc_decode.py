"""Coordinate vectors to keypoints."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ._arguments import argument, array_argument, dispatched, flip_pairs, refuse_grad
from ._codec import VECTOR_SCHEMA, VectorCodec, native_vectors, native_vectors_of, vector_values
from ._native import Array, C, is_dynamo_compiling
from ._registration import plain, register

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
    mirror_x, mirror_y = (None, None) if flipped is None else flipped
    if not is_dynamo_compiling():
        native = native_vectors(codec, input_size)
        result = C.try_simcc_decode(x, y, mirror_x, mirror_y, flip_index, inverse, None, None, native)
        if result is not None:
            return result
    refuse_grad("simcc_decode", x=x, y=y, inverse=inverse)
    across = array_argument("x", x)
    down = array_argument("y", y, across)
    if (flipped is None) != (flip_index is None):
        raise ValueError("flip_index: expected [K] indices together with flipped, and none without it")
    mirrored = [
        None if part is None else array_argument(f"flipped[{axis}]", part, across)
        for axis, part in enumerate((mirror_x, mirror_y))
    ]
    pairs = None if flip_index is None else flip_pairs(flip_index, across)
    matrices = None if inverse is None else argument("inverse", inverse, torch.float64, across)
    if dispatched(across, down, *mirrored, pairs, matrices):
        values = vector_values(codec, input_size)
        points, scores, told = torch.ops.fastpose.simcc_decode(across, down, *mirrored, pairs, matrices, *values)
        return points, scores, told if codec.visibility else None
    native = native_vectors(codec, input_size)
    return C.simcc_decode(across, down, *mirrored, pairs, matrices, None, None, native)


def _registered(
    x: Tensor,
    y: Tensor,
    flipped_x: Tensor | None,
    flipped_y: Tensor | None,
    flip_index: Tensor | None,
    inverse: Tensor | None,
    *values: Any,
) -> tuple[Tensor, Tensor, Tensor]:
    tensors = [plain(value) for value in (x, y, flipped_x, flipped_y, flip_index, inverse)]
    points, scores, told = C.simcc_decode(*tensors, None, None, native_vectors_of(values))
    return points, scores, scores.new_empty(0) if told is None else told


def _fake(
    x: Tensor,
    y: Tensor,
    flipped_x: Tensor | None,
    flipped_y: Tensor | None,
    flip_index: Tensor | None,
    inverse: Tensor | None,
    *values: Any,
) -> tuple[Tensor, Tensor, Tensor]:
    people = x.shape[:2]
    points, scores = (x.new_empty(shape, dtype=torch.float32) for shape in ((*people, 2), people))
    return points, scores, torch.empty_like(scores) if values[-1] else scores.new_empty(0)


register(
    "simcc_decode",
    "(Tensor x, Tensor y, Tensor? flipped_x, Tensor? flipped_y, Tensor? flip_index, Tensor? inverse, "
    f"{VECTOR_SCHEMA}) -> (Tensor, Tensor, Tensor)",
    _registered,
    _fake,
)
