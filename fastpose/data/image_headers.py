"""What the first bytes of a photo say, before anything is decoded: format, size, orientation, whether it is whole.

OpenCV alone is not enough. Up to 4.x it decodes a JPEG that was cut short into a picture with a grey lower part and
raises nothing; which EXIF orientations it honours depends on version, file format and flags; and 35 bytes may claim
more pixels than the machine has memory. So every container is walked here first. Whatever the bytes are, that takes
time in proportion to their number, and what it takes to decode them is known afterwards.
"""

from __future__ import annotations

import os
import re
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import BinaryIO

from .photo_files import why_unreadable

__all__ = [
    "JPEG_MAGIC",
    "MAX_DECODE_BYTES",
    "MAX_PIXELS",
    "PNG_MAGIC",
    "HeaderError",
    "ImageHeader",
    "jpeg_size",
    "plain_png",
    "png_size",
    "read_header",
]

MAX_PIXELS = 1 << 28
"""Largest picture that is decoded (268 million pixels, 0.8 GB): what claims more is a mistake or an attack."""

MAX_DECODE_BYTES = 6 * MAX_PIXELS
"""What reading a photo takes at most beside its file (1.6 GB): two copies of the largest picture, as in OpenCV."""

JPEG_MAGIC = b"\xff\xd8\xff"
PNG_MAGIC = b"\x89PNG\r\n\x1a\n"

_ORIENTATION_TAG = 0x0112
# Between segments a reader looks for the next marker: a byte after 0xff that is neither 0x00 nor a fill byte. Bytes
# before it are ignored, as libjpeg does.
_MARKER = re.compile(rb"\xff[^\x00\xff]")
# Inside entropy-coded data 0xff is followed by 0x00 (stuffing), a restart marker or another 0xff (fill); anything
# else is the next marker.
_NEXT_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
_STANDALONE_MARKERS = frozenset((0x01, *range(0xD0, 0xD9)))
_FRAME_MARKERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_PROGRESSIVE = frozenset((0xC2, 0xC6, 0xCA, 0xCE))


class HeaderError(Exception):
    """What is wrong with the bytes; the caller knows the name of the file."""


@dataclass(frozen=True)
class ImageHeader:
    """What is known of a photo before it is decoded.

    Attributes:
        height: Stored rows.
        width: Stored columns.
        cost: Bytes a pixel that decoding takes at its peak with OpenCV, whose Python function copies what it decoded.
        orientation: EXIF orientation (1 to 8) that is still to be applied to the stored pixels.
    """

    height: int
    width: int
    cost: float
    orientation: int = 1


def read_header(data: bytes) -> ImageHeader:
    """Walk through a photo's container.

    Args:
        data: The whole file.

    Returns:
        What it says. Decoding it takes at most `MAX_DECODE_BYTES`.

    Raises:
        HeaderError: It is empty, cut short, too large, or of no format that can be read.
    """
    if not data:
        raise HeaderError("is empty (0 bytes)")
    kind, read = next(((kind, read) for kind, magic, read in _FORMATS if magic.match(data)), ("", None))
    if read is None:
        raise HeaderError(why_unreadable(data))
    try:
        header = read(data)
    except (struct.error, LookupError, ValueError):
        raise HeaderError(f"is a damaged {kind}, or cut short") from None
    pixels = header.height * header.width
    if not pixels:
        raise HeaderError(f"is a damaged {kind} ({header.width}x{header.height} pixels)")
    if pixels > min(MAX_PIXELS, MAX_DECODE_BYTES / header.cost):
        most = int(min(MAX_PIXELS, MAX_DECODE_BYTES / header.cost))
        raise HeaderError(f"is too large ({header.width}x{header.height} pixels; at most {most} in all, as {kind})")
    return header


def _cost(channels: float, bytes_each: int = 1) -> float:
    """Bytes a pixel, most formats: the decoded picture twice, or beside it the upright one of three bytes, twice."""
    return max(2.0 * channels * bytes_each, 6.0)


