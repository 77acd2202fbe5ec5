"""What all writers of poses have in common."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from ...files import printable
from ...skeletons import Skeleton
from ..results import Poses
from ..urls import url_scheme

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

__all__ = ["FileWriter", "PosesWriter", "source_name", "where"]

_NO_NAME = re.compile(r'[\\/:*?"<>|]')  # what no file's name may hold on one system or another


class PosesWriter(Protocol):
    """Takes the poses of one frame or photo after the other; a context manager, which closes it in any case."""

    def write(self, poses: Poses) -> None:
        """Write the people of the next frame or photo."""

    def close(self) -> None:
        """Finish what is written; to be called in the end, also after an exception or Ctrl-C."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class FileWriter:
    """Base of the writers in this folder: checks what it is given.

    Args:
        path: The file, or the folder.
        skeleton: What the keypoints of all poses are.
    """

    def __init__(self, path: str | os.PathLike[str], skeleton: Skeleton) -> None:
        self.path = Path(path)
        self.skeleton = skeleton

    def write(self, poses: Poses) -> None:
        """Write the people of the next frame or photo.

        Args:
            poses: They.

        Raises:
            OSError: It cannot be written (the disk is full, say); ``filename`` says what. What was written before
                stays.
            ValueError: The poses have other keypoints than the writer was opened for, or one is not finite.
        """
        if poses.skeleton.keypoints != self.skeleton.keypoints:
            raise ValueError(
                f"{self.path}: {where(poses)} has the keypoints of {poses.skeleton.name}, "
                f"expected those of {self.skeleton.name}"
            )
        if not (np.isfinite(poses.keypoints).all() and np.isfinite(poses.scores).all()):
            raise ValueError(f"{self.path}: {where(poses)} has keypoints or scores that are not finite")
        self._write(poses)

    def _write(self, poses: Poses) -> None:
        raise NotImplementedError

    def close(self) -> None:
        """Finish what is written; further calls do nothing.

        Raises:
            OSError: It cannot be finished; ``filename`` says what.
        """
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def source_name(poses: Poses) -> str:
    """The name of a video or photo without folders and ending, as a part of a file's name; empty where it has none."""
    if poses.path is None:
        return ""
    name = os.fspath(poses.path)
    if url_scheme(name):
        name = name.split("?")[0].split("#")[0]  # what follows may be a key
    return _NO_NAME.sub("_", printable(Path(name).stem))


def where(poses: Poses) -> str:
    """What errors call a frame or a photo."""
    if poses.frame is not None:
        return f"frame {poses.frame}"
    return "a photo" if poses.path is None else os.fspath(poses.path)
