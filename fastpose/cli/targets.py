"""The files that a verb reads and writes: photos by name, folder or address, and what becomes of each."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import click

__all__ = ["check_writable", "each_photo", "expand_photos", "identity", "picture_targets", "save"]

_LIST = ".txt"
_WRITTEN = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")


def expand_photos(names: tuple[str, ...], *, recursive: bool) -> list[Path | str]:
    """The photos that are meant, all of them: see `each_photo`."""
    return list(each_photo(names, recursive=recursive))


def each_photo(names: tuple[str, ...], *, recursive: bool) -> Iterator[Path | str]:
    """The photos that are meant, one by one: of a folder those in it, by name; of a list those that it names.

    What a folder holds besides is said on stderr.

    Args:
        names: Files, folders, addresses, and lists: text files whose names end in ``.txt``, or ``-`` for stdin.
        recursive: Look into folders in folders, too.

    Yields:
        Files, and addresses as they are.

    Raises:
        ClickException: A folder cannot be read, or holds no photo.
        OSError: A list cannot be read.
        ValueError: A list is none.
    """
    from ..files import open_file
    from ..predict.parts import read_list
    from ..predict.urls import url_scheme

    for name in names:
        if name == "-":
            yield from read_list(sys.stdin.buffer, "stdin")
        elif not url_scheme(name) and Path(name).is_dir():
            yield from _photos_in(name, recursive=recursive)
        elif not url_scheme(name) and Path(name).suffix.lower() == _LIST:
            with open_file(name, limit=sys.maxsize) as lines:
                yield from read_list(lines, name)
        else:
            yield name if url_scheme(name) else Path(name)


def _photos_in(folder: str, *, recursive: bool) -> Iterator[Path]:
    from ..data.photo_files import describe_skipped, image_suffixes, walk_images

    photos, skipped = 0, Counter[str]()
    try:
        for path, is_photo in walk_images(folder, recursive=recursive):
            if is_photo:
                photos += 1
                yield path
            else:
                skipped[path.suffix.lower()] += 1
    except OSError as error:
        raise click.ClickException(f"{folder}: cannot be read ({error.strerror})") from None
    if not photos:
        more = "" if recursive else "; --recursive looks into the folders in it"
        raise click.UsageError(f"{folder}: there is no picture in this folder ({', '.join(image_suffixes())}){more}")
    if skipped:
        click.echo(f"{folder}: {describe_skipped(skipped)}", err=True)


def picture_targets(out: str | None, photos: list[Path | str], shown: str = "poses") -> list[Path | None]:
    """The picture to write for each photo; no two have the same name.

    Args:
        out: ``--out``: a picture for one photo, else a folder; None for no pictures.
        photos: What is drawn on.
        shown: What is drawn; stands in the names.

    Raises:
        UsageError: It is neither.
    """
    if out is None:
        return [None] * len(photos)
    folder = Path(out)
    if folder.suffix and len(photos) == 1 and not folder.is_dir() and not out.endswith(("/", os.sep)):
        if folder.suffix.lower() not in _WRITTEN:
            raise click.UsageError(f"--out: a picture's name ends in {', '.join(_WRITTEN)}, got {out!r}")
        return [folder]
    if folder.exists() and not folder.is_dir():
        raise click.UsageError(
            f"--out: {out} is a file; expected a folder, or the name of a picture for a single photo"
        )
    copies: dict[str, int] = {}
    taken: set[str] = set()
    targets: list[Path | None] = []
    for photo in map(Path, photos):
        suffix = photo.suffix if photo.suffix.lower() in _WRITTEN else ".jpg"
        name = f"{photo.stem}_{shown}{suffix}"
        key = name
        while name in taken:  # photos of the same name from two folders
            copies[key] = copies.get(key, 1) + 1
            name = f"{photo.stem}_{shown}_{copies[key]}{suffix}"
        taken.add(name)
        targets.append(folder / name)
    return targets


def identity(path: Path) -> tuple[int, int] | Path:
    """The same for two names of one file."""
    try:
        status = path.stat()
    except OSError:  # there is none yet
        return path.absolute()
    return status.st_dev, status.st_ino


def check_writable(target: Path, in_use: set[tuple[int, int] | Path], made: Path | None) -> None:
    """Say before the work what would fail after it; the folder `made` need not be there yet."""
    if identity(target) in in_use:
        raise click.ClickException(f"{target}: is read or written already; expected a file of its own")
    if target.is_dir():
        raise click.ClickException(f"{target}: is a folder, expected a file name")
    folder = target.parent
    while folder == made and not folder.exists() and folder.parent != folder:
        made = folder = folder.parent
    if not folder.is_dir():
        raise click.ClickException(f"{target}: there is no folder {folder}")
    if not os.access(folder, os.W_OK):
        raise click.ClickException(f"{target}: folder {folder} is not writable")


def save(target: Path, write: Callable[[], None]) -> None:
    """Write a file, in a folder that is made if need be; a failure names it."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        write()
    except OSError as error:  # its own file name is that of the temporary file
        raise click.ClickException(f"{target}: cannot be written ({error.strerror or error})") from error
