"""Boxes and crop matrices: hand-worked values, mirrored and inverted forms, the published pipeline's figures."""

import json

import numpy as np
import pytest

from fastpose import geometry as g

# One photo's box under both conventions and rotations, as the published pipeline gave them (center 320.3, 211.7, region
# 150 x 200, input 256 x 192).
ROTATED = {
    (30.0, False): [[1.10851, 0.64, -394.54455], [-0.64, 1.10851, 98.3199]],
    (30.0, True): [[1.10274, -0.63667, -122.92493], [0.6375, 1.10418, -310.44665]],
    (-47.5, False): [[0.86476, -0.94372, 18.80325], [0.94372, 0.86476, -357.34081]],
    (-47.5, True): [[0.86025, 0.9388, -378.78247], [-0.94003, 0.86138, 246.23752]],
}
# box xywh, padding, scale factor, UDP, (h, w), matrix: rows of the published pipeline's figures.
PUBLISHED = [
    (
        (280.79, 44.73, 218.7, 346.68), 1.25, 1.0, False, (256, 192),
        [[0.5907465430309124, 0.0, -134.4738649516634], [0.0, 0.5907465986999207, -0.8241150616976459]],
    ),
    (
        (280.79, 44.73, 218.7, 346.68), 1.25, 1.137, True, (256, 192),
        [[0.5168599486351013, 0.0, -106.14774322509766], [0.0, 0.517536461353302, 14.64081859588623]],
    ),
    (
        (555.57, 99.84, 48.32, 113.05), 1.25, 0.563, False, (256, 192),
        [[3.217741044577653, 0.0, -1769.4209529264979], [0.0, 3.2177410445776475, -375.14204701213123]],
    ),
]  # fmt: skip


def matrices_of(box_xywh, padding, factor, udp, input_size):
    box = g.boxes_xywh_to_xyxy(np.array([box_xywh], np.float64))
    center, _ = g.box_to_center_scale(box, input_size, padding)
    size = (box[:, 2:] - box[:, :2]).astype(np.float32) * np.float32(padding) * np.float32(factor)
    return g.crop_matrices(center, g.fix_aspect(size, input_size), input_size, udp=udp)[0]


@pytest.mark.parametrize(("rotation", "udp"), list(ROTATED))
def test_rotation(rotation, udp):
    center, scale = np.array([[320.3, 211.7]], np.float32), np.array([[150, 200]], np.float32)
    matrices = g.crop_matrices(center, scale, (256, 192), rotation, udp)
    np.testing.assert_allclose(matrices[0], ROTATED[rotation, udp], atol=2e-5)


@pytest.mark.parametrize("row", PUBLISHED)
def test_published_matrices(row):
    *arguments, expected = row
    np.testing.assert_allclose(matrices_of(*arguments), expected, atol=1e-4)


@pytest.mark.shared
def test_published_matrices_all(shared):
    for row in json.loads((shared / "reference" / "crops.json").read_text()):
        size = (row["size"][1], row["size"][0])
        matrix = matrices_of(row["bbox_xywh"], row["padding"], row["scale_factor"], row["udp"], size)
        np.testing.assert_allclose(matrix, row["matrix"], atol=1e-4, err_msg=row["crop"])


def test_center_and_scale_by_hand():
    # 100 x 100 box, padding 1.25: 125 x 125 grows to the aspect 3:4 in height.
    center, scale = g.box_to_center_scale([[10, 20, 110, 120]], (256, 192))
    np.testing.assert_allclose(center, [[60, 70]])
    np.testing.assert_allclose(scale, [[125, 125 * 4 / 3]], rtol=1e-6)
    assert center.dtype == scale.dtype == np.float32


@pytest.mark.parametrize("udp", [False, True])
def test_box_centre_lands_on_the_crop_centre(udp):
    center, scale = g.box_to_center_scale([[33.5, 17, 90, 160]], (256, 192))
    matrix = g.crop_matrices(center, scale, (256, 192), rotation=25, udp=udp)
    expected = [95.5, 127.5] if udp else [96, 128]
    np.testing.assert_allclose(
        g.transform_points(center[:, None].astype(np.float64), matrix)[0, 0], expected, atol=1e-4
    )


