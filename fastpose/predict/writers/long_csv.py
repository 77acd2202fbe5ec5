"""CSV in long form: a row a keypoint, as pandas and R group and pivot it."""

from __future__ import annotations

import csv
import io
import os
from typing import Any

from ...files import printable
from ...skeletons import Skeleton
from ...streams import StreamFile
from ..results import Poses, rounded
from .writer import FileWriter

__all__ = ["CSV_COLUMNS", "CsvWriter"]

CSV_COLUMNS = ("file", "frame", "time", "person", "track_id", "keypoint", "x", "y", "score", "visibility")
"""The header; always all of them. What is not known is an empty cell, which pandas reads as NaN."""


class CsvWriter(FileWriter):
    """Writes a row a keypoint: the rows of a frame at once, so that a kill or a full disk leaves whole frames.

    Args:
        path: The file; an old one is replaced.
        skeleton: What the keypoints of all poses are.

    Raises:
        OSError: The file cannot be opened, or not even the header fits.
    """

    def __init__(self, path: str | os.PathLike[str], skeleton: Skeleton) -> None:
        super().__init__(path, skeleton)
        self._file = StreamFile(path)
        self._file.append(_text([CSV_COLUMNS]))

    def _write(self, poses: Poses) -> None:
        photo = (
            "" if poses.path is None else printable(os.fspath(poses.path)),
            "" if poses.frame is None else poses.frame,
            "" if poses.time is None else round(poses.time, 6),
        )
        tracks: list[Any] = [""] * len(poses) if poses.track_ids is None else poses.track_ids.tolist()
        seen: list[Any] = [[""] * len(self.skeleton.keypoints)] * len(poses)
        if poses.visibility is not None:
            seen = rounded(poses.visibility, 4).tolist()
        points, scores = rounded(poses.keypoints, 2).tolist(), rounded(poses.scores, 4).tolist()
        rows = [
            (*photo, person, track, *row)
            for person, (track, *columns) in enumerate(zip(tracks, points, scores, seen, strict=True))
            for row in (
                (name, x, y, score, visible)
                for name, (x, y), score, visible in zip(self.skeleton.keypoints, *columns, strict=True)
            )
        ]
        if rows:
            self._file.append(_text(rows))

    def close(self) -> None:
        """Close the file; all rows are written already."""
        self._file.close()


def _text(rows: Any) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode()
