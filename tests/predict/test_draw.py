"""Drawings: the right pixels, in the colours of the sides, as thick as the person is large."""

from __future__ import annotations

import numpy as np
import pytest

from fastpose.predict import draw_poses
from fastpose.skeletons import COCO17, Skeleton

STICK = Skeleton("stick", ("left_hand", "right_hand", "head"), links=(("left_hand", "head"), ("right_hand", "head")))
POINTS = np.array([[[80.0, 90], [20, 90], [50, 10]]])
ORANGE, BLUE = (50, 150, 255), (255, 160, 60)


def draw(points=POINTS, scores=None, size=(100, 100), **options):
    image = np.zeros((*size, 3), np.uint8)
    scores = np.ones(points.shape[:2]) if scores is None else scores
    return draw_poses(image, points, scores, STICK, **options)


def test_sides_have_their_colours():
    picture = draw()
    assert tuple(picture[90, 80]) == ORANGE
    assert tuple(picture[90, 20]) == BLUE
    # The middles of the limbs, which are so thin here that they are blended with their rim.
    assert np.abs(picture[50, 65].astype(int) - ORANGE).max() < 40
    assert np.abs(picture[50, 35].astype(int) - BLUE).max() < 40
    assert (picture[0, 0] == 0).all()


@pytest.mark.parametrize(
    "names", [("Left Hand", "Right Hand"), ("handL", "handR"), ("LHand", "RHand"), ("hand (left)", "hand (right)")]
)
def test_sides_have_their_colours_in_every_spelling(names):
    other = Skeleton("stick", (*names, "head"), links=((names[0], "head"), (names[1], "head")))
    picture = draw_poses(np.zeros((100, 100, 3), np.uint8), POINTS, np.ones((1, 3)), other)
    np.testing.assert_array_equal(picture, draw())


def test_image_is_left_as_it_is():
    image = np.full((100, 100, 3), 7, np.uint8)
    image.flags.writeable = False
    picture = draw_poses(image, POINTS, np.ones((1, 3)), STICK)
    assert (image == 7).all()
    assert (picture != 7).any()


def test_low_scores_and_missing_points_are_left_out():
    assert (draw(scores=np.full((1, 3), 0.1)) == 0).all()
    one_hand = draw(scores=np.array([[1.0, 0.1, 1.0]]))
    assert tuple(one_hand[90, 80]) == ORANGE
    assert (one_hand[90, 20] == 0).all()
    assert (one_hand[50, 35] == 0).all()
    points = POINTS.copy()
    points[0, 1] = np.nan
    np.testing.assert_array_equal(draw(points), one_hand)
    points[0, 1] = 1e30
    np.testing.assert_array_equal(draw(points), one_hand)
    np.testing.assert_array_equal(draw(np.zeros((0, 3, 2))), np.zeros((100, 100, 3)))


def test_lines_grow_with_the_person():
    small = draw(POINTS + 100, size=(1100, 1100))
    large = draw(POINTS * 10, size=(1100, 1100))
    assert (large > 0).any(axis=2).sum() > 30 * (small > 0).any(axis=2).sum()
    given = draw(POINTS + 100, size=(1100, 1100), sizes=np.array([[800.0, 800]]))
    assert (given > 0).any(axis=2).sum() > 3 * (small > 0).any(axis=2).sum()


def test_edges_are_smooth():
    white = draw_poses(np.full((100, 100, 3), 255, np.uint8), POINTS, np.ones((1, 3)), STICK)
    assert len(np.unique(white[..., 0])) > 20


def test_half_a_pixel_is_seen():
    assert (draw(POINTS + 0.5) != draw()).any()


def test_points_outside_the_photo_are_clipped():
    picture = draw(POINTS - [[[60.0, 0]]])
    assert tuple(picture[90, 20]) == ORANGE
    assert picture.shape == (100, 100, 3)


def test_boxes_are_drawn_when_asked_for():
    picture = draw(boxes=np.array([[5.0, 5, 95, 97]]))
    assert (picture[5, 50] > 150).all()
    assert (picture[97, 50] > 150).all()


def test_boxes_may_stick_out_far():
    np.testing.assert_array_equal(draw(boxes=np.array([[-1e9, -1e9, 1e9, 1e9]])), draw())


def test_shapes_are_checked():
    image = np.zeros((9, 9, 3), np.uint8)
    with pytest.raises(ValueError, match=r"expected \[N, 17, 2\] and \[N, 17\] for 'coco17', got \[1, 3, 2\]"):
        draw_poses(image, POINTS, np.ones((1, 3)), COCO17)
    with pytest.raises(ValueError, match="got"):
        draw_poses(image, POINTS, np.ones((2, 3)), STICK)


def test_who_is_followed_has_a_number_above_the_head():
    image = np.zeros((200, 200, 3), np.uint8)
    points = np.tile(np.float32([100, 120]), (2, 17, 1)) + np.arange(17)[:, None] * np.float32([1, 3])
    points[1] -= 60
    scores = np.ones((2, 17))
    plain = draw_poses(image, points, scores, COCO17)
    numbered = draw_poses(image, points, scores, COCO17, track_ids=np.array([7, -1]))
    rows, columns = np.nonzero((plain != numbered).any(2))
    assert len(rows)
    assert rows.max() < 120  # above the first, and nothing at the second, who is nobody's track
    assert 90 < columns.mean() < 130