@pytest.mark.parametrize("udp", [False, True])
def test_forward_and_back(udp):
    rng = np.random.default_rng(3)
    center = rng.uniform(0, 900, (50, 2)).astype(np.float32)
    scale = rng.uniform(20, 700, (50, 2)).astype(np.float32)
    matrices = g.crop_matrices(center, scale, (128, 96), rng.uniform(-180, 180, 50), udp)
    points = rng.uniform(-100, 1000, (50, 17, 2))
    back = g.transform_points(g.transform_points(points, matrices), g.invert_matrices(matrices))
    np.testing.assert_allclose(back, points, atol=1e-7)


def test_flipped_matrix_mirrors_points():
    matrices = g.crop_matrices([[50.0, 60]], [[30.0, 40]], (128, 96), 10)
    points = np.array([[[40.0, 55], [61, 70]]])
    straight = g.transform_points(points, matrices)
    mirrored = g.transform_points(points, g.flip_matrices(matrices, 96))
    np.testing.assert_allclose(mirrored[..., 0], 95 - straight[..., 0])
    np.testing.assert_allclose(mirrored[..., 1], straight[..., 1])


def test_box_formats():
    boxes = np.array([[1, 2, 30, 40], [0, 0, 5, 6]], np.float32)
    np.testing.assert_array_equal(g.boxes_xywh_to_xyxy(boxes), [[1, 2, 31, 42], [0, 0, 5, 6]])
    np.testing.assert_array_equal(g.boxes_xyxy_to_xywh(g.boxes_xywh_to_xyxy(boxes)), boxes)
    with pytest.raises(ValueError, match=r"boxes: expected shape \[..., 4\], got \[2, 3\]"):
        g.boxes_xywh_to_xyxy(boxes[:, :3])


@pytest.mark.parametrize(
    ("boxes", "message"),
    [
        ([[0, 0, 5, 5], [0, float("nan"), 5, 5]], "row 1 is not finite"),
        ([[0, 0, 5, 5], [3, 0, 3, 5]], "row 1 has no width"),
        ([[5, 5, 0, 0]], "row 0 has no width"),
        ([[1, 2, 3]], "expected shape"),
        ("a box", "expected numbers"),
    ],
)
def test_bad_boxes_are_named(boxes, message):
    with pytest.raises(ValueError, match=message):
        g.validate_boxes(boxes)


def test_no_boxes():
    assert g.validate_boxes([]).shape == (0, 4)
    center, scale = g.box_to_center_scale(np.zeros((0, 4), np.float32), (256, 192))
    assert g.crop_matrices(center, scale, (256, 192)).shape == (0, 2, 3)


def test_matrices_without_inverse_are_refused():
    with pytest.raises(ValueError, match="matrices"):
        g.invert_matrices(np.zeros((1, 2, 3)))
    with pytest.raises(ValueError, match="scale"):
        g.crop_matrices([[0.0, 0]], [[0.0, 5]], (256, 192))


def test_box_ious():
    boxes = np.array([[0, 0, 10, 10], [5, 0, 15, 10], [20, 20, 20, 30], [-5, -5, 25, 25]], np.float32)
    ious = g.box_ious(boxes, boxes)
    assert ious.shape == (4, 4)
    np.testing.assert_array_equal(ious, ious.T)
    np.testing.assert_allclose(np.diag(ious), [1, 1, 0, 1])  # a box without width shares nothing, not even with itself
    np.testing.assert_allclose(ious[0, [1, 3]], [50 / 150, 100 / 900])
    assert g.box_ious(boxes, np.empty((0, 4))).shape == (4, 0)
    assert g.box_ious([], boxes).shape == (0, 4)
    with pytest.raises(ValueError, match=r"second: expected shape \[..., 4\]"):
        g.box_ious(boxes, np.zeros((2, 5)))
