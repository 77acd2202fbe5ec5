"""Photos and boxes side by side; photos that are files in a list are read ahead of their turn."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..data.images import ImageError, decode_image, read_image
from ..data.prefetch import Prefetch
from .urls import fetch_image, url_scheme

__all__ = ["Photo", "Unread", "name_of", "pair", "read", "read_ahead", "read_pairs_ahead"]

_Encoded = bytes | bytearray | memoryview


@dataclass
class Photo:
    """A file that was read.

    Attributes:
        path: Its name, or its address on the web; None where it was given as bytes.
        pixels: uint8 [H, W, 3] BGR.
        milliseconds: What reading it took.
    """

    path: Path | str | None
    pixels: npt.NDArray[np.uint8]
    milliseconds: float


@dataclass
class Unread:
    """What could not be read ahead of its turn.

    Attributes:
        image: As it was given.
        error: Why.
    """

    image: Any
    error: ImageError


def read(image: Any, where: str = "image", *, urls: bool = False) -> Any:
    """The `Photo` of a path, an address or a file's bytes; anything else as it is.

    Args:
        image: What a predictor was given; or what reading it ahead of its turn has met.
        where: What to call bytes in an error.
        urls: Whether photos on the web are fetched.

    Raises:
        ImageError: It cannot be read.
    """
    if isinstance(image, Unread):
        raise image.error
    if not _is_file(image):
        return image
    start = time.perf_counter()
    path: Path | str | None = None
    if isinstance(image, _Encoded):
        pixels = decode_image(image, where)
    elif isinstance(image, str) and url_scheme(image):
        path, pixels = image, decode_image(fetch_image(image, allowed=urls), image)
    else:
        path = Path(image)
        pixels = read_image(path)
    return Photo(path, pixels, (time.perf_counter() - start) * 1e3)


def _is_file(image: Any) -> bool:
    return isinstance(image, str | os.PathLike | _Encoded)


def name_of(image: Any) -> Path | str | None:
    """The file or the address of what a predictor was given; None where it is neither."""
    if isinstance(image, Unread):
        image = image.image
    if not isinstance(image, str | os.PathLike):
        return None
    return image if isinstance(image, str) and url_scheme(image) else Path(image)


def read_ahead(images: Any, *, urls: bool = False) -> Prefetch[Any, Any] | None:
    """`read` of each, or the error that it met, for `read` to raise where it is the photo's turn.

    None where no file is in a list: only what is there already is asked for ahead of its turn.
    """
    if not isinstance(images, list | tuple) or not any(map(_is_file, images)):
        return None
    return Prefetch(partial(_attempt, urls=urls), enumerate(images), size=_bytes)


def read_pairs_ahead(pairs: Any, *, urls: bool = False) -> Prefetch[Any, Any] | None:
    """The same for (photo, boxes) pairs."""
    if not isinstance(pairs, list | tuple) or not any(_is_file(image) for image, _ in pairs):
        return None
    return Prefetch(partial(_attempt_first, urls=urls), enumerate(pairs), size=lambda two: _bytes(two[0]))


def _attempt(numbered: tuple[int, Any], *, urls: bool) -> Any:
    number, image = numbered
    try:
        return read(image, f"image {number}", urls=urls)
    except ImageError as error:
        return Unread(image, error)


def _attempt_first(numbered: tuple[int, tuple[Any, Any]], *, urls: bool) -> tuple[Any, Any]:
    number, (image, boxes) = numbered
    return _attempt((number, image), urls=urls), boxes


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
