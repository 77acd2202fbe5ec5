"""OpenPose's folder: a JSON file a frame, named as OpenPose names it."""

from __future__ import annotations

import contextlib
import json
import os
import re

from ...skeletons import Skeleton
from ...streams import StreamFile
from ..results import Poses, openpose_places
from .writer import FileWriter, source_name

__all__ = ["OpenPoseWriter"]

_END = "_keypoints.json"


class OpenPoseWriter(FileWriter):
    """Writes what `Poses.to_openpose` gives.

    The files are called ``NAME_000000000012_keypoints.json`` for a frame, ``NAME_keypoints.json`` for a photo. NAME is
    that of the video or photo without its ending; that of the folder where there is none, as of a camera. Photos of the
    same name from two folders are numbered. Frames of a video of the same name that an earlier run has left in the
    folder are removed, so that those who read all of its files do not read two runs.

    Args:
        path: The folder; made if need be.
        skeleton: What the keypoints of all poses are.

    Raises:
        OSError: The folder cannot be made.
        ValueError: The skeleton has none of OpenPose's keypoints.
    """

    def __init__(self, path: str | os.PathLike[str], skeleton: Skeleton) -> None:
        super().__init__(path, skeleton)
        openpose_places(skeleton)  # says what is wrong before the work, not after it
        self.path.mkdir(parents=True, exist_ok=True)
        self._videos: set[str] = set()
        self._photos: dict[str, int] = {}  # how many of each name there were

    def _write(self, poses: Poses) -> None:
        name = source_name(poses) or self.path.absolute().name
        if poses.frame is None:
            times = self._photos[name] = self._photos.get(name, 0) + 1
            name += _END if times == 1 else f"_{times}{_END}"
        else:
            if name not in self._videos:
                self._videos.add(name)
                self._remove_frames(name)
            name += f"_{poses.frame:012d}{_END}"
        file = StreamFile(self.path / name)
        try:
            file.append(f"{json.dumps(poses.to_openpose())}\n".encode())
        except BaseException:
            with contextlib.suppress(OSError):  # the first error is the one to tell
                os.unlink(file.path)
            raise
        finally:
            file.close()

    def _remove_frames(self, name: str) -> None:
        frame = re.compile(rf"{re.escape(name)}_\d{{12}}{re.escape(_END)}")
        for old in os.listdir(self.path):
            if frame.fullmatch(old):
                (self.path / old).unlink(missing_ok=True)

    def close(self) -> None:
        """Nothing is left to do: every frame is a file."""
