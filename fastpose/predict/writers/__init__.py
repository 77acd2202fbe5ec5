"""Files of poses, a frame or photo after the other: one module a format, and `open_writer`."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from ...skeletons import Skeleton
from .jsonl import JsonLinesWriter, read_jsonl
from .long_csv import CsvWriter
from .openpose import OpenPoseWriter
from .parquet import ParquetWriter
from .posetrack18 import PoseTrack18Writer
from .trc import TrcWriter
from .writer import FileWriter, PosesWriter

__all__ = ["FORMS", "PosesWriter", "form_of", "open_writer", "read_jsonl"]

FORMS = {
    "jsonl": (".jsonl", ".ndjson"),
    "csv": (".csv",),
    "parquet": (".parquet",),
    "trc": (".trc",),
    "openpose": ("FOLDER/",),
    "posetrack18": (),
}
"""The formats, and the endings of names that tell them: ``.json`` may be one of several and tells none."""

_WRITERS: dict[str, Callable[[Path, Skeleton, float | None], FileWriter]] = {
    "jsonl": lambda path, skeleton, _: JsonLinesWriter(path, skeleton),
    "csv": lambda path, skeleton, _: CsvWriter(path, skeleton),
    "parquet": ParquetWriter,
    "trc": TrcWriter,
    "openpose": lambda path, skeleton, _: OpenPoseWriter(path, skeleton),
    "posetrack18": lambda path, skeleton, _: PoseTrack18Writer(path, skeleton),
}


def open_writer(
    file: str | os.PathLike[str],
    form: str | None = None,
    *,
    skeleton: Skeleton,
    fps: float | None = None,
) -> PosesWriter:
    """Open a file for poses.

    Args:
        file: The file, for ``openpose`` the folder; folders to it are made. An old file is replaced.
        form: One of `FORMS`; by default what the name ends in tells. A folder that is there, or a name that ends in a
            slash, is ``openpose``.
        skeleton: What the keypoints of all poses are.
        fps: Frames per second of the source, for the formats that state it: ``trc``, ``parquet``.

    Returns:
        The writer, a context manager: leaving it finishes the file, after an exception and Ctrl-C too.

    Raises:
        ImportError: ``parquet`` is asked for, and pyarrow is not installed.
        OSError: The file cannot be opened.
        ValueError: The name tells no format, there is no such, or it has none of the skeleton's keypoints.

    Example:
        >>> import tempfile
        >>> from fastpose.skeletons import COCO17
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with open_writer(f"{folder}/a.jsonl", skeleton=COCO17) as writer:
        ...         writer.path.name
        'a.jsonl'
    """
    form = form_of(file) if form is None else form
    if form not in FORMS:
        raise ValueError(f"form: expected one of {', '.join(FORMS)}, got {form!r}")
    path = Path(file)
    path.parent.mkdir(parents=True, exist_ok=True)
    return _WRITERS[form](path, skeleton, fps)


def form_of(file: str | os.PathLike[str]) -> str:
    """The format that a file's name tells.

    Args:
        file: The name.

    Raises:
        ValueError: It tells none; the message lists what does.
    """
    if os.fspath(file).endswith(("/", os.sep)) or Path(file).is_dir():
        return "openpose"
    suffix = Path(file).suffix.lower()
    for form, suffixes in FORMS.items():
        if suffix in suffixes:
            return form
    known = ", ".join(f"{form} ({' '.join(suffixes) or 'told by no name'})" for form, suffixes in FORMS.items())
    raise ValueError(f"{os.fspath(file)}: the name tells no format, expected {known}")
