"""Frames to be written."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import numpy as np
import pytest

from fastpose.predict import Poses, open_writer
from fastpose.skeletons import COCO17, Skeleton


@pytest.fixture(scope="session")
def make_frame() -> Callable[..., Poses]:
    """A function that makes a frame: its number, its people's tracks (or their number), what is to be different."""

    def make(number: int, tracks: list[int] | int = 2, skeleton: Skeleton = COCO17, **changes: object) -> Poses:
        count = tracks if isinstance(tracks, int) else len(tracks)
        rng = np.random.default_rng(number)
        corner = rng.uniform(0, 50, (count, 2))
        fields = {
            "keypoints": rng.uniform(0, 100, (count, skeleton.num_keypoints, 2)).astype(np.float32),
            "scores": rng.uniform(0, 1, (count, skeleton.num_keypoints)).astype(np.float32),
            "boxes": np.concatenate([corner, corner + 40], 1).astype(np.float32),
            "box_scores": rng.uniform(0.5, 1, count).astype(np.float32),
            "image_size": (120, 160),
            "skeleton": skeleton,
            "track_ids": None if isinstance(tracks, int) else np.array(tracks, np.int64),
            "path": Path("clip.mp4"),
            "frame": number,
            "time": number / 25,
        }
        return Poses(**{**fields, **changes})

    return make


@pytest.fixture(scope="session")
def write_all() -> Callable[..., None]:
    """A function that writes frames: the file, its form or None, the frames."""

    def write(file: Path, form: str | None, frames: Iterable[Poses]) -> None:
        with open_writer(file, form, skeleton=COCO17) as writer:
            for frame in frames:
                writer.write(frame)

    return write


@pytest.fixture
def file_limit() -> Callable[[int], AbstractContextManager[None]]:
    """A context in which no file grows beyond so many bytes, as on a full disk; not even pytest's own output."""
    resource = pytest.importorskip("resource")

    @contextmanager
    def limited(size: int) -> Iterator[None]:
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)

    return limited
