"""What a detector and a pose network would make of people whose truth is known: for tests and comparisons of trackers.

No network runs; the mistakes are drawn at random: boxes are a little off, people who are covered are missed or get the
pose of who stands before them, and here and there is a box around nobody.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..records import PoseRecords

__all__ = ["Seen", "visible_shares", "watch"]

Array = npt.NDArray[Any]

_WHOLE = 0.5  # share of the keypoints that is seen of somebody whom nobody covers: one's own body hides the others
_MISSED = 0.03  # of those who can be seen well
_FALSE = 0.12  # boxes around nobody, a frame
_PARTS = 0.03  # second boxes around a part of somebody, a person and frame
_SUPPRESSED = 0.7  # overlap of two boxes of which a detector leaves one


@dataclass(frozen=True)
class Seen:
    """N people of a frame: keypoints [N, K, 2] px, scores [N, K], boxes [N, 4] xyxy px, box_scores [N]."""

    keypoints: Array
    scores: Array
    boxes: Array
    box_scores: Array


def visible_shares(records: PoseRecords) -> Array:
    """[N] share of each person's keypoints that is seen."""
    return np.asarray((records.visible == 2).mean(axis=1))


def watch(records: PoseRecords, seed: int = 0, noise: float = 1.0) -> Iterator[Seen]:
    """Watch a sequence.

    Args:
        records: Its truth.
        seed: Of the mistakes.
        noise: How large and frequent they are; 0 gives the truth of everybody of whom something is seen.

    Yields:
        What is seen in each frame, the best box first.
    """
    rng = np.random.Generator(np.random.PCG64([seed, 7]))
    shares = visible_shares(records)
    for frame in range(len(records.image_paths)):
        rows = np.flatnonzero(records.image_index == frame)
        people = [_person(rng, records, row, shares[row], rows, noise) for row in rows.tolist()]
        people += [_part(rng, person) for person in people if person and rng.uniform() < _PARTS * noise]
        people += [_nobody(rng, records, frame) for _ in range(rng.poisson(_FALSE * noise))]
        yield _suppress([person for person in people if person], records.skeleton.num_keypoints)


def _person(
    rng: np.random.Generator, records: PoseRecords, row: int, share: float, others: Array, noise: float
) -> tuple[Array, Array, Array, float] | None:
    share = min(1.0, share / _WHOLE)
    found = np.clip((share - 0.15) / 0.5, 0, 1) * (1 - _MISSED * noise)
    # Drawn whether or not they are of use, so that what is seen of one person does not hang on another.
    luck, snaps, score, sides = rng.uniform(), rng.uniform(), rng.normal(), rng.normal(size=4)
    wobble, trust = rng.normal(size=records.keypoints[row].shape), rng.normal(size=len(records.keypoints[row]))
    elsewhere = rng.uniform(size=wobble.shape)
    if luck > found or share == 0:
        return None
    box = records.boxes[row].astype(float)
    size = float(np.sqrt(np.prod(box[2:] - box[:2])))
    box = box + noise * sides * (0.02 + 0.06 * (1 - share)) * np.tile(box[2:] - box[:2], 2)
    source = row
    before = [(_overlap(records.boxes[other], records.boxes[row]), int(other)) for other in others[others > row]]
    if snaps < noise * (0.9 - share) and max(before, default=(0.0, row))[0] > 0.3:
        source = max(before)[1]  # the network takes who stands before them
    visible = records.visible[source]
    spread = np.choose(visible, (0.0, 0.04, 0.015))[:, None] * size * noise
    guess = box[:2] + elsewhere * (box[2:] - box[:2])
    points = np.where(visible[:, None] > 0, records.keypoints[source] + spread * wobble, guess)
    scores = np.clip(np.choose(visible, (0.08, 0.4, 0.85)) + 0.08 * noise * trust, 0.01, 1)
    return points, scores, box, float(np.clip(0.35 + 0.57 * share**0.5 + 0.07 * noise * score, 0.02, 0.99))


def _part(rng: np.random.Generator, person: tuple[Array, Array, Array, float]) -> tuple[Array, Array, Array, float]:
    points, scores, box, _ = person
    cut = box.copy()
    cut[3] = box[1] + rng.uniform(0.35, 0.6) * (box[3] - box[1])
    return points + rng.normal(0, 1, points.shape), scores * 0.7, cut, float(rng.uniform(0.15, 0.6))


def _nobody(rng: np.random.Generator, records: PoseRecords, frame: int) -> tuple[Array, Array, Array, float]:
    height, width = records.image_sizes[frame]
    tall = rng.uniform(0.15, 0.5) * height
    corner = rng.uniform(0, 1, 2) * (width - 0.4 * tall, height - tall)
    box = np.concatenate([corner, corner + np.array([0.4 * tall, tall])])
    joints = records.skeleton.num_keypoints
    points = box[:2] + rng.uniform(size=(joints, 2)) * (box[2:] - box[:2])
    return points, rng.uniform(0.02, 0.35, joints), box, float(rng.beta(2, 3))


def _suppress(people: list[tuple[Array, Array, Array, float]], joints: int) -> Seen:
    kept: list[tuple[Array, Array, Array, float]] = []
    for person in sorted(people, key=lambda person: -person[3]):
        if all(_overlap(person[2], other[2]) <= _SUPPRESSED for other in kept):
            kept.append(person)
    columns = list(zip(*kept, strict=True)) if kept else [(), (), (), ()]
    shapes = ((-1, joints, 2), (-1, joints), (-1, 4), (-1,))
    arrays = [np.array(c, np.float32).reshape(s) for c, s in zip(columns, shapes, strict=True)]
    return Seen(*arrays)


def _overlap(a: Array, b: Array) -> float:
    shared = np.prod(np.maximum(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0))
    return float(shared / (np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2]) - shared))
