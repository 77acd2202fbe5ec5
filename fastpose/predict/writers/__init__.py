"""Files of poses, a frame or photo after the other: one module a format, and `open_writer`."""

from __future__ import annotations

import os
from pathlib import Path

from ...skeletons import Skeleton
from .jsonl import JsonLinesWriter, read_jsonl
from .long_csv import CsvWriter
from .writer import PosesWriter

__all__ = ["FORMS", "PosesWriter", "open_writer", "read_jsonl"]

FORMS = {
    "jsonl": (".jsonl", ".ndjson"),
    "csv": (".csv",),
}
"""The formats, and the endings of files' names that tell them."""


def open_writer(
    file: str | os.PathLike[str],
    form: str | None = None,
    *,
    skeleton: Skeleton,
    fps: float | None = None,
) -> PosesWriter:
    """Open a file for poses.

    Args:
        file: The file; folders to it are made. An old one is replaced.
        form: One of `FORMS`; by default what the file's name ends in tells.
        skeleton: What the keypoints of all poses are.
        fps: Frames per second of the source.

    Returns:
        The writer, a context manager.

    Raises:
        OSError: The file cannot be opened.
        ValueError: The name tells no format, or there is no such.
    """
    form = form_of(file) if form is None else form
    if form not in FORMS:
        raise ValueError(f"form: expected one of {', '.join(FORMS)}, got {form!r}")
    path = Path(file)
    path.parent.mkdir(parents=True, exist_ok=True)
    if form == "jsonl":
        return JsonLinesWriter(path, skeleton)
    return CsvWriter(path, skeleton)


def form_of(file: str | os.PathLike[str]) -> str:
    """The format that a file's name tells.

    Args:
        file: The name.

    Raises:
        ValueError: It tells none; the message lists what does.
    """
    suffix = Path(file).suffix.lower()
    for form, suffixes in FORMS.items():
        if suffix in suffixes:
            return form
    known = ", ".join(f"{form} ({' '.join(suffixes)})" for form, suffixes in FORMS.items())
    raise ValueError(f"{os.fspath(file)}: the name tells no format, expected {known}")
