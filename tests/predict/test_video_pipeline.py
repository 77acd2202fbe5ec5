"""Predictor.video: people found, followed, made steady, frame by frame."""

from __future__ import annotations

import itertools

import cv2
import numpy as np
import pytest
from fake_detector import FakeDetector
from spot_model import spots

from fastpose.detection import Detections
from fastpose.predict.steady import smooth_poses
from fastpose.video import Frame, open_video

SIZE = (140, 320)
FPS = 10.0


def place(index, start=60.0, step=6.0):
    """Where the three spots are in a frame: they walk to the right."""
    x = start + step * index
    return np.array([[x, 40], [x + 20, 70], [x - 15, 100]])


def frames(count, **walk):
    return [spots(SIZE, place(index, **walk)) for index in range(count)]


def find(image):
    """The box of what is bright, with room around it; nobody in the dark."""
    rows, columns = np.nonzero(image.numpy().max(2) > 60)
    if not len(rows):
        return Detections(np.empty((0, 4), np.float32), np.empty(0, np.float32))
    x0, x1, y0, y1 = columns.min(), columns.max(), rows.min(), rows.max()
    room = 0.3 * (y1 - y0)
    return Detections(np.float32([[x0 - room, y0 - room, x1 + room, y1 + room]]), np.float32([0.9]))


def errors(found, step=6.0):
    return [np.abs(poses.keypoints[0] - place(poses.frame, step=step)).max() for poses in found]


def test_each_frame_has_its_people_its_number_and_its_time(predictor):
    found = list(predictor.video(frames(5), FakeDetector(find), fps=FPS))
    assert [(poses.frame, round(poses.time, 3)) for poses in found] == [(i, i / FPS) for i in range(5)]
    assert [poses.track_ids.tolist() for poses in found] == [[0]] * 5
    assert max(errors(found)) < 2
    alone = predictor(frames(5), FakeDetector(find))
    for one, other in zip(found, alone, strict=True):
        np.testing.assert_array_equal(one.keypoints, other.keypoints)
    assert {"detect", "network", "track"} <= set(found[0].milliseconds)


def test_frames_of_a_file_are_done_in_batches_and_those_of_a_live_source_one_by_one(predictor):
    read = []

    def source():
        for index, pixels in enumerate(frames(6)):
            read.append(index)
            yield Frame(index, index / FPS, pixels)

    detector = FakeDetector(find)
    assert len(list(predictor.video(source(), detector, batch_size=4))) == 6
    assert detector.asked == [4, 2]
    read.clear()
    detector = FakeDetector(find)
    results = predictor.video(source(), detector, live=True)
    for index in range(6):
        assert next(results).frame == index
        assert read == list(range(index + 1))  # the next one is not waited for
    assert detector.asked == [1] * 6


def test_nothing_is_read_before_it_is_needed(predictor):
    endless = (Frame(i, i / FPS, pixels) for i, pixels in enumerate(itertools.cycle(frames(2, step=0))))
    results = predictor.video(endless, FakeDetector(find), batch_size=2)
    assert [next(results).frame for _ in range(3)] == [0, 1, 2]
    results.close()
    assert next(endless).index < 8


def test_between_detections_people_are_where_they_are_expected(predictor):
    detector = FakeDetector(find)
    found = list(predictor.video(frames(23), detector, fps=FPS, detect_every=5))
    assert len(detector.asked) == 5  # frames 0, 5, 10, 15, 20
    assert [poses.track_ids.tolist() for poses in found] == [[0]] * 23
    assert max(errors(found)) < 2
    looked = [index for index, poses in enumerate(found) if "detect" in poses.milliseconds]
    assert looked == [0, 5, 10, 15, 20]
    # The boxes neither grow nor shrink on the way.
    sides = np.array([poses.boxes[0, 2:] - poses.boxes[0, :2] for poses in found])
    assert np.ptp(sides, axis=0).max() < 10


def test_who_is_lost_is_looked_for_at_once(predictor):
    walk = frames(12)
    for index in (3, 4):
        walk[index] = np.zeros_like(walk[index])
    detector = FakeDetector(find)
    found = list(predictor.video(walk, detector, fps=FPS, detect_every=10))
    looked = [index for index, poses in enumerate(found) if "detect" in poses.milliseconds]
    assert looked == [0, 4, 6, 10]  # lost in frame 3: looked for in the next one, then ever later
    assert [len(poses) for poses in found] == [1] * 3 + [0] * 3 + [1] * 6
    assert found[-1].track_ids.tolist() == [0]  # and still the same


