"""Boxes of people in every form in which they come."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fastpose.detection import Detections, as_detections, run_detector

ROWS = np.array([[1, 2, 30, 40, 0.5, 0], [3, 4, 50, 60, 0.25, 7]])
PHOTO = np.zeros((70, 60, 3), np.uint8)


def test_rows_of_detectors():
    for given in (ROWS, ROWS.tolist(), torch.from_numpy(ROWS), torch.from_numpy(ROWS).to(torch.bfloat16)):
        found = as_detections(given)
        np.testing.assert_array_equal(found.boxes, ROWS[:, :4])
        np.testing.assert_array_equal(found.scores, [0.5, 0.25])
        np.testing.assert_array_equal(found.classes, [0, 7])
        assert (found.boxes.dtype, found.scores.dtype, found.classes.dtype) == (np.float32, np.float32, np.int64)
    found = as_detections(ROWS[:, :5])
    assert (len(found), found.scores.tolist(), found.classes) == (2, [0.5, 0.25], None)
    found = as_detections(ROWS[0])
    assert (found.boxes.shape, found.scores.tolist(), found.classes.tolist()) == ((1, 4), [0.5], [0])
    found = as_detections(ROWS[:, :4])
    assert (found.boxes.shape, found.scores, found.classes) == ((2, 4), None, None)
    assert as_detections([]).boxes.shape == (0, 4)
    assert as_detections(found) is found


def test_boxes_beside_scores():
    for boxes in (ROWS[:, :4], ROWS[:, :4].tolist(), torch.from_numpy(ROWS[:, :4])):
        found = as_detections((boxes, [0.5, 0.25]))
        assert (len(found), found.scores.tolist()) == (2, [0.5, 0.25])
    assert as_detections((np.zeros((0, 4)), np.zeros(0))).scores.shape == (0,)
    two_boxes = tuple(map(tuple, ROWS[:, :4].tolist()))  # a tuple of two boxes is no pair of boxes and scores
    assert len(as_detections(two_boxes)) == 2


def test_some_of_them():
    found = Detections(ROWS[:, :4], ROWS[:, 4], ROWS[:, 5], track_ids=[4, 9])
    rest = found[found.classes == 7]
    assert (rest.boxes.tolist(), rest.scores.tolist(), rest.track_ids.tolist()) == ([[3, 4, 50, 60]], [0.25], [9])
    assert found[:0].boxes.shape == (0, 4)


@pytest.mark.parametrize(
    ("found", "message"),
    [
        ([[1, 2, 3, 4, 5]], "scores: row 0 is 5, expected 0 to 1"),
        ([[1, 2, 3, 4, 0.5, 0.3]], "classes: expected whole numbers, got 0.3"),
        ([[1, 2, 3, 4, np.nan]], "scores: row 0 is nan"),
        ([[1, 2, 3, 4, 0.5, np.nan]], "classes: expected whole numbers, got nan"),
        (np.zeros((2, 7)), r"got \[2, 7\]"),
        ((np.zeros((2, 5)), np.zeros(2)), r"got \[2, 5\]"),
        ((np.zeros((2, 4)), np.zeros(3)), "scores: expected 2 values, one a box"),
        ([["a"] * 5], "expected numbers"),
        ([[1, 2, 3, 4], [1, 2, 3]], "expected numbers"),
    ],
)
def test_what_is_no_detection(found, message):
    with pytest.raises(ValueError, match=message):
        as_detections(found)


def test_a_score_that_is_none_costs_no_other_box():
    found = run_detector(lambda image: [[1, 2, 30, 40, np.nan, 0], [1, 2, 30, 40, 0.5, 0]], PHOTO)
    assert found.scores.tolist() == [0, 0.5]
    assert np.isnan(found.boxes).all(1).tolist() == [True, False]
    assert run_detector(lambda image: ([[1, 2, 30, 40]], torch.tensor([torch.nan])), PHOTO).scores.tolist() == [0]


def test_a_detector():
    assert run_detector(lambda image: [[1, 2, 30, 40]], PHOTO).scores.tolist() == [1]
    assert len(run_detector(lambda image: [], PHOTO)) == 0
    with pytest.raises(TypeError, match="detector: boxes: got None"):
        run_detector(lambda image: None, PHOTO)
    with pytest.raises(ValueError, match=r"detector: boxes: expected shape"):
        run_detector(lambda image: np.zeros((2, 3)), PHOTO)


def test_a_detector_that_fails_says_who_it_was():
    def failing(image):
        raise KeyError("boxes")

    with pytest.raises(RuntimeError, match=r"^detector: KeyError: 'boxes'$") as caught:
        run_detector(failing, PHOTO)
    assert isinstance(caught.value.__cause__, KeyError)
