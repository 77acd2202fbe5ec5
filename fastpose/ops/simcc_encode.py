"""Keypoints to coordinate vectors."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ._arguments import argument, array_argument, dispatched, filled, pair_argument, refuse_grad
from ._codec import VectorCodec, native_vectors, native_vectors_of, vector_values
from ._native import Array, C, is_dynamo_compiling
from ._registration import plain, register

__all__ = ["simcc_encode"]


def simcc_encode(
    keypoints: Array,
    visible: Any,
    codec: VectorCodec,
    input_size: tuple[int, int],
    *,
    joint_weights: Any = None,
    out: tuple[Array, Array] | None = None,
    out_weights: Array | None = None,
) -> tuple[Any, Any, Any]:
    """Draws each keypoint of a batch as a label along x and one along y.

    A keypoint's bin is its coordinate times the split ratio, rounded (halves to the even bin). ``gaussian`` labels
    spread by sigma over the whole vector, down to 1e-36 of their peak; ``standard`` ones are one bin, or share
    ``label_smoothing`` among the others. NumPy arrays in, NumPy arrays out, or tensors in, tensors out.

    Args:
        keypoints: [B,K,2] float32 (x, y), pixels of the network's input.
        visible: [B,K] visibility; below 0.5 (or NaN) a keypoint has no label, above 1 it counts as 1.
        codec: A `fastpose.codecs.SimCC`.
        input_size: (height, width) of the network's input, pixels.
        joint_weights: [K] factors on the weights.
        out: Vectors to fill, contiguous float32: those along x and those along y.
        out_weights: Weights to fill, contiguous float32.

    Returns:
        x [B,K,X] and y [B,K,Y] float32, X and Y the sides of the input times the split ratio, and weights [B,K]
        float32: ``visible`` from 0 to 1, or 0 where a keypoint is not finite, or would have a label that does not reach
        both vectors (a Gaussian ends 3 sigma from its bin in this); then both vectors are zero.

    Raises:
        TypeError: A dtype is wrong, arrays and tensors are mixed, or a gradient is wanted.
        ValueError: A shape does not fit.

    Example:
        >>> import torch
        >>> from fastpose import build_codec
        >>> from fastpose.ops import simcc_encode
        >>> x, y, weights = simcc_encode(
        ...     torch.tensor([[[96.0, 64.0]]]), torch.ones(1, 1), build_codec("simcc"), (256, 192)
        ... )
        >>> x.argmax().item(), y.argmax().item(), weights.tolist()
        (192, 128, [[1.0]])

    Source: SimCC, https://arxiv.org/abs/2107.03332.
    """
    out_x, out_y = pair_argument("out", out)
    if not is_dynamo_compiling():
        native = native_vectors(codec, input_size)
        result = C.try_simcc_encode(keypoints, visible, joint_weights, out_x, out_y, out_weights, native)
        if result is not None:
            return result
    refuse_grad("simcc_encode", keypoints=keypoints, visible=visible, joint_weights=joint_weights)
    points = argument("keypoints", array_argument("keypoints", keypoints), torch.float32, keypoints)
    levels = argument("visible", visible, torch.float32, points)
    factors = None if joint_weights is None else argument("joint_weights", joint_weights, torch.float32, points)
    if dispatched(points, levels, factors):
        values = vector_values(codec, input_size)
        x, y, weights = torch.ops.fastpose.simcc_encode(points, levels, factors, *values)
        return filled("out[0]", out_x, x), filled("out[1]", out_y, y), filled("out_weights", out_weights, weights)
    return C.simcc_encode(points, levels, factors, out_x, out_y, out_weights, native_vectors(codec, input_size))


def _registered(keypoints: Tensor, visible: Tensor, joint_weights: Tensor | None, *values: Any) -> Any:
    tensors = (plain(keypoints), plain(visible), plain(joint_weights))
    return C.simcc_encode(*tensors, None, None, None, native_vectors_of(values))


def _fake(keypoints: Tensor, visible: Tensor, joint_weights: Tensor | None, *values: Any) -> tuple[Tensor, ...]:
    people = tuple(keypoints.shape[:2]) if keypoints.ndim == 3 else (0, 0)  # the binding refuses it
    return tuple(keypoints.new_empty(shape) for shape in ((*people, values[0]), (*people, values[1]), people))


register(
    "simcc_encode",
    "(Tensor keypoints, Tensor visible, Tensor? joint_weights, int bins_x, int bins_y, float split_ratio, "
    "bool gaussian, float sigma_x, float sigma_y, float label_smoothing, bool normalized, int taps_x, int taps_y, "
    "bool visibility) -> (Tensor, Tensor, Tensor)",
    _registered,
    _fake,
)
