"""Keypoints to coordinate vectors."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ._arguments import argument, array_argument, dispatched, refuse_grad
from ._codec import VECTOR_SCHEMA, VectorCodec, native_vectors, native_vectors_of, vector_values
from ._native import Array, C, is_dynamo_compiling
from ._registration import plain, register

__all__ = ["simcc_encode"]


def simcc_encode(
    keypoints: Array, visible: Any, codec: VectorCodec, input_size: tuple[int, int], *, joint_weights: Any = None
) -> tuple[Any, Any, Any]:
    """Draws each keypoint of a batch as a label along x and one along y.

    A keypoint's bin is its coordinate times the split ratio, rounded (halves to the even bin). ``gaussian`` labels
    spread by sigma; ``standard`` ones are one bin, or share ``label_smoothing`` among the others.

    Args:
        keypoints: [B,K,2] (x, y), pixels of the network's input.
        visible: [B,K]; below 0.5 a keypoint is not drawn.
        codec: A `fastpose.codecs.SimCC`.
        input_size: (height, width) of the network's input, pixels.
        joint_weights: [K] factors on the weights.

    Returns:
        x [B,K,Wx] and y [B,K,Wy] float32, and weights [B,K] float32: ``visible``, or 0 where a keypoint is not finite
        or its label would not reach both vectors.

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
    if not is_dynamo_compiling():
        native = native_vectors(codec, input_size)
        result = C.try_simcc_encode(keypoints, visible, joint_weights, None, None, None, native)
        if result is not None:
            return result
    refuse_grad("simcc_encode", keypoints=keypoints, visible=visible, joint_weights=joint_weights)
    points = argument("keypoints", array_argument("keypoints", keypoints), torch.float32, keypoints)
    levels = argument("visible", visible, torch.float32, points)
    factors = None if joint_weights is None else argument("joint_weights", joint_weights, torch.float32, points)
    if dispatched(points, levels, factors):
        return torch.ops.fastpose.simcc_encode(points, levels, factors, *vector_values(codec, input_size))
    return C.simcc_encode(points, levels, factors, None, None, None, native_vectors(codec, input_size))


def _registered(keypoints: Tensor, visible: Tensor, joint_weights: Tensor | None, *values: Any) -> Any:
    tensors = plain(keypoints), plain(visible), plain(joint_weights)
    return C.simcc_encode(*tensors, None, None, None, native_vectors_of(values))


def _fake(
    keypoints: Tensor, visible: Tensor, joint_weights: Tensor | None, width: int, height: int, *values: Any
) -> tuple[Tensor, Tensor, Tensor]:
    people = keypoints.shape[:2]
    return keypoints.new_empty((*people, width)), keypoints.new_empty((*people, height)), keypoints.new_empty(people)


register(
    "simcc_encode",
    f"(Tensor keypoints, Tensor visible, Tensor? joint_weights, {VECTOR_SCHEMA}) -> (Tensor, Tensor, Tensor)",
    _registered,
    _fake,
)
