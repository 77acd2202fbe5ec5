"""Rendered scenes: the truth is where the joints are painted, the same for the same seed, quick to render."""

from __future__ import annotations

import time

import cv2
import numpy as np
import pytest

from fastpose.data.images import ImageError
from fastpose.data.photos import load_image
from fastpose.data.synthetic import render_scene, synthetic_records
from fastpose.data.synthetic import scenes as scene_module
from fastpose.data.synthetic.figures import POSES, Figure
from fastpose.data.synthetic.shapes import Canvas, Cloth, Head, Limb
from fastpose.skeletons import COCO17

LEFT, RIGHT = COCO17.index("left_shoulder"), COCO17.index("right_shoulder")
PINNED = [86.259, 87.538, 89.033, 120.114]  # nose, left wrist


def generator(seed=0):
    return np.random.Generator(np.random.PCG64(seed))


def placed(pose="stand", yaw=0.0, seed=0, height=200.0, **kwargs):
    return Figure(generator(seed), pose, yaw, **kwargs).place(height, np.array([150.0, 150.0]))


def painted(parts, size=(300, 300)):
    canvas = Canvas(np.zeros((*size, 3), np.float32), np.zeros(size, np.float32), np.array([0.0, 0.0, -1.0]))
    for part in parts:
        part.paint(canvas)
    return canvas


def test_picture_and_truth_have_the_promised_form():
    image, truth = render_scene(3, (120, 200), people=3)
    assert image.dtype == np.uint8
    assert image.shape == (120, 200, 3)
    assert image.flags.c_contiguous
    assert len(truth) == 3
    assert truth.skeleton is COCO17
    np.testing.assert_array_equal(truth.image_index, 0)
    np.testing.assert_array_equal(truth.image_sizes, [[120, 200]])
    assert set(np.unique(truth.visible)) <= {0, 1, 2}
    assert (truth.areas > 0).all()


def test_seed_decides_everything():
    first, truth = render_scene(7)
    again, same = render_scene(7)
    other, _ = render_scene(8)
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(truth.keypoints, same.keypoints)
    assert (first != other).mean() > 0.5


def test_truth_of_a_seed_is_pinned():
    # Drawn with NumPy's PCG64 alone: every platform and version has to arrive at these joints.
    truth = synthetic_records(1, seed=42, size=(256, 192))
    nose, left_wrist = truth.keypoints[0, 0], truth.keypoints[0, COCO17.index("left_wrist")]
    np.testing.assert_allclose(np.concatenate([nose, left_wrist]), PINNED, atol=0.01)


def test_layout_follows_the_size_of_the_picture():
    for size in ((64, 64), (256, 128), (100, 300)):
        image, truth = render_scene(11, size)
        assert image.shape[:2] == size
        height, width = size
        assert (truth.boxes >= 0).all()
        assert (truth.boxes[:, [0, 2]] <= width - 1).all()
        assert (truth.boxes[:, [1, 3]] <= height - 1).all()


def test_joints_are_inside_the_person():
    truth = synthetic_records(40, seed=100, people=2, size=(200, 300))
    for person in truth:
        points = person.keypoints[person.visible > 0]
        assert len(points)
        assert (points >= person.box[:2] - 1).all()
        assert (points <= person.box[2:] + 1).all()
        width, height = person.box[2:] - person.box[:2]
        assert person.area <= 1.02 * (width + 1) * (height + 1)


def test_limb_is_painted_between_its_joints():
    red = np.array([0.0, 0.0, 255.0])
    limb = Limb(np.array([40.0, 50, 0]), np.array([90.0, 80, 0]), 6.0, 4.0, red)
    canvas = painted([limb], (120, 120))
    rows, columns = np.nonzero(canvas.person >= 0.5)
    assert (rows.min(), rows.max()) == (44, 84)  # 50 - 6 and 80 + 4
    assert (columns.min(), columns.max()) == (34, 94)
    # The middle of the painted pixels is the middle of the segment, a little towards the thicker end.
    assert 62 < rows.mean() < 65
    assert 61 < columns.mean() < 65
    everywhere = np.stack(np.meshgrid(np.arange(120.0), np.arange(120.0)), -1).reshape(-1, 2)
    said = limb.covers(everywhere).reshape(120, 120)
    assert (said != (canvas.person > 0.5)).sum() <= 20  # the rim, where half a pixel decides


