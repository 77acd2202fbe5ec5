"""Moving average of a network's weights."""

from __future__ import annotations

import copy
import math
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn

from .memory import copy_all
from .settings import EmaSettings

__all__ = ["MovingAverage"]

Network = TypeVar("Network", bound=nn.Module)
_Pairs = tuple[list[Tensor], list[Tensor]]


class MovingAverage(Generic[Network]):
    """A copy of a network whose weights follow the trained ones slowly.

    Args:
        model: The network that is trained.
        settings: How slowly, and what becomes of running statistics.

    Attributes:
        model: The averaged network, in evaluation mode.
    """

    def __init__(self, model: Network, settings: EmaSettings) -> None:
        self.settings = settings
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        self._trained = model
        self._tensors: tuple[_Pairs, _Pairs] | None = None

    def decay(self, step: int) -> float:
        """Part of the average that optimizer step number ``step`` (from 0) keeps."""
        settings = self.settings
        if settings.ramp == "hyperbolic":
            return min(settings.decay, (1 + step) / (10 + step))
        return settings.decay * (1 - math.exp(-(1 + step) / settings.ramp_steps)) if step else 0.0

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the trained weights after optimizer step number ``step`` (from 0)."""
        if self._tensors is None:  # found at the first step: the networks may have been sharded since they were given
            of = self.model, self._trained, self.settings.buffers
            self._tensors = _pairs(*of, averaged=True), _pairs(*of, averaged=False)
        (averages, weights), (copies, values) = self._tensors
        torch._foreach_lerp_(averages, weights, 1 - self.decay(step))
        copy_all(copies, values)


def _pairs(average: nn.Module, model: nn.Module, buffers: bool, *, averaged: bool) -> _Pairs:
    """Tensors of both networks that are averaged, or that are copied: buffers, unless those are averaged and floats."""
    pairs = [(a, b, True) for a, b in zip(average.parameters(), model.parameters(), strict=True)]
    for a, b in zip(average.buffers(), model.buffers(), strict=True):
        pairs.append((a, b, buffers and a.is_floating_point()))  # type: ignore[arg-type]
    chosen = [(a.detach(), b.detach()) for a, b, is_averaged in pairs if is_averaged == averaged]
    return [a for a, _ in chosen], [b for _, b in chosen]
