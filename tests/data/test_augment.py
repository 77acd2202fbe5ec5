"""Random crops: matrices against points, against a warped picture, and against the stated distributions."""

import dataclasses

import cv2
import numpy as np
import pytest
from scipy import stats

from fastpose.codecs import build_codec
from fastpose.data import augment
from fastpose.data.augment import Augmentation, draw_table, make_crops, plain_crops
from fastpose.skeletons import COCO17, Skeleton
from fastpose.spec import PoseSpec

SPEC = PoseSpec(COCO17, (128, 96), build_codec("gaussian", heatmap_size=(32, 24)))
STILL = Augmentation(flip_prob=0, half_body_prob=0, shift_prob=0, scale_prob=0, rotate_prob=0)


def people(count, seed=0):
    rng = np.random.default_rng(seed)
    corner = rng.uniform(20, 60, (count, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(40, 120, (count, 2))], 1).astype(np.float32)
    inside = rng.uniform(0.1, 0.9, (count, 17, 2)).astype(np.float32)
    keypoints = boxes[:, None, :2] + inside * (boxes[:, None, 2:] - boxes[:, None, :2])
    return boxes, keypoints, np.ones((count, 17), np.float32)


@pytest.mark.parametrize("udp", [False, True])
def test_keypoints_are_where_the_warped_picture_shows_them(udp):
    boxes, keypoints, weights = people(40)
    spec = SPEC.replace(udp=udp)
    crops = make_crops(boxes, keypoints, weights, draw_table(3, 0, 40), spec, Augmentation(scale=(0.9, 1.1)))
    assert 5 < crops.flipped.sum() < 35
    mirror = np.array(COCO17.flip_index)
    checked = 0
    for person in range(40):
        joint = 9 if crops.flipped[person] else 10  # a wrist: its index changes in a mirror
        source = mirror[joint] if crops.flipped[person] else joint
        picture = np.zeros((260, 260), np.float32)
        x, y = keypoints[person, source]
        grid_y, grid_x = np.mgrid[:260, :260]
        picture[:] = np.exp(-((grid_x - x) ** 2 + (grid_y - y) ** 2) / (2 * 3.0**2))
        warped = cv2.warpAffine(picture, crops.matrices[person], (96, 128), flags=cv2.INTER_LINEAR)
        there = crops.keypoints[person, joint]
        if not (15 < there[0] < 80 and 15 < there[1] < 112):
            continue
        rows, columns = np.mgrid[:128, :96]
        centroid = np.array([(warped * columns).sum(), (warped * rows).sum()]) / warped.sum()
        np.testing.assert_allclose(centroid, there, atol=0.1)
        checked += 1
    assert checked > 20


def test_flip_exchanges_left_and_right_and_their_weights():
    boxes, keypoints, weights = people(1)
    weights[0, COCO17.index("left_wrist")] = 0
    still = make_crops(boxes, keypoints, weights, draw_table(0, 0, 1), SPEC, STILL)
    settings = Augmentation(flip_prob=1, half_body_prob=0, shift_prob=0, scale_prob=0, rotate_prob=0)
    flipped = make_crops(boxes, keypoints, weights, draw_table(0, 0, 1), SPEC, settings)
    left, right = COCO17.index("left_wrist"), COCO17.index("right_wrist")
    assert flipped.weights[0, right] == 0
    assert flipped.weights[0, left] == 1
    mirrored = still.keypoints[0, left] * [-1, 1] + [95, 0]
    np.testing.assert_allclose(flipped.keypoints[0, right], mirrored, atol=1e-4)
    nose = COCO17.index("nose")
    np.testing.assert_allclose(flipped.keypoints[0, nose], still.keypoints[0, nose] * [-1, 1] + [95, 0], atol=1e-4)


def test_nothing_is_mirrored_where_the_mirror_is_not_known():
    boxes, keypoints, weights = people(20)
    numbers = Skeleton.from_names("numbers", [str(number) for number in range(17)])
    settings = Augmentation(flip_prob=1)
    assert make_crops(boxes, keypoints, weights, draw_table(0, 0, 20), SPEC, settings).flipped.all()
    spec = SPEC.replace(skeleton=numbers)
    assert not make_crops(boxes, keypoints, weights, draw_table(0, 0, 20), spec, settings).flipped.any()


