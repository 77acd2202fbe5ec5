"""The tracker: identities that stay, boxes that do not drift, tracks that come and go as promised."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

import cv2
import numpy as np
import pytest

from fastpose.data.records import PoseRecords
from fastpose.data.synthetic import paint_scene, synthetic_sequence
from fastpose.data.synthetic.watching import visible_shares, watch
from fastpose.geometry import box_ious
from fastpose.skeletons import COCO17
from fastpose.tracking import PoseTracker
from fastpose.tracking.similarity import close_pairs

Array = np.ndarray[Any, Any]
RNG = np.random.default_rng(0)
BODY = RNG.uniform(-1, 1, (17, 2)) * [25, 60]  # px about the middle


def people(*middles: tuple[float, float], size: float = 1.0, score: float = 0.9, box_score: float = 0.9) -> list[Array]:
    """Keypoints, scores, boxes and box scores of people with the same pose."""
    keypoints = np.array([np.add(middle, BODY * size) for middle in middles]).reshape(-1, 17, 2)
    boxes = np.concatenate([keypoints.min(1) - 10 * size, keypoints.max(1) + 10 * size], axis=1)
    return [keypoints, np.full(keypoints.shape[:2], score), boxes, np.full(len(keypoints), box_score)]


def tracker(**options: Any) -> PoseTracker:
    return PoseTracker(COCO17.sigmas, **options)


def switches(truth: PoseRecords, found: Iterator[tuple[Array, Array]]) -> int:
    """How often somebody's number changes, of those who are found with an overlap of a half."""
    known: dict[int, int] = {}
    count = 0
    for frame, (boxes, numbers) in enumerate(found):
        rows = np.flatnonzero((truth.image_index == frame) & (visible_shares(truth) >= 0.15))
        overlaps = box_ious(truth.boxes[rows], np.asarray(boxes, np.float32))
        for row in np.argsort(-overlaps.max(axis=1, initial=0)):
            if overlaps.shape[1] == 0 or overlaps[row].max() < 0.5:
                continue
            best = int(overlaps[row].argmax())
            overlaps[:, best] = 0
            if numbers[best] >= 0:
                person = int(truth.track_ids[rows[row]])  # type: ignore[index]
                count += known.get(person, numbers[best]) != numbers[best]
                known[person] = int(numbers[best])
    return count


@cache
def simple(seed: int) -> PoseRecords:
    return synthetic_sequence("simple", seed, frames=120)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("noise", [0.0, 0.5])
def test_no_switch_in_simple_sequences(noise: float, seed: int) -> None:
    truth = simple(seed)
    following = tracker()

    def found() -> Iterator[tuple[Array, Array]]:
        for number, seen in enumerate(watch(truth, seed, noise)):
            yield seen.boxes, following.update(seen.keypoints, seen.scores, seen.boxes, seen.box_scores, number / 25)

    assert switches(truth, found()) == 0


def test_numbers_are_int64_from_0_on_and_never_given_twice() -> None:
    following = tracker(patience=0.5)
    first = following.update(*people((100, 100), (300, 100)), 0.0)
    assert first.dtype == np.int64
    assert first.tolist() == [0, 1]
    for frame in range(1, 40):  # everybody leaves; long after, others come
        assert following.update(*people(), frame / 10).tolist() == []
    following.update(*people((100, 100)), 4.0)
    assert following.update(*people((100, 100)), 4.1).tolist() == [2]
    following.reset()
    assert following.update(*people((500, 100)), 0.0).tolist() == [0]


def test_who_is_new_waits_for_a_number() -> None:
    following = tracker(births=3)
    following.update(*people((100, 100)), 0.0)
    got = [following.update(*people((100, 100), (400, 100)), t / 25).tolist() for t in range(1, 5)]
    assert got == [[0, -1], [0, -1], [0, 1], [0, 1]]


def test_a_doubtful_box_goes_on_with_a_track_but_begins_none() -> None:
    following = tracker()
    following.update(*people((100, 100)), 0.0)
    weak = people((100, 100), (400, 100), box_score=0.3)
    for frame in range(1, 6):
        assert following.update(*weak, frame / 25).tolist() == [0, -1]
    assert following.update(*people((100, 100), box_score=0.05), 0.3).tolist() == [-1], "too doubtful for anything"


