"""What users hand over: every kind of photo becomes the same pixels, and boxes of another kind are recognised."""

from __future__ import annotations

import io

import cv2
import numpy as np
import pytest
import torch
from spot_model import random_spots

from fastpose.data.images import ImageError, read_image
from fastpose.predict.inputs import as_picture, check_boxes, clean_boxes, is_picture

RNG = np.random.default_rng(5)
BGR = RNG.integers(0, 256, (20, 30, 3), dtype=np.uint8)
SIZE = (480, 640)


@pytest.fixture
def pil():
    return pytest.importorskip("PIL.Image")


def pixels(image, **options):
    picture = as_picture(image, "image 0", **options)
    assert picture.dtype == torch.uint8
    assert picture.is_contiguous()
    return picture.numpy()


def test_rgb_arrays_and_tensors():
    rgb = np.ascontiguousarray(BGR[..., ::-1])
    for image in (rgb, torch.from_numpy(rgb), BGR[..., ::-1], np.dstack([rgb, rgb[..., 0]])):
        np.testing.assert_array_equal(pixels(image, rgb=True), BGR)
    np.testing.assert_array_equal(pixels(BGR[..., 0], rgb=True), np.dstack([BGR[..., 0]] * 3))
    np.testing.assert_array_equal(pixels(BGR), BGR)


def test_pil_images_are_bgr_whatever_their_mode(pil):
    image = pil.fromarray(np.ascontiguousarray(BGR[..., ::-1]))
    assert is_picture(image)
    np.testing.assert_array_equal(pixels(image), BGR)
    np.testing.assert_array_equal(pixels(image, rgb=True), BGR)  # it knows its own order
    np.testing.assert_array_equal(pixels(image.convert("RGBA")), BGR)
    grey = np.asarray(image.convert("L"))
    np.testing.assert_array_equal(pixels(image.convert("L")), np.dstack([grey] * 3))
    flat = np.zeros((20, 30, 3), np.uint8)
    flat[:] = 10, 20, 200
    palette = pil.fromarray(flat[..., ::-1].copy()).convert("P", palette=pil.Palette.ADAPTIVE)
    np.testing.assert_array_equal(pixels(palette), flat)
    for mode in ("1", "CMYK", "YCbCr", "HSV", "LA"):
        assert pixels(image.convert(mode)).shape == (20, 30, 3)
    deep = np.array([[0, 128, 257, 65535]], np.uint16)
    np.testing.assert_array_equal(pixels(pil.fromarray(deep))[0, :, 0], [0, 0, 1, 255])
    with pytest.raises(TypeError, match="image 0: expected a PIL image of 8 or 16 bits a channel, got one of mode 'F'"):
        pixels(image.convert("F"))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_turned_pil_image_is_what_its_file_is(pil, tmp_path, orientation):
    tags = pil.Exif()
    tags[0x0112] = orientation
    path = tmp_path / "turned.png"
    pil.fromarray(np.ascontiguousarray(BGR[..., ::-1])).save(path, exif=tags)
    with pil.open(path) as image:
        np.testing.assert_array_equal(pixels(image), read_image(path))


def test_a_damaged_pil_image_is_an_image_error(pil):
    file = io.BytesIO()
    pil.fromarray(BGR).save(file, "JPEG")
    image = pil.open(io.BytesIO(file.getvalue()[:-300]))
    with pytest.raises(ImageError, match="image 0: is a PIL image that cannot be read"):
        pixels(image)


def test_pil_images_have_the_limit_of_files(pil, monkeypatch):
    monkeypatch.setattr("fastpose.predict.inputs.MAX_PIXELS", 100)
    with pytest.raises(ImageError, match=r"is too large \(30x20 pixels; at most 100 in all\)"):
        pixels(pil.fromarray(BGR))


def test_floats_are_told_what_to_do():
    with pytest.raises(TypeError, match=r"got float32; values from 0 to 1 are to be multiplied by 255"):
        pixels(BGR / np.float32(255))
    with pytest.raises(TypeError, match=r"got torch.float32; values from 0 to 1"):
        pixels(torch.zeros(9, 9, 3))
    with pytest.raises(TypeError, match=r"got int64$"):
        pixels(BGR.astype(np.int64))


