"""Photos from files or bytes: always an upright BGR uint8 picture, or one ImageError that says what is wrong.

OpenCV alone is not enough. Up to 4.x it decodes a JPEG that was cut short into a picture with a grey lower part and
raises nothing; which EXIF orientations it honours depends on version, file format and flags. So the container is
walked here before decoding (complete? how large? turned?), pixels are decoded as they are stored
(``IMREAD_UNCHANGED``, which never turns them), and orientation, depth and channels are settled here, the same under
every OpenCV.
"""

from __future__ import annotations

import os
import re
import stat
import struct
import zlib
from pathlib import Path
from typing import Any, BinaryIO

import cv2
import numpy as np
import numpy.typing as npt

from .photo_files import why_unreadable

__all__ = [
    "MAX_FILE_BYTES",
    "MAX_HELD_BYTES",
    "MAX_PIXELS",
    "ImageError",
    "decode_image",
    "read_image",
    "read_image_size",
    "read_reduced",
]

MAX_PIXELS = 1 << 28
"""Largest picture that is decoded (268 million pixels, 0.8 GB): what claims more is a mistake or an attack."""

MAX_FILE_BYTES = 1 << 30

MAX_HELD_BYTES = 1 << 29
"""Decoded photos that wait for one batch: many ordinary ones, and few of those that a modern camera takes."""

# Enough for the largest EXIF block and the frame header behind it.
_HEAD_BYTES = 80_000

_JPEG_MAGIC = b"\xff\xd8\xff"
_PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
_ORIENTATION_TAG = 0x0112
# Between segments a reader looks for the next marker; bytes before it are ignored, as libjpeg does.
_MARKER = re.compile(rb"\xff+[^\x00\xff]")
# Inside entropy-coded data 0xff is followed by 0x00 (stuffing), a restart marker or another 0xff (fill); anything
# else is the next marker.
_NEXT_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
_STANDALONE_MARKERS = frozenset((0x01, *range(0xD0, 0xD9)))
_FRAME_MARKERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
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
        super().__init__(f"{name}: {reason}")
        self.name = name
        self.reason = reason

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.name, self.reason)  # so that it comes through from DataLoader workers


class _FileError(Exception):
    """Reason only; turned into an ImageError that names the file."""


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
    size = _jpeg_size(data) if step > 1 and data.startswith(_JPEG_MAGIC) else None
    if size is not None:
        try:
            orientation = _inspect(data)
            picture = _upright(_to_bgr8(_decode(data, _REDUCED[step] | cv2.IMREAD_IGNORE_ORIENTATION)), orientation)
        except _FileError as error:
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
        status = os.stat(name)
        if stat.S_ISDIR(status.st_mode):
            raise ImageError(name, "is a folder, not a photo")
        if not stat.S_ISREG(status.st_mode):
            raise ImageError(name, "is not a regular file")
        if status.st_size > MAX_FILE_BYTES:
            raise ImageError(name, f"is too large ({status.st_size} bytes; at most {MAX_FILE_BYTES})")
        return Path(name).read_bytes(), name
    except FileNotFoundError:
        raise ImageError(name, "no such file") from None
    except OSError as error:
        raise ImageError(name, f"cannot be read ({error.strerror or error})") from error
    except ValueError as error:
        if isinstance(error, ImageError):
            raise
        raise ImageError(repr(name), f"is no file name ({error})") from error  # a NUL inside


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
        with open(path, "rb") as file:
            head = file.read(_HEAD_BYTES)
            size = _jpeg_size(head) if head.startswith(_JPEG_MAGIC) else _png_size(file)
    except OSError:
        size = None  # read_image says what is wrong
    return size if size is not None else read_image(path).shape[:2]


def _jpeg_size(head: bytes) -> tuple[int, int] | None:
    """(height, width) by the frame header and the orientation before it; None where the head does not reach it."""
    orientation, position = 1, 2
    while position + 9 <= len(head) and head[position] == 0xFF:
        marker = head[position + 1]
        if marker in _STANDALONE_MARKERS or marker == 0xFF:
            position += 1 if marker == 0xFF else 2
            continue
        if marker == 0xDA:
            break
        length = int.from_bytes(head[position + 2 : position + 4], "big")
        segment = head[position + 4 : position + 2 + length]
        if marker == 0xE1 and segment.startswith(b"Exif\0\0"):
            orientation = _exif_orientation(segment[6:])
        elif marker in _FRAME_MARKERS:
            height, width = struct.unpack(">HH", head[position + 5 : position + 9])
            return (width, height) if orientation >= 5 else (height, width)
        position += 2 + length
    return None


def _png_size(file: BinaryIO) -> tuple[int, int] | None:
    """(height, width); None where it is no PNG, or one that may be turned."""
    size: tuple[int, int] | None = None
    file.seek(0)
    if file.read(len(_PNG_MAGIC)) != _PNG_MAGIC:
        return None
    while len(start := file.read(8)) == 8:  # to the end: orientation may stand behind the pixels
        length, kind = struct.unpack(">I4s", start)
        content = file.read(8) if kind == b"IHDR" and length >= 8 else b""
        if len(content) == 8:
            width, height = struct.unpack(">II", content)
            size = height, width
        elif kind == b"eXIf":
            return None
        file.seek(length + 4 - len(content), os.SEEK_CUR)
    return size


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
        orientation = _inspect(content)
        pixels = _decode(content)
        return _upright(_to_bgr8(pixels), orientation)
    except _FileError as error:
        raise ImageError(name, str(error)) from None


