"""How a predictor's network runs: batch by batch on the CPU; on CUDA in a few sizes, each captured as a graph."""

from __future__ import annotations

import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from ..models import PoseModel

__all__ = ["Clock", "Cuda", "Eager", "Graphs", "bucket_size"]

Output = tuple[Tensor, Tensor | None]
"""What `PoseModel.predict` gives."""

Fill = Callable[[Tensor | None], Tensor]
"""Cuts the crops of a batch, into [M, h, w, 3] if that is given; gives them as the network takes them, [M, 3, h, w]."""

MOST_BUCKETS = 32
"""Sizes that are captured; further ones run eagerly: always another batch size must not fill the memory."""

_SMALLEST_STEP = 8


def bucket_size(count: int, most: int) -> int:
    """Rows of the batch in which `count` crops run.

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


class Eager:
    """The network as it is: what is asked for has been done when the call returns.

    Args:
        network: What runs.
        device: Where.
    """

    ahead = 0
    """Batches that may be under way while photos of the next one are prepared."""

    def __init__(self, network: PoseModel, device: torch.device) -> None:
        self.network, self.device = network, device

    def turn(self) -> AbstractContextManager[None]:
        """Surrounds all work on one batch, from its crops to the fetching of its results."""
        return nullcontext()

    def send(self, values: Tensor) -> Tensor:
        """The values on the device, for a turn that begins later; to be held until the results of that are read."""
        return values.to(self.device)

    def fetch(self, values: Tensor) -> Tensor:
        """The values in host memory, there when the work of the turn is done."""
        return values.cpu()

    def run(self, count: int, most: int, fill: Fill) -> Output:
        """One pass.

        Args:
            count: Crops in this batch.
            most: Crops in a full one.
            fill: Makes them.

        Returns:
            As `PoseModel.predict`; to be used up before the turn ends.
        """
        return self.network.predict(fill(None))


class Cuda:
    """What only CUDA has: streams, pinned memory and graphs.

    Args:
        device: With its index.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._sending = torch.cuda.Stream(device)
        # Graphs share memory only if they are captured on one stream; there, too, libraries get ready for a capture.
        self._capturing = torch.cuda.Stream(device)
        self._pool = torch.cuda.graph_pool_handle()
        self._done = torch.cuda.Event()

    @contextmanager
    def turn(self) -> Iterator[None]:
        """On the caller's stream, after all that was sent, and after the turn before, maybe on another stream."""
        with torch.cuda.device(self._device):
            stream = torch.cuda.current_stream(self._device)
            stream.wait_stream(self._sending)
            stream.wait_event(self._done)
            try:
                yield
            finally:
                self._done.record(stream)

    def send(self, values: Tensor) -> Tensor:
        """Beside the work on the device; host memory that is not pinned is copied into such at once."""
        if values.is_cuda:
            return values.to(self._device)
        with torch.cuda.stream(self._sending):
            return values.pin_memory().to(self._device, non_blocking=True)

    def fetch(self, values: Tensor) -> Tensor:
        """Into pinned memory, without waiting."""
        return values.to("cpu", non_blocking=True)

    def capture(self, call: Callable[[], Output]) -> tuple[Callable[[], None], Output]:
        """Capture a call.

        Args:
            call: Works on memory that stays where it is.

        Returns:
            What repeats the work on the current stream; and the outputs, which it writes anew each time. Graphs share
            their memory: outputs last until another one is replayed.

        Raises:
            RuntimeError: The call does what cannot be captured, such as waiting.
        """
        # With the first graph of a process torch makes tensors for its random numbers, which all graphs share. Those of
        # inference mode would be of no use to training; but if others have made such, we have to do with them.
        try:
            return self._capture(call, inference=False)
        except RuntimeError as error:
            if "inference" not in str(error):
                raise
            return self._capture(call, inference=True)

    def _capture(self, call: Callable[[], Output], *, inference: bool) -> tuple[Callable[[], None], Output]:
        graph = torch.cuda.CUDAGraph()
        stream = torch.cuda.current_stream(self._device)
        self._capturing.wait_stream(stream)
        # The outer context brings the caller's stream back, which the inner one does not do after a failure.
        with _ONE_CAPTURE, torch.cuda.stream(self._capturing), torch.inference_mode(inference), torch.no_grad():
            call()
            try:
                with torch.cuda.graph(graph, self._pool, self._capturing, capture_error_mode="thread_local"):
                    outputs = call()
            except RuntimeError:
                # torch takes it for unfinished: it may ask the graph, and refuses random numbers until one succeeds.
                _FAILED.append(graph)
                again = torch.cuda.graph(torch.cuda.CUDAGraph(), None, self._capturing, "thread_local")
                with suppress(RuntimeError), again:
                    torch.zeros(1, device=self._device)
                raise
        stream.wait_stream(self._capturing)
        return graph.replay, outputs


