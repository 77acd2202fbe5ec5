"""RealNVP, a normalising flow of affine couplings (Dinh et al., "Density estimation using Real NVP", ICLR 2017)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class RealNVP(nn.Module):
    """Density of points in the plane: couplings that keep one coordinate and move the other, from a standard normal.

    Args:
        couplings: number of couplings; the coordinate that is kept alternates.
        width: of the hidden layers of the networks that say how far to move and to stretch.
    """

    loc: Tensor
    cov: Tensor
    mask: Tensor

    def __init__(self, couplings: int = 6, width: int = 64) -> None:
        super().__init__()
        # The prior's mean and covariance stand in official files, though nobody ever learned others.
        self.register_buffer("loc", torch.zeros(2))
        self.register_buffer("cov", torch.eye(2))
        kept = torch.tensor([[0.0, 1.0], [1.0, 0.0]])
        self.register_buffer("mask", kept.repeat(math.ceil(couplings / 2), 1)[:couplings])
        self.s = nn.ModuleList([_network(width, nn.Tanh()) for _ in range(couplings)])
        self.t = nn.ModuleList([_network(width) for _ in range(couplings)])
        self.init_weights()

    def init_weights(self) -> None:
        """Begin close to the identity, so that the density begins close to the prior."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight, gain=0.01)

    def log_prob(self, points: Tensor) -> Tensor:
        """Logarithm of the density at each point: [N, 2] → [N]."""
        volume = points.new_zeros(len(points))
        z = points
        for kept, scale, shift in reversed(list(zip(self.mask, self.s, self.t, strict=True))):
            fixed, moved = kept * z, 1 - kept
            log_scale = scale(fixed) * moved
            z = fixed + moved * (z - shift(fixed)) * torch.exp(-log_scale)
            volume = volume - log_scale.sum(dim=1)
        return volume - 0.5 * z.square().sum(dim=1) - math.log(2 * math.pi)


def _network(width: int, *last: nn.Module) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(2, width), nn.LeakyReLU(), nn.Linear(width, width), nn.LeakyReLU(), nn.Linear(width, 2), *last
    )