@pytest.mark.parametrize("yaw", [0, 70, 180, 260])
@pytest.mark.parametrize("pose", ["walk", "squat", "arms_up"])
def test_every_shape_covers_what_it_paints(pose, yaw):
    figure = Figure(generator(), pose, yaw).place(600.0, np.array([450.0, 450.0]))
    for part in figure.parts:
        canvas = painted([part], (1000, 900))
        rows, columns = np.nonzero(canvas.person > 0.6)
        assert len(rows)
        inside = part.covers(np.stack([columns, rows], 1).astype(float))
        assert inside.mean() > 0.9
        mask = np.zeros(canvas.person.shape, np.uint8)
        for polygon in part.outline():
            cv2.fillConvexPoly(mask, np.round(polygon * 16).astype(np.int32), 1, shift=4)
        overlap = (mask & (canvas.person > 0.5)).sum() / max(1, (mask | (canvas.person > 0.5)).sum())
        assert overlap > 0.7


@pytest.mark.parametrize("pose", sorted(POSES))
def test_limbs_keep_their_length_in_every_pose(pose):
    for seed in range(5):
        points = Figure(generator(seed), pose, 40.0 * seed).points
        for side in ("left", "right"):
            for a, b, length in (("hip", "knee", 0.245), ("knee", "ankle", 0.235), ("shoulder", "elbow", 0.172)):
                assert np.linalg.norm(points[f"{side}_{a}"] - points[f"{side}_{b}"]) == pytest.approx(length, abs=1e-9)


def test_left_is_on_the_right_of_the_picture_when_facing_the_camera():
    front, back = placed(yaw=0).keypoints, placed(yaw=180).keypoints
    assert front[LEFT, 0] > front[RIGHT, 0]
    assert back[LEFT, 0] < back[RIGHT, 0]
    to_the_right = placed(yaw=90).keypoints
    nose, ear = COCO17.index("nose"), COCO17.index("right_ear")
    assert to_the_right[nose, 0] > to_the_right[ear, 0]
    assert to_the_right[LEFT, 2] > to_the_right[RIGHT, 2]  # the left shoulder is the far one


def test_face_is_seen_from_the_front_only():
    face = [COCO17.index(name) for name in ("nose", "left_eye", "right_eye")]
    for seed in range(10):
        assert placed(yaw=0, seed=seed).seen()[face].sum() >= 2
        assert not placed(yaw=180, seed=seed).seen()[face].any()


def test_face_is_painted_on_the_front_only():
    skin, hair = np.array([150.0, 180, 220]), np.array([10.0, 10, 10])
    axes = np.array([40.0, 50, 45])
    facing = np.array([[1.0, 0, 0], [0, -1, 0], [0, 0, -1]])
    away = facing @ np.diag([-1.0, 1.0, -1.0])
    front, back = (
        painted([Head(np.array([60.0, 60, 0]), frame, axes, skin, hair, 0.6, None)], (120, 120)).pixels
        for frame in (facing, away)
    )
    assert (front.max(2) > 180).sum() > 1000  # skin
    assert (back.max(2) > 180)[:75].sum() == 0  # hair, down to the nape
    whites = (front.min(2) > 190) & (front.std(2) < 12)
    rows, columns = np.nonzero(whites)
    assert len(rows) > 10
    assert (columns < 60).any()
    assert (columns > 60).any()
    assert rows.max() < 60  # above the middle


