"""The people of a video, frame by frame: found, followed, and their keypoints made steady."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch

from ..checks import check_choice
from ..detection import Detections, Detector
from ..geometry import box_ious
from ..tracking import LiveSmoother, PoseTracker
from ..video import Frame
from .finder import find_people
from .inputs import clean_boxes
from .results import Poses
from .steady import smooth_poses

if TYPE_CHECKING:
    from .predictor import Predictor

__all__ = ["FollowOptions", "Smoothing", "follow", "frames_of"]

Smoothing = Literal["live", "offline"] | None

_NOBODY = Detections(np.empty((0, 4), np.float32))
_SAME_PERSON = 0.5  # overlap from which on a box that a track expects is one that the detector found
_OF_FINDING = ("on_error", "detect_threshold", "max_people", "min_size", "person_class")


@dataclass(frozen=True)
class FollowOptions:
    """How people are followed.

    Attributes:
        track: Whether they are; else every frame stands alone.
        detect_every: Frames from one look of the detector to the next; between them people are looked for where they
            should be by now.
        smooth: None; "live": each frame as it comes; "offline": when the last one is known.
        flow: Where people should be by now is told by the optical flow, too.
        live: Frames come as they happen: none waits for others.
    """

    track: bool = True
    detect_every: int = 1
    smooth: Smoothing = None
    flow: bool = False
    live: bool = False

    def __post_init__(self) -> None:
        if self.smooth is not None:
            check_choice("smooth", self.smooth, ("live", "offline"))
        if self.detect_every < 1:
            raise ValueError(f"detect_every: expected at least 1, got {self.detect_every}")
        for name, wanted in (("detect_every", self.detect_every > 1), ("smooth", self.smooth), ("flow", self.flow)):
            if wanted and not self.track:
                raise ValueError(f"{name}: people must be followed for that; expected track=True")


def frames_of(frames: Iterable[Any], fps: float) -> Iterator[Frame]:
    """Frames of pixels that somebody else has read, and frames as they are.

    Args:
        frames: `Frame` objects, or uint8 [H, W, 3] BGR each.
        fps: How many of the latter a second has.
    """
    for index, frame in enumerate(frames):
        yield frame if isinstance(frame, Frame) else Frame(index, index / fps, frame)


def follow(
    predictor: Predictor, frames: Iterable[Frame], boxes: Any, options: FollowOptions, **predicting: Any
) -> Iterator[Poses]:
    """The people of each frame, in order; `Predictor.video` says more.

    Args:
        predictor: Finds people and their keypoints.
        frames: The video's.
        boxes: What `Predictor.stream` takes for a photo, for all frames; None: the predictor's detector is asked.
        options: How people are followed.
        predicting: `PredictOptions`.

    Yields:
        The people of a frame; those that are followed have a number in `Poses.track_ids`, others -1.
    """
    if options.live:
        predicting = {**predicting, "max_wait": 0.0}
    detector = predictor.detector if boxes is None else boxes
    tracker = _tracker(predictor, detector, predicting.get("detect_threshold")) if options.track else None
    if options.detect_every > 1:
        assert tracker is not None
        if not callable(detector):
            raise ValueError(f"boxes: expected a detector or None where detect_every is {options.detect_every}")
        found = _looked_at_times(predictor, frames, detector, tracker, options, predicting)
    else:
        found = _looked_at_each(predictor, frames, detector, tracker, options, predicting)
    if options.smooth == "live":
        return _steadied(found, LiveSmoother())
    if options.smooth == "offline":
        return iter(smooth_poses(list(found)))
    return found


def _tracker(predictor: Predictor, detector: Any, threshold: float | None) -> PoseTracker:
    """A tracker for which the boxes that this detector gives are sure."""
    if threshold is None:
        threshold = getattr(detector, "threshold", None)
    sigmas = predictor.spec.skeleton.sigmas
    return PoseTracker(sigmas) if threshold is None else PoseTracker(sigmas, sure_box=threshold)


def _looked_at_each(
    predictor: Predictor,
    frames: Iterable[Frame],
    boxes: Any,
    tracker: PoseTracker | None,
    options: FollowOptions,
    predicting: dict[str, Any],
) -> Iterator[Poses]:
    """People are looked for in every frame: frames and people are done in batches."""
    waiting: deque[Frame] = deque()

    def pairs() -> Iterator[tuple[Any, Any]]:
        for frame in frames:
            waiting.append(frame if options.flow else replace(frame, pixels=np.empty((0, 0, 3), np.uint8)))
            yield frame.pixels, boxes

    for poses in predictor.stream(pairs(), **predicting):
        frame = waiting.popleft()
        poses = _placed(poses, frame)
        yield poses if tracker is None else _tracked(tracker, poses, frame, options, detected=True)


def _looked_at_times(
    predictor: Predictor,
    frames: Iterable[Frame],
    detector: Detector,
    tracker: PoseTracker,
    options: FollowOptions,
    predicting: dict[str, Any],
) -> Iterator[Poses]:
    """People are looked for every few frames; between them they are expected.

    Where one is lost the detector looks at the next frame already, and then at ever longer intervals, as somebody may
    be hidden for a while, or have left.
    """
    finding = {name: predicting[name] for name in _OF_FINDING if name in predicting}
    since = pause = options.detect_every
    for frame in frames:
        # On a GPU the detector and the network share one copy.
        pixels = torch.from_numpy(np.ascontiguousarray(frame.pixels)).to(predictor.device)
        start, spent = time.perf_counter(), 0.0
        expected, found = _expected(tracker, frame, options), _NOBODY
        due = since >= pause
        if due:
            (people,) = find_people(pixels, detector, **finding)
            spent, since, found = (time.perf_counter() - start) * 1e3, 0, people.detections
            pause = min(2 * pause, options.detect_every)
            expected = _together(found, expected)
        since += 1
        poses = _placed(predictor(pixels, expected, **predicting), frame)
        if due:
            poses = replace(poses, milliseconds={**poses.milliseconds, "detect": spent})
        poses = _tracked(tracker, poses, frame, options, detected=due)
        if tracker.lost:
            pause = 1
        yield _without_nobody(poses, found)


def _expected(tracker: PoseTracker, frame: Frame, options: FollowOptions) -> Detections:
    """Where the tracks should be in a frame; those that have left it are nowhere."""
    boxes, scores, tracks = tracker.expected(frame.time, image=frame.pixels if options.flow else None)
    clean = clean_boxes(boxes, frame.pixels.shape[:2], f"frame {frame.index}", found=True)
    return Detections(clean.boxes, scores[clean.rows], None, tracks[clean.rows])


def _together(found: Detections, expected: Detections) -> Detections:
    """What the detector found, and those whom it has missed this time."""
    missed = box_ious(expected.boxes, found.boxes).max(1, initial=0) < _SAME_PERSON
    expected = expected[missed]
    scores = np.ones(len(found), np.float32) if found.scores is None else found.scores
    assert expected.scores is not None
    return Detections(np.concatenate([found.boxes, expected.boxes]), np.concatenate([scores, expected.scores]))


def _without_nobody(poses: Poses, found: Detections) -> Poses:
    """Without those who were expected and are not there: no track's, and not found by the detector."""
    assert poses.track_ids is not None
    detected = (poses.boxes[:, None] == found.boxes).all(2).any(1)
    return poses[(poses.track_ids >= 0) | detected]


def _placed(poses: Poses, frame: Frame) -> Poses:
    image = frame.pixels if poses.image is not None else None  # not one that came back from a GPU
    image = image if frame.pixels.size else poses.image
    return replace(poses, frame=frame.index, time=frame.time, path=frame.path, image=image)


def _tracked(tracker: PoseTracker, poses: Poses, frame: Frame, options: FollowOptions, *, detected: bool) -> Poses:
    start = time.perf_counter()
    ids = tracker.update(
        poses.keypoints,
        poses.scores,
        poses.boxes,
        poses.box_scores,
        frame.time,
        image=frame.pixels if options.flow else None,
        detected=detected,
    )
    return replace(poses, track_ids=ids, milliseconds=_and(poses, "track", start))


def _steadied(found: Iterable[Poses], smoother: Callable[..., Any]) -> Iterator[Poses]:
    for poses in found:
        start = time.perf_counter()
        points = smoother(poses.track_ids, poses.keypoints, poses.scores, poses.boxes, poses.time)
        yield replace(poses, keypoints=points, milliseconds=_and(poses, "smooth", start))


def _and(poses: Poses, stage: str, start: float) -> dict[str, float]:
    return {**poses.milliseconds, stage: (time.perf_counter() - start) * 1e3}