def _jpeg(data: bytes) -> ImageHeader:
    orientation = 1
    position = 2
    header: ImageHeader | None = None
    components, coefficients = 0, 0.0
    while found := _MARKER.search(data, position):
        position = found.end()
        marker = data[position - 1]
        if marker == 0xD9:
            if header is None:
                raise HeaderError("is a damaged JPEG (no frame)")
            return ImageHeader(header.height, header.width, header.cost, orientation)
        if marker in _STANDALONE_MARKERS:
            continue
        length = int.from_bytes(data[position : position + 2], "big")
        if length < 2:
            raise HeaderError(f"is a damaged JPEG (segment of {length} bytes at byte {position})")
        segment = data[position + 2 : position + length]
        if marker == 0xE1 and segment.startswith(b"Exif\0\0"):
            orientation = _exif_orientation(segment[6:])
        elif marker in _FRAME_MARKERS and len(segment) >= 6:
            height, width, components = struct.unpack(">HHB", segment[1:6])
            coefficients = _coefficients(segment[7::3][:components])
            # Progressive ones keep two bytes a coefficient until all is there.
            header = ImageHeader(height, width, 3 + coefficients if marker in _PROGRESSIVE else 6.0)
        position += length
        if marker == 0xDA:
            # So does one whose components come one after the other.
            if header is not None and segment[:1] and segment[0] < components:
                header = ImageHeader(header.height, header.width, max(header.cost, 3 + coefficients))
            found = _NEXT_MARKER.search(data, position)
            if found is None:
                break
            position = found.start()
        if header is not None:
            header = ImageHeader(header.height, header.width, max(header.cost, 6.0))
            if header.height * header.width * header.cost > MAX_DECODE_BYTES:
                return header
    raise HeaderError(f"is cut short (JPEG of {len(data)} bytes without its end mark)")


def _coefficients(sampling: bytes) -> float:
    """Bytes a pixel of a frame's coefficients, of the components' sampling factors."""
    factors = [(byte >> 4 or 1, byte & 15 or 1) for byte in sampling] or [(1, 1)]
    most = max(x for x, _ in factors) * max(y for _, y in factors)
    return 2 * sum(x * y for x, y in factors) / most


def jpeg_size(head: bytes) -> tuple[int, int] | None:
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


# Channels of each colour type: grey, RGB, palette, grey with alpha (which OpenCV makes BGRA), RGBA.
_PNG_CHANNELS = {0: 1, 2: 3, 3: 4, 4: 4, 6: 4}


def _png(data: bytes) -> ImageHeader:
    orientation = 1
    header: ImageHeader | None = None
    for kind, position, end in _png_chunks(data):
        checked = memoryview(data)[position + 4 : end - 4]
        # Ancillary chunks (lower-case first letter) may be wrong: the pixels do not depend on them.
        if not kind[0] & 0x20 and zlib.crc32(checked) != int.from_bytes(data[end - 4 : end], "big"):
            raise HeaderError(f"is a damaged PNG (checksum of its {kind.decode('latin-1')} chunk at byte {position})")
        if kind == b"IHDR" and header is None:
            width, height, bits, colour = struct.unpack(">IIBB", checked[4:14])
            header = ImageHeader(height, width, _cost(_PNG_CHANNELS.get(colour, 4), 2 if bits == 16 else 1))
            if height * width * header.cost > MAX_DECODE_BYTES:
                return header
        elif kind == b"eXIf":
            orientation = _exif_orientation(bytes(checked[4:]))
        elif kind == b"IEND":
            if header is None:
                raise HeaderError("is a damaged PNG (no header)")
            return ImageHeader(header.height, header.width, header.cost, orientation)
    raise HeaderError(f"is cut short (PNG of {len(data)} bytes without its end chunk)")


