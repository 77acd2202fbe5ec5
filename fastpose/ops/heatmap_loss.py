"""Loss between predicted heatmaps and keypoints."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ._codec import CodecValues, HeatmapCodec, argument, array_argument, codec_values, plain, refuse_grad
from ._native import LIBRARY, Array, C, as_input, empty, is_compiling, needs_grad, stream, symbolic, torch_dtype

__all__ = ["heatmap_loss"]


def heatmap_loss(
    predicted: Array,
    keypoints: Any,
    weights: Any,
    codec: HeatmapCodec,
    input_size: tuple[int, int],
    *,
    target: Any = None,
    ohkm_topk: int | None = None,
) -> Any:
    """Mean squared error between predicted heatmaps and those of keypoints, without making the latter.

    The value and the gradient are those of :func:`fastpose.ops.heatmap_encode` followed by MMPose's losses: the mean
    over B, K, h, w of w (p - t)² (KeypointMSELoss); with ``ohkm_topk`` the mean over B and the k hardest keypoints of
    each sample of w² (p - t)² (KeypointOHKMMSELoss); for ``udp_combined`` the mean over B, K, h, w of
    w²/2 [(p₀ - t₀)² + t₀² (p₁ - t₁)² + t₀² (p₂ - t₂)²] (CombinedTargetMSELoss).

    Args:
        predicted: [B,K,h,w] (``udp_combined``: [B,3K,h,w]) float32, float16 or bfloat16; the only differentiable
            argument. For float64 there is ``fastpose.ops.reference.heatmap_loss``. What is not a number makes the loss
            NaN; but with ``keypoints``, offsets outside a disc are not looked at (their t₀ is 0), whatever they hold,
            where MMPose's 0 · NaN is NaN. The gradient of float16 maps is made in float32: a scaled loss scales it
            before it is rounded.
        keypoints: [B,K,2] (x, y) in pixels of the network's input, drawn where the weight is above 0; None with
            ``target``.
        weights: [B,K] weight of each keypoint (visibility as 0 or 1, or what ``heatmap_encode`` returns; with joint
            weights if wanted), or None: all 1. Where it is not above 0 the maps are not looked at. With weights, a
            keypoint that does not reach its map counts as 0.
        codec: A kind with heatmaps.
        input_size: (height, width) of the network's input, pixels.
        target: Heatmaps to compare with, shaped like ``predicted``, of its dtype or float32; instead of keypoints.
        ohkm_topk: Keypoints of each sample that count: those with the largest loss; of equal ones the first.

    Returns:
        Loss, float32 without dimensions. 0 for an empty batch.

    Raises:
        TypeError: A dtype is wrong, arrays and tensors are mixed, or a gradient with respect to another argument is
            wanted.
        ValueError: A shape, ``ohkm_topk`` or the codec does not fit, or not exactly one of ``keypoints`` and ``target``
            is given.

    Source: OHKM, https://arxiv.org/abs/1711.07319; UDP, https://arxiv.org/abs/1911.07524.
    """
    values = codec_values(codec, input_size)
    if isinstance(predicted, Tensor) and predicted.dtype is torch.float16 and needs_grad(predicted):
        # A gradient divided by so many pixels is nothing in float16: it must be multiplied by the loss's scale first.
        predicted = predicted.float()
        if isinstance(target, Tensor) and target.dtype is torch.float16:
            target = target.float()
    if not is_compiling():
        wanted = needs_grad(predicted)
        result = C.heatmap_loss_eager(predicted, keypoints, weights, target, ohkm_topk, wanted, values)
        if result is not None:
            return _Loss.apply(predicted, result) if wanted else result
    refuse_grad("heatmap_loss", keypoints, weights, target)
    if ohkm_topk is not None and not isinstance(ohkm_topk, (int, np.integer)):
        raise TypeError(f"ohkm_topk: expected an int or None, got {type(ohkm_topk).__name__}")
    if ohkm_topk is not None and ohkm_topk < 1:
        raise ValueError(f"ohkm_topk: expected at least 1, got {ohkm_topk}")
    topk = 0 if ohkm_topk is None else int(ohkm_topk)
    points = None if keypoints is None else argument("keypoints", keypoints, torch.float32, predicted)
    factors = None if weights is None else argument("weights", weights, torch.float32, predicted)
    given = None if target is None else array_argument("target", target)
    if symbolic(predicted, given):
        wanted = needs_grad(predicted)
        return torch.ops.fastpose.heatmap_loss(predicted, points, factors, given, topk, wanted, *values)[0]
    wanted = needs_grad(predicted)
    made = _run(array_argument("predicted", predicted), points, factors, given, topk, wanted, values)
    return _Loss.apply(predicted, made) if wanted else made[0]


def _keypoints(predicted: Any, kind: int) -> int:
    return predicted.shape[1] // (3 if kind == 3 else 1)


def _run(
    predicted: Any, points: Any, factors: Any, given: Any, topk: int, with_gradient: bool, values: CodecValues
) -> tuple[Any, Any]:
    count = (predicted.shape[0], _keypoints(predicted, values[0])) if predicted.ndim == 4 else (0, 0)
    loss = empty((), torch.float32, predicted)
    workspace = empty((2, *count), torch.float64, predicted)
    gradient = empty(predicted.shape, torch_dtype(predicted.dtype), predicted) if with_gradient else None
    C.heatmap_loss(predicted, points, factors, given, topk, loss, gradient, workspace, values, stream(predicted))
    return loss, gradient


class _Loss(torch.autograd.Function):
    """A loss whose gradient was made together with the value, in the one pass over the maps."""

    @staticmethod
    def forward(ctx: Any, predicted: Tensor, made: tuple[Tensor, Tensor]) -> Any:
        loss, gradient = made
        ctx.save_for_backward(gradient)
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor) -> tuple[Any, ...]:
        (gradient,) = ctx.saved_tensors
        if symbolic(gradient, slope) or _is_batched(slope):
            return _scaled(gradient, slope), None
        slope = slope.detach()  # with create_graph it may have a graph of its own, which the core would refuse
        # The last backward of this graph may have the gradient itself, which a slope of 1 (that of loss.backward())
        # leaves as it is: on CUDA the kernel looks at the slope, so that nobody waits for it.
        out = torch.empty_like(gradient) if _graph_is_kept() else gradient
        C.scale_gradient(gradient, as_input(slope, torch.float32, gradient, "slope"), out, stream(gradient))
        return out, None


_graph_is_kept = getattr(torch._C._autograd, "_get_current_graph_task_keep_graph", lambda: True)
"""Whether the backward under way may be followed by another of the same graph (retain_graph=True)."""

_is_batched = getattr(torch._C._functorch, "is_legacy_batchedtensor", lambda _: False)
"""Whether it stands for many slopes at once (is_grads_batched=True)."""


def _scaled(gradient: Tensor, slope: Tensor) -> Tensor:
    """The same by operations that can be traced, and that inductor makes one of: rounded once."""
    return (gradient.float() * slope).to(gradient.dtype)


def _registered(
    predicted: Tensor,
    keypoints: Tensor | None,
    weights: Tensor | None,
    target: Tensor | None,
    topk: int,
    with_gradient: bool,
    *values: Any,
) -> tuple[Tensor, Tensor]:
    loss, gradient = _run(
        plain(predicted), plain(keypoints), plain(weights), plain(target), topk, with_gradient, values
    )
    return loss, predicted.new_empty(0) if gradient is None else gradient


def _fake(
    predicted: Tensor,
    keypoints: Tensor | None,
    weights: Tensor | None,
    target: Tensor | None,
    topk: int,
    with_gradient: bool,
    *values: Any,
) -> tuple[Tensor, Tensor]:
    loss = predicted.new_empty((), dtype=torch.float32)
    return loss, predicted.new_empty(predicted.shape if with_gradient else 0)


def _setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    ctx.with_gradient = inputs[5]
    ctx.save_for_backward(output[1])


def _backward(ctx: Any, slope: Tensor, _: Any) -> tuple[Any, ...]:
    (gradient,) = ctx.saved_tensors
    if not ctx.with_gradient:
        raise RuntimeError("heatmap_loss: called with with_gradient=False, so that it has no gradient to give")
    return _scaled(gradient, slope), *([None] * 14)


LIBRARY.define(
    "heatmap_loss(Tensor predicted, Tensor? keypoints, Tensor? weights, Tensor? target, int topk, bool with_gradient, "
    "int kind, int height, int width, int input_height, int input_width, float sigma, float radius_factor, "
    "int kernel_size, int blur_kernel) -> (Tensor, Tensor)"
)
LIBRARY.impl("heatmap_loss", _registered, "CPU")
LIBRARY.impl("heatmap_loss", _registered, "CUDA")
torch.library.register_fake("fastpose::heatmap_loss", _fake)
torch.library.register_autograd("fastpose::heatmap_loss", _backward, setup_context=_setup)
