"""Depthwise convolution with a gradient that is fast on a CPU."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fastpose.ops import depthwise_conv


class DepthwiseConv(nn.Conv2d):
    """A kernel for every channel, without bias; the padding keeps the size at stride 1.

    In training in bfloat16 on a CPU, with the channels last in memory, the gradient is the native core's: torch's takes
    half as long again at stride 1 and more than ten times as long at stride 2. In float32 torch's is as fast.

    Args:
        channels: of input and output.
        kernel: side of the kernel, odd.
        stride: stride.
    """

    def __init__(self, channels: int, kernel: int = 3, stride: int = 1) -> None:
        super().__init__(channels, channels, kernel, stride, kernel // 2, groups=channels, bias=False)

    def forward(self, input: Tensor) -> Tensor:
        """[B, channels, h, w] → [B, channels, h / stride, w / stride]."""
        if not self._is_native(input):
            return super().forward(input)
        x = input.to(torch.bfloat16).contiguous(memory_format=torch.channels_last)
        return depthwise_conv(x, self.weight, self.stride[0])

    def _is_native(self, x: Tensor) -> bool:
        if torch.compiler.is_compiling() or torch.jit.is_tracing():  # type: ignore[attr-defined]
            return False
        autocast = torch.is_autocast_enabled("cpu")
        return (
            torch.is_grad_enabled()
            and (torch.get_autocast_dtype("cpu") if autocast else x.dtype) is torch.bfloat16
            and type(x) is Tensor
            and x.device.type == "cpu"
            and x.is_floating_point()
            and x.ndim == 4
            and x.numel() > 0
            and x.stride(1) == 1  # of all or of some channels
            and type(self.weight) is nn.Parameter
            and self.weight.dtype is torch.float32
            and self.bias is None
            and self.kernel_size[0] in (3, 5)
            and self.stride[0] in (1, 2)
        )
