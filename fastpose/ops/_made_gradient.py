"""Losses whose gradient is made together with the value, in the one pass over what is predicted."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ._arguments import argument, dispatched
from ._native import C
from ._registration import differentiable_once

__all__ = ["made_loss"]


def made_loss(op: str) -> type[torch.autograd.Function]:
    """The autograd function of a loss.

    Its ``apply`` takes the loss, the gradients for a slope of 1, whether somebody else holds these, too, and the
    tensors that they are with respect to.

    Args:
        op: Name of the loss, for what is said of second derivatives.
    """

    class Loss(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, loss: Tensor, gradients: tuple[Tensor, ...], shared: bool, *inputs: Tensor) -> Any:
            ctx.save_for_backward(*gradients)
            ctx.shared = shared
            ctx.inputs = inputs  # not saved: their values do not matter, and may be overwritten
            return loss

        @staticmethod
        @differentiable_once(op)
        def backward(ctx: Any, slope: Tensor) -> tuple[Any, ...]:
            gradients = ctx.saved_tensors
            # The last backward of this graph may have the gradient itself, which a slope of 1 (that of loss.backward())
            # leaves as it is: on CUDA the kernel looks at the slope, so that nobody waits for it.
            kept = _graph_is_kept()
            own = not ctx.shared and not kept
            wanted = ctx.needs_input_grad[3:]
            scaled = [_scaled(g, slope, own) if want else None for g, want in zip(gradients, wanted, strict=True)]
            if not kept:
                ctx.inputs = ()
            return None, None, None, *scaled

    return Loss


_graph_is_kept = getattr(torch._C._autograd, "_get_current_graph_task_keep_graph", lambda: True)
"""Whether the backward under way may be followed by another of the same graph (retain_graph=True)."""

_is_batched = getattr(torch._C._functorch, "is_legacy_batchedtensor", lambda _: False)
"""Whether it stands for many slopes at once (is_grads_batched=True)."""


def _scaled(gradient: Tensor, slope: Tensor, own: bool) -> Tensor:
    if dispatched(gradient, slope) or _is_batched(slope):
        # By operations that can be traced, and that inductor makes one of: rounded once.
        return (gradient.float() * slope).to(gradient.dtype)
    factor = argument("slope", slope.detach(), torch.float32, gradient)
    out = gradient if own else torch.empty_like(gradient)
    flat = gradient.view(1, 1, 1, -1)
    C.scale_gradient(flat, factor, flat if own else out.view(1, 1, 1, -1))
    return out