_ONE_CAPTURE = threading.Lock()  # in a process: torch allows no more
_FAILED: list[torch.cuda.CUDAGraph] = []


@dataclass
class _Bucket:
    """One size of a batch.

    Attributes:
        crops: [size, h, w, 3], where the crops are put; rows beyond a batch keep what was there before.
        replay: Computes `outputs` from `crops`; None before the capture.
        outputs: Of the network, for all rows.
    """

    crops: Tensor
    replay: Callable[[], None] | None = None
    outputs: Output | None = None


class Graphs(Eager):
    """The network in batches of few sizes, each captured when it comes for the second time.

    The first one runs as it is: who calls once does not pay for a capture. Captured work keeps to the settings of that
    moment (TF32, choice of algorithms). Threads may share one; they take turns.

    Args:
        network: What runs.
        device: Where.
        cuda: Makes streams and graphs.
    """

    ahead = 1

    def __init__(
        self, network: PoseModel, device: torch.device, dtype: torch.dtype, cuda: Callable[[torch.device], Any] = Cuda
    ) -> None:
        super().__init__(network, device)
        self._dtype, self._make = dtype, cuda
        self._cuda = cuda(device)
        self._lock = threading.Lock()
        self._seen: set[int] = set()
        self._buckets: dict[int, _Bucket] = {}
        self._capturable = True

    def __reduce__(self) -> tuple[Any, ...]:
        """Copies and pickles begin without graphs, which belong to this process and this network."""
        return type(self), (self.network, self.device, self._dtype, self._make)

    @contextmanager
    def turn(self) -> Iterator[None]:
        """One at a time: crops and outputs of a size are always in the same place."""
        with self._lock, self._cuda.turn():
            yield

    def send(self, values: Tensor) -> Tensor:
        """As `Eager.send`, without waiting."""
        sent: Tensor = self._cuda.send(values)
        return sent

    def fetch(self, values: Tensor) -> Tensor:
        """As `Eager.fetch`, without waiting."""
        fetched: Tensor = self._cuda.fetch(values)
        return fetched

    def run(self, count: int, most: int, fill: Fill) -> Output:
        """As `Eager.run`; the maps are float32 [M, K, h', w'] as the decoder reads them."""
        bucket = self._bucket(bucket_size(count, most))
        if bucket is None:
            return self._predict(fill(None))
        crops = fill(bucket.crops[:count])
        if bucket.replay is None:
            everything = bucket.crops.permute(0, 3, 1, 2)
            try:
                bucket.replay, bucket.outputs = self._cuda.capture(lambda: self._predict(everything))
            except RuntimeError as error:
                self._capturable = False
                self._buckets.clear()
                name, reason = self.network.name or "the network", str(error).strip().partition("\n")[0]
                warnings.warn(
                    f"{name} cannot be captured as a CUDA graph and runs without, slower: {reason}", stacklevel=2
                )
                return self._predict(crops)
        assert bucket.replay is not None
        assert bucket.outputs is not None
        bucket.replay()
        maps, visibility = bucket.outputs
        return maps[:count], None if visibility is None else visibility[:count]

    def _bucket(self, size: int) -> _Bucket | None:
        """That of this size; None where such a batch runs as it is."""
        bucket = self._buckets.get(size)
        if bucket is None and self._capturable and size in self._seen and len(self._buckets) < MOST_BUCKETS:
            shape = (size, *self.network.spec.input_size, 3)
            bucket = self._buckets[size] = _Bucket(torch.zeros(shape, dtype=self._dtype, device=self.device))
        self._seen.add(size)
        return bucket

    def _predict(self, crops: Tensor) -> Output:
        with torch.autocast(self.device.type, enabled=False):  # a graph must not depend on who is around it
            output, visibility = self.network.predict(crops)
        return output.to(torch.float32, memory_format=torch.contiguous_format), visibility


class Clock:
    """Milliseconds between laps; on CUDA by events, which do not hold up the stream.

    Args:
        device: Whose work is timed.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._names: list[str] = []
        self._marks = [self._mark()]

    def _mark(self) -> Any:
        if self._device.type != "cuda":
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record(torch.cuda.current_stream(self._device))
        return event

    def lap(self, name: str) -> None:
        """The stage of that name ends here."""
        self._names.append(name)
        self._marks.append(self._mark())

    def milliseconds(self) -> dict[str, float]:
        """Time by stage; waits for the last one."""
        steps = pairwise(self._marks)
        if self._device.type != "cuda":
            return {name: (end - start) * 1e3 for name, (start, end) in zip(self._names, steps, strict=True)}
        self._marks[-1].synchronize()
        return {name: start.elapsed_time(end) for name, (start, end) in zip(self._names, steps, strict=True)}
