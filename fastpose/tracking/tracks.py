"""The tracks of a `PoseTracker` as arrays, a row each, and how they move."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from .similarity import person_sizes

__all__ = ["Sight", "Tracks", "travel"]

Floats = NDArray[np.float32]

_VELOCITY_MEMORY = 0.4  # seconds over which a velocity is averaged
_COASTING = 1.0  # seconds after which a track that nobody sees has lost most of its speed
_ASTRAY = 0.15  # sizes by which the steps of keypoints and box may differ
_FEW = 3  # sure keypoints that say where somebody is; of a smaller skeleton all


@dataclass
class Sight:
    """What one frame shows: N people.

    Attributes:
        keypoints: [N, K, 2] px.
        scores: [N, K].
        boxes: [N, 4] xyxy px.
        box_scores: [N].
        sure: [N, K] bool, whether a keypoint's score can be believed.
        time: Seconds.
        detected: Whether the boxes are a detector's.
    """

    keypoints: Floats
    scores: Floats
    boxes: Floats
    box_scores: Floats
    sure: NDArray[np.bool_]
    time: float
    detected: bool

    def __len__(self) -> int:
        return len(self.keypoints)

    @property
    def somebody(self) -> NDArray[np.bool_]:
        """[N] whether enough keypoints are sure for there to be a person in the box at all."""
        return np.asarray(self.sure.sum(axis=1) >= min(_FEW, self.sure.shape[1]))


@dataclass
class Tracks:
    """M tracks, the oldest first.

    Attributes:
        ids: [M] int64; -1 while a track is not confirmed.
        keypoints: [M, K, 2] px when last seen; one that was not sure then has been moved along with the others.
        sure: [M, K] bool, which keypoints were sure when last seen.
        anchors: [M, K] bool, which were at the last detection: the box hangs on these.
        boxes: [M, 4] xyxy px when last seen.
        margins: [M, 4] px by which the box was larger than the anchors at the last detection: left, top, right, bottom.
        spans: [M] longer side of the anchors' extent then, px.
        velocities: [M, 2] px/s.
        box_scores: [M] of the last detection.
        confidence: [M] mean score of the anchors at the last detection.
        seen: [M] seconds when last seen.
        detected: [M] seconds of the last detection.
        hits: [M] frames in which it was seen.
        hidden: [M] bool, whether it was not seen in the last frame.
    """

    ids: NDArray[np.int64]
    keypoints: Floats
    sure: NDArray[np.bool_]
    anchors: NDArray[np.bool_]
    boxes: Floats
    margins: Floats
    spans: Floats
    velocities: Floats
    box_scores: Floats
    confidence: Floats
    seen: NDArray[np.float64]
    detected: NDArray[np.float64]
    hits: NDArray[np.int64]
    hidden: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.ids)

    @classmethod
    def none(cls, joints: int) -> Tracks:
        """No track, of K joints."""
        nobody = np.zeros((0, joints), bool)
        zeros = np.zeros((0, 4), np.float32)
        return cls(
            ids=np.zeros(0, np.int64),
            keypoints=np.zeros((0, joints, 2), np.float32),
            sure=nobody,
            anchors=nobody,
            boxes=zeros,
            margins=zeros,
            spans=zeros[:, 0],
            velocities=zeros[:, :2],
            box_scores=zeros[:, 0],
            confidence=zeros[:, 0],
            seen=np.zeros(0),
            detected=np.zeros(0),
            hits=np.zeros(0, np.int64),
            hidden=np.zeros(0, bool),
        )

    def keep(self, rows: NDArray[np.bool_]) -> None:
        """Forget all others."""
        if rows.all():
            return
        for field in fields(self):
            setattr(self, field.name, getattr(self, field.name)[rows])

    def begin(self, sight: Sight, people: NDArray[np.intp]) -> None:
        """A track, not yet confirmed, for each of some people, at the end."""
        count = len(people)
        if not count:
            return
        fresh = Tracks(
            ids=np.full(count, -1, np.int64),
            keypoints=sight.keypoints[people],
            sure=sight.sure[people],
            anchors=sight.sure[people],
            boxes=sight.boxes[people],
            margins=np.zeros((count, 4), np.float32),
            spans=np.zeros(count, np.float32),
            velocities=np.zeros((count, 2), np.float32),
            box_scores=sight.box_scores[people],
            confidence=np.zeros(count, np.float32),
            seen=np.full(count, sight.time),
            detected=np.full(count, sight.time),
            hits=np.ones(count, np.int64),
            hidden=np.zeros(count, bool),
        )
        fresh.hang_boxes(np.arange(count), sight.scores[people])
        for field in fields(self):
            setattr(self, field.name, np.concatenate([getattr(self, field.name), getattr(fresh, field.name)]))

    def hang_boxes(self, rows: NDArray[np.intp], scores: Floats) -> None:
        """Note how the given boxes lie about the sure keypoints, which become the anchors."""
        self.anchors[rows] = self.sure[rows]
        low, high = _extent(self.keypoints[rows], self.anchors[rows])
        self.margins[rows, :2], self.margins[rows, 2:] = low - self.boxes[rows, :2], self.boxes[rows, 2:] - high
        self.spans[rows] = _longer(low, high)
        anchors = self.anchors[rows]
        self.confidence[rows] = np.einsum("nk,nk->n", scores, anchors) / np.maximum(anchors.sum(axis=1), 1)

    def boxes_about(self, rows: NDArray[np.intp], keypoints: Floats, shift: Floats) -> Floats:
        """The boxes [P, 4] of some tracks with other keypoints [P, K, 2], enlarged as the last given box was.

        Where there are too few anchors the box when last seen is moved by `shift` [P, 2].
        """
        moved = self.boxes[rows] + np.tile(shift, 2)
        low, high = _extent(keypoints, self.anchors[rows])
        span, before, longer = _longer(low, high), self.spans[rows], _longer(moved[:, :2], moved[:, 2:])
        hung = (self.anchors[rows].sum(axis=1) >= min(_FEW, self.anchors.shape[1])) & (before > 0.1 * longer)
        scale = np.clip(span / np.where(hung, before, 1.0), 0.5, 2.0)[:, None]
        about = np.concatenate([low - scale * self.margins[rows, :2], high + scale * self.margins[rows, 2:]], axis=1)
        return np.where(hung[:, None], about, moved).astype(np.float32)

    def shifts(self, time: float) -> Floats:
        """[M, 2] px that each has moved since it was last seen."""
        return (self.velocities * travel(time - self.seen)[:, None]).astype(np.float32)

    def see(self, rows: NDArray[np.intp], sight: Sight, people: NDArray[np.intp]) -> None:
        """Each of some tracks is one of the people."""
        keypoints, scores, sure = sight.keypoints[people], sight.scores[people], sight.sure[people]
        elapsed = sight.time - self.seen[rows]
        weights = np.where(sure & self.sure[rows], scores, 0.0)
        total = weights.sum(axis=1)
        steps = np.einsum("nk,nkc->nc", weights, keypoints - self.keypoints[rows])
        centres, before = (box[:, :2] + box[:, 2:] for box in (sight.boxes[people], self.boxes[rows]))
        by_points, by_box = steps / np.maximum(total, 1e-6)[:, None], (centres - before) / 2
        # A network that took somebody else's limbs for these does not carry the track away with them.
        astray = np.linalg.norm(by_points - by_box, axis=1) > _ASTRAY * person_sizes(self.boxes[rows])
        steps = np.where((astray | (total <= 0))[:, None], by_box, by_points)
        # The first step is all that is known of a velocity; later ones count by their time.
        share = np.maximum(-np.expm1(-elapsed / _VELOCITY_MEMORY), 1.0 / self.hits[rows])
        share = np.where(elapsed > 0, share, 0.0)[:, None]
        speed = steps / np.maximum(elapsed, 1e-6)[:, None]
        self.velocities[rows] += share * (speed - self.velocities[rows])
        self.keypoints[rows] = np.where(sure[..., None], keypoints, self.keypoints[rows] + steps[:, None])
        if sight.detected:
            self.boxes[rows] = sight.boxes[people]
            self.box_scores[rows] = sight.box_scores[people]
            self.detected[rows] = sight.time
            self.sure[rows] = sure
            self.hang_boxes(rows, scores)
        else:
            self.boxes[rows] = self.boxes_about(rows, self.keypoints[rows], steps.astype(np.float32))
            self.sure[rows] = sure
        self.seen[rows] = sight.time
        self.hits[rows] += 1
        self.hidden[rows] = False


def travel(elapsed: NDArray[np.float64]) -> NDArray[np.float64]:
    """Seconds' worth of its velocity that a track moves on in a time, as it slows down."""
    return -_COASTING * np.expm1(-elapsed / _COASTING)


def _longer(low: Floats, high: Floats) -> Floats:
    """[P] the longer side of extents, from their corners [P, 2]."""
    return np.maximum(high[:, 0] - low[:, 0], high[:, 1] - low[:, 1])


def _extent(keypoints: Floats, chosen: NDArray[np.bool_]) -> tuple[Floats, Floats]:
    """The least and largest x and y [P, 2] of the chosen keypoints; 0 where there are none."""
    # Along a short axis that is not the last, and of separate x and y, NumPy is quick.
    points, inside = np.ascontiguousarray(keypoints.transpose(2, 1, 0)), np.ascontiguousarray(chosen.T)
    infinity = np.float32(np.inf)
    low = np.where(inside, points, infinity).min(axis=1).T
    high = np.where(inside, points, -infinity).max(axis=1).T
    return np.where(low < infinity, low, 0), np.where(high > -infinity, high, 0)
