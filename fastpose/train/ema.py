"""Moving average of a network's weights."""

from __future__ import annotations

import copy
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn

__all__ = ["MovingAverage"]

Network = TypeVar("Network", bound=nn.Module)


class MovingAverage(Generic[Network]):
    """A copy of a network whose weights follow the trained ones slowly; buffers (running statistics) are copied.

    Args:
        model: The network that is trained.
        decay: Part of the old average that a step keeps. The first steps keep less, (1 + step) / (10 + step), so that
            the random start is forgotten.

    Attributes:
        model: The averaged network, in evaluation mode.
    """

    def __init__(self, model: Network, decay: float) -> None:
        self.decay = decay
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        self._pairs = _pairs(self.model, model)

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the trained weights after optimizer step number ``step`` (from 0)."""
        (averages, weights), (buffers, new_buffers) = self._pairs
        decay = min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(averages, weights, 1 - decay)
        torch._foreach_copy_(buffers, new_buffers)


def _pairs(average: nn.Module, model: nn.Module) -> tuple[tuple[list[Tensor], list[Tensor]], ...]:
    floats: tuple[list[Tensor], list[Tensor]] = ([], [])
    others: tuple[list[Tensor], list[Tensor]] = ([], [])
    for a, b in zip(average.parameters(), model.parameters(), strict=True):
        floats[0].append(a.detach())
        floats[1].append(b.detach())
    for old, new in zip(average.buffers(), model.buffers(), strict=True):
        others[0].append(old)
        others[1].append(new)
    return floats, others
