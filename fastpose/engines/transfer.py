"""How values reach the device where a network runs, and come back: on CUDA beside the work, by way of pinned memory."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from ..models import Output

__all__ = ["Clock", "CudaTransfer", "Transfer", "make_transfer"]


class Transfer:
    """To a device on which whatever is asked for has been done when the call returns.

    Args:
        device: The device.
    """

    ahead = 0
    """Batches that may be under way while photos of the next one are prepared."""

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def turn(self) -> AbstractContextManager[None]:
        """Surrounds all work on one batch, from its crops to the fetching of its results."""
        return nullcontext()

    def send(self, values: Tensor) -> Tensor:
        """The values on the device, for a turn that begins later; to be held until the results of that are read."""
        return values.to(self.device)

    def fetch(self, values: Tensor) -> Tensor:
        """The values in host memory, there when the work of the turn is done."""
        return values.cpu()


class CudaTransfer(Transfer):
    """What only CUDA has: streams, pinned memory, and the capture of graphs.

    Args:
        device: With its index.
    """

    ahead = 1

    def __init__(self, device: torch.device) -> None:
        super().__init__(device)
        self._sending = torch.cuda.Stream(device)
        # Graphs share memory only if they are captured on one stream; there, too, libraries get ready for a capture.
        self._capturing = torch.cuda.Stream(device)
        self._pool = torch.cuda.graph_pool_handle()
        self._done = torch.cuda.Event()

    @contextmanager
    def turn(self) -> Iterator[None]:
        """On the caller's stream, after all that was sent, and after the turn before, maybe on another stream."""
        with torch.cuda.device(self.device):
            stream = torch.cuda.current_stream(self.device)
            stream.wait_stream(self._sending)
            stream.wait_event(self._done)
            try:
                yield
            finally:
                self._done.record(stream)

    def send(self, values: Tensor) -> Tensor:
        """Beside the work on the device; host memory that is not pinned is copied into such at once."""
        if values.is_cuda:
            return values.to(self.device)
        with torch.cuda.stream(self._sending):
            return values.pin_memory().to(self.device, non_blocking=True)

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
        stream = torch.cuda.current_stream(self.device)
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
                    torch.zeros(1, device=self.device)
                raise
        stream.wait_stream(self._capturing)
        return graph.replay, outputs


_ONE_CAPTURE = threading.Lock()  # in a process: torch allows no more
_FAILED: list[torch.cuda.CUDAGraph] = []


def make_transfer(device: torch.device) -> Transfer:
    """That of the device's kind."""
    return CudaTransfer(device) if device.type == "cuda" else Transfer(device)


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
