"""Very many photos: their list cut into parts, each of which is done once, by any process, and is a file of its own.

Which photos are a part's follows from the list alone, and so does what is found in them: batches end where parts do.
Who did which part can therefore not be told from the results, and a run that ended early is continued, by any number of
processes, with the parts that are not there yet.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import torch
from torch import nn

from .._version import __version__
from ..files import atomic_write, parse_json, read_file
from ..streams import StreamFile, named, publish
from .results import json_line
from .urls import url_scheme
from .writers import open_writer

if TYPE_CHECKING:
    from ..skeletons import Skeleton
    from .people import People
    from .results import Poses

__all__ = ["LIST", "MANIFEST", "PartReader", "Parts", "begin_parts", "read_list", "weights_digest"]

# With an underscore those who read a folder of Parquet as one table pass over them.
LIST = "_photos.txt"
"""File in the folder of the parts: the photos, in order."""
MANIFEST = "_manifest.json"
"""File in the folder of the parts: of which photos they are, and how they were made."""

_LONGEST = 1 << 16  # bytes of a line; no path has as many, and hardly an address
_QUOTE = b'"'


# ---- the list


def read_list(lines: BinaryIO, name: str) -> Iterator[Path | str]:
    """The photos that a list names, one a line, as they are read.

    A line in double quotes is a JSON string, for names with line breaks in them. Empty lines are passed over.

    Args:
        lines: The list, open for reading.
        name: What errors call it.

    Yields:
        Files, and addresses on the web as text.

    Raises:
        ValueError: It is no such list; the message names the line.

    Example:
        >>> import io
        >>> list(read_list(io.BytesIO(b"a b.jpg" + bytes([10]) + b"http://host/c.png"), "list.txt"))
        [PosixPath('a b.jpg'), 'http://host/c.png']
    """
    for number, line in enumerate(iter(lambda: lines.readline(_LONGEST), b""), 1):
        if b"\0" in line or len(line) == _LONGEST:
            raise ValueError(f"{name}: line {number}: is no text; expected a photo's name a line, in UTF-8")
        if number == 1:
            line = line.removeprefix(b"\xef\xbb\xbf")
        line = line.removesuffix(b"\n").removesuffix(b"\r")
        if line:
            yield _photo(line, f"{name}: line {number}")


def _photo(line: bytes, where: str) -> Path | str:
    text = os.fsdecode(line)
    if line.startswith(_QUOTE):
        text = parse_json(text, where)
        if not isinstance(text, str):
            raise ValueError(f"{where}: expected a name, got {text!r}")
    return text if url_scheme(text) else Path(text)


def _line(photo: Path | str) -> bytes:
    name = os.fsencode(photo)
    if name.startswith(_QUOTE) or b"\n" in name or b"\r" in name:
        name = json.dumps(os.fspath(photo)).encode()
    return name + b"\n"


# ---- the parts


@dataclass(frozen=True)
class Parts:
    """The parts of a list of photos.

    Attributes:
        folder: Where they are written.
        form: jsonl or parquet.
        size: Photos in a part; the last one has what is left.
        photos: Number of photos in the list.
    """

    folder: Path
    form: str
    size: int
    photos: int

    def __len__(self) -> int:
        return -(-self.photos // self.size)

    def file(self, number: int) -> Path:
        """Where a part is written; names have the order of the parts."""
        digits = max(5, len(str(len(self) - 1)))
        return self.folder / f"part-{number:0{digits}d}.{self.form}"

    def photos_in(self, number: int) -> int:
        """Number of photos in a part."""
        return min(self.size, self.photos - number * self.size)

    def missing(self) -> list[int]:
        """The parts that are not there yet."""
        there = set(os.listdir(self.folder))
        return [number for number in range(len(self)) if self.file(number).name not in there]

    def write(self, number: int, results: Iterable[Poses | People], skeleton: Skeleton | None) -> None:
        """Write a part, which is there as a whole once its file has its name.

        Args:
            number: Of the part.
            results: What was found in its photos, in order.
            skeleton: That of poses; None for boxes alone.

        Raises:
            OSError: It cannot be written; the error names it.
        """
        target = self.file(number)
        temporary = target.with_name(f".{target.name}.tmp")
        try:
            with _open_part(temporary, self.form, skeleton) as writer:
                for result in results:
                    writer.write(result)
            publish(temporary, target)
        except BaseException as error:
            with contextlib.suppress(OSError):  # the first error is the one to tell
                temporary.unlink(missing_ok=True)
            if isinstance(error, OSError) and error.filename in (None, str(temporary)):
                raise named(error, target) from error
            raise


def _open_part(file: Path, form: str, skeleton: Skeleton | None) -> AbstractContextManager[Any]:
    return _BoxLines(file) if skeleton is None else open_writer(file, form, skeleton=skeleton)


class _BoxLines:
    """JSON Lines of boxes without keypoints."""

    def __init__(self, file: Path) -> None:
        self._file = StreamFile(file)

    def write(self, people: People) -> None:
        self._file.append(f"{json_line(people.to_dict())}\n".encode())

    def __enter__(self) -> _BoxLines:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


class PartReader:
    """Reads the photos of parts from the list in their folder; quickest where they are asked for in order."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        try:
            self._file = open(parts.folder / LIST, "rb")  # noqa: SIM115 - closed by __exit__
        except FileNotFoundError as error:
            raise ValueError(f"{error.filename}: is not there; expected a folder that all machines share") from None
        self._next = 0  # photo at which the file stands

    def __call__(self, number: int) -> list[Path | str]:
        """The photos of a part.

        Raises:
            ValueError: The list has been changed.
        """
        first, name = number * self._parts.size, str(self._parts.folder / LIST)
        if first < self._next:
            self._file.seek(0)
            self._next = 0
        for _ in islice(self._file, first - self._next):
            pass
        lines = list(islice(self._file, self._parts.photos_in(number)))
        self._next = first + len(lines)
        if len(lines) != self._parts.photos_in(number):
            raise ValueError(f"{name}: has fewer photos than when it was written ({self._parts.photos})")
        return [
            _photo(line.removesuffix(b"\n"), f"{name}: line {first + place}") for place, line in enumerate(lines, 1)
        ]

    def __enter__(self) -> PartReader:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


