"""Tracks of people against true ones: CLEAR MOT and IDF1, by boxes or by poses."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastpose.geometry import box_ious
from fastpose.metrics.clear_mot import ClearCounts, ClearMatcher, most_pairs, ratio
from fastpose.metrics.similarity import keypoint_similarity
from fastpose.metrics.truth import AREA_OF_BOX

__all__ = ["PeopleMatcher", "TrackScores", "Tracks", "score_tracks"]

_LEAST = 0.5


@dataclass(frozen=True, eq=False)
class TrackScores:
    """What tracks of people are worth; the scores of several sequences are added.

    Attributes:
        clear: What CLEAR MOT counts, of people as the only kind.
        identified: Appearances that are right once each true track is given one found track, and each found track to
            one true one, for all of the sequence (IDTP).
    """

    clear: ClearCounts
    identified: int

    def __add__(self, other: TrackScores) -> TrackScores:
        return TrackScores(self.clear + other.clear, self.identified + other.identified)

    def figures(self) -> dict[str, float]:
        """The figures by name: shares, which are NaN where there is nothing to measure, and counts.

        ``MOTA`` = 1 - (misses + false + switches) / people, below 0 if more is wrong than there is; ``MOTP``, mean
        similarity of the matches; ``precision``, ``recall`` of the matches; ``IDF1``, ``IDP``, ``IDR``: F1, precision
        and recall of the appearances that are identified; then ``switches``, ``fragmentations``, ``misses``, ``false``,
        ``people`` (annotated appearances), ``found``.
        """
        clear = self.clear
        truth, found = int(clear.truth[0]), int(clear.found[0])
        return {
            "MOTA": float(clear.mota[0]),
            "MOTP": float(clear.motp[0]),
            "precision": float(clear.precision[0]),
            "recall": float(clear.recall[0]),
            "IDF1": float(ratio(2 * self.identified, truth + found)),
            "IDP": float(ratio(self.identified, found)),
            "IDR": float(ratio(self.identified, truth)),
            "switches": int(clear.switches[0]),
            "fragmentations": int(clear.fragmentations[0]),
            "misses": int(clear.misses[0]),
            "false": int(clear.false[0]),
            "people": truth,
            "found": found,
        }


class PeopleMatcher:
    """Matches the people of one sequence, frame by frame, and then track by track.

    Args:
        truth: Number T of true tracks.
        found: Number F of found tracks.
        least: Similarity from which on two may be the same.
    """

    def __init__(self, truth: int, found: int, least: float = _LEAST) -> None:
        self._clear = ClearMatcher(1, truth, found)
        self._together = np.zeros((truth, found), np.int64)
        self._least = least

    def update(self, truth: NDArray[np.int64], found: NDArray[np.int64], similarity: NDArray[np.float64]) -> None:
        """Match the next frame.

        Args:
            truth: [G] which true tracks are on it, 0 to T - 1, each once.
            found: [D] which found tracks are, 0 to F - 1, each once.
            similarity: [G, D], 0 to 1.
        """
        alike = similarity >= self._least
        distance = np.where(alike, 1.0 - similarity, np.inf)[None]
        self._clear.update(truth, found, distance, np.ones((1, len(truth)), bool), np.ones((1, len(found)), bool))
        self._together[np.ix_(truth, found)] += alike

    def scores(self) -> TrackScores:
        """Of the frames so far."""
        apart = self._together.max(initial=0) - self._together  # every pair may be one: it adds what it has in common
        best = most_pairs(apart.astype(np.float64))
        return TrackScores(self._clear.counts, int(self._together[best[:, 0], best[:, 1]].sum()))


@dataclass(frozen=True, eq=False, kw_only=True)
class Tracks:
    """N appearances of people in one sequence, true or found.

    Attributes:
        frames: [N] int, the frame of each; frames follow each other by this number.
        track_ids: [N] int, the same number for the same person; below 0: nobody's track, which is left out.
        boxes: [N, 4] xyxy in pixels; None where poses are compared.
        keypoints: [N, K, 2] (x, y) in pixels; None where boxes are compared.
        visible: [N, K]; a true keypoint counts where this is above 0, all where not given. People without any are
            left out where poses are compared.
        areas: [N] square pixels of true people, for the OKS; 0.53 of the box where not given.
    """

    frames: ArrayLike
    track_ids: ArrayLike
    boxes: ArrayLike | None = None
    keypoints: ArrayLike | None = None
    visible: ArrayLike | None = None
    areas: ArrayLike | None = None


def score_tracks(
    truth: Tracks,
    found: Tracks,
    *,
    by: Literal["iou", "oks"] = "iou",
    least: float = _LEAST,
    sigmas: ArrayLike | None = None,
) -> TrackScores:
    """Measure the tracks of one sequence.

    Two appearances may be the same person from a similarity on. Frame by frame they are matched as CLEAR MOT does
    (Bernardin and Stiefelhagen, 2008): a person stays with the track of the last match wherever that is near enough, of
    the others as many as possible are matched, those of the largest similarity. Then, for IDF1 (Ristani et al., 2016),
    each true track is given at most one found track, exactly, so that as many appearances as possible are right.

    Args:
        truth: The annotated people.
        found: The predicted ones. Frames may be missing on either side, and ids need not agree.
        by: "iou": overlap of boxes. "oks": similarity of poses.
        least: The similarity from which on.
        sigmas: [K] of the OKS.

    Returns:
        The scores. Those of several sequences are added: ``sum(scores[1:], scores[0])``.

    Raises:
        ValueError: A shape is wrong, an array that is needed is not given or not finite, or a track is twice on a
            frame.

    Example:
        >>> truth = Tracks(frames=[0, 0, 1, 1], track_ids=[1, 2, 1, 2], boxes=[[0, 0, 9, 9], [20, 0, 29, 9]] * 2)
        >>> found = Tracks(frames=[0, 0, 1, 1], track_ids=[7, 8, 8, 7], boxes=truth.boxes)  # exchanged
        >>> figures = score_tracks(truth, found).figures()
        >>> figures["switches"], figures["MOTA"], figures["IDF1"]
        (2, 0.5, 0.5)
    """
    if by not in ("iou", "oks"):
        raise ValueError(f"by: expected iou or oks, got {by!r}")
    true, own = _Checked("truth", truth, seen_only=by == "oks"), _Checked("found", found)
    matcher = PeopleMatcher(true.tracks, own.tracks, least)
    similarity = _overlap(true, own) if by == "iou" else _pose_similarity(true, own, sigmas)
    for people, poses in _frames(true.frames, own.frames):
        matcher.update(true.track[people], own.track[poses], similarity(people, poses))
    return matcher.scores()


class _Checked:
    """Tracks as arrays, ids as positions from 0 on; without those of nobody, and on request without blank poses."""

    def __init__(self, name: str, tracks: Tracks, *, seen_only: bool = False) -> None:
        self.name = name
        ids, frames = np.asarray(tracks.track_ids), np.asarray(tracks.frames)
        for what, values in (("track_ids", ids), ("frames", frames)):
            if values.shape != (len(ids),) or (values.size and values.dtype.kind not in "iu"):
                raise ValueError(f"{name}: {what}: expected integers [{len(ids)}], got {values.dtype} {values.shape}")
        self._tracks, self._count, self._kept = tracks, len(ids), np.arange(len(ids))
        visible = self.array("visible", None) if seen_only else None
        kept = ids >= 0
        self._kept = np.flatnonzero(kept if visible is None else kept & (visible > 0).any(1))
        self.frames = frames[self._kept].astype(np.int64)
        unique, track = np.unique(ids[self._kept].astype(np.int64), return_inverse=True)
        self.tracks, self.track = len(unique), track.reshape(-1)
        pairs, times = np.unique(np.stack([self.frames, self.track], 1), axis=0, return_counts=True)
        if (times > 1).any():
            frame, place = pairs[np.argmax(times > 1)]
            raise ValueError(f"{name}: track {unique[place]} is twice on frame {frame}")

    def array(self, what: str, *shape: int | None) -> NDArray[np.float64] | None:
        """Rows of one of the arrays; None where it is not given."""
        given = getattr(self._tracks, what)
        if given is None:
            return None
        values = np.asarray(given, np.float64)
        expected = (self._count, *shape)
        if values.size == 0 == self._count:
            values = values.reshape([0 if side is None else side for side in expected])
        fitting = values.ndim == len(expected)
        if not fitting or any(s not in (None, v) for s, v in zip(expected, values.shape, strict=True)):
            raise ValueError(f"{self.name}: {what}: expected shape {expected}, got {values.shape}".replace("None", "K"))
        return values[self._kept]

    def needed(self, what: str, *shape: int | None) -> NDArray[np.float64]:
        """Rows of one that must be there."""
        values = self.array(what, *shape)
        if values is None:
            raise ValueError(f"{self.name}: {what} are needed and not given")
        return values


def _frames(*sides: NDArray[np.int64]) -> Iterator[list[NDArray[np.int64]]]:
    """Of each frame, in order, the rows of each side that are on it."""
    numbers = np.unique(np.concatenate(sides))
    orders = [np.argsort(frames, kind="stable") for frames in sides]
    ends = [np.searchsorted(frames[order], numbers, side="right") for frames, order in zip(sides, orders, strict=True)]
    starts = [0] * len(sides)
    for stops in zip(*(end.tolist() for end in ends), strict=True):
        yield [order[start:stop] for order, start, stop in zip(orders, starts, stops, strict=True)]
        starts = list(stops)


def _overlap(truth: _Checked, found: _Checked) -> Any:
    boxes, others = truth.needed("boxes", 4), found.needed("boxes", 4)
    for side, values in ((truth, boxes), (found, others)):
        if not np.isfinite(values).all():
            raise ValueError(f"{side.name}: boxes: there is a value that is not finite")
    return lambda people, poses: box_ious(boxes[people], others[poses])


def _pose_similarity(truth: _Checked, found: _Checked, sigmas: ArrayLike | None) -> Any:
    """OKS of pairs; a true keypoint that is not predicted (not finite) agrees with nothing."""
    goal = truth.needed("keypoints", None, 2)
    points = found.needed("keypoints", goal.shape[1], 2)
    sigma = np.asarray([] if sigmas is None else sigmas, np.float64)
    if sigma.shape != goal.shape[1:2] or not (sigma > 0).all():
        raise ValueError(f"sigmas: expected {goal.shape[1]} numbers above 0, one a keypoint, got {sigma.tolist()}")
    visible = truth.array("visible", goal.shape[1])
    counted = np.ones(goal.shape[:2], bool) if visible is None else visible > 0
    if not np.isfinite(goal[counted]).all():
        raise ValueError("truth: keypoints: there is a value that is not finite")
    areas = truth.array("areas")
    if areas is None:
        boxes = truth.needed("boxes", 4)  # or areas
        areas = AREA_OF_BOX * (boxes[:, 2:] - boxes[:, :2]).prod(1)

    def similarity(people: NDArray[np.int64], poses: NDArray[np.int64]) -> NDArray[np.float64]:
        own = counted[people]
        with np.errstate(invalid="ignore"):
            near = keypoint_similarity(points[poses], goal[people][:, None], areas[people][:, None], sigma)
        near = np.where(own[:, None] & np.isfinite(near), near, 0.0)
        return near.sum(-1) / np.maximum(own.sum(1), 1)[:, None]

    return similarity
