"""Keypoints to coordinate vectors."""

from __future__ import annotations

from typing import Any

import torch

from ._arguments import argument, array_argument, expect_shape, refuse_grad
from ._codec import VectorCodec, check_vectors
from ._native import Array
from ._plain import in_torch
from .reference.simcc_encode import simcc_encode as reference

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
    refuse_grad("simcc_encode", keypoints=keypoints, visible=visible, joint_weights=joint_weights)
    check_vectors(codec, input_size)
    points = argument("keypoints", array_argument("keypoints", keypoints), torch.float32, keypoints)
    expect_shape("keypoints", points, (None, None, 2), "[B, K, 2]")
    levels = argument("visible", visible, torch.float32, points)
    expect_shape("visible", levels, tuple(points.shape[:2]), "[B, K]")
    factors = None if joint_weights is None else argument("joint_weights", joint_weights, torch.float32, points)
    if factors is not None:
        expect_shape("joint_weights", factors, (points.shape[1],), "[K]")
    return in_torch(reference, points, levels, codec, input_size, joint_weights=factors)
