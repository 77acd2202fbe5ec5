"""TRC, the marker files of OpenSim: one a track, as such a file is of one subject."""

from __future__ import annotations

import os
import re
from array import array
from collections import OrderedDict

import numpy as np
import numpy.typing as npt

from ...files import printable
from ...skeletons import Skeleton
from ...streams import StreamFile
from ..results import Poses
from .writer import FileWriter, where

__all__ = ["MIN_SCORE", "TrcWriter"]

MIN_SCORE = 0.2
"""Keypoints with a lower score are written as missing: the format has no column for scores."""

_OPEN = 128  # files at once; systems allow some hundred
_KEYS = "DataRate\tCameraRate\tNumFrames\tNumMarkers\tUnits\tOrigDataRate\tOrigDataStartFrame\tOrigNumFrames"
_DIGITS = 90  # room for the numbers that change while the file grows


class TrcWriter(FileWriter):
    """Writes ``NAME_track3.trc`` for track 3; ``NAME.trc`` for people without tracks, of whom a frame has one at most.

    A marker is a keypoint, at (x, height - 1 - y, 0): OpenSim's y points upwards. OpenSim knows no pixels and refuses
    units that it does not know, so one pixel is written as one millimetre; scale what you load. A file has a row for
    each frame from the track's first to its last; markers that are missing there, and those whose score is below
    `MIN_SCORE`, are NaN. Frames count from 1, times are those of the video. People of no track are left out.

    The files are streams: at any moment each is a whole file of the frames so far. Of all frames 16 bytes stay in
    memory. Files ``NAME_track*.trc`` of an earlier run are removed.

    Args:
        path: NAME.trc.
        skeleton: What the keypoints of all poses are.
        fps: Frames per second; where not given, as many as the times of the frames say.

    Raises:
        OSError: Files of an earlier run cannot be removed.
    """

    def __init__(self, path: str | os.PathLike[str], skeleton: Skeleton, fps: float | None = None) -> None:
        super().__init__(path, skeleton)
        self._fps = fps
        self._markers = [re.sub(r"\s+", "_", printable(name)) for name in skeleton.keypoints]
        self._frames, self._times = array("q"), array("d")
        self._tracks: dict[int | None, _Track] = {}
        self._open: OrderedDict[int | None, StreamFile] = OrderedDict()  # the one used last is the last
        old = re.compile(rf"{re.escape(self.path.stem)}_track\d+{re.escape(self.path.suffix)}")
        for name in os.listdir(self.path.parent):
            if old.fullmatch(name) or name == self.path.name:
                (self.path.parent / name).unlink(missing_ok=True)

    def _write(self, poses: Poses) -> None:
        if poses.frame is None or (poses.time is None and self._fps is None):
            raise ValueError(f"{self.path}: {where(poses)} has no frame or no time, as TRC needs them")
        if poses.track_ids is None and len(poses) > 1:
            raise ValueError(f"{self.path}: {where(poses)} has {len(poses)} people and no track_ids, as TRC needs them")
        self._frames.append(poses.frame)
        self._times.append(poses.frame / self._fps if poses.time is None and self._fps else float(poses.time or 0.0))
        known = np.where(poses.scores[..., None] >= MIN_SCORE, poses.keypoints, np.float32(np.nan))
        known[..., 1] = poses.image_size[0] - 1 - known[..., 1]
        tracks = [None] * len(poses) if poses.track_ids is None else poses.track_ids.tolist()
        for track, points in zip(tracks, known, strict=True):
            if track is None or track >= 0:
                self._add(track, points)

    def _add(self, track: int | None, points: npt.NDArray[np.float32]) -> None:
        now = len(self._frames) - 1
        state = self._tracks.setdefault(track, _Track(first=now))
        file = self._file(track)
        missing = "\t".join(["NaN"] * (3 * len(points)))
        cells = ("NaN\tNaN\tNaN" if x != x else f"{x:.2f}\t{y:.2f}\t0" for x, y in points.tolist())
        rows = [self._row(place, missing) for place in range(state.first + state.rows, now)]
        rows.append(self._row(now, "\t".join(cells)))
        head = b"" if file.size else self._head(file.path.name, state)
        file.append(head + "".join(rows).encode())
        state.rows += len(rows)
        file.replace_start(self._head(file.path.name, state))

    def _row(self, place: int, cells: str) -> str:
        return f"{self._frames[place] + 1}\t{self._times[place]:.6f}\t{cells}\n"

    def _file(self, track: int | None) -> StreamFile:
        """A track's file, which is opened again if too many others had to be open."""
        if track in self._open:
            self._open.move_to_end(track)
            return self._open[track]
        if len(self._open) >= _OPEN:
            self._open.popitem(last=False)[1].close()
        name = self.path.name if track is None else f"{self.path.stem}_track{track}{self.path.suffix}"
        file = self._open[track] = StreamFile(self.path.with_name(name), keep=True)
        return file

    def _head(self, name: str, state: _Track) -> bytes:
        """The first six lines, always as long: blanks after the file's name give way to digits."""
        count, duration = len(self._times), self._times[-1] - self._times[0]
        rate = self._fps or ((count - 1) / duration if duration > 0 else 1.0)
        start, number = self._frames[state.first] + 1, len(self._markers)
        numbers = f"{rate:.6g}\t{rate:.6g}\t{state.rows}\t{number}\tmm\t{rate:.6g}\t{start}\t{state.rows}"
        return (
            f"PathFileType\t4\t(X/Y/Z)\t{printable(name)}{' ' * (_DIGITS - len(numbers))}\n"
            + f"{_KEYS}\n{numbers}\nFrame#\tTime\t"
            + "\t\t\t".join(self._markers)
            + "\t\t\n\t\t"
            + "\t".join(f"X{n}\tY{n}\tZ{n}" for n in range(1, 1 + number))
            + "\n\n"
        ).encode()

    def close(self) -> None:
        """Close the files; all rows are written already."""
        while self._open:
            self._open.popitem()[1].close()


class _Track:
    """What is written of a track: from the frame at which place on, and how many rows."""

    def __init__(self, first: int) -> None:
        self.first = first
        self.rows = 0
