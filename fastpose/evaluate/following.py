"""Poses of a model, given to a tracker frame by frame."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..metrics import PoseResults
from ..metrics.results import by_name
from ..metrics.scoring import distinct_poses, score_poses
from ..skeletons import POSETRACK18_17
from ..spec import PoseSpec
from .evaluator import Evaluator, Predictions
from .tracks import PredictedTracks, TrueSequence, absent_joints

__all__ = ["Tracker", "follow_people"]

_NOBODYS = "pose that the tracker gave to nobody"


class Tracker(Protocol):
    """What gives people their numbers, as :class:`fastpose.tracking.PoseTracker` does."""

    def update(self, keypoints: Any, scores: Any, boxes: Any, box_scores: Any, time: float) -> NDArray[np.int64]:
        """Tracks of the people of the next frame, -1 of who has none."""
        ...


def follow_people(
    evaluator: Evaluator,
    predictions: Predictions,
    spec: PoseSpec,
    sequences: Sequence[TrueSequence],
    tracker: Callable[[], Tracker],
    *,
    fps: float = 25.0,
    every_frame: bool = True,
    keypoint_threshold: float = 0.2,
) -> PredictedTracks:
    """Track the poses of a model through sequences.

    Doubles are suppressed first, as the evaluator says. The tracker then sees the frames of each sequence in order.

    Args:
        evaluator: Of the people whose boxes were cropped.
        predictions: Its predictions.
        spec: That of the model.
        sequences: Whose frames the photos are, by their ids.
        tracker: Makes a new one for each sequence.
        fps: Frames a second, by which the times of the frames are told from their numbers (the names of their files,
            else their places in the sequence).
        every_frame: Whether somebody has looked at frames without boxes, too; else, as with annotated boxes, the
            tracker sees labelled frames only.
        keypoint_threshold: Keypoints below this score count as not predicted in what is measured; the tracker gets all.

    Returns:
        The poses that have a track.

    Raises:
        ValueError: A predicted value is not finite, or the model has none of the measured joints.
    """
    absent = absent_joints(spec.skeleton.keypoints)
    if len(absent) == len(absent_joints(())):
        raise ValueError(f"eval: {spec.skeleton.name!r} has none of PoseTrack's joints")
    poses, rows = _distinct(evaluator, predictions, spec)
    order = np.argsort(poses.image_ids, kind="stable")
    poses, rows = poses.select(order), rows[order]
    followed, lost = [], 0
    for sequence in sequences:
        tracks = np.full(len(poses), -1)
        follower, records = tracker(), evaluator.records
        for people, frame in _frames(sequence, poses.image_ids, every_frame):
            tracks[people] = follower.update(
                poses.keypoints[people],
                poses.keypoint_scores[people],
                records.boxes[rows[people]],
                records.scores[rows[people]],
                frame / fps,
            )
        own = np.isin(poses.image_ids, sequence.truth.image_ids)
        lost += int((own & (tracks < 0)).sum())
        of_tracks = replace(poses, track_ids=tracks).select(tracks >= 0)
        followed.append(_measured(of_tracks, spec.skeleton.keypoints, keypoint_threshold))
    return PredictedTracks(followed, absent, {_NOBODYS: lost})


def _measured(poses: PoseResults, names: Sequence[str], threshold: float) -> PoseResults:
    """PoseTrack's keypoints of the poses, those below a threshold as if they were not there."""
    points, scores = by_name(poses.keypoints, poses.keypoint_scores, names, POSETRACK18_17.keypoints)
    unsure = scores < threshold
    points[unsure], scores[unsure] = 0.0, 0.0
    return replace(poses, keypoints=points.astype(np.float64), keypoint_scores=scores.astype(np.float64))


def _frames(sequence: TrueSequence, image_ids: NDArray[np.int64], every_frame: bool) -> Iterator[tuple[slice, int]]:
    """Of each frame that somebody has looked at: which poses are on it, their photos being sorted; and its number."""
    ids, numbers = sequence.truth.image_ids, _frame_numbers(sequence)
    starts, ends = (np.searchsorted(image_ids, ids, side) for side in ("left", "right"))
    seen = np.ones(len(ids), bool) if every_frame else sequence.labelled
    for frame in np.flatnonzero(seen).tolist():
        yield slice(starts[frame], ends[frame]), int(numbers[frame])


def _distinct(evaluator: Evaluator, predictions: Predictions, spec: PoseSpec) -> tuple[PoseResults, NDArray[np.int64]]:
    """The poses without doubles, and the rows of the evaluator's people that they are of."""
    records, rows = evaluator.records, predictions.rows()
    keypoints, scores = predictions.keypoints[rows], predictions.scores[rows]
    ranks = score_poses(scores, records.scores[rows], evaluator.score_mode)
    poses = PoseResults(records.image_ids[records.image_index[rows]], keypoints, scores, ranks)
    kept = distinct_poses(
        poses,
        evaluator.areas(spec)[rows],
        spec.skeleton.sigmas,
        nms=evaluator.nms,
        threshold=evaluator.nms_threshold,
    )
    kept = np.sort(kept)
    return poses.select(kept), rows[kept]


def _frame_numbers(sequence: TrueSequence) -> NDArray[np.int64]:
    """[I] numbers of a sequence's frames, ascending."""
    stems = [file.rpartition("/")[2].partition(".")[0] for file in sequence.files]
    if all(stem.isdecimal() for stem in stems):
        numbers = np.array([int(stem) for stem in stems], np.int64)
        if (np.diff(numbers) > 0).all():
            return numbers
    return np.arange(len(stems))
