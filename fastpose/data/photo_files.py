"""Photo files from outside: which suffixes this OpenCV reads, what a folder holds, what a file is that is no photo."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path

import cv2

__all__ = ["VIDEO_SUFFIXES", "describe_skipped", "find_images", "image_suffixes", "walk_images", "why_unreadable"]

# JPEG, PNG, WebP, TIFF, BMP and the portable maps are in every build of OpenCV; a browser writes .jfif.
_ALWAYS = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".dib", ".tif", ".tiff"),
    *(".pbm", ".pgm", ".ppm", ".pnm", ".ras", ".sr"),
)
# These are left out of some builds. OpenCV says what it writes, and has both halves of such a format or neither.
_IN_SOME_BUILDS = (".jp2", ".gif", ".avif")

VIDEO_SUFFIXES = (
    *(".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".wmv", ".flv", ".mpg", ".mpeg", ".ts", ".mts", ".m2ts"),
    *(".3gp", ".3g2", ".asf", ".mxf", ".ogv", ".vob"),
)
"""Suffixes of videos, in lower case, with their dots."""
_SUFFIX_KINDS = {".heic": "HEIC", ".heif": "HEIC", ".avif": "AVIF", ".jxl": "JPEG XL", ".jp2": "JPEG 2000"}
_SUFFIX_KINDS |= {".gif": "GIF", **dict.fromkeys(VIDEO_SUFFIXES, "video")}

_HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
_AVIF_BRANDS = (b"avif", b"avis")
_QUICKTIME_ATOMS = (b"moov", b"mdat", b"wide", b"free", b"skip")
_TS_PACKET = 188

# What a file begins with, and what it is then.
_VIDEO_STARTS = (
    (b"\x1aE\xdf\xa3", "Matroska or WebM"),
    (b"FLV\x01", "FLV"),
    (b"\x00\x00\x01\xba", "MPEG"),
    (b"\x00\x00\x01\xb3", "MPEG"),
    (b"0&\xb2u\x8ef\xcf\x11", "Windows Media"),
    (b"OggS", "Ogg"),
)
_OTHER_STARTS = (
    (b"%PDF", "a PDF"),
    (b"8BPS", "a Photoshop file"),
    (b"PK\x03\x04", "an archive (zip)"),
    (b"\x1f\x8b", "an archive (gzip)"),
    (b"version https://git-lfs", "Git LFS's note of where the photo is, not the photo (git lfs pull fetches it)"),
)
_TEXT_STARTS = ((b"<!doctype html", "a web page"), (b"<html", "a web page"), (b"<svg", "an SVG drawing"))


@cache
def image_suffixes() -> tuple[str, ...]:
    """Suffixes of the photos that `read_image` reads with this build of OpenCV, in lower case, with their dots."""
    return _ALWAYS + tuple(suffix for suffix in _IN_SOME_BUILDS if cv2.haveImageWriter(f"photo{suffix}"))


def find_images(folder: str | os.PathLike[str], *, recursive: bool = False) -> tuple[list[Path], list[Path]]:
    """The photos in a folder, told by their suffixes, and what else is in it.

    Hidden files and folders (``.name``) are passed over in silence, and links to folders are not followed.

    Args:
        folder: Where to look.
        recursive: Also in the folders below it.

    Returns:
        Photos, and files that are none (`describe_skipped` says them in a few words); both sorted by folder, then name.

    Raises:
        OSError: A folder cannot be read.

    Example:
        >>> from fastpose.data import find_images
        >>> photos, skipped = find_images("docs")
        >>> [photo.name for photo in photos]
        ['demo.jpg']
    """
    photos: list[Path] = []
    skipped: list[Path] = []
    for path, is_photo in walk_images(folder, recursive=recursive):
        (photos if is_photo else skipped).append(path)
    return photos, skipped


def walk_images(folder: str | os.PathLike[str], *, recursive: bool = False) -> Iterator[tuple[Path, bool]]:
    """The same one by one: no more is held than the names in one folder, and in those that it lies in.

    Args:
        folder: As for `find_images`, as is the next.
        recursive: Also in the folders below it.

    Yields:
        A file, and whether it is a photo.

    Raises:
        OSError: A folder cannot be read.
    """
    waiting = [Path(folder)]
    while waiting:
        place = waiting.pop()
        with os.scandir(place) as found:
            entries = sorted((entry for entry in found if entry.name[0] != "."), key=lambda entry: entry.name)
        folders = []
        for entry in entries:
            if _holds(entry.is_dir):
                folders += [place / entry.name] if recursive and not entry.is_symlink() else []
            else:
                path = place / entry.name
                # Reading a pipe or a device of such a name would never end.
                yield path, path.suffix.lower() in image_suffixes() and _holds(entry.is_file)
        waiting += reversed(folders)


def _holds(question: Callable[[], bool]) -> bool:
    """Whether it is so; not of a link that leads back to itself."""
    try:
        return question()
    except OSError:
        return False


def describe_skipped(suffixes: Mapping[str, int]) -> str:
    """Such as ``3 files are no photos: 2 .txt, 1 .heic (HEIC, which this OpenCV does not read)``.

    Args:
        suffixes: Of files that are none, each with their number: in lower case, empty where they have none.
    """
    parts = []
    for suffix, count in Counter(suffixes).most_common():
        kind = _SUFFIX_KINDS.get(suffix)
        readable = suffix in image_suffixes()
        if readable:
            why = " (no regular file)"
        elif kind == "video":
            why = " (video)"
        else:
            why = f" ({kind}, which this OpenCV does not read)" if kind else ""
        parts.append(f"{count} {suffix or 'without a suffix'}{why}")
    number = sum(suffixes.values())
    return f"{number} file{' is no photo' if number == 1 else 's are no photos'}: {', '.join(parts)}"


def why_unreadable(data: bytes) -> str:
    """What to say of a file that OpenCV does not decode: what it is, as far as its first bytes tell.

    Args:
        data: The content of the file; its first few hundred bytes are looked at.

    Returns:
        The reason, to be put behind the file's name: ``is a video (MP4 or QuickTime); expected a photo``.
    """
    kind = _foreign_photo(data)
    if kind is not None:
        if f".{kind.lower()}" in image_suffixes():
            return f"is a damaged or cut short photo ({kind})"
        return (
            f"is a photo in {kind}, which OpenCV {cv2.__version__} as it is installed here does not read; convert it "
            "to JPEG or PNG, or open it with Pillow (for HEIC: pillow-heif) and pass that image"
        )
    video = _video(data)
    if video is not None:
        return f"is a video ({video}); expected a photo"
    start = data[:256].lstrip().lower()
    for mark, what in _OTHER_STARTS:
        if data.startswith(mark):
            return f"is {what}; expected a photo"
    for mark, what in _TEXT_STARTS:
        if start.startswith(mark) or (start.startswith(b"<?xml") and mark in start):
            return f"is {what}; expected a photo"
    return "is damaged, cut short or no image (OpenCV cannot decode it)"


def _foreign_photo(data: bytes) -> str | None:
    """The name of a photo format that not every OpenCV reads."""
    brands = _brands(data)
    if brands & set(_AVIF_BRANDS):  # before HEIC: both may name the format that they share
        return "AVIF"
    if brands & set(_HEIC_BRANDS):
        return "HEIC"
    if data.startswith((b"\xff\x0a", b"\x00\x00\x00\x0cJXL ")):
        return "JPEG XL"
    if data.startswith((b"\x00\x00\x00\x0cjP  ", b"\xffO\xffQ")):
        return "JP2"
    if data.startswith((b"GIF87a", b"GIF89a")):
        return "GIF"
    if data.startswith(b"v/1\x01"):
        return "OpenEXR"
    return None


def _brands(data: bytes) -> set[bytes]:
    """The four-letter words in the first box of an ISO media file that say what reads it; of others none."""
    if data[4:8] != b"ftyp":
        return set()
    end = min(int.from_bytes(data[:4], "big"), 256, len(data))
    return {data[8:12], *(data[start : start + 4] for start in range(16, end - 3, 4))}


def _video(data: bytes) -> str | None:
    """The container of a video."""
    if data[4:8] == b"ftyp" or data[4:8] in _QUICKTIME_ATOMS:
        return "MP4 or QuickTime"
    if data[:4] == b"RIFF" and data[8:12] == b"AVI ":
        return "AVI"
    packets = [data[start : start + 1] for start in range(0, min(len(data), 3 * _TS_PACKET), _TS_PACKET)]
    if len(packets) == 3 and set(packets) == {b"G"}:
        return "MPEG transport stream"
    return next((name for mark, name in _VIDEO_STARTS if data.startswith(mark)), None)