def _png_chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Kind, first byte and end of each chunk that is whole."""
    position = len(PNG_MAGIC)
    while position + 12 <= len(data):
        end = position + 12 + int.from_bytes(data[position : position + 4], "big")
        if end > len(data):
            return
        yield data[position + 4 : position + 8], position, end
        position = end


def png_size(file: BinaryIO) -> tuple[int, int] | None:
    """(height, width); None where it is no PNG, or one that may be turned."""
    size: tuple[int, int] | None = None
    file.seek(0)
    if file.read(len(PNG_MAGIC)) != PNG_MAGIC:
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


def plain_png(data: bytes) -> bytes:
    """A PNG without what its pixels do not depend on, which libpng would grumble about or animate."""
    if not data.startswith(PNG_MAGIC):
        return data
    parts = [(kind[0] & 0x20, position, end) for kind, position, end in _png_chunks(data)]
    if not any(ancillary for ancillary, _, _ in parts):
        return data
    return PNG_MAGIC + b"".join(data[position:end] for ancillary, position, end in parts if not ancillary)


def _webp(data: bytes) -> ImageHeader:
    declared = int.from_bytes(data[4:8], "little") + 8
    if declared > len(data):
        raise HeaderError(f"is cut short (WebP of {declared} bytes, {len(data)} present)")
    orientation, height, width, cost = 1, 0, 0, 8.0
    position = 12
    while position + 8 <= declared:
        kind, length = struct.unpack_from("<4sI", data, position)
        content = data[position + 8 : position + 8 + min(length, 16)]
        if kind == b"VP8X":
            size = int.from_bytes(content[4:7], "little"), int.from_bytes(content[7:10], "little")
            width, height = size[0] + 1, size[1] + 1
            cost = 16.0 if content[0] & 2 else 8.0  # an animation
        elif kind == b"VP8L" and not height:
            bits = int.from_bytes(content[1:5], "little")
            width, height = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
        elif kind == b"VP8 " and not height:
            width, height = (side & 0x3FFF for side in struct.unpack_from("<HH", content, 6))
            cost = 6.0
        elif kind == b"EXIF":
            payload = data[position + 8 : position + 8 + length]
            orientation = _exif_orientation(payload.removeprefix(b"Exif\0\0"))
            break
        position += 8 + length + (length & 1)
    return ImageHeader(height, width, cost, orientation)


def _gif(data: bytes) -> ImageHeader:
    if b"\x3b" not in data[-16:]:
        raise HeaderError("is cut short (GIF without its end mark)")
    width, height = struct.unpack_from("<HH", data, 6)
    return ImageHeader(height, width, 12.5)


def _bmp(data: bytes) -> ImageHeader:
    (size,) = struct.unpack_from("<I", data, 14)
    if size == 12:
        width, height, _, bits = struct.unpack_from("<HHHH", data, 18)
    else:
        width, height, _, bits = struct.unpack_from("<iiHH", data, 18)
    return ImageHeader(abs(height), abs(width), _cost(4 if bits == 32 else 3))


_TIFF_TYPES = {1: "B", 3: "H", 4: "I", 16: "Q"}


def _tiff(data: bytes) -> ImageHeader:
    """The first directory; OpenCV turns the picture itself, under every flag."""
    order = "<" if data[:2] == b"II" else ">"
    big = data[2:4] in (b"+\0", b"\0+")
    (directory,) = struct.unpack_from(order + ("Q" if big else "I"), data, 8 if big else 4)
    (count,) = struct.unpack_from(order + ("Q" if big else "H"), data, directory)
    first, step = directory + (8 if big else 2), 20 if big else 12
    values: dict[int, int] = {}
    for position in range(first, min(first + step * count, len(data)), step):
        tag, kind, number = struct.unpack_from(order + ("HHQ" if big else "HHI"), data, position)
        form = _TIFF_TYPES.get(kind)
        if form is None or tag in values or number < 1:
            continue
        start = position + step - (8 if big else 4)
        if number * struct.calcsize(form) > (8 if big else 4):
            (start,) = struct.unpack_from(order + ("Q" if big else "I"), data, start)
        (values[tag],) = struct.unpack_from(order + form, data, start)
    height, width, bits, channels = values[257], values[256], values.get(258, 1), values.get(277, 1)
    form = {2: "int", 3: "float"}.get(values.get(339, 1), "uint")
    if bits > 16 or form != "uint":
        raise HeaderError(f"has {form}{bits} pixels; 8-bit and 16-bit unsigned ones can be read")
    each = 2 if bits > 8 else 1
    # One strip or tile is decoded on its way into the picture.
    rows = values.get(323, values.get(278, height))
    part = values.get(322, width) * (height if rows >= 1 << 31 else rows) * channels * each
    cost = _cost(max(channels, 1 if values.get(262, 1) < 2 else 4), each)
    return ImageHeader(height, width, cost + part / max(height * width, 1))


_COMMENT = re.compile(rb"#[^\r\n]*")


def _pnm(data: bytes) -> ImageHeader:
    words = _COMMENT.sub(b"", data[: 1 << 16]).split(None, 16)
    if words[0] == b"P7":
        named = dict(zip(words[1::2], words[2::2], strict=False))
        height, width = int(named[b"HEIGHT"]), int(named[b"WIDTH"])
        return ImageHeader(height, width, _cost(int(named[b"DEPTH"]), 2 if int(named[b"MAXVAL"]) > 255 else 1))
    deep = words[0] not in (b"P1", b"P4") and int(words[3]) > 255
    return ImageHeader(int(words[2]), int(words[1]), _cost(3 if words[0] in (b"P3", b"P6") else 1, 2 if deep else 1))


def _sun(data: bytes) -> ImageHeader:
    width, height = struct.unpack_from(">II", data, 4)
    return ImageHeader(height, width, 6.0)


def _boxes(data: bytes, position: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Kind, start and end of the content of each box of the ISO base media format."""
    while position + 8 <= end:
        length, kind = struct.unpack_from(">I4s", data, position)
        start = position + 8
        if length == 1:
            (length,) = struct.unpack_from(">Q", data, start)
            start += 8
        stop = end if length == 0 else min(position + length, end)
        if stop < start:
            return
        yield kind, start, stop
        position = stop


