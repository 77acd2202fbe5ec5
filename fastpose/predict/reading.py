"""Photos and boxes side by side; photos that are files in a list are read ahead of their turn."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..data.images import read_image
from ..data.prefetch import Prefetch

__all__ = ["Photo", "pair", "read", "read_ahead", "read_pairs_ahead"]


@dataclass
class Photo:
    """A file that was read.

    Attributes:
        path: Its name.
        pixels: uint8 [H, W, 3] BGR.
        milliseconds: What reading it took.
    """

    path: Path
    pixels: npt.NDArray[np.uint8]
    milliseconds: float


def read(image: Any) -> Any:
    """The `Photo` of a path; anything else as it is.

    Raises:
        ImageError: It cannot be read.
    """
    if not _is_file(image):
        return image
    start = time.perf_counter()
    path = Path(image)
    pixels = read_image(path)
    return Photo(path, pixels, (time.perf_counter() - start) * 1e3)


def _is_file(image: Any) -> bool:
    return isinstance(image, str | os.PathLike)


def read_ahead(images: Any) -> Prefetch[Any, Any] | None:
    """`read` of each; None where no file is in a list: only what is there already is asked for ahead of its turn."""
    there = isinstance(images, list | tuple) and any(map(_is_file, images))
    return Prefetch(read, images, size=_bytes) if there else None


def read_pairs_ahead(pairs: Any) -> Prefetch[Any, Any] | None:
    """The same for (photo, boxes) pairs."""
    there = isinstance(pairs, list | tuple) and any(_is_file(image) for image, _ in pairs)
    return Prefetch(_read_first, pairs, size=lambda two: _bytes(two[0])) if there else None


def _read_first(two: tuple[Any, Any]) -> tuple[Any, Any]:
    image, boxes = two
    return read(image), boxes


def _bytes(image: Any) -> int:
    """What reading took of memory."""
    return image.pixels.nbytes if isinstance(image, Photo) else 0


def pair(images: Iterable[Any], boxes: Iterable[Any]) -> Iterator[tuple[Any, Any]]:
    """One with the other; another number of boxes than of images is an error, as soon as it shows."""
    beside = iter(boxes)
    end = object()
    number = -1
    for number, image in enumerate(images):
        box = next(beside, end)
        if box is end:
            raise ValueError(f"boxes: expected one array a photo, got {number} for more photos")
        yield image, box
    if not isinstance(boxes, repeat) and next(beside, end) is not end:
        raise ValueError(f"boxes: expected one array a photo, got more than {number + 1} for {number + 1} photos")