def test_bytes_and_pil_images_give_the_poses_of_their_file(pil, predictor, tmp_path):
    image, _, box = random_spots(3)
    path = tmp_path / "photo.png"
    cv2.imwrite(str(path), image)
    wanted = predictor(path, box)
    data = path.read_bytes()
    for same in (data, bytearray(data), memoryview(data), pil.open(path)):
        found = predictor(same, box)
        np.testing.assert_array_equal(found.keypoints, wanted.keypoints)
        assert found.path is None
    mixed = predictor([path, data, image, pil.open(path)], [box] * 4)
    for found in mixed:
        np.testing.assert_array_equal(found.keypoints, wanted.keypoints)
    with pytest.raises(ImageError, match="image 1: is a video"):
        predictor([data, b"\x1aE\xdf\xa3" + bytes(40)], [box, box])


# --- boxes --------------------------------------------------------------------------------------------------------
def test_fractions_of_the_photo_are_no_pixels():
    message = r"image 3: boxes: all of them lie within .*\[0.1, 0.2, 0.5, 0.9\].*multiply x by 640 and y by 480"
    for boxes in ([0.1, 0.2, 0.5, 0.9], [[0.1, 0.2, 0.5, 0.9], [0, 0, 1, 1.02]]):
        with pytest.raises(ValueError, match=message):
            check_boxes(boxes, SIZE, "image 3")
    check_boxes([0.1, 0.2, 0.5, 0.9], (4, 4), "a tiny photo")
    check_boxes([[0.1, 0.2, 0.5, 0.9], [0, 0, 90, 100]], SIZE, "not all of them")


def test_width_and_height_are_no_corners():
    with pytest.raises(ValueError, match=r"image 3: boxes: row 1 has no width .*\[300.0.*boxes_xywh_to_xyxy"):
        check_boxes([[10, 10, 60, 90], [300, 200, 100, 150], [400, 20, 100, 150]], SIZE, "image 3")
    with pytest.raises(ValueError, match="boxes_xywh_to_xyxy"):
        check_boxes([300, 200, 100, 150], SIZE, "image 3")
    # As width and height they would not fit into the photo either: so it is no more than a bad box.
    with pytest.raises(ValueError, match="row 0 has no width or no height"):
        check_boxes([[600, 200, 100, 150]], SIZE, "image 3")


def test_boxes_of_another_kind_that_were_found_are_left_out():
    """A detector's only box of a photo may be a bad one, which is no sign of what all of them are."""
    turned = clean_boxes([[300, 200, 100, 150], [10, 10, 60, 90]], SIZE, "a.jpg", found=True)
    assert (turned.rows.tolist(), len(turned.dropped)) == ([1], 1)
    small = clean_boxes([[0.1, 0.2, 0.5, 0.9], [0, 0, 1, 1.02]], SIZE, "a.jpg", found=True)
    assert small.rows.tolist() == []
    assert small.dropped[1].startswith("row 1 is none in pixels: [0.0, 0.0, 1.0, 1.0")


def test_one_bad_box_is_left_out_and_said():
    boxes = np.array([[0, 0, 9, 9], [5, 5, 5, 9], [np.nan, 0, 9, 9], [700, 0, 800, 9], [1, 1, 8, 8]])
    clean = clean_boxes(boxes, SIZE, "a.jpg")
    assert clean.rows.tolist() == [0, 4]
    np.testing.assert_array_equal(clean.boxes, boxes[[0, 4]])
    assert clean.boxes.dtype == np.float32
    assert [reason[:5] for reason in clean.dropped] == ["row 1", "row 2", "row 3"]
    for reason, words in zip(clean.dropped, ("no width", "not finite", "outside the photo of 640x480"), strict=True):
        assert words in reason
    with pytest.raises(ValueError, match=r"a.jpg: boxes: row 1 has no width"):
        check_boxes(boxes, SIZE, "a.jpg")
    nobody = clean_boxes([], SIZE, "a.jpg")
    assert (nobody.boxes.shape, nobody.rows.tolist(), nobody.dropped) == ((0, 4), [], [])
    only = clean_boxes([[5, 5, 5, 9]], SIZE, "a.jpg")
    assert (only.boxes.shape, len(only.dropped)) == ((0, 4), 1)
    with pytest.raises(ValueError, match=r"a.jpg: boxes: expected shape \[N, 4\]"):
        clean_boxes(np.zeros((2, 6)), SIZE, "a.jpg")
