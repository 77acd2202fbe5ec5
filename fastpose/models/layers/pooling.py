"""Pooling that does not depend on the memory layout for its speed."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class MaxPool(nn.MaxPool2d):
    """PyTorch's maximum pooling, with the channels last on a CPU, where that takes a quarter of the time.

    The result is the same, and in the layout of the input. Only prediction gains: the gradient is slower that way.
    """

    def forward(self, x: Tensor) -> Tensor:
        """[B, c, h, w] → [B, c, h', w'], as `nn.MaxPool2d`."""
        if x.requires_grad or x.device.type != "cpu" or x.is_contiguous(memory_format=torch.channels_last):
            return super().forward(x)
        return super().forward(x.contiguous(memory_format=torch.channels_last)).contiguous()