def test_whom_the_detector_misses_once_stays(predictor):
    calls = itertools.count()
    detector = FakeDetector(lambda image: find(image) if next(calls) != 1 else find(image * 0))
    found = list(predictor.video(frames(9), detector, fps=FPS, detect_every=4))
    assert len(detector.asked) >= 3
    assert [poses.track_ids.tolist() for poses in found] == [[0]] * 9
    assert max(errors(found)) < 2


def test_offline_smoothing_fills_a_gap_and_keeps_the_pace(predictor):
    calls = itertools.count()
    detector = FakeDetector(lambda image: find(image) if next(calls) != 4 else find(image * 0))
    found = list(predictor.video(frames(9), detector, fps=FPS, smooth="offline", batch_size=1))
    assert [poses.track_ids.tolist() for poses in found] == [[0]] * 9
    assert found[4].box_scores.tolist() == [0]
    assert max(errors(found)) < 2
    with pytest.raises(ValueError, match="frame 0 has no track_ids"):
        smooth_poses(list(predictor.video(frames(2), FakeDetector(find), track=False)))


def test_live_smoothing_makes_keypoints_steady(predictor):
    noise = np.random.default_rng(0).normal(0, 1.5, (25, 3, 2))
    still = [spots(SIZE, place(0) + offset) for offset in noise]
    plain, smooth = (
        np.array([poses.keypoints[0] for poses in predictor.video(still, FakeDetector(find), fps=30, smooth=smooth)])
        for smooth in (None, "live")
    )
    steps = [np.abs(np.diff(points[5:], axis=0)).mean() for points in (plain, smooth)]
    assert steps[1] < 0.6 * steps[0]


def test_without_tracks_nobody_has_a_number(predictor):
    assert all(poses.track_ids is None for poses in predictor.video(frames(2), FakeDetector(find), track=False))


def test_each_frame_may_be_one_person(predictor):
    found = list(predictor.video(frames(3), "whole"))
    assert [poses.boxes.tolist() for poses in found] == [[[0, 0, SIZE[1], SIZE[0]]]] * 3


def test_flow_says_where_somebody_quick_is(predictor):
    detector = FakeDetector(find)
    quick = {"start": 40.0, "step": 22.0}
    found = list(predictor.video(frames(9, **quick), detector, fps=FPS, detect_every=8, flow=True))
    assert [poses.track_ids.tolist() for poses in found] == [[0]] * 9
    distances = [np.abs(poses.keypoints[0] - place(poses.frame, **quick)).max() for poses in found]
    assert max(distances) < 2


def test_a_frame_that_is_no_picture_is_an_error_or_left_out(predictor):
    bad = [*frames(2), np.zeros((4, 4), np.float32), *frames(1)]
    with pytest.raises(TypeError, match="image 2"):
        list(predictor.video(bad, FakeDetector(find)))
    found = list(predictor.video(bad, FakeDetector(find), on_error="skip"))
    assert [poses.error is None for poses in found] == [True, True, False, True]
    assert [poses.frame for poses in found] == [0, 1, 2, 3]


def test_photos_are_kept_where_that_is_asked_for(predictor):
    walk = frames(3)
    for every in (1, 2):
        found = list(predictor.video(walk, FakeDetector(find), keep_images=True, detect_every=every))
        assert all(np.array_equal(poses.image, pixels) for poses, pixels in zip(found, walk, strict=True))
    assert next(predictor.video(walk, FakeDetector(find))).image is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"detect_every": 0}, "detect_every: expected at least 1, got 0"),
        ({"smooth": "much"}, "smooth: expected one of live, offline"),
        ({"smooth": "live", "track": False}, "smooth: people must be followed"),
        ({"detect_every": 3, "track": False}, "detect_every: people must be followed"),
        ({"flow": True, "track": False}, "flow: people must be followed"),
        ({"detect_every": 3, "boxes": "whole"}, "boxes: expected a detector"),
    ],
)
def test_what_does_not_fit_is_refused(predictor, options, message):
    boxes = options.pop("boxes", FakeDetector(find))
    with pytest.raises(ValueError, match=message):
        list(predictor.video(frames(1), boxes, **options))


def test_a_folder_of_frames_by_name_and_opened(predictor, tmp_path):
    for index, pixels in enumerate(frames(4)):
        cv2.imwrite(str(tmp_path / f"{index}.png"), pixels)
    named = list(predictor.video(tmp_path, FakeDetector(find), fps=FPS))
    with open_video(tmp_path, fps=FPS) as video:
        opened = list(predictor.video(video, FakeDetector(find)))
    for found in (named, opened):
        assert [(poses.frame, round(poses.time, 3)) for poses in found] == [(i, i / FPS) for i in range(4)]
        assert max(errors(found)) < 2
