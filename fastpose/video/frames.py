"""A frame of a moving picture, what is said where there is none, and what every kind of source gives."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from ..checks import Size
from ..data.images import MAX_PIXELS
from ..files import printable

__all__ = ["ANY_SIZE", "Frame", "Reader", "VideoError", "check_pixels"]

ANY_SIZE = 1 << 62
"""Limit for `open_file` of files that are not read as a whole, bytes."""

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Frame:
    """One picture of a video.

    Attributes:
        index: Its place in the source, from 0; a live source counts those that were dropped, too.
        time: Seconds since the source's first frame, by its time stamps; larger than that of the frame before.
        pixels: uint8 [H, W, 3] BGR, upright, C-contiguous; owned by whoever holds the frame.
        path: The photo that it is, in a folder of them, or the video's file; None of cameras, streams and bare pixels.
    """

    index: int
    time: float
    pixels: Pixels
    path: Path | None = None


class VideoError(ValueError):
    """A source that gives no frames, or no more of them; the message is ``NAME: REASON``.

    Attributes:
        name: The source, without the password that an address may hold.
        reason: What is wrong with it.
    """

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(printable(f"{name}: {reason}"))
        self.name = name
        self.reason = reason

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.name, self.reason)  # so that it comes through from other processes


class Reader(Protocol):
    """One source, open; a single thread opens, reads and closes it.

    Attributes:
        fps: Frames per second as the source says; None where it does not.
        frames: Their number as the source says; None where it does not.
        size: (height, width) of the upright picture; None where only its first frame tells.
        audio: Whether there is sound beside it.
        ends: Whether it has an end: a file has one, a camera none.
        problem: Why it ended early, once it has.
        path: The file of the frame that was read last; None where it is of no file.
    """

    fps: float | None
    frames: int | None
    size: Size | None
    audio: bool
    ends: bool
    problem: str | None
    path: Path | None

    def read(self) -> tuple[float | None, Pixels] | VideoError | None:
        """The next frame's seconds and pixels, what is wrong with it where only this one is lost, or None at the end.

        The seconds are counted from any moment, and None where the source does not know them.

        Raises:
            VideoError: Nothing more can be read.
        """

    def close(self) -> None:
        """Let go of the source."""


def check_pixels(name: str, size: Size) -> None:
    """Refuse a picture that no machine should be asked to decode.

    Args:
        name: What to call the source.
        size: (height, width) that it claims.

    Raises:
        VideoError: It has no pixels, or more than `MAX_PIXELS`.
    """
    height, width = size
    if not 0 < height * width <= MAX_PIXELS:
        raise VideoError(name, f"claims {width}x{height} pixels; at most {MAX_PIXELS} in all can be read")
