"""The loss of coordinate vectors."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ._arguments import (
    argument,
    array_argument,
    dispatched,
    expect_shape,
    flag_argument,
    needs_grad,
    number_argument,
    pair_argument,
    refuse_grad,
    transformed,
)
from ._codec import VectorCodec, check_vectors, native_vectors, native_vectors_of, vector_values
from ._made_gradient import made_loss
from ._native import Array, C, is_dynamo_compiling
from ._registration import plain, register
from .reference.simcc_loss import simcc_loss as reference

__all__ = ["simcc_loss"]


def simcc_loss(
    predicted: tuple[Array, Array],
    keypoints: Any,
    weights: Any,
    codec: VectorCodec,
    input_size: tuple[int, int],
    *,
    beta: float = 1.0,
    label_softmax: bool = False,
    label_beta: float = 10.0,
    keypoint_weights: Any = None,
) -> Any:
    """Kullback-Leibler divergence of predicted vectors from the labels of keypoints.

    Value and gradient are those of `simcc_encode` followed by MMPose's KLDiscretLoss: for each keypoint and axis the
    mean over the vector of label times (log label - log softmax(beta * predicted)), weighted, summed, and divided by K.
    No label is made in memory.

    Args:
        predicted: [B,K,X] and [B,K,Y] float32, float16, bfloat16 or float64; the only differentiable arguments.
            float64 is left to ``fastpose.ops.reference.simcc_loss``, which makes the labels; so are torch.func's
            transforms and forward-mode AD. What is not a number makes the loss NaN. The gradient of float16 vectors is
            made in float32: a scaled loss scales it before it is rounded.
        keypoints: [B,K,2] (x, y), pixels of the network's input.
        weights: [B,K] weight of each keypoint, or None: all 1. Where it is not above 0, or the keypoint's label does
            not reach its vectors, these are not looked at.
        codec: A `fastpose.codecs.SimCC`.
        input_size: (height, width) of the network's input, pixels.
        beta: Factor on what is predicted, before its softmax; above 0.
        label_softmax: Make labels distributions by a softmax, as RTMPose does.
        label_beta: Factor on labels before that; above 0, and at most 80 over the label's largest value.
        keypoint_weights: [K] factors on each keypoint's weight.

    Returns:
        Loss without dimensions, float32 (of float64 vectors float64); 0 for an empty batch. Differentiable once by
        ``backward()``, a second time is refused; of float64, and under torch.func, as often as wanted.

    Raises:
        TypeError: A dtype is wrong, or a gradient with respect to another argument is wanted.
        ValueError: A shape, a factor or the codec does not fit.

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
    x, y = pair_argument("predicted", predicted)
    wanted = needs_grad(x, y)
    if wanted:
        # A gradient divided by so many bins is nothing in float16: it must be multiplied by the loss's scale first.
        x, y = _wide(x), _wide(y)
    if not is_dynamo_compiling():
        native = native_vectors(codec, input_size)
        factors = weights, keypoint_weights, beta, label_softmax, label_beta
        made = C.try_simcc_loss(x, y, keypoints, *factors, wanted, native)
        if made is not None:
            return _Loss.apply(made[0], made[1:], False, x, y) if wanted else made[0]
    refuse_grad("simcc_loss", keypoints=keypoints, weights=weights, keypoint_weights=keypoint_weights)
    x, y = _expected("predicted[0]", x, x), _expected("predicted[1]", y, x)
    kind = torch.float64 if x.dtype in (torch.float64, np.float64) else torch.float32
    points = argument("keypoints", keypoints, kind, x)
    people = None if weights is None else argument("weights", weights, kind, x)
    each = None if keypoint_weights is None else argument("keypoint_weights", keypoint_weights, kind, x)
    options = (
        number_argument("beta", beta),
        flag_argument("label_softmax", label_softmax),
        number_argument("label_beta", label_beta),
    )
    if kind is torch.float64 or (isinstance(x, Tensor) and transformed()):
        return _plainly(x, y, points, people, each, options, codec, input_size)
    if dispatched(x, y, points, people, each):
        values = vector_values(codec, input_size)
        return torch.ops.fastpose.simcc_loss(x, y, points, people, each, *options, wanted, *values)[0]
    arrays = array_argument("predicted[0]", x), array_argument("predicted[1]", y), points, people, each
    made = C.simcc_loss(*arrays, *options, wanted, native_vectors(codec, input_size))
    return _Loss.apply(made[0], made[1:], False, x, y) if wanted else made[0]


