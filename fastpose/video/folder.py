"""A folder of numbered photos as a video."""

from __future__ import annotations

import re
import warnings
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

from ..checks import Size
from ..data.images import ImageError, read_image, read_image_size
from ..data.photo_files import find_images
from ..files import unreadable
from .frames import Pixels, VideoError

__all__ = ["FolderReader"]

_DIGITS = re.compile(r"(\d+)")


class FolderReader:
    """A `Reader` of the photos in a folder, in the order of the numbers in their names.

    A warning says where numbers are missing; the time goes on by one frame there.

    Args:
        folder: Where they are; what is no photo is passed over.
        fps: Frames per second.

    Raises:
        VideoError: It cannot be read, holds no photos, or one without a number or with that of another.
    """

    audio: bool = False
    ends: bool = True
    problem: str | None = None

    def __init__(self, folder: str, fps: float) -> None:
        self._folder, self._next = folder, 0
        self.path: Path | None = None
        try:
            photos, _ = find_images(folder)
        except OSError as error:
            raise VideoError(folder, unreadable(error)) from None
        self._files = _in_order(folder, photos)
        self.fps: float | None = fps
        self.frames: int | None = len(self._files)
        self.size: Size | None = None
        with suppress(ImageError):  # said where it is its turn
            self.size = read_image_size(self._files[0])

    def read(self) -> tuple[float | None, Pixels] | VideoError | None:
        """See `Reader`."""
        if self._next == len(self._files):
            return None
        file = self.path = self._files[self._next]
        self._next += 1
        try:
            return None, read_image(file)
        except ImageError as error:
            return VideoError(error.name, error.reason)

    def close(self) -> None:
        """See `Reader`; no file stays open."""


def _in_order(folder: str, photos: list[Path]) -> list[Path]:
    """Sorted as a person counts: words by letters, digits by their value."""
    if not photos:
        raise VideoError(folder, "holds no photos; expected a video's frames, numbered")
    keys: dict[tuple[Any, ...], Path] = {}
    for photo in photos:
        parts = _DIGITS.split(photo.stem)
        if len(parts) == 1:
            raise VideoError(folder, f"{photo.name} has no number; expected a video's frames, numbered")
        key = tuple(int(part) if place % 2 else part for place, part in enumerate(parts))
        if key in keys:
            raise VideoError(folder, f"{keys[key].name} and {photo.name} have the same number")
        keys[key] = photo
    ordered = sorted(keys)
    # One after the other, those that differ in their last number alone.
    steps = [b[-2] - a[-2] for a, b in pairwise(ordered) if a[:-2] == b[:-2] and a[-1] == b[-1]]
    usual = min(steps, default=1)  # every second frame of a video may have been kept
    if missing := sum(step // usual - 1 for step in steps):
        warnings.warn(f"{folder}: the numbers of its {len(photos)} frames have gaps ({missing} missing)", stacklevel=2)
    return [keys[key] for key in ordered]
