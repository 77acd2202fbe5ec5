"""Depthwise convolution whose gradient is made natively."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ._arguments import looked_on, whole_argument
from ._native import C
from ._registration import differentiable_once
from .reference.depthwise_conv import depthwise_conv as reference

__all__ = ["depthwise_conv"]


def depthwise_conv(x: Tensor, weight: Tensor, stride: int = 1) -> Tensor:
    """Convolve every channel with a kernel of its own; on the CPU.

    The output is torch's; the gradient is the fused kernel's, which makes those with respect to the map and to the
    kernels from one reading of both maps. The same for any number of threads. Differentiable once; for more there is
    ``fastpose.ops.reference.depthwise_conv``.

    Args:
        x: [B, C, h, w] float32 or bfloat16, channels last in memory.
        weight: [C, 1, k, k] float32, with k 3 or 5; rounded to the dtype of ``x``. Its gradient is not rounded.
        stride: 1 or 2. The map is padded by k // 2 zeros on every side.

    Returns:
        [B, C, (h - 1) // stride + 1, (w - 1) // stride + 1], of the dtype and layout of ``x``.

    Raises:
        TypeError: A dtype is wrong.
        ValueError: A shape, layout or device is wrong.

    Example:
        >>> import torch
        >>> from fastpose.ops import depthwise_conv
        >>> x = torch.randn(2, 8, 16, 12).contiguous(memory_format=torch.channels_last)
        >>> depthwise_conv(x, torch.randn(8, 1, 3, 3), stride=2).shape
        torch.Size([2, 8, 8, 6])
    """
    stride = whole_argument("stride", stride)
    if stride not in (1, 2):
        raise ValueError(f"stride: expected 1 or 2, got {stride}")
    if looked_on((x, weight), "x weight"):
        return reference(x, weight, stride)
    C.depthwise_conv_check(x, weight)
    y: Tensor = _DepthwiseConv.apply(x, weight, stride)
    return y


class _DepthwiseConv(torch.autograd.Function):
    """Torch forward, the native core backward."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, stride: int) -> Tensor:
        rounded = weight.to(x.dtype)
        ctx.stride = stride
        ctx.save_for_backward(x, weight)
        return F.conv2d(x, rounded, None, stride, weight.shape[-1] // 2, 1, weight.shape[0])

    @staticmethod
    @differentiable_once("depthwise_conv")
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
        x, weight = ctx.saved_tensors
        rounded, grad = weight.to(x.dtype).contiguous(), grad.contiguous(memory_format=torch.channels_last)
        grad_x = torch.empty_like(x) if ctx.needs_input_grad[0] else None
        grad_weight = torch.empty(weight.shape) if ctx.needs_input_grad[1] else None
        C.depthwise_conv_grad(x, grad, rounded, ctx.stride, grad_x, grad_weight)
        return grad_x, grad_weight, None
