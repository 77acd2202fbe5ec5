"""What everybody may ask of an engine."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Protocol

import torch
from torch import Tensor

from ..models import Output

__all__ = ["Engine", "Fill", "bucket_size"]

Fill = Callable[[Tensor | None], Tensor]
"""Cuts the crops of a batch, into [M, h, w, 3] if that is given; gives them as a network takes them, [M, 3, h, w]."""


class Engine(Protocol):
    """Where a network runs.

    One that is no torch network brings its inputs and outputs to its own memory within :meth:`run`.

    Attributes:
        name: Its name in `fastpose.engines.ENGINES`.
        device: Where crops are wanted, and outputs lie.
        dtype: Of the crops that it takes.
    """

    name: str
    device: torch.device
    dtype: torch.dtype

    @property
    def ahead(self) -> int:
        """Batches that may be under way while photos of the next one are prepared."""

    def turn(self) -> AbstractContextManager[None]:
        """Surrounds all work on one batch, from its crops to the fetching of its results."""

    def send(self, values: Tensor) -> Tensor:
        """The values on the device, for a turn that begins later; to be held until the results of that are read."""

    def fetch(self, values: Tensor) -> Tensor:
        """The values in host memory, there when the work of the turn is done."""

    def run(self, count: int, most: int, fill: Fill) -> Output:
        """One pass.

        Args:
            count: Crops in this batch.
            most: Crops in a full one.
            fill: Makes them.

        Returns:
            The network's output; to be used up before the turn ends.
        """


_SMALLEST_STEP = 8


def bucket_size(count: int, most: int) -> int:
    """Rows of the batch in which `count` crops run, where a batch may have few sizes only.

    Powers of two up to 8, where a pass takes the same time for one as for all; then in steps of an eighth of the next
    power of two, but at least 8, so that few are computed for nothing; and at last the full batch.

    Args:
        count: Crops, at least 1.
        most: Crops of a full batch.

    Returns:
        At least `count`, at most `most` (or `count`, where that is more).
    """
    power = 1 << (count - 1).bit_length()
    step = max(_SMALLEST_STEP, power // 8)
    size = power if power <= _SMALLEST_STEP else -(-count // step) * step
    return max(count, min(size, most))
