"""Rendered sequences: the same for the same numbers, truth that agrees with the pictures, people who act as said."""

from __future__ import annotations

import numpy as np
import pytest

from fastpose.data.images import ImageError
from fastpose.data.photos import load_image
from fastpose.data.synthetic import is_scene, paint_scene, synthetic_sequence
from fastpose.data.synthetic.sequences import LEVELS
from fastpose.data.synthetic.walking import Stage, plan_walk, walk
from fastpose.data.synthetic.watching import watch
from fastpose.skeletons import COCO17

SIZE = (180, 320)


def frames_of(records, person):
    return records.image_index[records.track_ids == person]


def test_form():
    records = synthetic_sequence("medium", 3, frames=12, size=SIZE, fps=10)
    assert len(records.image_paths) == 12
    assert records.skeleton is COCO17
    assert records.image_ids.tolist() == list(range(1, 13))
    assert records.track_ids.min() >= 0
    assert (records.boxes[:, 2:] > records.boxes[:, :2]).all()
    for frame in range(12):
        here = records.track_ids[records.image_index == frame]
        assert len(set(here.tolist())) == len(here)


def test_the_same_numbers_give_the_same_sequence_and_more_frames_go_on_with_it():
    first, longer = (synthetic_sequence("simple", 5, frames=n, size=SIZE) for n in (6, 9))
    other = synthetic_sequence("simple", 6, frames=6, size=SIZE)
    shared = longer.image_index < 6
    np.testing.assert_array_equal(first.keypoints, longer.keypoints[shared])
    np.testing.assert_array_equal(first.track_ids, longer.track_ids[shared])
    assert [str(path) for path in first.image_paths] == [str(path) for path in longer.image_paths[:6]]
    assert first.keypoints.shape != other.keypoints.shape or (first.keypoints != other.keypoints).any()
    np.testing.assert_array_equal(paint_scene(first.image_paths[4]), paint_scene(longer.image_paths[4]))


def test_pictures_show_the_people_where_the_truth_has_them():
    records = synthetic_sequence("simple", 3, frames=40, size=SIZE)
    path = records.image_paths[0]
    assert is_scene(path)
    pictures = [load_image(records.image_paths[frame]).astype(int) for frame in (0, 10)]
    assert pictures[0].shape == (*SIZE, 3)
    changed = np.abs(pictures[1] - pictures[0]).max(axis=2) > 40
    inside = np.zeros(SIZE, bool)
    for row in np.flatnonzero(np.isin(records.image_index, (0, 10))):
        x0, y0, x1, y1 = records.boxes[row]
        inside[max(0, int(y0) - 2) : int(y1) + 12, max(0, int(x0) - 8) : int(x1) + 9] = True  # with the shadows
    assert changed.sum() > 200
    assert not (changed & ~inside).any(), "nothing but people moves"


def test_people_move_smoothly():
    records = synthetic_sequence("hard", 1, frames=30, size=SIZE, fps=25)
    hips = COCO17.index("left_hip")
    for person in set(records.track_ids.tolist()):
        rows = np.flatnonzero((records.track_ids == person) & (records.visible[:, hips] > 0))
        rows = rows[np.concatenate([[True], np.diff(records.image_index[rows]) == 1])]
        steps = np.diff(records.keypoints[rows, hips], axis=0)
        assert np.abs(steps).max(initial=0) < 8


def test_somebody_leaves_and_returns_with_the_same_number():
    stage = Stage((360, 640), 120.0)
    returned = 0
    for seed in range(4):
        records = synthetic_sequence("simple", seed, frames=150, size=SIZE)
        returned += any(np.diff(frames_of(records, person)).max(initial=1) > 3 for person in range(4))
    assert returned >= 1
    steps = walk(plan_walk(np.random.default_rng(0), stage, "return", 200.0), 0.8, 0.0, 250, 25.0)
    shares = np.array([stage.ground(step.place)[0] for step in steps]) / 640
    outside = (shares < 0) | (shares > 1)
    assert outside.any()
    assert not outside[0]
    assert (np.diff(outside.astype(int)) == -1).any(), "back again"


def test_somebody_rests_and_stands_then():
    stage = Stage((360, 640), 120.0)
    steps = walk(plan_walk(np.random.default_rng(1), stage, "stop", 200.0), 0.8, 0.0, 250, 25.0)
    moved = np.linalg.norm(np.diff([step.place for step in steps], axis=0), axis=1) * 25
    resting = moved < 0.02
    assert resting.sum() > 10
    assert not resting[:10].any()
    assert max(step.swing for step, still in zip(steps, resting, strict=False) if still) < 0.1
    assert max(step.swing for step in steps) > 0.8


def test_people_cover_each_other_in_hard_ones():
    records = synthetic_sequence("hard", 1, frames=25, size=SIZE, fps=5)
    seen = (records.visible == 2).mean(axis=1)
    assert (seen < 0.15).sum() > 5


def test_what_is_watched():
    records = synthetic_sequence("simple", 0, frames=20, size=SIZE)
    exact, again, noisy = (list(watch(records, 1, noise)) for noise in (0.0, 0.0, 1.0))
    assert len(exact) == 20
    for frame, seen in enumerate(exact):
        np.testing.assert_array_equal(seen.boxes, again[frame].boxes)
        truth = records.boxes[records.image_index == frame]
        assert all(np.abs(truth - box).max(axis=1).min() < 1e-4 for box in seen.boxes)
        assert (np.diff(seen.box_scores) <= 0).all()
        assert seen.keypoints.shape == (len(seen.boxes), 17, 2)
        assert seen.keypoints.dtype == np.float32
    assert any(len(a.boxes) != len(b.boxes) or (a.boxes != b.boxes).any() for a, b in zip(exact, noisy, strict=True))


def test_levels_are_of_rising_difficulty():
    crowds = [LEVELS[level].people[1] for level in ("simple", "medium", "hard")]
    assert crowds == sorted(crowds)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"level": "easy"}, "level: expected one of simple, medium, hard"),
        ({"seed": -1}, "seed: expected"),
        ({"frames": -1}, "frames: expected"),
        ({"size": (8, 320)}, "size: expected"),
        ({"fps": 0.0}, "fps: expected"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        synthetic_sequence(**arguments)


@pytest.mark.parametrize(
    "name", ["simple:0:180x320:25", "easy:0:180x320:25:3", "simple:0:180x320:25:-1", "simple:x:180x320:25:3"]
)
def test_bad_paths(name):
    with pytest.raises(ImageError, match="is no scene; expected synthetic:sequence:LEVEL"):
        load_image(f"synthetic:sequence:{name}")


def test_no_frames():
    assert len(synthetic_sequence("simple", 0, frames=0).image_paths) == 0
