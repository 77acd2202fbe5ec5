"""`python -m benchmarks.tracking`: the tracker beside SORT, ByteTrack and OC-SORT of the package `trackers`.

Rendered sequences of three levels, whose truth is known, are watched by a detector and a pose network that make
mistakes at random (fastpose.data.synthetic.watching). Every tracker gets the same boxes and scores; FastPose's gets the
poses in them, too. Somebody of whose joints less than three in twenty are seen is not asked for, and a box around them
is not wrong, as in MOTChallenge; two boxes are the same person from an overlap of 0.5 on. The others run with their
defaults, and again with two seconds of memory, as FastPose's has; the frame rate is said to them. Times are of the
tracker alone, median and by turns.

The thresholds were chosen on other seeds (--seed 1000) than those which are published (--seed 0, the default).
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Callable, Iterable
from statistics import median
from typing import Any

import numpy as np
import numpy.typing as npt

from fastpose.data.records import PoseRecords
from fastpose.data.synthetic import synthetic_sequence
from fastpose.data.synthetic.sequences import LEVELS
from fastpose.data.synthetic.watching import Seen, visible_shares, watch
from fastpose.geometry import box_ious
from fastpose.metrics.tracking import Tracks, TrackScores, score_tracks
from fastpose.skeletons import COCO17
from fastpose.tracking import PoseTracker

Array = npt.NDArray[Any]
Update = Callable[[Seen, float], tuple[Array, Array]]  # boxes and numbers of who is tracked
_MEMORY = 2.0  # seconds
_ASKED_FOR = 0.15


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tracking", description=__doc__)
    parser.add_argument("--sequences", type=int, default=21, help="of all levels together (default: %(default)s)")
    parser.add_argument("--frames", type=int, default=150)
    parser.add_argument("--fps", type=float, default=25.0)
    parser.add_argument("--seed", type=int, default=0, help="of the first sequence (default: %(default)s)")
    arguments = parser.parse_args()
    trackers = contenders(arguments.fps)
    scores: dict[tuple[str, str], list[TrackScores]] = {}
    times: dict[tuple[str, str], list[float]] = {}
    for number in range(arguments.sequences):
        level = list(LEVELS)[number % len(LEVELS)]
        truth = synthetic_sequence(level, arguments.seed + number, arguments.frames, fps=arguments.fps)
        frames = list(watch(truth, arguments.seed + number))
        for name in random.sample(list(trackers), len(trackers)):
            found, seconds = run(trackers[name](), frames, arguments.fps)
            scores.setdefault((name, level), []).append(score(truth, found))
            times.setdefault((name, level), []).extend(seconds)
    heads = [f"{level}: MOTA, IDF1, switches, ms" for level in LEVELS]
    print(f"| tracker | {' | '.join(heads)} | all: MOTA, IDF1, switches |")
    print("|" + " --- |" * (len(LEVELS) + 2))
    for name in trackers:
        cells = [row(scores[name, level]) + f", {1e3 * median(times[name, level]):.2f}" for level in LEVELS]
        everything = row([each for level in LEVELS for each in scores[name, level]])
        print(f"| {name} | {' | '.join(cells)} | {everything} |")


def row(scores: list[TrackScores]) -> str:
    """MOTA, IDF1 and switches of some sequences together."""
    figures = sum(scores[1:], scores[0]).figures()
    return f"{figures['MOTA']:.3f}, {figures['IDF1']:.3f}, {figures['switches']}"


def contenders(fps: float) -> dict[str, Callable[[], Update]]:
    """What makes a new tracker, by name."""
    import trackers

    def other(kind: str, **options: Any) -> Callable[[], Update]:
        return lambda: _Other(getattr(trackers, kind)(frame_rate=fps, **options))

    # `trackers` scales its buffer, in frames of a video of 30 a second, by the frame rate.
    memory = {"lost_track_buffer": round(_MEMORY * 30)}
    made: dict[str, Callable[[], Update]] = {"FastPose": lambda: _Ours(PoseTracker(COCO17.sigmas, patience=_MEMORY))}
    for name, kind in (("SORT", "SORTTracker"), ("ByteTrack", "ByteTrackTracker"), ("OC-SORT", "OCSORTTracker")):
        made[name] = other(kind)
        made[f"{name}, {_MEMORY:g} s"] = other(kind, **memory)
    return made


class _Ours:
    def __init__(self, tracker: PoseTracker) -> None:
        self._tracker = tracker

    def __call__(self, seen: Seen, when: float) -> tuple[Array, Array]:
        return seen.boxes, self._tracker.update(seen.keypoints, seen.scores, seen.boxes, seen.box_scores, when)


class _Other:
    def __init__(self, tracker: Any) -> None:
        self._tracker = tracker

    def __call__(self, seen: Seen, when: float) -> tuple[Array, Array]:
        import supervision

        people = supervision.Detections(
            xyxy=seen.boxes, confidence=seen.box_scores, class_id=np.zeros(len(seen.boxes), int)
        )
        found = self._tracker.update(people)
        return found.xyxy, np.full(len(found), -1) if found.tracker_id is None else found.tracker_id


def run(update: Update, frames: Iterable[Seen], fps: float) -> tuple[list[tuple[Array, Array]], list[float]]:
    """What a tracker says of each frame, and the seconds that it took."""
    found, seconds = [], []
    for number, seen in enumerate(frames):
        begin = time.perf_counter()
        boxes, numbers = update(seen, number / fps)
        seconds.append(time.perf_counter() - begin)
        tracked = np.asarray(numbers) >= 0
        found.append((np.asarray(boxes)[tracked], np.asarray(numbers)[tracked]))
    return found, seconds


def score(truth: PoseRecords, found: list[tuple[Array, Array]]) -> TrackScores:
    """The scores of one sequence, without those who can hardly be seen."""
    assert truth.track_ids is not None
    asked = visible_shares(truth) >= _ASKED_FOR
    kept = []
    for frame, (boxes, numbers) in enumerate(found):
        here = truth.image_index == frame
        for box, number in zip(boxes, numbers, strict=True):
            overlaps = box_ious(truth.boxes[here], box[None].astype(np.float32))[:, 0]
            close = asked[here][overlaps >= 0.5]
            if len(close) == 0 or close.any():  # else: only around somebody who is not asked for
                kept.append((frame, int(number), box))
    frames, numbers, boxes = (np.array(column) for column in zip(*kept, strict=True)) if kept else ([], [], [])
    return score_tracks(
        Tracks(frames=truth.image_index[asked], track_ids=truth.track_ids[asked], boxes=truth.boxes[asked]),
        Tracks(
            frames=np.array(frames, int), track_ids=np.array(numbers, int), boxes=np.array(boxes, float).reshape(-1, 4)
        ),
    )


if __name__ == "__main__":
    main()
