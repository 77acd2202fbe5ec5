"""Rows of a CSV file, written so that a full disk costs rows and nothing else."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from ..files import atomic_write, read_file
from ..streams import StreamFile

__all__ = ["LogFile"]


class LogFile:
    """A CSV file with one column as the number of a step.

    A row that cannot be written is left out as a whole, and the next one is tried again; ``say`` gets a line about the
    first.

    Args:
        path: The file; None writes nothing.
        columns: Its columns.
        step: Rows of an earlier run that are later than this are taken out.
        say: Tells people.

    Raises:
        OSError: The file cannot be opened.
    """

    def __init__(self, path: Path | None, columns: Sequence[str], step: int, say: Callable[[str], None]) -> None:
        self._path, self._columns, self._say = path, columns, say
        self._lost = 0
        self._file: StreamFile | None = None
        if path is None:
            return
        kept: list[dict[str, str]] = []
        if step and path.exists():
            # A power cut may have left anything at its end.
            lines = read_file(path).decode(errors="replace").replace("\0", "").splitlines()
            rows = [row for row in csv.DictReader(lines) if (row.get("step") or "").isdecimal()]
            kept = [row for row in rows if int(row["step"]) <= step]
        content = self._text(dict(zip(columns, columns, strict=True))) + "".join(map(self._text, kept))
        atomic_write(path, content.encode())
        self._file = StreamFile(path, keep=True)

    def write(self, row: Mapping[str, Any]) -> None:
        """Add a row."""
        if self._file is None:
            return
        try:
            self._file.append(self._text(row).encode())
        except OSError as error:
            if not self._lost:
                self._say(f"{self._path}: cannot be written ({error.strerror}); goes on without these rows")
            self._lost += 1

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            with suppress(OSError):
                self._file.close()

    def _text(self, row: Mapping[str, Any]) -> str:
        text = io.StringIO()
        csv.DictWriter(text, self._columns, restval="", extrasaction="ignore").writerow(row)
        return text.getvalue()
