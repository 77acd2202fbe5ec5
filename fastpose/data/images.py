"""Photos from files or bytes: always an upright BGR uint8 picture, or one ImageError that says what is wrong.

The container is walked before anything is decoded (see `image_headers`), pixels are decoded as they are stored
(``IMREAD_UNCHANGED``, which never turns them), and orientation, depth and channels are settled here, the same under
every OpenCV.
"""

from __future__ import annotations

import os
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from ..files import open_file, printable, read_file, unreadable
from .image_headers import JPEG_MAGIC, MAX_PIXELS, HeaderError, jpeg_size, plain_png, png_size, read_header
from .photo_files import why_unreadable

__all__ = [
    "MAX_FILE_BYTES",
    "MAX_HELD_BYTES",
    "MAX_PIXELS",
    "ImageError",
    "decode_image",
    "read_image",
    "read_image_size",
    "read_orientation",
    "read_reduced",
]

MAX_FILE_BYTES = 1 << 30

MAX_HELD_BYTES = 1 << 29
"""Decoded photos that wait for one batch: many ordinary ones, and few of those that a modern camera takes."""

# Enough for the largest EXIF block and the frame header behind it.
_HEAD_BYTES = 80_000

# Pixels whose depth is changed at once.
_STRIP = 1 << 20

# Orientations that turn the stored pixels round, top to bottom and left to right (see _upright).
_UPSIDE_DOWN, _MIRRORED = (3, 4, 7, 8), (2, 3, 6, 7)
_REDUCED = {2: cv2.IMREAD_REDUCED_COLOR_2, 4: cv2.IMREAD_REDUCED_COLOR_4, 8: cv2.IMREAD_REDUCED_COLOR_8}


class ImageError(ValueError):
    """A photo that cannot be read; the message is ``NAME: REASON``.

    Attributes:
        name: the file (or the name given to the bytes).
        reason: what is wrong with it.
    """

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(printable(f"{name}: {reason}"))
        self.name = name
        self.reason = reason

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.name, self.reason)  # so that it comes through from DataLoader workers


def read_image(path: str | os.PathLike[str]) -> npt.NDArray[np.uint8]:
    """Read a photo as an upright BGR picture.

    EXIF orientation is applied, grey becomes BGR, an alpha channel is dropped (as ``cv2.imread`` does), 16-bit is
    scaled to 8-bit (65535 becomes 255).

    Args:
        path: a file in any format that this OpenCV decodes (JPEG, PNG, WebP, TIFF, BMP, …).

    Returns:
        uint8 [H, W, 3], BGR, C-contiguous.

    Raises:
        ImageError: the file is missing, unreadable, empty, too large, cut short or no image.
    """
    return decode_image(*_load(path))


def read_reduced(path: str | os.PathLike[str], step: int) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float64]]:
    """Read a photo with fewer pixels, if it is a JPEG: the file is decoded at 1/2, 1/4 or 1/8, in less time.

    Args:
        path: as for `read_image`.
        step: pixels of the photo, each way, that one of the picture stands for: 1, 2, 4 or 8.

    Returns:
        uint8 [h, w, 3], BGR, and float64 [2, 3], pixels of that picture → pixels of the whole photo. Other files, and
        JPEGs that this OpenCV decodes only whole, come whole.

    Raises:
        ImageError: as `read_image`.
        ValueError: another step.
    """
    data, name = _load(path)
    if step != 1 and step not in _REDUCED:
        raise ValueError(f"step: expected 1, 2, 4 or 8, got {step}")
    size = jpeg_size(data) if step > 1 and data.startswith(JPEG_MAGIC) else None
    if size is not None:
        try:
            orientation = read_header(data).orientation
            picture = _upright(_to_bgr8(_decode(data, _REDUCED[step] | cv2.IMREAD_IGNORE_ORIENTATION)), orientation)
        except HeaderError as error:
            raise ImageError(name, str(error)) from None
        # A pixel stands for step x step of them, at their centre; the last ones stored may reach over the edge.
        beyond = [side - step * reduced for side, reduced in zip(size, picture.shape, strict=False)]
        if all(-step < left <= 0 for left in beyond):
            x = (step - 1) / 2 + beyond[1] * (orientation in _MIRRORED)
            y = (step - 1) / 2 + beyond[0] * (orientation in _UPSIDE_DOWN)
            return picture, np.array([[step, 0, x], [0, step, y]], np.float64)
    return decode_image(data, name), np.eye(2, 3)


