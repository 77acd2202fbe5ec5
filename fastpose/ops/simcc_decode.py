"""Coordinate vectors to keypoints."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ._arguments import argument, array_argument, dispatched, filled, flip_pairs, pair_argument, refuse_grad
from ._codec import VectorCodec, native_vectors, native_vectors_of, vector_values
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
    out: Array | None = None,
    out_scores: Array | None = None,
    out_visibility: Array | None = None,
) -> tuple[Any, Any, Any]:
    """Finds each keypoint of a batch in its vector along x and in that along y.

    The arg-maxima (of equal values the first; NaN never wins) over the split ratio; the score is the smaller of the two
    maxima. With ``dark``, a Newton step on the logarithm of the blurred vectors. Each vector is read from memory once.
    NumPy arrays in, NumPy arrays out, or tensors in, tensors out.

    Args:
        x: [B,K,X] float32, float16 or bfloat16, X the width of the input times the split ratio.
        y: [B,K,Y], of the same dtype, Y the height times it.
        codec: A `fastpose.codecs.SimCC`.
        input_size: (height, width) of the network's input, pixels.
        flipped: The two of the mirrored input; averaged with the others after they have been mirrored back.
        flip_index: [K] keypoint that each keypoint becomes in a mirror; with ``flipped``. A CUDA tensor is not looked
            at before the kernel, which takes the nearest keypoint for an index out of range.
        inverse: [B,2,3] matrices from crop pixels to source pixels.
        out: Keypoints to fill, contiguous float32.
        out_scores: Scores to fill, contiguous float32.
        out_visibility: Visibility to fill, contiguous float32; where the codec tells it.

    Returns:
        Keypoints [B,K,2] float32 (x, y) in pixels of the input (of the source with ``inverse``), at bin -1 of both
        vectors where the score is not above 0; scores [B,K] float32, 0 where a vector has nothing above -infinity; and,
        where the codec tells it, visibility [B,K] float32 from 0 to 1: the smaller of the peaks of the two softmaxes of
        150 sigma times the vectors, 0 where a maximum is not finite. Else None.

    Raises:
        TypeError: A dtype is wrong, arrays and tensors are mixed, or a gradient is wanted.
        ValueError: A shape, an index or the codec does not fit, ``flipped`` and ``flip_index`` do not come together, a
            matrix is not finite (not checked on CUDA), or ``out_visibility`` is given where the codec does not tell it.

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
    flipped_x, flipped_y = pair_argument("flipped", flipped)
    outs = out, out_scores, out_visibility
    if not is_dynamo_compiling():
        native = native_vectors(codec, input_size)
        result = C.try_simcc_decode(x, y, flipped_x, flipped_y, flip_index, inverse, *outs, native)
        if result is not None:
            return result
    mirrored = {"flipped[0]": flipped_x, "flipped[1]": flipped_y}
    refuse_grad("simcc_decode", x=x, y=y, inverse=inverse, **mirrored)
    across = array_argument("x", x)
    down = array_argument("y", y, across)
    if (flipped is None) != (flip_index is None):
        raise ValueError("flip_index: expected [K] indices together with flipped, and none without it")
    other_x = None if flipped is None else array_argument("flipped[0]", flipped_x, across)
    other_y = None if flipped is None else array_argument("flipped[1]", flipped_y, across)
    pairs = None if flip_index is None else flip_pairs(flip_index, across)
    matrices = None if inverse is None else argument("inverse", inverse, torch.float64, across)
    tensors = (across, down, other_x, other_y, pairs, matrices)
    if dispatched(*tensors):
        points, scores, told = torch.ops.fastpose.simcc_decode(*tensors, *vector_values(codec, input_size))
        if out_visibility is not None and not codec.visibility:
            raise ValueError("out_visibility: expected None, as the codec does not tell visibility")
        told = filled("out_visibility", out_visibility, told) if codec.visibility else None
        return filled("out", out, points), filled("out_scores", out_scores, scores), told
    return C.simcc_decode(*tensors, *outs, native_vectors(codec, input_size))


def _registered(
    x: Tensor,
    y: Tensor,
    flipped_x: Tensor | None,
    flipped_y: Tensor | None,
    flip_index: Tensor | None,
    inverse: Tensor | None,
    *values: Any,
) -> Any:
    tensors = map(plain, (x, y, flipped_x, flipped_y, flip_index, inverse))
    points, scores, told = C.simcc_decode(*tensors, None, None, None, native_vectors_of(values))
    return points, scores, scores.new_empty(0) if told is None else told


def _fake(
    x: Tensor,
    y: Tensor,
    flipped_x: Tensor | None,
    flipped_y: Tensor | None,
    flip_index: Tensor | None,
    inverse: Tensor | None,
    *values: Any,
) -> tuple[Tensor, ...]:
    people = tuple(x.shape[:2]) if x.ndim == 3 else (0, 0)  # the binding refuses it
    shapes = (*people, 2), people, people if values[-1] else (0,)
    return tuple(x.new_empty(shape, dtype=torch.float32) for shape in shapes)


register(
    "simcc_decode",
    "(Tensor x, Tensor y, Tensor? flipped_x, Tensor? flipped_y, Tensor? flip_index, Tensor? inverse, int bins_x, "
    "int bins_y, float split_ratio, bool gaussian, float sigma_x, float sigma_y, float label_smoothing, "
    "bool normalized, int taps_x, int taps_y, bool visibility) -> (Tensor, Tensor, Tensor)",
    _registered,
    _fake,
)