def test_boxes_with_nobody_in_them_begin_no_track() -> None:
    following = tracker(births=1)
    assert following.update(*people((100, 100), score=0.1), 0.0).tolist() == [-1]


def test_a_second_box_on_somebody_begins_no_track() -> None:
    following = tracker()
    for frame in range(5):
        got = following.update(*people((100, 100), (101, 101)), frame / 25)
    assert got.tolist() == [0, -1]


@pytest.mark.parametrize("fps", [5, 25, 100])
def test_patience_is_in_seconds(fps: int) -> None:
    def after(seconds: float) -> int:
        following = tracker(patience=1.0, births=1)
        following.update(*people((100, 100)), 0.0)
        for frame in range(1, round(seconds * fps)):
            following.update(*people(), frame / fps)
        return int(following.update(*people((100, 100)), seconds)[0])

    assert after(0.8) == 0
    assert after(1.4) == 1


def test_who_crosses_keeps_the_number() -> None:
    following = tracker()
    for frame in range(60):
        x = 10.0 * frame
        got = following.update(*people((x, 100), (590 - x, 115)), frame / 25)
        assert got.tolist() == [0, 1]


def test_who_stops_while_hidden_is_found_again() -> None:
    following = tracker()
    for frame in range(20):
        following.update(*people((5.0 * frame, 100)), frame / 25)
    for frame in range(20, 45):
        following.update(*people(), frame / 25)
    assert following.update(*people((105, 100)), 45 / 25).tolist() == [0]


def test_uneven_times() -> None:
    following = tracker()
    for time in np.cumsum(np.random.default_rng(1).uniform(0.01, 0.2, 60)):
        assert following.update(*people((100 + 80 * time, 100), (900 - 80 * time, 300)), time).tolist() == [0, 1]


def test_two_frames_of_the_same_time() -> None:
    following = tracker()
    following.update(*people((100, 100)), 1.0)
    assert following.update(*people((102, 100)), 1.0).tolist() == [0]
    boxes, _, _ = following.expected(1.0)
    assert np.isfinite(boxes).all()


# --- between detections -------------------------------------------------------------------------------------------
def test_expected_boxes_do_not_drift() -> None:
    """A hundred frames after the only detection; walking, growing, and keypoints that tremble."""
    rng = np.random.default_rng(3)
    following, middle = tracker(), np.array([100.0, 200.0])
    sizes = np.linspace(1.0, 2.0, 101)
    following.update(*people(tuple(middle)), 0.0)
    overlaps = []
    for frame in range(1, 101):
        middle += (6.0, 0.5)
        boxes, scores, numbers = following.expected(frame / 25)
        keypoints, marks, truth, _ = people(tuple(middle), size=float(sizes[frame]))
        keypoints = keypoints + rng.normal(0, 1.0, keypoints.shape)
        got = following.update(keypoints, marks, boxes, scores, frame / 25, detected=False)
        assert got.tolist() == [0]
        assert numbers.tolist() == [0]
        assert not following.lost
        overlaps.append(float(box_ious(boxes, truth.astype(np.float32))[0, 0]))
    assert min(overlaps) > 0.8
    assert np.mean(overlaps[-10:]) > np.mean(overlaps[:10]) - 0.03


def test_a_keypoint_that_is_lost_for_a_while_does_not_move_the_box() -> None:
    following = tracker()
    following.update(*people((100, 100)), 0.0)
    keypoints, scores, boxes, box_scores = people((100, 100))
    lowest = int(BODY[:, 1].argmax())
    scores[0, lowest] = 0.05
    keypoints[0, lowest] = 0.0
    following.update(keypoints, scores, boxes, box_scores, 0.04, detected=False)
    expected, _, _ = following.expected(0.04)
    np.testing.assert_allclose(expected, boxes, atol=0.5)


