"""Tracks of poses as PoseTrack measures them: MOTA, MOTP, precision and recall by joint; and of whole people, IDF1."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from operator import add

import numpy as np
from numpy.typing import NDArray

from fastpose.metrics.clear_mot import ClearCounts, ClearMatcher, ratio
from fastpose.metrics.posetrack import (
    POSETRACK_JOINTS,
    PoseTrackMatches,
    posetrack_figures,
    posetrack_frames,
)
from fastpose.metrics.results import PoseResults
from fastpose.metrics.tracking import PeopleMatcher, TrackScores
from fastpose.metrics.truth import Truth

__all__ = ["TRACKING_NEEDS", "PoseTrackScores", "posetrack_tracking"]

TRACKING_NEEDS = ("head_sizes", "ignored_regions", "track_ids")
"""The optional arrays of :class:`Truth` that :func:`posetrack_tracking` wants."""

_COUNTS = ("switches", "fragmentations")


@dataclass(frozen=True, eq=False)
class PoseTrackScores:
    """What the tracks of a sequence are worth, or of several.

    Attributes:
        joints: What CLEAR MOT counts, of the 15 ``POSETRACK_JOINTS``, without the last labelled frame of a sequence.
        people: The same and IDF1, of whole people on all labelled frames.
        matches: Joints that are ranked for average precision, on all labelled frames.
    """

    joints: ClearCounts
    people: TrackScores
    matches: PoseTrackMatches

    @classmethod
    def join(cls, parts: Iterable[PoseTrackScores]) -> PoseTrackScores:
        """What those of several sequences are together: counted, not averaged."""
        scores = list(parts)
        joints, people = (reduce(add, (getattr(part, name) for part in scores)) for name in ("joints", "people"))
        return cls(joints, people, PoseTrackMatches.join([part.matches for part in scores]))

    def by_joint(self, joints: Sequence[str] = POSETRACK_JOINTS) -> dict[str, dict[str, float]]:
        """Joint → figure → value, after ``total``: the mean over the joints (NaN ones left out), of counts the sum.

        ``MOTA``, ``MOTP``, ``precision``, ``recall`` and ``AP`` are those of PoseTrack's poseval, as shares;
        ``MOTP_of_matches`` is 1 - the mean distance of the matches in heads, as CLEAR MOT defines it; ``switches`` and
        ``fragmentations`` are counts.

        Args:
            joints: Which.
        """
        clear, ranked = self.joints, posetrack_figures(self.matches)
        table = {
            "MOTA": clear.mota,
            "MOTP": np.where(clear.matched > 0, 1.0 - ratio(clear.logged, clear.matched), 0.0),
            "precision": clear.precision,
            "recall": clear.recall,
            "AP": np.array([ranked[name] for name in POSETRACK_JOINTS]),
            "MOTP_of_matches": clear.motp,
            "switches": clear.switches,
            "fragmentations": clear.fragmentations,
        }
        columns = [POSETRACK_JOINTS.index(joint) for joint in joints]
        table = {name: values[columns] for name, values in table.items()}
        total = {"total": {name: v.sum() if name in _COUNTS else _mean(v) for name, v in table.items()}}
        rows = {joint: {name: values[k] for name, values in table.items()} for k, joint in enumerate(joints)}
        return {joint: {name: value.item() for name, value in row.items()} for joint, row in (total | rows).items()}


def _mean(values: NDArray[np.float64]) -> np.float64:
    known = values[~np.isnan(values)]
    return np.float64(known.mean() if len(known) else np.nan)


def posetrack_tracking(truth: Truth, results: PoseResults) -> PoseTrackScores:
    """Measure the tracks of one sequence (Andriluka et al., "PoseTrack", CVPR 2018).

    By joint, as its ``poseval`` does: a predicted joint may be an annotated one that is at most half a head away, and
    frame by frame the joints' tracks are matched as CLEAR MOT does (see :class:`ClearMatcher`). What poseval does
    besides is done here, too, so that the figures are equal to published ones:

    - The last labelled frame of a sequence does not count.
    - A frame on which nobody is predicted, or all of the annotated are in ignored regions, is one miss and one false
      joint of each kind, however many people there are.
    - MOTP is made of all distances that py-motmetrics logs, not only those of the matches.

    By person: a pose may be a person of whom it has half of the annotated joints or more, within half a head each; see
    :func:`fastpose.metrics.score_tracks`. All labelled frames count.

    Args:
        truth: The annotated people of one sequence, whose photos are its frames by ascending id, with head sizes, track
            ids and ignored regions (``optional=TRACKING_NEEDS`` of :func:`fastpose.metrics.read_truth`).
        results: The predicted poses with track ids; there may be none. A keypoint of three zeros counts as not
            predicted, a pose on a frame on which nobody is annotated does not count.

    Returns:
        The scores.

    Raises:
        ValueError: There are no track ids or head boxes, one track is twice on a frame, a pose is of an unknown photo,
            or its keypoints are not PoseTrack's 17.
    """
    image = results.photos(truth) if len(results) else np.zeros(0, np.int64)
    people, true = _tracks("annotations", truth.track_ids, truth.image, truth.image_ids)
    poses, own = _tracks("results", results.track_ids, image, truth.image_ids)
    frames = list(posetrack_frames(truth, results, image))
    joints = ClearMatcher(len(POSETRACK_JOINTS), true, own)
    whole = PeopleMatcher(true, own)
    nobody = 0
    for number, frame in enumerate(frames):
        ours, theirs = people[frame.people], poses[frame.poses]
        whole.update(ours, theirs, frame.shares().T)
        if number == len(frames) - 1:
            break
        if len(ours) and len(theirs):
            # Joints come first there, then people, then poses.
            away = np.where(frame.near, frame.away, np.inf).transpose(2, 1, 0)
            joints.update(ours, theirs, away, frame.wanted.T, frame.said.T)
        else:
            nobody += 1
    counts = replace(joints.counts, truth=joints.counts.truth + nobody, found=joints.counts.found + nobody)
    return PoseTrackScores(counts, whole.scores(), PoseTrackMatches.of(frames, truth, results))


def _tracks(
    what: str, ids: NDArray[np.int64] | None, image: NDArray[np.int64], image_ids: NDArray[np.int64]
) -> tuple[NDArray[np.int64], int]:
    """Track ids as positions from 0 on, and how many tracks there are; none is twice on a photo."""
    if ids is None:
        raise ValueError(f"{what}: no track ids")
    unique, track = np.unique(ids, return_inverse=True)
    track = track.reshape(-1)
    _, first, times = np.unique(image * max(len(unique), 1) + track, return_index=True, return_counts=True)
    if (times > 1).any():
        row = first[np.argmax(times > 1)]
        raise ValueError(f"{what}: track_id {ids[row]} is twice on image {image_ids[image[row]]}")
    return track, len(unique)
