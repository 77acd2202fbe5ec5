"""Attention over channels: weights that a convolution computes from the mean over all positions."""

from __future__ import annotations

from torch import Tensor, nn

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

    def forward(self, x: Tensor) -> Tensor:
        """[B, width, h, w] → the same shape."""
        return x * self.conv2(self.conv1(x.mean((2, 3), keepdim=True)))
