"""Attention over channels: weights that a convolution computes from the mean over all positions."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .conv import ConvUnit


class SqueezeExcitation(nn.Module):
    """Multiply every channel by a weight that two layers compute from all channels' means (Hu et al., CVPR 2018).

    Args:
        width: channels.
        reduction: the hidden layer has so many times fewer channels.
        gate: maps the second layer's output to weights; a sigmoid where it is None.
    """

    def __init__(self, width: int, reduction: int, *, gate: nn.Module | None = None) -> None:
        super().__init__()
        gate = nn.Sigmoid() if gate is None else gate
        self.conv1 = ConvUnit(width, width // reduction, norm=False, activation=nn.ReLU(inplace=True))
        self.conv2 = ConvUnit(width // reduction, width, norm=False, activation=gate)

    def weights(self, x: Tensor) -> Tensor:
        """[B, width, h, w] → the weights [B, width, 1, 1]."""
        # The gradient of a mean over two dimensions has the channels first, whatever the layout of x.
        mean = (
            x.permute(0, 2, 3, 1).flatten(1, 2).mean(1)
            if x.is_contiguous(memory_format=torch.channels_last)
            else x.mean((2, 3))
        )
        return _at_one_position(self.conv2, _at_one_position(self.conv1, mean))[..., None, None]

    def forward(self, x: Tensor) -> Tensor:
        """[B, width, h, w] → the same shape."""
        return x * self.weights(x)


def _at_one_position(unit: ConvUnit, x: Tensor) -> Tensor:
    """A 1x1 convolution of one position [B, c]: a matrix product, which costs a fraction of what a convolution does."""
    x = F.linear(x, unit.conv.weight.flatten(1), unit.conv.bias)
    return x if unit.activation is None else unit.activation(x)
