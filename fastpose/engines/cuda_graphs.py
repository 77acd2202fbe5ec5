"""The network on CUDA in batches of few sizes, each captured as a graph."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..models import Output, PoseModel
from .eager import Eager
from .engine import Fill, bucket_size
from .transfer import CudaTransfer

__all__ = ["CudaGraphs"]

MOST_BUCKETS = 32
"""Sizes that are captured; further ones run eagerly: always another batch size must not fill the memory."""


@dataclass
class _Bucket:
    """One size of a batch.

    Attributes:
        crops: [size, h, w, 3], where the crops are put; rows beyond a batch keep what was there before.
        replay: Computes `output` from `crops`; None before the capture.
        output: Of the network, for all rows.
    """

    crops: Tensor
    replay: Callable[[], None] | None = None
    output: Output | None = None


class CudaGraphs(Eager):
    """The network in batches of few sizes, each captured when it comes for the second time.

    The first one runs as it is: who calls once does not pay for a capture. Captured work keeps to the settings of that
    moment (TF32, choice of algorithms). Threads may share one; they take turns.

    Args:
        network: As for `Eager`.
        device: With its index.
        dtype: As for `Eager`.
        cuda: Makes what moves values and captures graphs.
    """

    name = "cuda_graphs"

    def __init__(
        self,
        network: PoseModel,
        device: torch.device,
        dtype: torch.dtype,
        cuda: Callable[[torch.device], Any] = CudaTransfer,
    ) -> None:
        self._make, self._cuda = cuda, cuda(device)
        super().__init__(network, device, dtype, self._cuda)
        self._lock = threading.Lock()
        self._seen: set[int] = set()
        self._buckets: dict[int, _Bucket] = {}
        self._capturable = True

    def __reduce__(self) -> tuple[object, ...]:
        """Copies and pickles begin without graphs, which belong to this process and this network."""
        return type(self), (self.network, self.device, self.dtype, self._make)

    @contextmanager
    def turn(self) -> Iterator[None]:
        """One at a time: crops and outputs of a size are always in the same place."""
        with self._lock, self.transfer.turn():
            yield

    def run(self, count: int, most: int, fill: Fill) -> Output:
        """One pass, see `Engine.run`; outputs are float32 and contiguous, as the decoder reads them."""
        bucket = self._bucket(bucket_size(count, most))
        if bucket is None:
            return self._predict(fill(None))
        crops = fill(bucket.crops[:count])
        if bucket.replay is None:
            everything = bucket.crops.permute(0, 3, 1, 2)
            try:
                bucket.replay, bucket.output = self._cuda.capture(lambda: self._predict(everything))
            except RuntimeError as error:
                self._capturable = False
                self._buckets.clear()
                name, reason = self.network.name or "the network", str(error).strip().partition("\n")[0]
                warnings.warn(
                    f"{name} cannot be captured as a CUDA graph and runs without, slower: {reason}", stacklevel=2
                )
                return self._predict(crops)
        assert bucket.replay is not None
        assert bucket.output is not None
        bucket.replay()
        return bucket.output.map(lambda tensor: tensor[:count])

    def _bucket(self, size: int) -> _Bucket | None:
        """That of this size; None where such a batch runs as it is."""
        bucket = self._buckets.get(size)
        if bucket is None and self._capturable and size in self._seen and len(self._buckets) < MOST_BUCKETS:
            shape = (size, *self.network.spec.input_size, 3)
            bucket = self._buckets[size] = _Bucket(torch.zeros(shape, dtype=self.dtype, device=self.device))
        self._seen.add(size)
        return bucket

    def _predict(self, crops: Tensor) -> Output:
        with torch.autocast(self.device.type, enabled=False):  # a graph must not depend on who is around it
            output: Output = self.network(crops)
        # Earlier stages are left out: nobody reads them, and each would be copied.
        last = Output(output.stages[-1:], output.visibility)
        return last.map(lambda tensor: tensor.to(torch.float32, memory_format=torch.contiguous_format))