def _wide(part: Any) -> Any:
    return part.float() if isinstance(part, Tensor) and part.dtype is torch.float16 else part


def _expected(name: str, part: Any, like: Any) -> Any:
    """An array or a tensor; the latter with its graph, and as it lies in memory."""
    array = array_argument(name, part, like)
    return part if isinstance(part, Tensor) else array


def _plainly(x: Any, y: Any, points: Any, factors: Any, each: Any, options: Any, codec: VectorCodec, size: Any) -> Any:
    """The reference, for what the core has not; after the checks that the core makes."""
    bins = check_vectors(codec, size)
    expect_shape("predicted[0]", x, (None, None, bins[0]), "[B, K, X]")
    people = tuple(x.shape[:2])
    if y.dtype != x.dtype:
        raise TypeError(f"predicted[1]: expected {x.dtype} as predicted[0] is, got {y.dtype}")
    for name, value, shape, legend in (
        ("predicted[1]", y, (*people, bins[1]), "[B, K, Y]"),
        ("keypoints", points, (*people, 2), "[B, K, 2]"),
        ("weights", factors, people, "[B, K]"),
        ("keypoint_weights", each, people[1:], "[K]"),
    ):
        if value is not None:
            expect_shape(name, value, shape, legend)
    for name, factor in (("beta", options[0]), ("label_beta", options[2])):
        if not 0 < factor < math.inf:
            raise ValueError(f"{name}: expected a number above 0, got {factor}")
    beta, label_softmax, label_beta = options
    a, b, c, d, e = (torch.from_numpy(v) if isinstance(v, np.ndarray) else v for v in (x, y, points, factors, each))
    loss = reference(
        (a, b), c, d, codec, size,
        beta=beta, label_softmax=label_softmax, label_beta=label_beta, keypoint_weights=e,
    )  # fmt: skip
    return loss if isinstance(x, Tensor) else loss.numpy()


_Loss: Any = made_loss("simcc_loss")


def _registered(
    x: Tensor,
    y: Tensor,
    keypoints: Tensor,
    weights: Tensor | None,
    keypoint_weights: Tensor | None,
    beta: float,
    label_softmax: bool,
    label_beta: float,
    with_gradient: bool,
    *values: Any,
) -> tuple[Tensor, Tensor, Tensor]:
    tensors = map(plain, (x, y, keypoints, weights, keypoint_weights))
    made = C.simcc_loss(*tensors, beta, label_softmax, label_beta, with_gradient, native_vectors_of(values))
    return made if with_gradient else (made[0], x.new_empty(0), y.new_empty(0))


def _fake(
    x: Tensor,
    y: Tensor,
    keypoints: Tensor,
    weights: Tensor | None,
    keypoint_weights: Tensor | None,
    beta: float,
    label_softmax: bool,
    label_beta: float,
    with_gradient: bool,
    *values: Any,
) -> tuple[Tensor, Tensor, Tensor]:
    loss = x.new_empty((), dtype=torch.float32)
    return loss, x.new_empty(x.shape if with_gradient else 0), y.new_empty(y.shape if with_gradient else 0)


def _derivatives(
    x: Tensor,
    y: Tensor,
    keypoints: Tensor,
    weights: Tensor | None,
    keypoint_weights: Tensor | None,
    beta: float,
    label_softmax: bool,
    label_beta: float,
    _: bool,
    *values: Any,
) -> tuple[Tensor, Tensor, Tensor]:
    refuse_grad("simcc_loss", keypoints=keypoints, weights=weights, keypoint_weights=keypoint_weights)
    if transformed():
        raise TypeError("torch.ops.fastpose.simcc_loss: for torch.func and forward-mode AD call the public function")
    tensors = (x, y, keypoints, weights, keypoint_weights)
    with torch._C._AutoDispatchBelowAutograd():
        made = torch.ops.fastpose.simcc_loss(*tensors, beta, label_softmax, label_beta, True, *values)
    return _Loss.apply(made[0], made[1:], True, x, y), made[1], made[2]


register(
    "simcc_loss",
    "(Tensor x, Tensor y, Tensor keypoints, Tensor? weights, Tensor? keypoint_weights, float beta, bool label_softmax, "
    "float label_beta, bool with_gradient, int bins_x, int bins_y, float split_ratio, bool gaussian, float sigma_x, "
    "float sigma_y, float label_smoothing, bool normalized, int taps_x, int taps_y, bool visibility) "
    "-> (Tensor, Tensor, Tensor)",
    _registered,
    _fake,
    _derivatives,
)