def _jpeg2000(data: bytes) -> ImageHeader:
    start = 0
    if not data.startswith(b"\xff\x4f\xff\x51"):
        start = next((start for kind, start, _ in _boxes(data, 0, len(data)) if kind == b"jp2c"), len(data))
    right, bottom, left, top = struct.unpack_from(">4I", data, start + 8)
    (channels,) = struct.unpack_from(">H", data, start + 40)
    deep = any((byte & 0x7F) > 7 for byte in data[start + 42 : start + 42 + 3 * channels : 3])
    return ImageHeader(bottom - top, right - left, (6.5 if deep else 5.5) * channels)


def _avif(data: bytes) -> ImageHeader:
    sizes, turns, mirror = [(0, 0)], 0, 0
    for kind, start, end in _boxes(data, 0, len(data)):
        if kind == b"moov":
            raise HeaderError("is a sequence of AVIF pictures; a single one can be read")
        for inner, first, last in _boxes(data, start + 4, end) if kind == b"meta" else ():
            for part, one, stop in _boxes(data, first, last) if inner == b"iprp" else ():
                for name, at, _ in _boxes(data, one, stop) if part == b"ipco" else ():
                    if name == b"ispe":
                        sizes.append(struct.unpack_from(">II", data, at + 4))
                    elif name == b"irot":
                        turns = data[at] & 3
                    elif name == b"imir":
                        mirror = 1 + (data[at] & 1)
    width, height = max(sizes, key=lambda size: size[0] * size[1])
    if not width * height:
        raise HeaderError("is a damaged AVIF (no size)")
    return ImageHeader(height, width, 28.0, _AVIF_ORIENTATION[turns][mirror])


# EXIF's number by quarter turns to the left, and what is exchanged after them: nothing, top and bottom, left and right.
# OpenCV leaves this to us, as it does EXIF's own.
_AVIF_ORIENTATION = ((1, 4, 2), (8, 5, 7), (3, 2, 4), (6, 7, 5))


def _unreadable(what: str) -> Callable[[bytes], ImageHeader]:
    def refuse(_: bytes) -> ImageHeader:
        raise HeaderError(what)

    return refuse


_FLOAT = _unreadable("has float32 pixels; 8-bit and 16-bit unsigned ones can be read")
_FORMATS: list[tuple[str, re.Pattern[bytes], Callable[[bytes], ImageHeader]]] = [
    (kind, re.compile(magic, re.DOTALL), read)
    for kind, magic, read in (
        ("JPEG", JPEG_MAGIC, _jpeg),
        ("PNG", re.escape(PNG_MAGIC), _png),
        ("WebP", rb"RIFF....WEBP", _webp),
        ("GIF", rb"GIF8[79]a", _gif),
        ("BMP", rb"BM", _bmp),
        ("TIFF", rb"II[*+]\0|MM\0[*+]", _tiff),
        ("PNM", rb"P[1-7]\s", _pnm),
        ("Sun raster", rb"\x59\xa6\x6a\x95", _sun),
        ("JPEG 2000", rb"\0\0\0\x0cjP  \r\n\x87\n|\xff\x4f\xff\x51", _jpeg2000),
        ("AVIF", rb"....ftypavi[fs]|....ftypmif1.{4,32}avif", _avif),
        ("HDR", rb"#\?(RADIANCE|RGBE)|P[Ff]\s|\x76\x2f\x31\x01", _FLOAT),
    )
]


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