def begin_parts(
    folder: Path, photos: Iterable[Path | str], *, form: str, size: int, settings: Mapping[str, Any], resume: bool
) -> Parts:
    """Write the list of the photos into the folder of their parts, and how they are made; or see that it is the same.

    Args:
        folder: Made if need be.
        photos: The photos; no more of them are held than one.
        form: jsonl or parquet.
        size: Photos in a part.
        settings: Plain data: whatever the results depend on.
        resume: Continue the run in that folder, if there is one.

    Returns:
        The parts, of which some may be there.

    Raises:
        ValueError: The folder has a run and none is to be resumed; or it is one of other photos, or with other
            settings; or there is no photo.
        OSError: The folder cannot be written to.
    """
    folder.mkdir(parents=True, exist_ok=True)
    before = _read_manifest(folder)
    if before is not None and not resume:
        raise ValueError(f"{folder}: holds a run already; --resume continues it, another --out starts afresh")
    made = {"fastpose": __version__, "format": form, "part_size": size, **settings}
    if before is None:
        _refuse_parts(folder)
        photo_list = _write_list(folder / LIST, photos)
    else:
        _compare(folder, before["made"], made)  # before a million names are read
        photo_list = _Listed.of(photos, lambda line: None)
    if not photo_list.count:
        raise ValueError("photos: expected at least one, got a list without any")
    for unfinished in folder.glob(".*part-*.tmp"):  # of a run that was killed while it wrote
        unfinished.unlink()
    parts = Parts(folder, form, size, photo_list.count)
    manifest = {"version": 1, "photos": parts.photos, "parts": len(parts), **photo_list.described(), "made": made}
    if before is None:
        atomic_write(folder / MANIFEST, (json.dumps(manifest, indent=2) + "\n").encode())
    elif before["sha256"] != manifest["sha256"]:
        counts = f"{before['photos']} then, {parts.photos} now"
        raise ValueError(
            f"{folder}: the photos are not those that it was begun with ({counts}); {folder / LIST} names these"
        )
    elif before["relative_to"] != manifest["relative_to"]:
        raise ValueError(f"{folder}: the photos' names are relative to {before['relative_to']}; continue it from there")
    return parts


@dataclass
class _Listed:
    """What is known of a list that has been gone through."""

    count: int
    sha256: str
    relative: bool  # some names depend on where one stands

    @classmethod
    def of(cls, photos: Iterable[Path | str], write: Callable[[bytes], Any]) -> _Listed:
        count, digest, relative = 0, hashlib.sha256(), False
        for photo in photos:
            line = _line(photo)
            count += 1
            digest.update(line)
            relative = relative or (isinstance(photo, Path) and not photo.is_absolute())
            write(line)
        return cls(count, digest.hexdigest(), relative)

    def described(self) -> dict[str, str | None]:
        return {"sha256": self.sha256, "relative_to": os.getcwd() if self.relative else None}


def _write_list(target: Path, photos: Iterable[Path | str]) -> _Listed:
    temporary = target.with_name(f".{target.name}.tmp")
    try:
        with open(temporary, "wb") as file:
            photo_list = _Listed.of(photos, file.write)
        publish(temporary, target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return photo_list


def _read_manifest(folder: Path) -> dict[str, Any] | None:
    file = folder / MANIFEST
    try:
        manifest = parse_json(read_file(file), file)
    except FileNotFoundError:
        return None
    known = {"version", "photos", "parts", "sha256", "relative_to", "made"}
    if not isinstance(manifest, dict) or not known <= manifest.keys() or manifest["version"] != 1:
        raise ValueError(f"{file}: is none of FastPose, or of another version; expected a folder for the parts alone")
    return manifest


def _refuse_parts(folder: Path) -> None:
    """Parts of which nobody says what they are would be taken for ours."""
    for name in os.listdir(folder):
        if name.startswith("part-"):
            raise ValueError(f"{folder}: holds {name}, but no {MANIFEST}; expected a folder for new parts alone")


def _compare(folder: Path, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    now = json.loads(json.dumps(now))  # tuples are lists in a file
    for key in [*now, *before]:
        if before.get(key) != now.get(key):
            raise ValueError(
                f"{folder}: cannot be continued: {key} was {before.get(key)!r} and is {now.get(key)!r} now; "
                "expected the same, or another --out"
            )


def weights_digest(network: nn.Module) -> str:
    """SHA-256 of a network's parameters and buffers, in hexadecimal."""
    digest = hashlib.sha256()
    for name, value in network.state_dict().items():
        digest.update(f"{name} {value.dtype} {list(value.shape)}".encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()
