"""Parquet: a row a person, for tables of very many people."""

from __future__ import annotations

import contextlib
import json
import os
from typing import Any

from ..._version import __version__
from ...files import printable
from ...skeletons import Skeleton
from ...streams import WholeFile
from ..results import Poses
from .writer import FileWriter

__all__ = ["ROWS", "ParquetWriter"]

ROWS = 10_000
"""Rows of a row group: what is held in memory until it is written."""

_FOOTER = 1 << 16  # bytes that surely hold what a file's end says of one row group, and the file's head


class ParquetWriter(FileWriter):
    """Writes a row a person; a frame or photo of nobody has one row whose ``person`` is null, so that none is lost.

    Keypoints are lists of K numbers: one row is one pose, ``numpy.stack(table["x"])`` is [N, K], and a table of a
    million photos has no 17 million rows that repeat their file's name. The columns:

    ``file``, ``frame``, ``time``, ``height``, ``width``, ``error``, ``dropped`` of the frame or photo; ``person``,
    its place in it; ``track_id``, ``score``, ``box_score``, ``box`` (x1, y1, x2, y2); ``x``, ``y``,
    ``keypoint_scores``, ``visibility``.

    The file's metadata has ``fastpose``: a JSON text with ``version`` (of this package), ``skeleton`` (as
    `Skeleton.to_dict` gives it) and ``fps``. The file has its name once it is closed: a process that is killed leaves
    none. Where the disk is full, the row groups before make a whole file.

    Args:
        path: The file; an old one is replaced.
        skeleton: What the keypoints of all poses are.
        fps: Frames per second of the source.

    Raises:
        ImportError: The package ``pyarrow`` is not installed.
        OSError: The file cannot be made.
    """

    def __init__(self, path: str | os.PathLike[str], skeleton: Skeleton, fps: float | None = None) -> None:
        super().__init__(path, skeleton)
        try:
            import pyarrow
            import pyarrow.parquet
        except ImportError as error:
            raise ImportError(f"Parquet needs the package pyarrow (pip install pyarrow): {error}") from error
        about = {"version": __version__, "skeleton": skeleton.to_dict(), "fps": fps}
        numbers, names = pyarrow.list_(pyarrow.float32()), pyarrow.list_(pyarrow.string())
        kinds = {
            "file": pyarrow.string(),
            "frame": pyarrow.int64(),
            "time": pyarrow.float64(),
            "height": pyarrow.int32(),
            "width": pyarrow.int32(),
            "error": pyarrow.string(),
            "dropped": names,
            "person": pyarrow.int32(),
            "track_id": pyarrow.int64(),
            "score": pyarrow.float32(),
            "box_score": pyarrow.float32(),
            "box": numbers,
            "x": numbers,
            "y": numbers,
            "keypoint_scores": numbers,
            "visibility": numbers,
        }
        self._schema = pyarrow.schema(list(kinds.items()), metadata={"fastpose": json.dumps(about)})
        self._held: list[dict[str, list[Any]]] = []  # columns of each frame: Ctrl-C leaves no frame by halves
        self._rows = 0
        self._groups = 0
        self._file = WholeFile(path)
        try:
            self._file.reserve(_FOOTER)
            # Arrow opens the file itself: no Python runs while it writes, and Ctrl-C never meets half a row group.
            self._sink = pyarrow.OSFile(str(self._file.temporary), "wb")
            self._writer = pyarrow.parquet.ParquetWriter(self._sink, self._schema, compression="zstd")
        except BaseException:
            self._file.discard()
            raise
        self._closed = False

    def _write(self, poses: Poses) -> None:
        count = len(poses)
        height, width = map(int, poses.image_size)
        photo = {
            "file": None if poses.path is None else printable(os.fspath(poses.path)),
            "frame": poses.frame,
            "time": poses.time,
            "height": height,
            "width": width,
            "error": poses.error,
            "dropped": list(poses.dropped),
        }
        people: dict[str, Any] = {
            "person": range(count),
            "track_id": poses.track_ids,
            "score": poses.person_scores,
            "box_score": poses.box_scores,
            "box": poses.boxes,
            "x": poses.keypoints[..., 0],
            "y": poses.keypoints[..., 1],
            "keypoint_scores": poses.scores,
            "visibility": poses.visibility,
        }
        rows = max(count, 1)
        columns = {name: [value] * rows for name, value in photo.items()}
        for name, values in people.items():
            columns[name] = list(values) if count and values is not None else [None] * rows
        self._held.append(columns)
        self._rows += rows
        if self._rows >= ROWS:
            self._flush()

    def _flush(self) -> None:
        """Write a row group, if it and the file's end will fit."""
        import pyarrow

        table = pyarrow.table(
            {name: [value for frame in self._held for value in frame[name]] for name in self._schema.names},
            schema=self._schema,
        )
        self._file.reserve(self._sink.tell() + 2 * table.nbytes + _FOOTER * (2 + self._groups))
        self._held, self._rows, self._groups = [], 0, self._groups + 1
        self._writer.write_table(table)

    def close(self) -> None:
        """Write what is left and give the file its name; further calls do nothing.

        Raises:
            OSError: Something does not fit. The file is there, with the row groups that did, if its end could be
                written.
        """
        if self._closed:
            return
        self._closed = True
        try:
            try:
                if self._held:
                    self._flush()
            finally:
                self._writer.close()
                size = self._sink.tell()
                self._sink.close()
                self._file.finish(size)
        except BaseException:
            with contextlib.suppress(Exception):
                self._sink.close()
            self._file.discard()
            raise
