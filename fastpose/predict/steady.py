"""The poses of a whole video, smoothed when the last one is known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from ..tracking import smooth_offline
from .results import Poses, join_people

__all__ = ["smooth_poses"]

Array = npt.NDArray[Any]


def smooth_poses(video: Sequence[Poses]) -> list[Poses]:
    """Every track smoothed over time without a lag, short gaps in it filled, exchanged sides put right.

    Args:
        video: The people of its frames, in order, with `track_ids` and `time`; whoever has no track stays as found.

    Returns:
        The same frames. People of a filled gap stand behind those that were found; their boxes lie between those before
        and after, and their `box_scores` are 0, as no detector saw them.

    Raises:
        ValueError: A frame has no `track_ids` or no `time`.
    """
    for number, poses in enumerate(video):
        if poses.track_ids is None or poses.time is None:
            raise ValueError(f"video: frame {number} has no track_ids or no time; expected people that were followed")
    steady = [_Frame.of(poses) for poses in video]
    for track, rows in _rows_of_tracks(video).items():
        _smooth_track(video, track, rows, steady)
    return [frame.poses() for frame in steady]


@dataclass
class _Frame:
    """A frame whose people are being changed."""

    found: Poses
    keypoints: Array
    scores: Array
    added: list[Poses] = field(default_factory=list)

    @classmethod
    def of(cls, poses: Poses) -> _Frame:
        return cls(poses, poses.keypoints.copy(), poses.scores.copy())

    def poses(self) -> Poses:
        people = [replace(self.found, keypoints=self.keypoints, scores=self.scores), *self.added]
        return people[0] if len(people) == 1 else join_people(people)


def _smooth_track(video: Sequence[Poses], track: int, rows: dict[int, int], steady: list[_Frame]) -> None:
    first, last = min(rows), max(rows)
    skeleton, span = video[first].skeleton, range(first, last + 1)
    there = np.array([number in rows for number in span])
    keypoints = np.full((len(span), skeleton.num_keypoints, 2), np.nan, np.float32)
    scores = np.zeros(keypoints.shape[:2], np.float32)
    boxes = np.full((len(span), 4), np.nan, np.float32)
    for number, row in rows.items():
        poses, place = video[number], number - first
        keypoints[place], scores[place], boxes[place] = poses.keypoints[row], poses.scores[row], poses.boxes[row]
    times = np.array([video[number].time for number in span], np.float64)
    for side in range(4):
        boxes[:, side] = np.interp(times, times[there], boxes[there, side])
    sizes = np.sqrt((boxes[:, 2:] - boxes[:, :2]).prod(1))
    keypoints, scores = smooth_offline(times, keypoints, scores, sizes, skeleton.flip_pair_indices)
    for place, number in enumerate(span):
        frame = steady[number]
        if number in rows:
            frame.keypoints[rows[number]], frame.scores[rows[number]] = keypoints[place], scores[place]
        elif (scores[place] > 0).any():
            frame.added.append(_person(video[number], track, keypoints[place], scores[place], boxes[place]))


def _person(poses: Poses, track: int, keypoints: Array, scores: Array, box: Array) -> Poses:
    """Somebody whom nobody found in this frame."""
    return replace(
        poses,
        keypoints=keypoints[None],
        scores=scores[None],
        boxes=box[None],
        box_scores=np.zeros(1, np.float32),
        track_ids=np.array([track], np.int64),
        visibility=None if poses.visibility is None else np.zeros((1, keypoints.shape[0]), np.float32),
    )


def _rows_of_tracks(video: Sequence[Poses]) -> dict[int, dict[int, int]]:
    """Of each track, in which frame it is which person."""
    tracks: dict[int, dict[int, int]] = {}
    for number, poses in enumerate(video):
        assert poses.track_ids is not None
        for row, track in enumerate(poses.track_ids.tolist()):
            if track >= 0:
                tracks.setdefault(track, {})[number] = row
    return tracks
