"""How batches reach the device that trains: made where they are wanted, beside the work on the batch before."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..geometry import invert_matrices, transform_points
from ..ops._native import C
from .prefetch import local_processes, processors

__all__ = ["CudaSender", "Sender", "make_sender", "shown_parts"]

Array = NDArray[Any]
Pictures = Any
"""What `affine_crop` takes for its images, with one matrix a crop."""

_MOST_THREADS = 16
_ALIGNED = 16  # bytes: where a photo's pixels begin in memory that is shared by several


def make_sender(device: torch.device) -> Sender:
    """For CUDA one that has crops made there, if the native core was built for it."""
    return CudaSender(device) if device.type == "cuda" and C.with_cuda else Sender(device)


class Sender:
    """Crops are made in host memory, and then moved, if they are wanted elsewhere.

    Args:
        device: Where batches are wanted.

    Attributes:
        crops_on: Where crops are made.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.crops_on = torch.device("cpu")

    @property
    def threads(self) -> int:
        """How many should decode photos. The network has the processors, too."""
        return 2

    def making(self) -> AbstractContextManager[None]:
        """Surrounds the making of a batch."""
        return nullcontext()

    def send(self, values: Tensor) -> Tensor:
        """The values on the device."""
        return values.to(self.device)

    def send_photos(
        self, photos: Sequence[Array], matrices: Array, index: Array, size: tuple[int, int]
    ) -> tuple[Pictures, Array]:
        """Photos to where crops are made.

        Args:
            photos: uint8 [H, W, 3] each, of any sizes.
            matrices: float64 [M, 2, 3], photo → crop.
            index: int64 [M], the photo of each crop.
            size: (height, width) of a crop.

        Returns:
            Pictures in the order of the photos, and matrices [M, 2, 3] from these to the same crops.
        """
        return photos, matrices

    def send_crops(self, crops: Array) -> Pictures:
        """Crops, uint8 [M, h, w, 3], to where they are made ready for the network."""
        return crops

    def mark(self) -> Any:
        """The moment at which all that was asked for so far will have been done."""
        return None

    def wait(self, moment: Any, tensors: Sequence[Tensor]) -> None:
        """The caller's work that follows begins after that moment, and may use these tensors."""


class CudaSender(Sender):
    """Photos go to the GPU as bytes, and only the part of each that a crop shows; crops are made there.

    All of it runs on a stream of its own, without waiting: copies and crops of the next batches are hidden behind the
    network's work on this one.

    Args:
        device: With CUDA.
    """

    def __init__(self, device: torch.device) -> None:
        # The thread that makes batches has a current device of its own.
        super().__init__(torch.device("cuda", torch.cuda.current_device() if device.index is None else device.index))
        self.crops_on = self.device
        self._stream = _stream(self.device)

    @property
    def threads(self) -> int:
        """As many as there are processors for this process: the network is elsewhere."""
        return max(2, min(_MOST_THREADS, processors() // local_processes()))

    @contextmanager
    def making(self) -> Iterator[None]:
        """On the stream."""
        with torch.cuda.device(self.device), torch.cuda.stream(self._stream):
            yield

    def send(self, values: Tensor) -> Tensor:
        """By way of pinned memory, which torch takes back when the copy is done."""
        return values.pin_memory().to(self.device, non_blocking=True)

    def send_photos(
        self, photos: Sequence[Array], matrices: Array, index: Array, size: tuple[int, int]
    ) -> tuple[Pictures, Array]:
        """What crops show of the photos, in one copy."""
        parts = shown_parts(matrices, index, [photo.shape[:2] for photo in photos], size)
        extents = parts[:, 2:] - parts[:, :2]
        counts = 3 * extents.prod(1)
        taken = -(-counts // _ALIGNED) * _ALIGNED
        ends = np.cumsum(taken)
        places = [
            slice(start, start + count) for start, count in zip((ends - taken).tolist(), counts.tolist(), strict=True)
        ]
        shapes = [(height, width, 3) for width, height in extents.tolist()]
        everything = self._pinned(int(ends[-1]))
        host = everything.numpy()
        for photo, (x, y, right, bottom), place, shape in zip(photos, parts.tolist(), places, shapes, strict=True):
            np.copyto(host[place].reshape(shape), photo[y:bottom, x:right])
        there = everything.to(self.device, non_blocking=True)
        pictures = [there[place].view(shape) for place, shape in zip(places, shapes, strict=True)]
        moved = matrices.copy()
        moved[:, :, 2] += (matrices[:, :, :2] @ parts[index, :2, None].astype(np.float64))[:, :, 0]
        return pictures, moved

    def send_crops(self, crops: Array) -> Pictures:
        """As they are."""
        return self.send(torch.from_numpy(crops))

    def mark(self) -> Any:
        """An event on the stream."""
        event = torch.cuda.Event()
        event.record(self._stream)
        return event

    def wait(self, moment: Any, tensors: Sequence[Tensor]) -> None:
        """The GPU waits, not the caller."""
        stream = torch.cuda.current_stream(self.device)
        stream.wait_event(moment)
        for tensor in tensors:
            tensor.record_stream(stream)

    def _pinned(self, count: int) -> Tensor:
        """So many bytes."""
        return torch.empty(count, dtype=torch.uint8, pin_memory=True)


@functools.cache
def _stream(device: torch.device) -> torch.cuda.Stream:
    """One for all loaders: torch keeps memory apart by stream, and would keep that of each validation's."""
    return torch.cuda.Stream(device)


def shown_parts(
    matrices: Array, index: Array, photo_sizes: Sequence[tuple[int, int]], size: tuple[int, int]
) -> NDArray[np.int64]:
    """Which part of each photo its crops show.

    Args:
        matrices: float64 [M, 2, 3], photo → crop.
        index: int64 [M], the photo of each crop.
        photo_sizes: (height, width) of each of P photos.
        size: (height, width) of a crop.

    Returns:
        int64 [P, 4] (x, y, right, bottom), pixels, right and bottom not included: all that bilinear samples of the
        crops touch, and at least one pixel.

    Raises:
        ValueError: A matrix has no inverse.
    """
    height, width = size
    corners = np.array([(0, 0), (width - 1, 0), (0, height - 1), (width - 1, height - 1)], np.float64)
    seen = transform_points(np.broadcast_to(corners, (len(matrices), 4, 2)), invert_matrices(matrices))
    limits = np.array(photo_sizes, np.float64).reshape(-1, 2)[:, ::-1]
    first, last = np.full(limits.shape, np.inf), np.full(limits.shape, -np.inf)
    # A pixel more on either side: a sample between two pixels takes both, and its place may be rounded.
    np.minimum.at(first, index, np.floor(seen.min(1)) - 1)
    np.maximum.at(last, index, np.floor(seen.max(1)) + 3)
    first = np.clip(first, 0, limits - 1)
    return np.concatenate([first, np.clip(last, first + 1, limits)], axis=1).astype(np.int64)
