"""The tracker: people of one frame after another get the numbers of those who they are."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..checks import check_number
from ..ops import oks
from ..ops.assign import assign
from .arguments import check_time, take_people
from .flow import FrameFlow
from .similarity import AREA_OF_BOX, close_pairs, person_sizes, similarities
from .tracks import Sight, Tracks

__all__ = ["PoseTracker"]

Floats = NDArray[np.float32]
Indices = NDArray[np.intp]

_NEWCOMER = 0.9  # what the similarity of a track that is not confirmed counts, beside one that is
_HIDDEN = 0.9  # and that of one which was not seen in the last frame
_STRAYED = (0.4, 0.6)  # longer sides of a box off its way at which somebody hidden is found: at once, and more a second


class PoseTracker:
    """Gives the people of each frame numbers that stay theirs: unique, from 0 on, never given twice.

    A frame's people are compared with where the tracks should be by then, half by the object keypoint similarity of
    their sure keypoints and half by the overlap of their boxes, and assigned exactly, in passes: those with sure boxes
    first, then the doubtful ones to whoever was seen last and is left (Zhang et al., ByteTrack, ECCV 2022), then to the
    tracks that have been hidden, near the way that these had gone since (after Cao et al., OC-SORT, CVPR 2023). A track
    moves with the mean of its keypoints' steps, and slows down while nobody sees it.

    All thresholds of time are in seconds, so that they hold for any frame rate; sizes are square roots of box areas.

    Args:
        sigmas: [K] OKS sigmas (``Skeleton.sigmas``).
        sure_box: Least box score of who is assigned first, and of who may begin a track.
        doubtful_box: Least box score of who is assigned at all.
        sure_keypoint: Least score of a keypoint that counts.
        births: Frames after which somebody new gets a number. The people of the very first frame get theirs at once.
        patience: Seconds that a track outlives its last sight.
        least_similarity: Least similarity of a track and a sure person, 0 to 1.
        least_doubtful: The same of a doubtful person.
        same_person: OKS above which two tracks are on one person: the younger one is not seen, then.
        least_confidence: Between detections a track is lost where its keypoints' mean score falls below this share of
            what it was at the last detection.
        half_life: Seconds after its last detection in which the score of a track halves.

    Attributes:
        lost: After an ``update`` between detections: whether a track that had been seen was not any more, so that a
            detection is due at once.

    Raises:
        ValueError: A sigma is not above 0, or a threshold is out of its range.

    Example:
        >>> import numpy as np
        >>> tracker = PoseTracker(sigmas=[0.1, 0.1], births=1)
        >>> pose, box = np.array([[[10.0, 10.0], [20.0, 40.0]]]), np.array([[5.0, 5.0, 25.0, 45.0]])
        >>> tracker.update(pose, np.ones((1, 2)), box, [0.9], time=0.0)
        array([0])
        >>> tracker.update(pose + 2, np.ones((1, 2)), box + 2, [0.9], time=0.1)
        array([0])
        >>> boxes, scores, track_ids = tracker.expected(0.2)
        >>> boxes.round().tolist(), track_ids.tolist()
        ([[9.0, 9.0, 29.0, 49.0]], [0])
    """

    lost: bool

    def __init__(
        self,
        sigmas: ArrayLike,
        *,
        sure_box: float = 0.5,
        doubtful_box: float = 0.1,
        sure_keypoint: float = 0.3,
        births: int = 2,
        patience: float = 2.0,
        least_similarity: float = 0.2,
        least_doubtful: float = 0.5,
        same_person: float = 0.85,
        least_confidence: float = 0.5,
        half_life: float = 1.0,
    ) -> None:
        self._sigmas = np.asarray(sigmas, float)
        if self._sigmas.ndim != 1 or not len(self._sigmas) or not np.all(self._sigmas > 0):
            raise ValueError(f"sigmas: expected [K] numbers above 0, got {sigmas!r}")
        shares = {
            "sure_box": sure_box,
            "doubtful_box": doubtful_box,
            "least_similarity": least_similarity,
            "least_doubtful": least_doubtful,
            "same_person": same_person,
            "least_confidence": least_confidence,
        }
        for name, share in shares.items():
            if not 0 <= share <= 1:
                raise ValueError(f"{name}: expected a number from 0 to 1, got {share!r}")
        for name, number in {"patience": patience, "half_life": half_life, "sure_keypoint": sure_keypoint}.items():
            check_number(name, number, above=0)
        if isinstance(births, bool) or not isinstance(births, int) or births < 1:
            raise ValueError(f"births: expected a whole number of at least 1, got {births!r}")
        self._sure_box, self._doubtful_box, self._sure_keypoint = sure_box, doubtful_box, sure_keypoint
        self._births, self._patience, self._half_life = births, patience, half_life
        self._least_similarity, self._least_doubtful = least_similarity, least_doubtful
        self._same_person, self._least_confidence = same_person, least_confidence
        self.reset()

    def reset(self) -> None:
        """Forget everybody, for another video: numbers begin with 0 again."""
        self._tracks = Tracks.none(len(self._sigmas))
        self._flow = FrameFlow()
        self._time = -math.inf
        self._next = 0
        self.lost = False

    def update(
        self,
        keypoints: ArrayLike,
        scores: ArrayLike,
        boxes: ArrayLike,
        box_scores: ArrayLike,
        time: float,
        *,
        image: NDArray[np.uint8] | None = None,
        detected: bool = True,
    ) -> NDArray[np.int64]:
        """Say who the people of the next frame are.

        Args:
            keypoints: [N, K, 2] px.
            scores: [N, K], of the keypoints.
            boxes: [N, 4] xyxy px.
            box_scores: [N].
            time: Seconds, not before the last frame's.
            image: The frame, uint8 [H, W] or [H, W, 3] BGR: where two frames after each other come with theirs, optical
                flow says where keypoints went, for those seen in the former (Xiao et al., Simple Baselines, ECCV 2018).
            detected: Whether the boxes are a detector's; else they are those that `expected` gave.

        Returns:
            int64 [N], the number of each person's track, -1 for who has none (yet).

        Raises:
            ValueError: A shape is wrong, a value is not finite, or time went back.
        """
        sight, tracks = self._sight(keypoints, scores, boxes, box_scores, time, detected), self._tracks
        first = self._time == -math.inf
        self._time = sight.time
        if image is not None:
            self._flow.look(image, sight.time)
        tracks.keep(sight.time - tracks.seen <= self._patience)
        row_of = self._match(sight)
        if not detected:
            self._leave_poor(sight, row_of)
            self._leave_copies(sight, row_of)
        people = np.flatnonzero(row_of >= 0)
        missed = np.ones(len(tracks), bool)
        missed[row_of[people]] = False
        self.lost = not detected and bool(np.any(missed & ~tracks.hidden & (tracks.ids >= 0)))
        tracks.hidden |= missed
        tracks.see(row_of[people], sight, people)
        if detected:
            born = self._born(sight, row_of)
            row_of[born] = np.arange(len(tracks), len(tracks) + len(born))
            tracks.begin(sight, born)
        self._confirm(1 if first else self._births)
        found = row_of >= 0
        track_ids = np.full(len(sight), -1)
        track_ids[found] = tracks.ids[row_of[found]]
        tracks.keep((tracks.ids >= 0) | ~tracks.hidden)
        return track_ids

    def expected(
        self, time: float, *, image: NDArray[np.uint8] | None = None
    ) -> tuple[Floats, Floats, NDArray[np.int64]]:
        """Where those who were seen in the last frame should be: the boxes of a frame without a detection.

        Each box lies about its pose as the last box that was given for the track did, so that boxes neither grow nor
        shrink from frame to frame.

        Args:
            time: Seconds, not before the last frame's.
            image: The frame of that time, for optical flow, as ``update`` takes it.

        Returns:
            Boxes [M, 4] xyxy px and scores [M], float32, and numbers [M], int64, -1 of those who have none yet.

        Raises:
            ValueError: Time went back, or the image has a wrong shape.
        """
        check_time(time, self._time)
        if image is not None:
            self._flow.look(image, time)
        tracks = self._tracks
        rows = np.flatnonzero(~tracks.hidden)
        _, boxes = self._predicted(time)
        decay = 0.5 ** ((time - tracks.detected[rows]) / self._half_life)
        return boxes[rows], (tracks.box_scores[rows] * decay).astype(np.float32), tracks.ids[rows]

    def _predicted(self, time: float) -> tuple[Floats, Floats]:
        """Where the tracks should be at a time: poses [M, K, 2] and boxes [M, 4]."""
        tracks, flow = self._tracks, self._flow
        shifts = tracks.shifts(time)
        poses, boxes = tracks.keypoints + shifts[:, None], tracks.boxes + np.tile(shifts, 2)
        if flow.begin is not None and flow.end == time:
            rows = np.flatnonzero(tracks.seen == flow.begin)
            moves = flow.moves(tracks.keypoints[rows], tracks.sure[rows], tracks.boxes[rows])
            known = np.isfinite(moves).all(axis=(1, 2))
            rows, moves = rows[known], moves[known]
            poses[rows] = tracks.keypoints[rows] + moves
            boxes[rows] = tracks.boxes_about(rows, poses[rows], np.median(moves, axis=1))
        return poses, boxes

    def _sight(self, keypoints: Any, scores: Any, boxes: Any, box_scores: Any, time: float, detected: bool) -> Sight:
        joints = len(self._sigmas)
        given = {"keypoints": keypoints, "scores": scores, "boxes": boxes, "box_scores": box_scores}
        shapes = {"keypoints": (joints, 2), "scores": (joints,), "boxes": (4,), "box_scores": ()}
        points, sureness, extents, sure_boxes = take_people(given, shapes)
        sure = sureness >= self._sure_keypoint
        return Sight(points, sureness, extents, sure_boxes, sure, check_time(time, self._time), detected)

    def _match(self, sight: Sight) -> Indices:
        """The row of each person's track [N], -1 for none."""
        tracks = self._tracks
        row_of = np.full(len(sight), -1)
        if not len(tracks) or not len(sight):
            return row_of
        likeness = self._similarities(sight)
        sure = sight.box_scores >= self._sure_box if sight.detected else np.ones(len(sight), bool)
        doubtful = ~sure & (sight.box_scores >= self._doubtful_box)
        free = np.ones(len(tracks), bool)

        def one_pass(rows: NDArray[np.bool_], people: NDArray[np.bool_], costs: Floats, most: float) -> None:
            some, others = np.flatnonzero(rows & free), np.flatnonzero(people & (row_of < 0))
            if not len(some) or not len(others):
                return
            pairs = assign(costs[some][:, others], most)
            row_of[others[pairs[:, 1]]] = some[pairs[:, 0]]
            free[some[pairs[:, 0]]] = False

        chance = np.where(tracks.ids >= 0, np.float32(1), _NEWCOMER) * np.where(tracks.hidden, _HIDDEN, np.float32(1))
        costs = 1 - likeness * chance[:, None]
        everybody = np.ones(len(tracks), bool)
        one_pass(everybody, sure, costs, 1 - self._least_similarity)
        one_pass(~tracks.hidden, doubtful, costs, 1 - self._least_doubtful)
        if sight.detected and np.any(free & tracks.hidden) and np.any(sure & (row_of < 0)):
            one_pass(tracks.hidden, sure & sight.somebody, self._strayed(sight), 1.0)
        return row_of

    def _similarities(self, sight: Sight) -> Floats:
        """[M, N] between 0 and 1."""
        tracks = self._tracks
        (poses, boxes), elapsed = self._predicted(sight.time), sight.time - tracks.seen
        return similarities(poses, tracks.sure, boxes, elapsed, sight.keypoints, sight.boxes, self._sigmas)

    def _strayed(self, sight: Sight) -> Floats:
        """[M, N] how far off each person is from where a hidden track may have gone, 1: at the very border."""
        tracks = self._tracks
        elapsed = (sight.time - tracks.seen)[:, None]
        centres, start = ((boxes[:, :2] + boxes[:, 2:]) / 2 for boxes in (sight.boxes, tracks.boxes))
        # The longer side: that of a box which the border of the picture cuts hardly changes.
        sizes, others = ((box[:, 2:] - box[:, :2]).max(axis=1).clip(1) for box in (tracks.boxes, sight.boxes))
        way = (tracks.velocities * elapsed)[:, None]
        offset = centres - start[:, None]
        # They may have stopped anywhere on the way.
        share = (offset * way).sum(-1) / np.maximum((way * way).sum(-1), 1e-6)
        gone = np.linalg.norm(offset - np.clip(share, 0, 1)[..., None] * way, axis=-1) / sizes[:, None]
        growth = np.abs(np.log(others / sizes[:, None]))
        return np.asarray(gone / (_STRAYED[0] + _STRAYED[1] * elapsed) + growth)

    def _leave_poor(self, sight: Sight, row_of: Indices) -> None:
        """Between detections: leave those whose pose says that nobody is in the box."""
        people = np.flatnonzero(row_of >= 0)
        rows = row_of[people]
        anchors = self._tracks.anchors[rows]
        confidence = (sight.scores[people] * anchors).sum(axis=1) / np.maximum(anchors.sum(axis=1), 1)
        row_of[people[confidence < self._least_confidence * self._tracks.confidence[rows]]] = -1

    def _leave_copies(self, sight: Sight, row_of: Indices) -> None:
        """Where two tracks are on one person leave it to the older one."""
        people = np.flatnonzero(row_of >= 0)
        people = people[np.argsort(row_of[people])]  # the oldest first
        for older, younger in people[close_pairs(sight.boxes[people])]:
            if row_of[older] >= 0 and self._same(sight, older, [younger])[0] > self._same_person:
                row_of[younger] = -1

    def _born(self, sight: Sight, row_of: Indices) -> Indices:
        """Who begins a track: sure, somebody, nobody's yet, and no second sight of somebody."""
        fresh = np.flatnonzero((row_of < 0) & (sight.box_scores >= self._sure_box) & sight.somebody)
        known = np.flatnonzero(row_of >= 0)
        born: list[int] = []
        for person in fresh[np.argsort(-sight.box_scores[fresh], kind="stable")]:
            others = np.array([*known, *born], np.intp)
            if not np.any(self._same(sight, person, others) > self._same_person):
                born.append(int(person))
        return np.array(born, np.intp)

    def _same(self, sight: Sight, person: int, others: Any) -> Floats:
        """OKS [P] of one person with others of the same frame."""
        one = [person]
        areas = AREA_OF_BOX * person_sizes(sight.boxes[one]) ** 2
        poses = sight.keypoints
        return np.asarray(oks(poses[one], poses[others], areas, self._sigmas, visible=sight.sure[one]))[0]

    def _confirm(self, births: int) -> None:
        """Give numbers to those who have been seen often enough."""
        tracks = self._tracks
        fresh = np.flatnonzero((tracks.ids < 0) & (tracks.hits >= births))
        tracks.ids[fresh] = np.arange(self._next, self._next + len(fresh))
        self._next += len(fresh)