def test_hidden_joints_are_marked():
    profile = placed("stand", yaw=90)
    seen = dict(zip(COCO17.keypoints, profile.seen(), strict=True))
    assert seen["right_shoulder"]
    assert seen["right_ear"] or Figure(generator(0), "stand", 90).look.long_hair
    assert not seen["left_shoulder"]
    assert not seen["left_hip"]


def test_nearer_person_hides_the_farther_one():
    truth = next(
        truth
        for truth in (synthetic_records(1, seed=seed, people=12, size=(150, 300)) for seed in range(50))
        if (truth.visible[:-1] == 1).any()
    )
    alone = sum(synthetic_records(1, seed=seed).areas[0] > 0 for seed in range(3))
    assert alone == 3
    order = truth.boxes[:, 3]
    assert (np.diff(order) > -0.15 * 150).all()  # farther people stand higher in the picture


def test_occluder_hides_joints_and_takes_area():
    scenes = [scene_module.lay_out(seed, (128, 128), 1) for seed in range(60)]
    covered = [scene for scene in scenes if scene.occluders]
    assert 3 <= len(covered) <= 25
    for scene in covered:
        bare = scene_module.Scene(**{**vars(scene), "occluders": []})
        with_it, without = scene_module.find_truth(scene)[0], scene_module.find_truth(bare)[0]
        assert with_it["area"] <= without["area"]
        assert ((with_it["visible"] == 2) <= (without["visible"] == 2)).all()


def test_virtual_path_renders_the_same_picture():
    records = synthetic_records(3, seed=5, size=(96, 64), people=2)
    assert len(records) == 6
    assert len(records.image_paths) == 3
    for number, path in enumerate(records.image_paths):
        image, truth = render_scene(5 + number, (96, 64), 2)
        np.testing.assert_array_equal(load_image(path), image)
        np.testing.assert_array_equal(records.keypoints[records.image_index == number], truth.keypoints)


def test_load_image_reads_files_too(tmp_path):
    path = tmp_path / "a.png"
    image = render_scene(0, (32, 32))[0]
    assert cv2.imwrite(str(path), image)
    np.testing.assert_array_equal(load_image(path), image)


@pytest.mark.parametrize("name", ["synthetic:", "synthetic:1", "synthetic:1:2x2:1", "synthetic:a:64x64:1"])
def test_malformed_virtual_path(name):
    with pytest.raises(ImageError, match="is no scene"):
        load_image(name)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((-1,), "seed: .* got -1"),
        ((0, (8, 64)), "size: "),
        ((0, (64_000, 64_000)), "size: expected at most"),
        ((0, (64, 64), 0), "people: .* got 0"),
        ((0, (64, 64), 10**9), "people: expected 1 to 1000"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        render_scene(*arguments)
    with pytest.raises(ValueError, match="count"):
        synthetic_records(-1)


def test_nobody():
    records = synthetic_records(0)
    assert len(records) == 0
    assert records.keypoints.shape == (0, 17, 2)


@pytest.mark.parametrize("pattern", ["plain", "rings", "stripes", "checks", "dots", "halves"])
def test_patterns_stay_between_their_two_colours(pattern):
    low, high = np.zeros(3), np.full(3, 100.0)
    grid = np.linspace(-0.2, 0.2, 50, dtype=np.float32)
    colours = Cloth(low, high, pattern).paint(grid[:, None], grid[None, :])
    assert colours.min() >= 0
    assert colours.max() <= 100
    assert (np.ptp(colours) > 50) == (pattern != "plain")


def test_fast_enough_to_train_on():
    """A scene takes about 16 times as long as a wide blur of a picture of its size."""
    picture = np.random.default_rng(0).random((256, 256, 3), np.float32)
    ratios = []
    for seed in range(20):  # in turns, as both suffer alike from whoever else uses the machine
        start = time.process_time()
        load_image(f"synthetic:{seed}:256x256:1")
        between = time.process_time()
        cv2.GaussianBlur(picture, (0, 0), 8)
        ratios.append((between - start) / (time.process_time() - between))
    assert np.median(ratios) < 50