def test_nothing_random_is_the_crop_of_prediction():
    boxes, keypoints, weights = people(7)
    still = make_crops(boxes, keypoints, weights, draw_table(0, 0, 7), SPEC, STILL)
    plain = plain_crops(boxes, keypoints, weights, SPEC)
    np.testing.assert_allclose(still.matrices, plain.matrices, rtol=1e-5, atol=1e-3)
    np.testing.assert_allclose(still.keypoints, plain.keypoints, atol=1e-3)


def test_a_crop_does_not_depend_on_the_batch_that_it_is_in():
    boxes, keypoints, weights = people(10)
    table = draw_table(5, 2, 10)
    settings = Augmentation(colour_prob=0.7)
    whole = make_crops(boxes, keypoints, weights, table, SPEC, settings)
    part = make_crops(boxes[6:8], keypoints[6:8], weights[6:8], table[6:8], SPEC, settings)
    np.testing.assert_array_equal(whole.matrices[6:8], part.matrices)
    np.testing.assert_array_equal(whole.gain[6:8], part.gain)
    np.testing.assert_array_equal(draw_table(5, 2, 10), table)
    assert (draw_table(5, 3, 10) != table).any()
    assert (draw_table(6, 2, 10) != table).any()


def test_truncated_normal_against_scipy():
    uniform = np.linspace(0.001, 0.999, 50)
    np.testing.assert_allclose(augment._truncated_normal(uniform), stats.truncnorm.ppf(uniform, -1, 1), atol=1e-9)


def test_ranges_and_probabilities():
    count = 4000
    boxes = np.tile(np.float32([[100, 100, 160, 180]]), (count, 1))  # aspect of the input: 60 wide, 80 high
    keypoints, weights = np.zeros((count, 17, 2), np.float32), np.zeros((count, 17), np.float32)
    crops = make_crops(boxes, keypoints, weights, draw_table(1, 0, count), SPEC, Augmentation())
    assert crops.flipped.mean() == pytest.approx(0.5, abs=0.03)
    matrices = crops.matrices.copy()
    matrices[crops.flipped, 0] *= -1
    factor = 96 / np.hypot(matrices[:, 0, 0], matrices[:, 1, 0]) / 75  # 60 wide, padded by 1.25
    assert 0.5 <= factor.min() < 0.53
    assert 1.47 < factor.max() <= 1.5
    assert factor.mean() == pytest.approx(1, abs=0.02)
    angle = np.rad2deg(np.arctan2(matrices[:, 1, 0], matrices[:, 0, 0]))
    assert (np.abs(angle) > 1e-6).mean() == pytest.approx(0.6, abs=0.03)
    assert 76 < np.abs(angle).max() <= 80
    middle = crops.matrices @ np.float64([130, 140, 1])
    still = np.stack([np.where(crops.flipped, 47, 48), np.full(count, 64)], 1)
    assert (np.abs(middle - still).max(1) > 1e-2).mean() == pytest.approx(0.3, abs=0.03)


def test_half_body_crops_around_the_chosen_half():
    boxes, keypoints, weights = people(200)
    settings = Augmentation(flip_prob=0, half_body_prob=1, shift_prob=0, scale_prob=0, rotate_prob=0)
    crops = make_crops(boxes, keypoints, weights, draw_table(2, 0, 200), SPEC, settings)
    upper = crops.keypoints[:, list(COCO17.upper_body_indices)].mean(1)
    lower = crops.keypoints[:, list(COCO17.lower_body_indices)].mean(1)
    is_upper = np.abs(upper - [48, 64]).max(1) < 1e-2
    is_lower = np.abs(lower - [48, 64]).max(1) < 1e-2
    assert (is_upper ^ is_lower).all()
    assert is_upper.mean() == pytest.approx(0.7, abs=0.1)


