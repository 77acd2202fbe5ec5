"""BatchNorm in training mode with what usually follows it, in two passes over the map forward and two backward."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ._arguments import flag_argument, looked_on, number_argument
from ._native import C
from ._registration import differentiable_once
from .reference.batch_norm_act import batch_norm_act as reference

__all__ = ["batch_norm_act"]


def batch_norm_act(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    running_mean: Tensor,
    running_var: Tensor,
    *,
    momentum: float,
    eps: float,
    relu: bool = False,
    residual: Tensor | None = None,
) -> Tensor:
    """Normalise by the batch's statistics, add a residual and apply ReLU, each of the latter if wanted; on the CPU.

    Equals ``F.batch_norm(..., training=True)``, ``+ residual`` and ``F.relu``, but the sum is rounded to the map's
    dtype once. The same for any number of threads. Differentiable once, with respect to ``x``, ``weight``, ``bias``
    and ``residual``; for more there is ``fastpose.ops.reference.batch_norm_act``.

    Args:
        x: [B, C, h, w] float32 or bfloat16, channels last in memory, with at least two values a channel.
        weight: [C] float32.
        bias: [C] float32.
        running_mean: [C] float32; moved towards the batch's mean, in place.
        running_var: [C] float32; moved towards the batch's unbiased variance, in place.
        momentum: Share of the batch in the running statistics.
        eps: Added to the variance.
        relu: Apply ReLU last.
        residual: Like ``x``, or None.

    Returns:
        The shape, dtype and layout of ``x``.

    Raises:
        TypeError: A dtype is wrong.
        ValueError: A shape, layout or device is wrong.

    Example:
        >>> import torch
        >>> from fastpose.ops import batch_norm_act
        >>> x = torch.randn(8, 4, 16, 12).contiguous(memory_format=torch.channels_last)
        >>> norm = torch.nn.BatchNorm2d(4)
        >>> y = batch_norm_act(
        ...     x, norm.weight, norm.bias, norm.running_mean, norm.running_var, momentum=0.1, eps=norm.eps, relu=True
        ... )
        >>> torch.allclose(y, torch.nn.BatchNorm2d(4)(x).relu(), atol=1e-5)
        True

    Source: Ioffe & Szegedy, "Batch Normalization", https://arxiv.org/abs/1502.03167.
    """
    momentum, eps = number_argument("momentum", momentum), number_argument("eps", eps)
    relu = flag_argument("relu", relu)
    tensors = (x, weight, bias, running_mean, running_var)
    if looked_on(tensors, "x weight bias running_mean running_var", residual, "residual"):
        return reference(*tensors, momentum=momentum, eps=eps, relu=relu, residual=residual)
    for name, value in (("running_mean", running_mean), ("running_var", running_var)):
        if value.requires_grad:
            raise TypeError(f"{name}: expected a tensor that does not require grad, for it is written in place")
        if not value.is_inference():
            torch.autograd.graph.increment_version(value)
    y: Tensor = _BatchNormAct.apply(x, weight, bias, residual, running_mean, running_var, momentum, eps, relu)
    return y


class _BatchNormAct(torch.autograd.Function):
    """Keeps the map and two numbers a channel; with residual and ReLU the result too, which its reader keeps anyway."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor,
        residual: Tensor | None,
        running_mean: Tensor,
        running_var: Tensor,
        momentum: float,
        eps: float,
        relu: bool,
    ) -> Tensor:
        out = torch.empty_like(x)
        stats = weight.new_empty((2, weight.shape[0]))
        C.batch_norm_act(x, residual, weight, bias, running_mean, running_var, momentum, eps, relu, out, stats)
        ctx.relu, ctx.with_residual = relu, residual is not None
        ctx.save_for_backward(x, weight, bias, stats, *((out,) if relu and residual is not None else ()))
        return out

    @staticmethod
    @differentiable_once("batch_norm_act")
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
        x, weight, bias, stats, *rest = ctx.saved_tensors
        for_x, for_weight, for_bias, for_residual = ctx.needs_input_grad[:4]
        grad = grad.contiguous(memory_format=torch.channels_last)
        # Without a ReLU the residual's gradient is the one that came.
        residual = torch.empty_like(x) if for_residual and ctx.relu else None
        grad_x = torch.empty_like(x) if for_x else None
        sums = torch.empty_like(stats)
        out = rest[0] if rest else None
        C.batch_norm_act_grad(x, out, grad, weight, bias, stats, ctx.relu, grad_x, residual, sums[0], sums[1])
        if for_residual and not ctx.relu:
            residual = grad
        return grad_x, sums[0] if for_weight else None, sums[1] if for_bias else None, residual, *([None] * 5)
