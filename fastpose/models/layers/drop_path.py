"""Stochastic depth (Huang et al., "Deep Networks with Stochastic Depth", ECCV 2016)."""

from __future__ import annotations

from torch import Tensor, nn


class DropPath(nn.Module):
    """While training, drop a residual branch for some samples and scale it up for the others; else do nothing.

    Args:
        probability: of a sample's branch being dropped, in [0, 1).

    Raises:
        ValueError: the probability is not in that range.
    """

    def __init__(self, probability: float = 0.0) -> None:
        super().__init__()
        if not 0 <= probability < 1:
            raise ValueError(f"probability: expected a number in [0, 1), got {probability}")
        self.probability = probability

    def forward(self, x: Tensor) -> Tensor:
        """[B, ...] → the same shape; every sample is either zero or divided by the chance that it is kept."""
        if not self.training or self.probability == 0:
            return x
        kept = 1 - self.probability
        scale = x.new_empty((x.shape[0],) + (1,) * (x.ndim - 1)).bernoulli_(kept).div_(kept)
        return x * scale

    def extra_repr(self) -> str:
        """Show the probability when the module is printed."""
        return f"probability={self.probability:g}"