@pytest.mark.parametrize(
    ("upper", "lower", "halves"),  # labels in each half → halves that MMPose 1.3.2 chose in 300 tries
    [
        (11, 6, {"upper", "lower"}),
        (11, 3, {"upper", "lower"}),
        (11, 2, {"upper"}),
        (3, 6, {"upper", "lower"}),
        (2, 6, set()),
        (8, 1, {"upper"}),
        (8, 0, set()),
        (9, 0, {"upper"}),
        (2, 3, set()),
    ],
)
def test_half_body_is_chosen_by_the_labels_there_are(upper, lower, halves):
    boxes, keypoints, weights = people(100)
    weights[:, upper:11] = 0
    weights[:, 11 + lower :] = 0
    settings = Augmentation(flip_prob=0, half_body_prob=1, shift_prob=0, scale_prob=0, rotate_prob=0)
    crops = make_crops(boxes, keypoints, weights, draw_table(2, 0, 100), SPEC, settings)
    found = set()
    for person, points in enumerate(crops.keypoints):
        if np.abs(points[:upper].mean(0) - [48, 64]).max() < 1e-2:
            found.add("upper")
        elif lower and np.abs(points[11 : 11 + lower].mean(0) - [48, 64]).max() < 1e-2:
            found.add("lower")
        else:
            whole = plain_crops(boxes[[person]], keypoints[[person]], weights[[person]], SPEC)
            np.testing.assert_allclose(points, whole.keypoints[0], atol=1e-2)
    assert found == halves


def test_half_body_of_keypoints_on_one_spot_is_the_whole_body():
    boxes, keypoints, weights = people(20)
    keypoints[:] = keypoints[:, :1]
    settings = Augmentation(flip_prob=0, half_body_prob=1, shift_prob=0, scale_prob=0, rotate_prob=0)
    crops = make_crops(boxes, keypoints, weights, draw_table(2, 0, 20), SPEC, settings)
    np.testing.assert_allclose(crops.matrices, plain_crops(boxes, keypoints, weights, SPEC).matrices, atol=1e-3)


def test_colour_stays_in_its_range_and_can_be_off():
    boxes, keypoints, weights = people(500)
    settings = Augmentation(colour_prob=1, brightness=0.1, contrast=0.2, colour=0.0)
    crops = make_crops(boxes, keypoints, weights, draw_table(0, 0, 500), SPEC, settings)
    assert crops.gain.dtype == crops.offset.dtype == np.float32
    assert 0.8 <= crops.gain.min() < 0.82
    assert 1.18 < crops.gain.max() <= 1.2
    grey = crops.gain * 127.5 + crops.offset  # contrast turns about mid-grey, so only brightness moves it
    assert 24 < np.abs(grey - 127.5).max() <= 25.5 + 1e-3
    assert plain_crops(boxes, keypoints, weights, SPEC).gain is None


def standing(count):
    """People in boxes of 40 by 160, the arms and legs of each spread over it, the nose at the top."""
    boxes = np.tile(np.float32([100, 20, 140, 180]), (count, 1))
    rows = np.linspace(0.02, 0.98, 17, dtype=np.float32)
    columns = np.where(np.arange(17) % 2, 0.9, 0.1).astype(np.float32)
    keypoints = boxes[:, None, :2] + np.stack([columns, rows], 1)[None] * np.float32([40, 160])
    return boxes, keypoints, np.ones((count, 17), np.float32)


CUT = Augmentation(
    flip_prob=0, half_body_prob=0, shift_prob=0, scale_prob=0, rotate_prob=0, cut_prob=1, cut_legs=1, cut_frame=1
)


def test_a_cut_takes_the_legs_away():
    boxes, keypoints, weights = standing(300)
    crops = make_crops(boxes, keypoints, weights, draw_table(0, 0, 300), SPEC, CUT)
    lines = crops.frames[:, 3]
    assert (crops.frames[:, :2] == 0).all()
    assert (crops.frames[:, 2] > 1000).all()
    low, high = 20 + 0.25 * 160, 20 + 0.85 * 160
    assert lines.min() >= low - 1
    assert lines.max() <= high + 1
    assert np.ptp(lines) > 0.9 * (high - low)
    shown = keypoints[:, :, 1] < lines[:, None]
    inside = ((crops.keypoints > 0) & (crops.keypoints < [96, 128])).all(2)
    np.testing.assert_array_equal(inside, shown)
    assert (crops.weights == 1).all()  # labelled, and known to be outside
    # The box ends at the line: its middle is the crop's.
    bottom = np.stack([np.full(300, 120), lines, np.ones(300)], 1)[:, None] @ crops.matrices.transpose(0, 2, 1)
    top = np.array([120, 20, 1]) @ crops.matrices.transpose(0, 2, 1)
    np.testing.assert_allclose(bottom[:, 0, 1] + top[:, 1], 128, atol=1.5)