def test_scores_fade_by_time_since_the_detection() -> None:
    following = tracker(half_life=1.0)
    following.update(*people((100, 100), box_score=0.8), 0.0)
    assert following.expected(0.5)[1] == pytest.approx(0.8 * 0.5**0.5, rel=1e-5)
    boxes, scores, _ = following.expected(0.5)
    keypoints, marks, _, _ = people((100, 100))
    following.update(keypoints, marks, boxes, scores, 0.5, detected=False)
    assert following.expected(1.0)[1] == pytest.approx(0.4, rel=1e-5)


def test_a_poor_pose_loses_the_track_and_asks_for_a_detection() -> None:
    following = tracker()
    following.update(*people((100, 100)), 0.0)
    boxes, scores, _ = following.expected(0.04)
    keypoints, _, _, _ = people((100, 100))
    assert following.update(keypoints, np.full((1, 17), 0.2), boxes, scores, 0.04, detected=False).tolist() == [-1]
    assert following.lost
    assert len(following.expected(0.08)[0]) == 0
    following.update(*people(), 0.08, detected=False)
    assert not following.lost, "it is asked for once"
    assert following.update(*people((100, 100)), 0.12).tolist() == [0]


def test_a_pose_that_jumped_away_loses_the_track() -> None:
    following = tracker()
    following.update(*people((100, 100)), 0.0)
    assert following.update(*people((300, 300)), 0.04, detected=False).tolist() == [-1]
    assert following.lost


def test_nobody_is_born_between_detections() -> None:
    following = tracker(births=1)
    following.update(*people((100, 100)), 0.0)
    for frame in range(1, 5):
        assert following.update(*people((100, 100), (400, 100)), frame / 25, detected=False).tolist() == [0, -1]


def test_of_two_tracks_on_one_person_the_younger_ends() -> None:
    following = tracker()
    for frame in range(10):  # two people draw nearer, each with a box
        following.update(*people((100, 100), (200 - 9 * frame, 100)), frame / 25)
    got = following.update(*people((100, 100), (101, 100)), 0.4, detected=False)
    assert got.tolist() == [0, -1]
    assert following.lost


def test_detections_every_fifth_frame() -> None:
    truth = simple(3)
    following = tracker()

    def found() -> Iterator[tuple[Array, Array]]:
        for frame, seen in enumerate(watch(truth, 3, 0.25)):
            detected = frame % 5 == 0 or following.lost
            if detected:
                numbers = following.update(seen.keypoints, seen.scores, seen.boxes, seen.box_scores, frame / 25)
                yield seen.boxes, numbers
                continue
            boxes, scores, _ = following.expected(frame / 25)
            keypoints, marks = np.zeros((len(boxes), 17, 2)), np.full((len(boxes), 17), 0.1)
            overlaps = box_ious(boxes, seen.boxes)
            for row, overlap in enumerate(overlaps):  # the network finds whoever is most in the box
                if len(overlap) and overlap.max() > 0.3:
                    keypoints[row], marks[row] = seen.keypoints[overlap.argmax()], seen.scores[overlap.argmax()]
            yield boxes, following.update(keypoints, marks, boxes, scores, frame / 25, detected=False)

    # Two people who cross between detections, where the network finds the front one in both boxes, may be mistaken.
    assert switches(truth, found()) <= 2


# --- optical flow -------------------------------------------------------------------------------------------------
def texture() -> Array:
    noise = np.random.default_rng(5).integers(0, 255, (24, 32, 3), np.uint8)
    return np.asarray(cv2.resize(noise, (640, 480), interpolation=cv2.INTER_CUBIC))


@pytest.mark.parametrize("grey", [False, True])
def test_flow_tells_where_somebody_has_gone(grey: bool) -> None:
    """Who starts to move at once, which no velocity foretells."""
    picture = texture()
    moved = np.roll(picture, (6, 24), axis=(0, 1))
    if grey:
        picture, moved = (cv2.cvtColor(image, cv2.COLOR_BGR2GRAY) for image in (picture, moved))
    following = tracker()
    following.update(*people((300, 200)), 0.0, image=picture)
    truth = people((324, 206))[2]
    with_flow, _, _ = following.expected(0.04, image=moved)
    np.testing.assert_allclose(with_flow, truth, atol=3)
    assert np.abs(following.expected(0.05)[0] - truth).max() > 20, "without the flow of that time"


