"""How an op stands in torch's dispatcher, where everything that looks on meets it.

torch.compile, export, torch.jit.trace and make_fx record the registered op; vmap calls it example by example.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import wraps
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

from ._native import LIBRARY

__all__ = ["differentiable_once", "plain", "register"]

Kernel = Callable[..., Any]


def register(name: str, schema: str, kernel: Kernel, fake: Kernel, derivatives: Kernel | None = None) -> None:
    """Defines `fastpose::NAME`, for CPU and CUDA.

    Args:
        name: of the op.
        schema: what follows the name: "(Tensor a, ...) -> Tensor".
        kernel: the op on dense tensors.
        fake: shapes and dtypes of the results.
        derivatives: called with the op's arguments in place of the op where a gradient or a tangent with respect to one
            of them is wanted. Without it such a call raises TypeError.
    """
    LIBRARY.define(name + schema)
    op = getattr(torch.ops.fastpose, name).default

    def autograd(*args: Any) -> Any:
        if not any(_is_differentiated(tensor) for tensor in _tensors(args)):
            with torch._C._AutoDispatchBelowAutograd():
                return op(*args)
        if derivatives is None:
            raise TypeError(f"{name} has no gradient: detach its inputs, or use fastpose.ops.reference.{name}")
        return derivatives(*args)

    LIBRARY.impl(name, autograd, "Autograd")
    for device in ("CPU", "CUDA"):
        LIBRARY.impl(name, kernel, device)
    torch.library.register_fake(f"fastpose::{name}", fake)


def _tensors(args: Any) -> Iterator[Tensor]:
    for arg in args:
        if isinstance(arg, Tensor):
            yield arg
        elif isinstance(arg, (list, tuple)):
            yield from _tensors(arg)


def _is_differentiated(tensor: Tensor) -> bool:
    return (tensor.requires_grad and torch.is_grad_enabled()) or has_tangent(tensor)


def has_tangent(tensor: Tensor) -> bool:
    """Whether forward-mode AD, torch.func.jvp included, wants a derivative with respect to it."""
    return forward_ad._current_level >= 0 and forward_ad.unpack_dual(tensor).tangent is not None


def plain(value: Any) -> Any:
    """A registered op's tensor as the core takes it: contiguous, without a graph. None stays None."""
    return None if value is None else value.detach().resolve_neg().contiguous()


def differentiable_once(op: str) -> Callable[[Kernel], Kernel]:
    """Decorates the `backward` of an `autograd.Function` whose gradient has no graph of its own.

    Torch's decorator of a similar name lets second derivatives pass as zero, unless they come through the slope and go
    to every leaf. This one raises RuntimeError wherever one is asked for. For that the gradient must hang together with
    what it depends on: the slopes, what was saved, and further inputs that the function keeps as ``ctx.inputs``.
    """

    def decorate(backward: Kernel) -> Kernel:
        @wraps(backward)
        def once(ctx: Any, *slopes: Any) -> Any:
            if not torch.is_grad_enabled():  # no create_graph
                return backward(ctx, *slopes)
            origins = [*slopes, *ctx.saved_tensors, *getattr(ctx, "inputs", ())]
            with torch.no_grad():
                gradients = backward(ctx, *slopes)
            return tuple(g if g is None else _Last.apply(op, g, *origins) for g in gradients)

        return once

    return decorate


class _Last(torch.autograd.Function):
    """A gradient that cannot be differentiated again with respect to its origins."""

    @staticmethod
    def forward(ctx: Any, op: str, gradient: Tensor, *_: Tensor | None) -> Tensor:
        ctx.op = op
        return gradient.view_as(gradient)

    @staticmethod
    def backward(ctx: Any, _: Any) -> Any:
        raise RuntimeError(
            f"{ctx.op} is differentiable once; for second derivatives there is fastpose.ops.reference.{ctx.op}"
        )
