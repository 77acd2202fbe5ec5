"""JSON Lines: a line a frame, which `Poses.from_dict` reads back."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator

from ...files import open_file, parse_json
from ...skeletons import Skeleton
from ...streams import StreamFile
from ..results import Poses, json_line
from .writer import FileWriter

__all__ = ["JsonLinesWriter", "read_jsonl"]

_MAX_FILE = 1 << 50
_MAX_LINE = 1 << 28  # bytes: a frame with a hundred thousand people


class JsonLinesWriter(FileWriter):
    """Writes what `Poses.to_dict` gives, a line a frame, at once.

    A process that is killed loses at most the line that it writes.

    Args:
        path: The file; an old one is replaced.
        skeleton: What the keypoints of all poses are.

    Raises:
        OSError: The file cannot be opened.
    """

    def __init__(self, path: str | os.PathLike[str], skeleton: Skeleton) -> None:
        super().__init__(path, skeleton)
        self._file = StreamFile(path)

    def _write(self, poses: Poses) -> None:
        self._file.append(f"{json_line(poses.to_dict())}\n".encode())

    def close(self) -> None:
        """Close the file; all lines are written already."""
        self._file.close()


def read_jsonl(file: str | os.PathLike[str]) -> Iterator[Poses]:
    """The frames of a file of JSON Lines, one after the other: memory does not grow with the file.

    Args:
        file: What `open_writer` wrote.

    Yields:
        `Poses` in the file's order. Where the last line is cut, as after a kill, they end before it and a warning says
        so.

    Raises:
        OSError: The file cannot be read.
        ValueError: A line is none of such a file; the message has the file's name and the line's number.
    """
    with open_file(file, limit=_MAX_FILE) as lines:
        number = 0
        while line := lines.readline(_MAX_LINE):
            number += 1
            place = f"{os.fspath(file)}: line {number}"
            whole = line.endswith(b"\n")
            if not whole and len(line) == _MAX_LINE:
                raise ValueError(f"{place} is too long, expected at most {_MAX_LINE} bytes")
            if not line.strip():
                continue
            try:
                entry = parse_json(line, place)
            except ValueError:
                if whole:
                    raise
                warnings.warn(f"{place} is cut short: the frames before it were read", stacklevel=2)
                return
            yield Poses.from_dict(entry, name=place)
