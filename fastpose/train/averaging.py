"""The mean of a network's weights over several epochs, beside the moving average of every step."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from .optim import is_trained

__all__ = ["WeightAverage"]

Network = TypeVar("Network", bound=nn.Module)


class WeightAverage(Generic[Network]):
    """A network whose weights are the mean of those that the trained one had at several moments.

    Izmailov et al., "Averaging Weights Leads to Wider Optima and Better Generalization", UAI 2018.

    Args:
        model: The network that is trained.

    Attributes:
        model: The averaged network, in evaluation mode.
        count: Moments so far; before the first one there is no average.
    """

    def __init__(self, model: Network) -> None:
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        self.count = 0
        # Frozen normalisation keeps its statistics, as in training; without weights of its own it is never frozen.
        self._norms = [
            own
            for own, trained in zip(self.model.modules(), model.modules(), strict=True)
            if isinstance(own, _BatchNorm) and own.running_mean is not None and is_trained(trained)
        ]

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Take in the weights that the network has now; its buffers are copied."""
        self.count += 1
        own = [parameter.detach() for parameter in self.model.parameters()]
        torch._foreach_lerp_(own, [parameter.detach() for parameter in model.parameters()], 1 / self.count)
        for mine, theirs in zip(self.model.buffers(), model.buffers(), strict=True):
            mine.copy_(theirs)

    @torch.no_grad()
    def estimate_statistics(
        self, batches: Iterable[Tensor], autocast: Callable[[], AbstractContextManager[Any]]
    ) -> None:
        """Running means and variances as the averaged weights make them: none of the trained network's fits.

        Args:
            batches: Crops [M, 3, h, w], on the network's device.
            autocast: Makes the context in which the network runs.
        """
        if not self._norms:
            return
        momenta = [norm.momentum for norm in self._norms]
        for norm in self._norms:
            norm.reset_running_stats()
            norm.momentum = None  # the mean over all batches
            norm.train()
        for images in batches:
            with autocast():
                self.model(images)
        for norm, momentum in zip(self._norms, momenta, strict=True):
            norm.momentum = momentum
            norm.eval()

    def state_dict(self) -> dict[str, Any]:
        """What :meth:`load_state_dict` takes."""
        return {"count": self.count, "model": self.model.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from what :meth:`state_dict` gave."""
        self.count = state["count"]
        self.model.load_state_dict(state["model"])
