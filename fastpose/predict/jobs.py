"""Photos on their way through a predictor: their people in batches, their results in order."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from ..detection import Detections
from ..inference import Estimates
from ..skeletons import Skeleton
from .people import People
from .results import Poses

__all__ = ["Job", "Jobs", "Part"]

Array = npt.NDArray[Any]

_EMPTY_IN_A_ROW = 16  # frames in which nobody is seen, after which nobody new is waited for


@dataclass
class Job:
    """One photo on its way.

    Attributes:
        pixels: On the device where crops are made; let go of once the last crop is under way.
        poses: What is known of the photo before its people's keypoints are.
        detections: Its people.
        bytes: Of its pixels, as long as they are held, here or in its poses.
        started: When the photo was there.
    """

    pixels: torch.Tensor | None
    poses: Poses
    detections: Detections
    bytes: int
    started: float
    begun: int = 0  # people who are under way
    done: int = 0  # people whose results have been read

    @classmethod
    def of(cls, people: People, skeleton: Skeleton, *, tells_visibility: bool) -> Job:
        """A photo whose people's keypoints are to be found."""
        detections = people.detections
        shape = (len(detections), skeleton.num_keypoints)
        poses = Poses(
            keypoints=np.empty((*shape, 2), np.float32),
            scores=np.empty(shape, np.float32),
            boxes=detections.boxes,
            box_scores=np.ones(len(detections), np.float32) if detections.scores is None else detections.scores,
            image_size=people.image_size,
            skeleton=skeleton,
            track_ids=detections.track_ids,
            milliseconds=people.milliseconds,
            path=people.path,
            visibility=np.empty(shape, np.float32) if tells_visibility else None,
            dropped=people.dropped,
            error=people.error,
            image=people.image,
        )
        return cls(people.pixels, poses, detections, people.bytes, people.started)

    @property
    def is_done(self) -> bool:
        """Whether everybody's results are there."""
        return self.done == len(self.detections)

    def take(self, rows: slice, estimates: Estimates, place: slice) -> None:
        """Take in the results of some people, which stand at a place in those of their batch."""
        poses, times = self.poses, dict(self.poses.milliseconds)
        poses.keypoints[rows], poses.scores[rows] = estimates.keypoints[place], estimates.scores[place]
        if poses.visibility is not None and estimates.visibility is not None:
            poses.visibility[rows] = estimates.visibility[place]
        share = (place.stop - place.start) / len(estimates.keypoints)
        for stage, spent in estimates.milliseconds.items():
            times[stage] = times.get(stage, 0.0) + spent * share
        self.poses = replace(poses, milliseconds=times)
        self.done += place.stop - place.start


Part = tuple[Job, slice]
"""Some people of a photo: the rows of its detections."""


class Jobs:
    """Photos in the order in which their results are to come.

    Attributes:
        people: How many are not under way yet.
        bytes: Of the photos that are held, for them or in their results.
    """

    def __init__(self) -> None:
        self.people = self.bytes = 0
        self._order: deque[Job] = deque()
        self._waiting: deque[Job] = deque()
        self._empty = 0

    def add(self, job: Job) -> None:
        """A further photo."""
        self._order.append(job)
        self.bytes += job.bytes
        if job.is_done:
            self._empty += 1
            return
        self._empty = 0
        self._waiting.append(job)
        self.people += len(job.detections)

    def is_late(self, longest: float | None) -> bool:
        """Whether the first who waits should not wait for others, who may never come.

        Args:
            longest: Seconds that one waits at most; None where all photos are there anyway.
        """
        if longest is None or not self._waiting:
            return False
        return self._empty >= _EMPTY_IN_A_ROW or time.perf_counter() - self._waiting[0].started >= longest

    def take(self, most: int) -> list[Part]:
        """The next people, at most so many: which rows of which photos."""
        parts: list[Part] = []
        while most and self._waiting:
            job = self._waiting[0]
            count = min(most, len(job.detections) - job.begun)
            parts.append((job, slice(job.begun, job.begun + count)))
            job.begun += count
            self.people -= count
            most -= count
            if job.begun == len(job.detections):
                self._waiting.popleft()
        return parts

    def release(self, parts: list[Part]) -> None:
        """Let go of the photos of which everybody is under way now."""
        for job, _ in parts:
            if job.begun == len(job.detections):
                job.pixels = None
                if job.poses.image is None:
                    self._forget(job)

    def finished(self) -> Iterator[Job]:
        """The photos whose turn it is, and whose results are there."""
        while self._order and self._order[0].is_done:
            job = self._order.popleft()
            self._forget(job)
            yield job

    def _forget(self, job: Job) -> None:
        self.bytes -= job.bytes
        job.bytes = 0