def test_flow_associates() -> None:
    """Two people alike change places as fast as they are apart: the flow alone knows."""
    picture = texture()
    moved = np.roll(picture, 40, axis=1)
    first = people((200, 200), (240, 200))
    second = people((240, 200), (280, 200))
    plain, looking = tracker(), tracker()
    plain.update(*first, 0.0)
    looking.update(*first, 0.0, image=picture)
    assert plain.update(*second, 0.04).tolist() == [1, -1]
    assert looking.update(*second, 0.04, image=moved).tolist() == [0, 1]


def test_flow_of_a_rendered_sequence() -> None:
    truth = simple(3)
    following = tracker()
    for frame in range(0, 12, 2):
        rows = truth.image_index == frame
        picture = paint_scene(truth.image_paths[frame])
        scores = np.where(truth.visible[rows] == 2, 0.9, 0.1)
        got = following.update(
            truth.keypoints[rows], scores, truth.boxes[rows], np.ones(rows.sum()), frame / 25, image=picture
        )
    assert (got >= 0).all()


def test_frames_that_change_size_have_no_flow() -> None:
    following = tracker()
    following.update(*people((100, 100)), 0.0, image=np.zeros((480, 640, 3), np.uint8))
    got = following.update(*people((100, 100)), 0.04, image=np.zeros((240, 640, 3), np.uint8))
    assert got.tolist() == [0]


@pytest.mark.parametrize(
    ("image", "error"),
    [
        (np.zeros((4, 4, 3)), TypeError),
        (np.zeros((4, 4, 4), np.uint8), ValueError),
        (np.zeros(4, np.uint8), ValueError),
    ],
)
def test_what_is_no_frame(image: Array, error: type[Exception]) -> None:
    with pytest.raises(error, match="image: expected"):
        tracker().update(*people((100, 100)), 0.0, image=image)


# --- arguments ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("which", "value", "message"),
    [
        (0, np.zeros((1, 16, 2)), r"keypoints: expected shape \[1, 17, 2\]"),
        (0, np.full((1, 17, 2), np.nan), "keypoints: expected finite"),
        (1, np.zeros((2, 17)), "scores: expected shape"),
        (2, np.zeros((1, 5)), "boxes: expected shape"),
        (3, np.zeros((1, 1)), "box_scores: expected shape"),
    ],
)
def test_bad_arrays(which: int, value: Array, message: str) -> None:
    arguments = people((100, 100))
    arguments[which] = value
    with pytest.raises(ValueError, match=message):
        tracker().update(*arguments, 0.0)


def test_time_does_not_go_back() -> None:
    following = tracker()
    following.update(*people((100, 100)), 1.0)
    with pytest.raises(ValueError, match="time: expected"):
        following.update(*people((100, 100)), 0.9)
    with pytest.raises(ValueError, match="time: expected"):
        following.expected(0.5)


@pytest.mark.parametrize("options", [{"births": 0}, {"patience": -1.0}, {"sure_box": 1.5}, {"half_life": 0.0}])
def test_thresholds_out_of_range(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(options))}: expected"):
        tracker(**options)


@pytest.mark.parametrize("sigmas", [[], [0.1, 0.0], [[0.1]]])
def test_bad_sigmas(sigmas: Any) -> None:
    with pytest.raises(ValueError, match="sigmas: expected"):
        PoseTracker(sigmas)


def test_close_pairs_are_those_that_a_search_of_all_finds() -> None:
    rng = np.random.default_rng(0)
    for count in (0, 1, 2, 40):
        centres, sides = rng.uniform(0, 200, (count, 2)), rng.uniform(20, 60, (count, 2))
        boxes = np.concatenate([centres - sides / 2, centres + sides / 2], axis=1).astype(np.float32)
        reach = np.sqrt(sides.prod(axis=1)) / 3
        apart = np.abs(centres[:, None] - centres).max(-1)
        wanted = {(i, j) for i in range(count) for j in range(i) if apart[i, j] < min(reach[i], reach[j])}
        assert {(max(pair), min(pair)) for pair in close_pairs(boxes).tolist()} == wanted
