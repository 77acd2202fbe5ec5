"""The loss of coordinate vectors."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ._arguments import (
    argument,
    array_argument,
    dispatched,
    expect_shape,
    needs_grad,
    refuse_grad,
    tensor_argument,
    transformed,
)
from ._codec import VECTOR_SCHEMA, VectorCodec, check_vectors, native_vectors, native_vectors_of, vector_values
from ._native import C, is_dynamo_compiling
from ._registration import differentiable_once, plain, register
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
    x, y = predicted
    if isinstance(x, Tensor) and x.dtype is torch.float16 and needs_grad(x, y):
        # A gradient divided by so many bins is nothing in float16: it must be multiplied by the loss's scale first.
        x, y = x.float(), y.float()
    numbers = (float(beta), bool(label_softmax), float(label_beta))
    wanted = needs_grad(x, y)
    if not is_dynamo_compiling():
        native = native_vectors(codec, input_size)
        made = C.try_simcc_loss(x, y, keypoints, weights, keypoint_weights, *numbers, wanted, native)
        if made is not None:
            return _Loss.apply(x, y, made) if wanted else made[0]
    refuse_grad("simcc_loss", keypoints=keypoints, weights=weights, keypoint_weights=keypoint_weights)
    across, down = tensor_argument("predicted[0]", x), tensor_argument("predicted[1]", y)
    wide = across.dtype == torch.float64
    kind = torch.float64 if wide else torch.float32
    points, factors = argument("keypoints", keypoints, kind, across), argument("weights", weights, kind, across)
    each = None if keypoint_weights is None else argument("keypoint_weights", keypoint_weights, kind, across)
    if wide or transformed():
        return _plainly(across, down, points, factors, each, codec, input_size, *numbers)
    if dispatched(across, down, points, factors, each):
        values = vector_values(codec, input_size)
        made = torch.ops.fastpose.simcc_loss(across, down, points, factors, each, *numbers, wanted, *values)
        return made[0]
    native = native_vectors(codec, input_size)
    vectors = array_argument("predicted[0]", across), array_argument("predicted[1]", down)
    made = C.simcc_loss(*vectors, points, factors, each, *numbers, wanted, native)
    return _Loss.apply(across, down, made) if wanted else made[0]


def _plainly(
    x: Tensor, y: Tensor, points: Any, factors: Any, each: Any, codec: VectorCodec, size: Any, *numbers: Any
) -> Tensor:
    """The reference, for what the core has not; after the checks that the core makes."""
    sizes = check_vectors(codec, size)
    expect_shape("predicted[0]", x, (None, None, sizes[0]), "[B, K, Wx]")
    expect_shape("predicted[1]", y, (*x.shape[:2], sizes[1]), "[B, K, Wy]")
    expect_shape("keypoints", points, (*x.shape[:2], 2), "[B, K, 2]")
    expect_shape("weights", factors, tuple(x.shape[:2]), "[B, K]")
    if each is not None:
        expect_shape("keypoint_weights", each, (x.shape[1],), "[K]")
    beta, label_softmax, label_beta = numbers
    return reference(
        (x, y), points, factors, codec, size,
        beta=beta, label_softmax=label_softmax, label_beta=label_beta, keypoint_weights=each,
    )  # fmt: skip


class _Loss(torch.autograd.Function):
    """A loss whose gradients were made together with the value, in the passes over the vectors."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor, made: tuple[Tensor, Tensor, Tensor]) -> Any:
        loss, gradient_x, gradient_y = made
        ctx.save_for_backward(gradient_x, gradient_y)
        ctx.inputs = (x, y)
        return loss

    @staticmethod
    @differentiable_once("simcc_loss")
    def backward(ctx: Any, slope: Tensor) -> tuple[Any, ...]:
        return *((gradient.float() * slope).to(gradient.dtype) for gradient in ctx.saved_tensors), None


def _registered(
    x: Tensor,
    y: Tensor,
    keypoints: Tensor,
    weights: Tensor,
    keypoint_weights: Tensor | None,
    beta: float,
    label_softmax: bool,
    label_beta: float,
    with_gradient: bool,
    *values: Any,
) -> tuple[Tensor, Tensor, Tensor]:
    tensors = [plain(value) for value in (x, y, keypoints, weights, keypoint_weights)]
    made = C.simcc_loss(*tensors, beta, label_softmax, label_beta, with_gradient, native_vectors_of(values))
    return made[0], *(x.new_empty(0) if gradient is None else gradient for gradient in made[1:])


def _fake(
    x: Tensor,
    y: Tensor,
    keypoints: Tensor,
    weights: Tensor,
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
    x: Tensor, y: Tensor, keypoints: Tensor, weights: Tensor, keypoint_weights: Tensor | None, *others: Any
) -> tuple[Tensor, Tensor, Tensor]:
    refuse_grad("simcc_loss", keypoints=keypoints, weights=weights, keypoint_weights=keypoint_weights)
    if transformed():
        raise TypeError("torch.ops.fastpose.simcc_loss: for torch.func and forward-mode AD call the public function")
    beta, label_softmax, label_beta, _, *values = others
    with torch._C._AutoDispatchBelowAutograd():
        made = torch.ops.fastpose.simcc_loss(
            x, y, keypoints, weights, keypoint_weights, beta, label_softmax, label_beta, True, *values
        )
    return _Loss.apply(x, y, made), made[1], made[2]


register(
    "simcc_loss",
    "(Tensor x, Tensor y, Tensor keypoints, Tensor weights, Tensor? keypoint_weights, float beta, bool label_softmax, "
    f"float label_beta, bool with_gradient, {VECTOR_SCHEMA}) -> (Tensor, Tensor, Tensor)",
    _registered,
    _fake,
    _derivatives,
)