def test_a_cut_follows_the_legs_and_may_leave_them_in_sight():
    boxes, keypoints, weights = standing(50)
    upside_down = keypoints * [1, -1] + [0, 200]
    crops = make_crops(boxes, upside_down, weights, draw_table(0, 0, 50), SPEC, CUT)
    assert (crops.frames[:, 1] > 20).all()
    assert (crops.frames[:, 3] > 1000).all()
    lying = np.ascontiguousarray(keypoints[:, :, ::-1])
    crops = make_crops(boxes[:, [1, 0, 3, 2]], lying, weights, draw_table(0, 0, 50), SPEC, CUT)
    assert (crops.frames[:, 2] < 180).all()
    settings = dataclasses.replace(CUT, cut_frame=0)
    crops = make_crops(boxes, keypoints, weights, draw_table(0, 0, 50), SPEC, settings)
    assert (crops.frames[:, [2, 3]] > 1000).all()
    assert np.isclose(crops.keypoints, -1e4).sum() == 0
    settings = dataclasses.replace(CUT, cut_legs=0)
    crops = make_crops(boxes, keypoints, weights, draw_table(0, 0, 50), SPEC, settings)
    sides = (crops.frames[:, 0] > 0).sum(), (crops.frames[:, 2] < 1000).sum()
    assert min(sides) > 10
    assert sum(sides) == 50


def test_a_cut_needs_labels_and_something_left():
    boxes, keypoints, weights = standing(40)
    no_legs = weights.copy()
    no_legs[:, list(set(range(17)) - set(COCO17.upper_body_indices))] = 0
    crops = make_crops(boxes, keypoints, no_legs, draw_table(0, 0, 40), SPEC, CUT)
    assert (crops.frames[:, 2:] > 1000).all()
    np.testing.assert_array_equal(crops.matrices, plain_crops(boxes, keypoints, no_legs, SPEC).matrices)
    few = np.zeros_like(weights)
    few[:, [0, 15]] = 1
    assert (make_crops(boxes, keypoints, few, draw_table(0, 0, 40), SPEC, CUT).frames[:, 3] > 1000).all()


def test_what_is_cut_off_is_no_label_where_there_are_no_maps():
    boxes, keypoints, weights = standing(40)
    spec = PoseSpec(COCO17, (128, 96), build_codec("regression"))
    crops = make_crops(boxes, keypoints, weights, draw_table(0, 0, 40), spec, CUT)
    np.testing.assert_array_equal(crops.weights, keypoints[:, :, 1] < crops.frames[:, [3]])


def test_a_seed_means_the_same_crops_as_before_cuts_came():
    table = draw_table(7, 3, 5)
    np.testing.assert_array_equal(table[:, :16], np.random.default_rng((7, 3, 1)).random((5, 16), dtype=np.float32))


def test_no_people():
    boxes, keypoints, weights = people(0)
    crops = make_crops(boxes, keypoints, weights, draw_table(0, 0, 0), SPEC, Augmentation(colour_prob=1))
    assert crops.matrices.shape == (0, 2, 3)
    assert crops.keypoints.shape == (0, 17, 2)


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"flip_prob": 1.5}, "flip_prob"),
        ({"scale": (1.2, 0.8)}, "scale"),
        ({"rotate": -1.0}, "rotate"),
        ({"half_body_padding": 0.0}, "half_body_padding"),
        ({"half_body_prefer_upper": 2.0}, "half_body_prefer_upper"),
        ({"cut_prob": -0.1}, "cut_prob"),
        ({"cut_frame": 1.1}, "cut_frame"),
        ({"cut_keep": (0.0, 0.5)}, "cut_keep"),
    ],
)
def test_wrong_settings_are_named(values, named):
    with pytest.raises(ValueError, match=named):
        Augmentation(**values)