def _load(path: str | os.PathLike[str]) -> tuple[bytes, str]:
    """Content and name of a file."""
    name = os.fspath(path)
    try:
        return read_file(name, limit=MAX_FILE_BYTES), name
    except OSError as error:
        raise ImageError(name, unreadable(error)) from error


def read_image_size(path: str | os.PathLike[str]) -> tuple[int, int]:
    """Size of a photo as `read_image` would give it, without decoding a JPEG or PNG.

    Args:
        path: the file.

    Returns:
        (height, width) of the upright picture.

    Raises:
        ImageError: the file is missing, unreadable or no image; one that is cut short behind its header is not noticed.
    """
    try:
        with open_file(path) as file:
            head = file.read(_HEAD_BYTES)
            size = jpeg_size(head) if head.startswith(JPEG_MAGIC) else png_size(file)
    except OSError:
        size = None  # read_image says what is wrong
    return size if size is not None else read_image(path).shape[:2]


def read_orientation(path: str | os.PathLike[str]) -> int:
    """EXIF orientation of a photo, which `read_image` applies: 1 as stored, 2 to 4 as high as stored, 5 to 8 as wide.

    Args:
        path: the file.

    Raises:
        ImageError: the file is missing, unreadable, cut short or no image.
    """
    data, name = _load(path)
    try:
        return read_header(data).orientation
    except HeaderError as error:
        raise ImageError(name, str(error)) from None


def decode_image(
    data: bytes | bytearray | memoryview | npt.NDArray[np.uint8], name: str = "image"
) -> npt.NDArray[np.uint8]:
    """Decode an image file that is already in memory; see `read_image`.

    Args:
        data: the whole content of the file.
        name: what to call it in an error.

    Returns:
        uint8 [H, W, 3], BGR, C-contiguous.

    Raises:
        ImageError: empty, too large, cut short or no image.
    """
    content = bytes(data)
    try:
        header = read_header(content)
        return _upright(_to_bgr8(_decode(plain_png(content))), header.orientation)
    except HeaderError as error:
        raise ImageError(name, str(error)) from None


def _decode(data: bytes, flags: int = cv2.IMREAD_UNCHANGED) -> npt.NDArray[Any]:
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error as error:
        reason = "too large" if "MAX_IMAGE" in str(error) else f"damaged ({error.err or 'OpenCV could not say why'})"
        raise HeaderError(f"is {reason}") from None
    except MemoryError:
        raise HeaderError("is too large for this machine's memory") from None
    if pixels is None or pixels.size == 0:
        raise HeaderError(why_unreadable(data))
    return pixels


def _to_bgr8(pixels: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    if pixels.dtype == np.uint16:
        pixels = _to_8_bit(pixels)
    elif pixels.dtype != np.uint8:
        raise HeaderError(f"has {pixels.dtype} pixels; 8-bit and 16-bit unsigned ones can be read")
    channels = 1 if pixels.ndim == 2 else pixels.shape[2]
    if channels == 1:
        return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_GRAY2BGR), np.uint8)
    if channels == 2:  # grey and alpha, where a version hands them out as they are
        return _to_bgr8(np.ascontiguousarray(pixels[..., 0]))
    if channels in (3, 4):
        return np.ascontiguousarray(pixels[..., :3])
    raise HeaderError(f"has {channels} channels; 1 to 4 can be read")


def _to_8_bit(pixels: npt.NDArray[np.uint16]) -> npt.NDArray[np.uint8]:
    """Colours alone, a few rows at a time: what is in between is four times as large as the result."""
    colours = pixels[..., :3] if pixels.ndim == 3 and pixels.shape[2] > 2 else pixels
    result = np.empty(colours.shape, np.uint8)
    rows = max(1, _STRIP // max(1, pixels[:1].size))
    for start in range(0, len(pixels), rows):
        part = colours[start : start + rows].astype(np.uint32)
        result[start : start + rows] = (part + 128) // 257  # rounded, so that both ends of the range are met
    return result


def _upright(pixels: npt.NDArray[np.uint8], orientation: int) -> npt.NDArray[np.uint8]:
    """Turn stored pixels as EXIF says: 2 mirrored, 3 half turn, 4 upside down, 5 transposed, 6 a quarter turn."""
    if orientation >= 5:
        pixels = pixels.transpose(1, 0, 2)
    if orientation in _UPSIDE_DOWN:
        pixels = pixels[::-1]
    if orientation in _MIRRORED:
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)
