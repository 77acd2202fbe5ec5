"""The network as torch runs it, layer by layer."""

from __future__ import annotations

from contextlib import AbstractContextManager

import torch
from torch import Tensor

from ..models import Output, PoseModel
from .engine import Fill
from .transfer import Transfer, make_transfer

__all__ = ["Eager"]


class Eager:
    """A network as it is.

    Args:
        network: What runs, on its device and in its dtype.
        device: Where.
        dtype: In what it computes.
        transfer: Moves values there and back; by default that of the device.
    """

    name = "eager"

    def __init__(
        self, network: PoseModel, device: torch.device, dtype: torch.dtype, transfer: Transfer | None = None
    ) -> None:
        self.network, self.device, self.dtype = network, device, dtype
        self.transfer = transfer or make_transfer(device)

    def __reduce__(self) -> tuple[object, ...]:
        """Copies and pickles make streams of their own."""
        return type(self), (self.network, self.device, self.dtype)

    @property
    def ahead(self) -> int:
        """Batches that may be under way while photos of the next one are prepared."""
        return self.transfer.ahead

    def turn(self) -> AbstractContextManager[None]:
        """Surrounds all work on one batch, from its crops to the fetching of its results."""
        return self.transfer.turn()

    def send(self, values: Tensor) -> Tensor:
        """The values on the device, for a turn that begins later; to be held until the results of that are read."""
        return self.transfer.send(values)

    def fetch(self, values: Tensor) -> Tensor:
        """The values in host memory, there when the work of the turn is done."""
        return self.transfer.fetch(values)

    def run(self, count: int, most: int, fill: Fill) -> Output:
        """One pass; see `Engine.run`."""
        output: Output = self.network(fill(None))
        return output
