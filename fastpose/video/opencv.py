"""Cameras, and video files where PyAV is not installed, through OpenCV."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from ..checks import Size
from ..files import printable
from .frames import Pixels, VideoError, check_pixels

__all__ = ["CameraReader", "OpenCVReader"]

_SPARE = 0.5  # seconds that may be missing: some files say their number of frames only roughly


class CameraReader:
    """A `Reader` of a camera of this machine.

    Args:
        number: Which one, from 0.
        fps: Frames per second that it is asked for; None for what it likes.

    Raises:
        VideoError: It is not there, or gives nothing.
    """

    frames: int | None = None
    audio: bool = False
    ends: bool = False
    problem: str | None = None
    path: Path | None = None

    def __init__(self, number: int, fps: float | None = None) -> None:
        self._name = f"camera:{number}"
        self._capture = _open(number, cv2.CAP_ANY)
        if self._capture is None:
            raise VideoError(self._name, "is not there, in use by another program, or may not be used by this one")
        self._capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)  # the newest picture, not one that waited
        if fps is not None:
            self._capture.set(cv2.CAP_PROP_FPS, fps)
        self.fps = _positive(self._capture, cv2.CAP_PROP_FPS)
        self.size = _size(self._capture)

    def read(self) -> tuple[float | None, Pixels] | VideoError | None:
        """See `Reader`."""
        good, pixels = self._capture.read()
        seconds = time.monotonic()
        if not good:
            raise VideoError(self._name, "gives no more pictures (unplugged, or taken by another program)")
        return seconds, _bgr(pixels)

    def close(self) -> None:
        """See `Reader`."""
        self._capture.release()


class OpenCVReader:
    """A `Reader` of a video file.

    Args:
        name: The file.

    Raises:
        VideoError: It cannot be opened.
    """

    audio: bool = False
    ends: bool = True

    def __init__(self, name: str) -> None:
        self._name = name
        self.path: Path | None = Path(name)
        self._end: float | None = None  # seconds of the last frame
        path = os.path.abspath(name)  # of which no part looks like an address
        if path != printable(path):  # OpenCV crashes at what is not UTF-8
            raise VideoError(name, "has a name that OpenCV cannot be given (pip install 'fastpose-torch[video]')")
        self._capture = _open(path, cv2.CAP_FFMPEG)  # another backend would take it for a pattern of names
        if self._capture is None:
            raise VideoError(
                name,
                "is no video, damaged, or of a kind that OpenCV does not read (pip install 'fastpose-torch[video]')",
            )
        self.problem: str | None = None
        self.fps = _positive(self._capture, cv2.CAP_PROP_FPS)
        frames = _positive(self._capture, cv2.CAP_PROP_FRAME_COUNT)
        self.frames = None if frames is None else round(frames)
        self.size = _size(self._capture)
        try:
            if self.size is not None:
                check_pixels(name, self.size)
        except VideoError:
            self.close()
            raise

    def read(self) -> tuple[float | None, Pixels] | VideoError | None:
        """See `Reader`."""
        good, pixels = self._capture.read()
        if good:
            self._end = self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1e3
            return self._end, _bgr(pixels)
        if self._end is None:
            raise VideoError(self._name, "gives no frame")
        if self.frames and self.fps and self._end < self.frames / self.fps - _SPARE:
            self.problem = f"is cut short or damaged ({self._end:.2f} of {self.frames / self.fps:.2f} seconds)"
        return None

    def close(self) -> None:
        """See `Reader`."""
        self._capture.release()


def _open(what: int | str, backend: int) -> Any:
    """OpenCV's capture; None where it opens nothing."""
    capture = cv2.VideoCapture(what, backend)
    if capture.isOpened():
        return capture
    capture.release()
    return None


def _positive(capture: Any, what: int) -> float | None:
    value = capture.get(what)
    return value if 0 < value < 1e9 else None


def _size(capture: Any) -> Size | None:
    height, width = (int(capture.get(what)) for what in (cv2.CAP_PROP_FRAME_HEIGHT, cv2.CAP_PROP_FRAME_WIDTH))
    return (height, width) if height > 0 and width > 0 else None


def _bgr(pixels: Any) -> Pixels:
    """What a camera that is grey gives, as the others give it."""
    if pixels.ndim == 2 or pixels.shape[2] == 1:
        pixels = cv2.cvtColor(pixels, cv2.COLOR_GRAY2BGR)
    return np.require(pixels, np.uint8, ["C", "W"])
