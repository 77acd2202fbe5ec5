"""The network through `torch.compile`."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..models import Output, PoseModel
from .eager import Eager
from .engine import Fill
from .transfer import Transfer

__all__ = ["Compiled"]


class Compiled(Eager):
    """A network compiled once for batches of any size, and once for single crops.

    Where the compiler or its tools fail, it runs as it is, which is said once.

    Args:
        network: As for `Eager`.
        device: As for `Eager`.
        dtype: As for `Eager`.
        transfer: As for `Eager`.
    """

    name = "compiled"

    def __init__(
        self, network: PoseModel, device: torch.device, dtype: torch.dtype, transfer: Transfer | None = None
    ) -> None:
        super().__init__(network, device, dtype, transfer)
        self._call: Callable[[Tensor], Any] = torch.compile(network, dynamic=True)

    def run(self, count: int, most: int, fill: Fill) -> Output:
        """One pass; see `Engine.run`."""
        crops = fill(None)
        try:
            output: Output = self._call(crops)
        except Exception as error:  # the compiler fails in many ways; a fault of the network shows below
            if self._call is self.network:
                raise
            name, reason = self.network.name or "the network", str(error).strip().partition("\n")[0]
            warnings.warn(f"{name} cannot be compiled and runs without: {reason}", stacklevel=2)
            self._call = self.network
            output = self.network(crops)
        return output