def _inspect(data: bytes) -> int:
    """EXIF orientation (1 to 8) that is still to be applied to the stored pixels; raises if the file is not whole."""
    if not data:
        raise _FileError("is empty (0 bytes)")
    if data.startswith(_JPEG_MAGIC):
        return _inspect_jpeg(data)
    if data.startswith(_PNG_MAGIC):
        return _inspect_png(data)
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return _inspect_webp(data)
    if data[:3] == b"GIF" and b"\x3b" not in data[-16:]:
        raise _FileError("is cut short (GIF without its end mark)")
    return 1  # TIFF is turned by OpenCV itself, under every flag; BMP and the others have no orientation


def _inspect_jpeg(data: bytes) -> int:
    orientation = 1
    position = 2
    while found := _MARKER.search(data, position):
        position = found.end()
        marker = data[position - 1]
        if marker == 0xD9:
            return orientation
        if marker in _STANDALONE_MARKERS:
            continue
        length = int.from_bytes(data[position : position + 2], "big")
        if length < 2:
            raise _FileError(f"is a damaged JPEG (segment of {length} bytes at byte {position})")
        segment = data[position + 2 : position + length]
        if marker == 0xE1 and segment.startswith(b"Exif\0\0"):
            orientation = _exif_orientation(segment[6:])
        elif marker in _FRAME_MARKERS and len(segment) >= 5:
            _check_size(*struct.unpack(">HH", segment[1:5]))
        position += length
        if marker == 0xDA:
            found = _NEXT_MARKER.search(data, position)
            if found is None:
                break
            position = found.start()
    raise _FileError(f"is cut short (JPEG of {len(data)} bytes without its end mark)")


def _inspect_png(data: bytes) -> int:
    orientation = 1
    position = len(_PNG_MAGIC)
    while position + 12 <= len(data):
        length = int.from_bytes(data[position : position + 4], "big")
        kind = data[position + 4 : position + 8]
        end = position + 12 + length
        if end > len(data):
            break
        checked = memoryview(data)[position + 4 : end - 4]
        # Ancillary chunks (lower-case first letter) may be wrong: the pixels do not depend on them.
        if not kind[0] & 0x20 and zlib.crc32(checked) != int.from_bytes(data[end - 4 : end], "big"):
            raise _FileError(f"is a damaged PNG (checksum of its {kind.decode('latin-1')} chunk at byte {position})")
        if kind == b"IHDR" and length >= 8:
            width, height = struct.unpack(">II", checked[4:12])
            _check_size(height, width)
        elif kind == b"eXIf":
            orientation = _exif_orientation(bytes(checked[4:]))
        elif kind == b"IEND":
            return orientation
        position = end
    raise _FileError(f"is cut short (PNG of {len(data)} bytes without its end chunk)")


def _inspect_webp(data: bytes) -> int:
    declared = int.from_bytes(data[4:8], "little") + 8
    if declared > len(data):
        raise _FileError(f"is cut short (WebP of {declared} bytes, {len(data)} present)")
    position = 12
    while position + 8 <= declared:
        length = int.from_bytes(data[position + 4 : position + 8], "little")
        if data[position : position + 4] == b"EXIF":
            payload = data[position + 8 : position + 8 + length]
            return _exif_orientation(payload.removeprefix(b"Exif\0\0"))
        position += 8 + length + (length & 1)
    return 1


def _exif_orientation(tiff: bytes) -> int:
    """Orientation in the first directory of an EXIF block; 1 where there is none or the block is damaged."""
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(tiff[:4])
    if order is None:
        return 1
    try:
        (directory,) = struct.unpack_from(order + "I", tiff, 4)
        (entries,) = struct.unpack_from(order + "H", tiff, directory)
        for entry in range(entries):
            tag, kind, _, value = struct.unpack_from(order + "HHIH", tiff, directory + 2 + 12 * entry)
            if tag == _ORIENTATION_TAG:
                return int(value) if kind == 3 and 1 <= value <= 8 else 1
    except struct.error:
        pass
    return 1


def _check_size(height: int, width: int) -> None:
    if height * width > MAX_PIXELS:
        raise _FileError(f"is too large ({width}x{height} pixels; at most {MAX_PIXELS} in all)")


def _decode(data: bytes, flags: int = cv2.IMREAD_UNCHANGED) -> npt.NDArray[Any]:
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error as error:
        reason = "too large" if "MAX_IMAGE" in str(error) else f"damaged ({error.err or 'OpenCV could not say why'})"
        raise _FileError(f"is {reason}") from None
    except MemoryError:
        raise _FileError("is too large for this machine's memory") from None
    if pixels is None or pixels.size == 0:
        raise _FileError(why_unreadable(data))
    return pixels


def _to_bgr8(pixels: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    if pixels.dtype == np.uint16:
        # Rounded x / 257, so that both ends of the range are met.
        pixels = ((pixels.astype(np.uint32) + 128) // 257).astype(np.uint8)
    elif pixels.dtype != np.uint8:
        raise _FileError(f"has {pixels.dtype} pixels; 8-bit and 16-bit unsigned ones can be read")
    channels = 1 if pixels.ndim == 2 else pixels.shape[2]
    if channels == 1:
        return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_GRAY2BGR), np.uint8)
    if channels == 2:  # grey and alpha, where a version hands them out as they are
        return _to_bgr8(np.ascontiguousarray(pixels[..., 0]))
    if channels in (3, 4):
        return np.ascontiguousarray(pixels[..., :3])
    raise _FileError(f"has {channels} channels; 1 to 4 can be read")


def _upright(pixels: npt.NDArray[np.uint8], orientation: int) -> npt.NDArray[np.uint8]:
    """Turn stored pixels as EXIF says: 2 mirrored, 3 half turn, 4 upside down, 5 transposed, 6 a quarter turn."""
    if orientation >= 5:
        pixels = pixels.transpose(1, 0, 2)
    if orientation in _UPSIDE_DOWN:
        pixels = pixels[::-1]
    if orientation in _MIRRORED:
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)
