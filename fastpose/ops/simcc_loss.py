"""The loss of coordinate vectors."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ._arguments import argument, expect_shape, refuse_grad, tensor_argument
from ._codec import VectorCodec, check_vectors
from .reference.simcc_loss import simcc_loss as reference

__all__ = ["simcc_loss"]


def simcc_loss(
    predicted: tuple[Tensor, Tensor],
    keypoints: Any,
    weights: Any,
    codec: VectorCodec,
    input_size: tuple[int, int],
    *,
    beta: float = 1.0,
    label_softmax: bool = False,
    label_beta: float = 10.0,
    keypoint_weights: Any = None,
) -> Tensor:
    """Kullback-Leibler divergence of predicted vectors from the labels of keypoints.

    Value and gradient are those of `simcc_encode` followed by MMPose's KLDiscretLoss: for each keypoint and axis the
    mean over the vector of label times (log label - log softmax(beta * predicted)), weighted, summed, and divided by K.

    Args:
        predicted: [B,K,Wx] and [B,K,Wy] floating point tensors; the only differentiable arguments.
        keypoints: [B,K,2] (x, y), pixels of the network's input.
        weights: [B,K]; where one is not above 0, or the keypoint's label does not reach its vectors, those are not
            looked at.
        codec: A `fastpose.codecs.SimCC`.
        input_size: (height, width) of the network's input, pixels.
        beta: Factor on what is predicted, before its softmax.
        label_softmax: Make labels distributions by a softmax, as RTMPose does.
        label_beta: Factor on labels before that.
        keypoint_weights: [K] factors on each keypoint's loss.

    Returns:
        Loss without dimensions, float32 (of float64 vectors float64); 0 for an empty batch.

    Raises:
        TypeError: A dtype is wrong, or a gradient with respect to another argument is wanted.
        ValueError: A shape does not fit.

    Example:
        >>> import torch
        >>> from fastpose import build_codec
        >>> from fastpose.ops import simcc_loss
        >>> x, y = torch.zeros(1, 1, 384, requires_grad=True), torch.zeros(1, 1, 512)
        >>> loss = simcc_loss(
        ...     (x, y), torch.tensor([[[96.0, 64.0]]]), torch.ones(1, 1), build_codec("simcc"), (256, 192)
        ... )
        >>> loss.backward()
        >>> x.grad.argmin().item()  # where the vector should rise most
        192

    Source: SimCC, https://arxiv.org/abs/2107.03332; RTMPose, https://arxiv.org/abs/2303.07399.
    """
    refuse_grad("simcc_loss", keypoints=keypoints, weights=weights, keypoint_weights=keypoint_weights)
    sizes = check_vectors(codec, input_size)
    x, y = (tensor_argument(f"predicted[{axis}]", part) for axis, part in enumerate(predicted))
    expect_shape("predicted[0]", x, (None, None, sizes[0]), "[B, K, Wx]")
    expect_shape("predicted[1]", y, (*x.shape[:2], sizes[1]), "[B, K, Wy]")
    kind = torch.float64 if x.dtype == torch.float64 else torch.float32
    points, factors = argument("keypoints", keypoints, kind, x), argument("weights", weights, kind, x)
    expect_shape("keypoints", points, (*x.shape[:2], 2), "[B, K, 2]")
    expect_shape("weights", factors, tuple(x.shape[:2]), "[B, K]")
    each = None if keypoint_weights is None else argument("keypoint_weights", keypoint_weights, kind, x)
    if each is not None:
        expect_shape("keypoint_weights", each, (x.shape[1],), "[K]")
    return reference(
        (x, y), points, factors, codec, input_size,
        beta=beta, label_softmax=label_softmax, label_beta=label_beta, keypoint_weights=each,
    )  # fmt: skip
