"""Smoothing, live and offline, of signals that are known: lag, noise gain, a jump, gaps, exchanged sides."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from fastpose.tracking import LiveSmoother, smooth_offline
from fastpose.tracking.offline import FILLED

Array = np.ndarray[Any, Any]
SIZE = 100.0  # px of the person
BOX = [[0.0, 0.0, SIZE, SIZE]]


def live(signal: Array, fps: float = 30.0, scores: Array | None = None, **options: Any) -> Array:
    """[T, 2] smoothed as one keypoint of one person."""
    smoother = LiveSmoother(**options)
    marks = np.ones(len(signal)) if scores is None else scores
    frames = zip(signal, marks, strict=True)
    return np.array([smoother([3], p[None, None], [[s]], BOX, i / fps)[0, 0] for i, (p, s) in enumerate(frames)])


def offline(signal: Array, fps: float = 30.0, scores: Array | None = None, **options: Any) -> Array:
    marks = np.ones((len(signal), 1)) if scores is None else scores[:, None]
    times, sizes = np.arange(len(signal)) / fps, np.full(len(signal), SIZE)
    return smooth_offline(times, signal[:, None], marks, sizes, [], **options)[0][:, 0]


def ramp(speed: float, fps: float, seconds: float = 4.0) -> Array:
    """Somebody who moves by so many sizes a second."""
    times = np.arange(round(seconds * fps)) / fps
    return np.stack([times * speed * SIZE, np.zeros_like(times)], axis=1)


# --- live ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("fps", [15, 30, 60])
@pytest.mark.parametrize("speed", [0.25, 1.0, 4.0])
def test_lag_of_a_ramp(speed: float, fps: float) -> None:
    """A first-order low-pass of the cutoff f lags by 1 / (2 pi f), whatever the frame rate."""
    signal = ramp(speed, fps)
    lag = (signal - live(signal, fps))[-1, 0] / SIZE
    assert lag == pytest.approx(speed / (2 * math.pi * (1.0 + 8.0 * speed)), rel=0.02)
    assert lag < 0.02


@pytest.mark.parametrize(("fps", "gain"), [(15, 0.52), (30, 0.41), (60, 0.32)])
def test_noise_gain_of_who_stands_still(fps: int, gain: float) -> None:
    noise = np.random.default_rng(0).normal(0, 0.01 * SIZE, (fps * 60, 2))
    assert live(noise, fps)[fps * 5 :].std() / noise.std() == pytest.approx(gain, abs=0.03)


def test_a_jump_is_followed_at_once() -> None:
    signal = np.zeros((60, 2))
    signal[30:, 0] = 1.0 * SIZE
    smooth = live(signal)[:, 0] / SIZE
    assert np.all(smooth[:30] == 0)
    assert smooth[31] > 0.9
    assert smooth.max() <= 1


def test_far_and_near_people_are_smoothed_alike() -> None:
    signal = np.cumsum(np.random.default_rng(0).normal(0, 1, (50, 2)), axis=0)
    near = LiveSmoother()
    large = [near([1], 10 * p[None, None], [[1]], 10 * np.array(BOX), i / 30)[0, 0] for i, p in enumerate(signal)]
    np.testing.assert_allclose(np.array(large) / 10, live(signal), rtol=1e-4, atol=1e-4)


def test_a_doubtful_keypoint_pulls_less() -> None:
    signal, scores = np.zeros((30, 2)), np.ones(30)
    signal[20], scores[20] = 0.3 * SIZE, 0.05
    sure, doubtful = live(signal)[20, 0], live(signal, scores=scores)[20, 0]
    assert 0 < doubtful < 0.1 * sure
    scores[20] = 0.0
    assert live(signal, scores=scores)[20, 0] == 0


def test_state_is_the_tracks_own_and_forgotten_with_it() -> None:
    smoother = LiveSmoother(patience=0.5)
    points, boxes = np.array([[[0.0, 0.0]], [[500.0, 0.0]]]), BOX * 2
    smoother([4, 9], points, np.ones((2, 1)), boxes, 0.0)
    got = smoother([9, 4], points[::-1] + 1, np.ones((2, 1)), boxes, 0.1)  # in another order
    assert np.abs(got - points[::-1]).max() < 1
    smoother([4], points[:1], np.ones((1, 1)), BOX, 0.5)
    again = smoother([9, 4], points[::-1] + 30, np.ones((2, 1)), boxes, 0.8)
    np.testing.assert_array_equal(again[0], points[1] + 30)  # 0.7 s away: anew
    assert again[1, 0, 0] < 30
    smoother.reset()
    np.testing.assert_array_equal(smoother([4], points[1:], np.ones((1, 1)), BOX, 0.0), points[1:])


def test_nobodys_pose_is_given_back_as_is() -> None:
    smoother = LiveSmoother()
    for frame in range(4):
        points = np.full((2, 1, 2), 10.0 * frame)
        got = smoother([-1, -1], points, np.ones((2, 1)), BOX * 2, frame / 30)
        np.testing.assert_array_equal(got, points)
    assert smoother(np.zeros(0, int), np.zeros((0, 1, 2)), np.zeros((0, 1)), np.zeros((0, 4)), 1.0).shape == (0, 1, 2)


def test_live_uneven_times_and_a_frame_twice() -> None:
    smoother = LiveSmoother()
    times = np.sort(np.random.default_rng(2).uniform(0, 3, 60)).repeat(2)
    got = [smoother([1], [[[t * SIZE, 0.0]]], [[1.0]], BOX, t)[0, 0, 0] for t in times]
    assert np.isfinite(got).all()
    assert np.abs(np.array(got) - times * SIZE)[20:].max() < 0.03 * SIZE


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([1, 1], np.zeros((2, 1, 2)), np.ones((2, 1)), BOX * 2, 0.0), "each number once"),
        (([1.5], np.zeros((1, 1, 2)), np.ones((1, 1)), BOX, 0.0), "whole numbers"),
        (([1], np.zeros((1, 2)), np.ones((1, 1)), BOX, 0.0), "keypoints: expected shape"),
        (([1], np.zeros((1, 1, 2)), np.ones((1, 2)), BOX, 0.0), "scores: expected shape"),
        (([1], np.full((1, 1, 2), np.inf), np.ones((1, 1)), BOX, 0.0), "keypoints: expected finite"),
        (([1], np.zeros((1, 1, 2)), np.ones((1, 1)), BOX, math.nan), "time: expected"),
    ],
)
def test_live_bad_arguments(arguments: tuple[Any, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LiveSmoother()(*arguments)


@pytest.mark.parametrize("options", [{"min_cutoff": 0.0}, {"speed_cutoff": -1.0}, {"patience": math.inf}])
def test_live_bad_options(options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(options))}: expected"):
        LiveSmoother(**options)


def test_live_time_does_not_go_back_and_skeletons_do_not_change() -> None:
    smoother = LiveSmoother()
    smoother([1], np.zeros((1, 1, 2)), np.ones((1, 1)), BOX, 1.0)
    with pytest.raises(ValueError, match="time: expected"):
        smoother([1], np.zeros((1, 1, 2)), np.ones((1, 1)), BOX, 0.9)
    with pytest.raises(ValueError, match="keypoints: expected 1 a person"):
        smoother([1], np.zeros((1, 2, 2)), np.ones((1, 2)), BOX, 1.1)


# --- offline ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("fps", [10, 30])
def test_a_ramp_has_no_lag(fps: float) -> None:
    signal = ramp(2.0, fps)
    np.testing.assert_allclose(offline(signal, fps), signal, atol=0.02)


def test_acceleration_passes() -> None:
    times = np.arange(60) / 30
    signal = np.stack([0.5 * 300 * times**2, 40 * times], axis=1)
    np.testing.assert_allclose(offline(signal), signal, atol=0.05)


@pytest.mark.parametrize(("fps", "gain"), [(15, 0.58), (30, 0.41), (60, 0.29)])
def test_noise_gain(fps: int, gain: float) -> None:
    noise = np.random.default_rng(0).normal(0, 1, (fps * 60, 2))
    assert offline(noise, fps)[fps:-fps].std() == pytest.approx(gain, abs=0.02)


def test_a_jump_happens_when_it_happens() -> None:
    signal = np.zeros((60, 2))
    signal[30:] = SIZE
    smooth = offline(signal)[:, 0] / SIZE
    np.testing.assert_allclose(smooth + smooth[::-1], 1, atol=1e-5)
    assert smooth[29] < 0.5 < smooth[30]
    np.testing.assert_allclose(smooth[[15, -16]], [0, 1], atol=1e-3)


def test_the_same_in_reverse() -> None:
    rng = np.random.default_rng(1)
    times, keypoints = np.cumsum(rng.uniform(0.01, 0.12, 200)), rng.normal(0, 9, (200, 3, 2))
    scores, sizes = rng.uniform(0, 1, (200, 3)), rng.uniform(50, 90, 200)
    forward = smooth_offline(times, keypoints, scores, sizes, [(0, 1)])
    backward = smooth_offline(-times[::-1], keypoints[::-1], scores[::-1], sizes[::-1], [(0, 1)])
    for a, b in zip(forward, backward, strict=True):
        np.testing.assert_allclose(a, b[::-1], atol=1e-4)


def test_short_gaps_are_filled_and_long_ones_left() -> None:
    signal, scores = ramp(1.0, 30.0, 2.0), np.full(60, 0.8)
    scores[10:14] = 0.0  # 5 / 30 s from the frame before to the one after
    scores[30:45] = 0.1
    given = signal.copy()
    given[10:14], given[30:45] = np.nan, 7.0
    smooth, marks = smooth_offline(np.arange(60) / 30, given[:, None], scores[:, None], np.full(60, SIZE), [])
    np.testing.assert_allclose(smooth[10:14, 0], signal[10:14], atol=0.1)
    np.testing.assert_allclose(marks[10:14], FILLED * 0.8)
    np.testing.assert_array_equal(smooth[30:45, 0], given[30:45])
    np.testing.assert_allclose(marks[30:45], 0.1)
    np.testing.assert_allclose(smooth[45:, 0], signal[45:], atol=0.1)
    np.testing.assert_allclose(np.delete(marks, [*range(10, 14), *range(30, 45)]), 0.8)


def test_nothing_is_smoothed_across_a_long_gap() -> None:
    times = np.concatenate([np.arange(20), np.arange(20) + 40]) / 30
    signal = np.zeros((40, 1, 2))
    signal[20:] = SIZE
    smooth, _ = smooth_offline(times, signal, np.ones((40, 1)), np.full(40, SIZE), [])
    np.testing.assert_allclose(smooth, signal, atol=1e-4)


def test_missing_at_the_ends_stays_missing() -> None:
    signal = np.full((9, 1, 2), 5.0)
    signal[[0, -1]] = np.nan
    smooth, marks = smooth_offline(np.arange(9) / 30, signal, np.ones((9, 1)), np.full(9, SIZE), [])
    assert np.isnan(smooth[[0, -1]]).all()
    np.testing.assert_allclose(smooth[1:-1], 5)
    assert np.isfinite(marks).all()


def walk(seed: int, noise: float = 1.0) -> tuple[Array, Array]:
    """Two ankles that cross each other twice a second, and what a network sees of them."""
    times = np.arange(300) / 30
    swing = 25 * np.sin(2 * np.pi * times)
    truth = np.stack([np.stack([100 * times + s * swing, 0 * times], 1) for s in (1, -1)], axis=1)
    return truth, truth + np.random.default_rng(seed).normal(0, noise, truth.shape)


def test_limbs_that_cross_are_left_alone() -> None:
    truth, seen = walk(0)
    smooth, _ = smooth_offline(np.arange(300) / 30, seen, np.ones((300, 2)), np.full(300, SIZE), [(0, 1)])
    assert np.abs(smooth - truth).max() < 3


def test_exchanged_sides_are_put_right() -> None:
    wrong = total = 0
    for seed in range(12):
        truth, seen = walk(seed)
        rng, swapped = np.random.default_rng(seed), np.zeros(300, bool)
        for begin in rng.integers(5, 280, 6):
            swapped[begin : begin + rng.integers(1, 10)] = True
        seen[swapped] = seen[swapped][:, ::-1]
        scores = np.where(swapped[:, None], [0.6, 0.9], [0.9, 0.6])
        smooth, marks = smooth_offline(np.arange(300) / 30, seen, scores, np.full(300, SIZE), [(0, 1)])
        off = np.linalg.norm(smooth - truth, axis=-1).max(axis=1) > 8
        wrong, total = wrong + int((off & swapped).sum()), total + int(swapped.sum())
        right = swapped & ~off
        assert np.mean(marks[right, 0] > marks[right, 1]) > 0.8, "scores go along"
    assert wrong < 0.15 * total
    unrepaired, _ = smooth_offline(np.arange(300) / 30, seen, scores, np.full(300, SIZE), [])
    assert (np.linalg.norm(unrepaired - truth, axis=-1).max(axis=1) > 8).sum() > 0.5 * swapped.sum()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"times": np.array([0.0, 0.1, 0.1])}, "times: expected each to be later"),
        ({"times": np.zeros(2)}, "times: expected shape"),
        ({"keypoints": np.zeros((3, 2))}, "keypoints: expected shape"),
        ({"scores": np.ones((3, 2))}, "scores: expected shape"),
        ({"scores": np.full((3, 1), np.nan)}, "scores: expected finite"),
        ({"sizes": np.zeros(3)}, "sizes: expected numbers above 0"),
        ({"bandwidth": 0.0}, "bandwidth: expected"),
        ({"longest_gap": -1.0}, "longest_gap: expected"),
    ],
)
def test_offline_bad_arguments(change: dict[str, Any], message: str) -> None:
    arguments: dict[str, Any] = {
        "times": np.arange(3) / 30,
        "keypoints": np.zeros((3, 1, 2)),
        "scores": np.ones((3, 1)),
        "sizes": np.ones(3),
        "flip_pairs": [],
    }
    with pytest.raises(ValueError, match=message):
        smooth_offline(**(arguments | change))


def test_an_empty_track() -> None:
    smooth, scores = smooth_offline(np.zeros(0), np.zeros((0, 4, 2)), np.zeros((0, 4)), np.zeros(0), [(0, 1)])
    assert smooth.shape == (0, 4, 2)
    assert scores.shape == (0, 4)
