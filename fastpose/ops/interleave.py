"""The channel shuffle of two maps, the second one weighted by channel, in one pass."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ._arguments import looked_on
from ._native import C
from ._registration import differentiable_once
from .reference.interleave import interleave as reference

__all__ = ["interleave"]


def interleave(first: Tensor, second: Tensor, weights: Tensor | None = None) -> Tensor:
    """The first channel of one map, the first one of the other, the second one of the first map, and so on; on the CPU.

    Equals ``torch.stack((first, second * weights[..., None, None]), 2).flatten(1, 2)``. The same for any number of
    threads. Differentiable once; for more there is ``fastpose.ops.reference.interleave``.

    Args:
        first: [B, C, h, w] float32 or bfloat16, not empty, with the channels last in memory; also a part of the
            channels of such a map.
        second: Likewise, of the same shape and dtype.
        weights: [B, C] of that dtype; None for all 1.

    Returns:
        [B, 2 C, h, w] of that dtype, channels last in memory.

    Raises:
        TypeError: A dtype is wrong.
        ValueError: A shape, layout or device is wrong.

    Example:
        >>> import torch
        >>> from fastpose.ops import interleave
        >>> first, second = (
        ...     torch.full((1, 2, 1, 1), value).contiguous(memory_format=torch.channels_last) for value in (1.0, 2.0)
        ... )
        >>> interleave(first, second, torch.tensor([[1.0, 10.0]])).flatten().tolist()
        [1.0, 2.0, 1.0, 20.0]

    Source: Zhang et al., "ShuffleNet", https://arxiv.org/abs/1707.01083.
    """
    if looked_on((first, second), "first second", weights, "weights"):
        return reference(first, second, weights)
    if first.ndim != 4:
        raise ValueError(f"first: expected shape [B, C, h, w], got {list(first.shape)}")
    y: Tensor = _Interleave.apply(first, second, weights)
    return y


class _Interleave(torch.autograd.Function):
    """Keeps the second map if it is weighted. All gradients have a memory of their own, for whom they go to."""

    @staticmethod
    def forward(ctx: Any, first: Tensor, second: Tensor, weights: Tensor | None) -> Tensor:
        batch, channels, height, width = first.shape
        out = first.new_empty((batch, height, width, 2 * channels)).permute(0, 3, 1, 2)
        C.interleave(first, second, weights, out)
        ctx.channels = channels
        ctx.save_for_backward(*(() if weights is None else (second, weights)))
        return out

    @staticmethod
    @differentiable_once("interleave")
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
        second, weights = ctx.saved_tensors or (None, None)
        grad = grad.contiguous(memory_format=torch.channels_last)
        batch, _, height, width = grad.shape
        for_first, for_second = (
            grad.new_empty((batch, height, width, ctx.channels)).permute(0, 3, 1, 2) for _ in range(2)
        )
        for_weights = None if weights is None else torch.empty_like(weights)
        C.interleave_grad(grad, second, weights, for_first, for_second, for_weights)
        return for_first, for_second, for_weights
