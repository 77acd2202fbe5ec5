"""Photos of any sizes as one batch: where they lie, what is beside them, and the way back."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from fastpose.detection.letterbox import letterbox, split_photos


def smooth(height, width, seed=0):
    random = np.random.default_rng(seed)
    return cv2.resize(random.integers(0, 256, (5, 7, 3), np.uint8), (width, height), interpolation=cv2.INTER_LINEAR)


def test_a_photo_is_resized_as_opencv_does_it():
    photo = smooth(240, 320)
    pixels, placement = letterbox([photo], side=160)
    assert pixels.shape == (1, 3, 128, 160)
    assert placement.scales.tolist() == [[0.5, 0.5]]
    expected = cv2.resize(photo, (160, 120), interpolation=cv2.INTER_AREA)
    got = pixels[0].permute(1, 2, 0).numpy()
    np.testing.assert_allclose(got[:119, :159], expected[:119, :159], atol=1.01)  # at the edge border mixes in
    assert (got[121:] == 114).all()


def test_photos_of_many_sizes_share_a_picture():
    pixels, placement = letterbox([smooth(100, 50), smooth(50, 100), smooth(30, 30)], side=96)
    assert pixels.shape == (3, 3, 96, 96)
    boxes = np.array([[0, 0, 48, 96], [0, 0, 96, 48], [-20, 3.2, 500, 96]])
    np.testing.assert_allclose(
        placement.back(boxes, np.arange(3)), [[0, 0, 50, 100], [0, 0, 100, 50], [0, 1, 30, 30]], rtol=1e-6
    )


@pytest.mark.parametrize("centred", [False, True])
def test_boxes_come_back_where_they_were(centred):
    """A white rectangle is found where it was drawn, whatever the resizing."""
    random = np.random.default_rng(0)
    for size in (None, (160, 192)):
        photos, truth = [], []
        for _ in range(6):
            height, width = random.integers(100, 400, 2)
            x, y = random.integers(10, width - 60), random.integers(10, height - 60)
            photo = np.zeros((height, width, 3), np.uint8)
            photo[y : y + 40, x : x + 30] = 255
            photos.append(photo)
            truth.append([x, y, x + 30, y + 40])
        options = {"size": size} if size else {"side": 192}
        pixels, placement = letterbox(photos, border=0, centred=centred, **options)
        for number, picture in enumerate(pixels[:, 0]):
            # Where brightness is spread over the edge pixels, the sums still say where the rectangle ends.
            along, down = picture.sum(0), picture.sum(1)
            extents = [float(a.sum() / a.max()) for a in (along, down)]
            middles = [float((a * (torch.arange(len(a)) + 0.5)).sum() / a.sum()) for a in (along, down)]
            box = [m - e / 2 for m, e in zip(middles, extents, strict=True)]
            box += [m + e / 2 for m, e in zip(middles, extents, strict=True)]
            back = placement.back(np.array([box]), np.array([number]))[0]
            np.testing.assert_allclose(back, truth[number], atol=0.6)


def test_channels_and_normalisation():
    photo = np.full((32, 32, 3), (10, 20, 30), np.uint8)
    pixels, _ = letterbox([torch.from_numpy(photo)], size=(32, 64), rgb=True, mean=(1, 2, 3), std=(1, 2, 3))
    assert pixels[0, :, 5, 5].tolist() == pytest.approx([29, 9, 7 / 3])
    assert pixels[0, :, 5, 50].tolist() == pytest.approx([113, 56, 37])


def test_boxes_that_are_not_finite_stay_so():
    _, placement = letterbox([smooth(20, 20)], side=32)
    for bad in (np.nan, np.inf, -np.inf):
        assert np.isnan(placement.back(np.array([[bad, 0, 5, 5]]), np.array([0]))).all()


def test_what_is_no_photo_is_refused():
    with pytest.raises(TypeError, match=r"photo 1: expected uint8 pixels \[H, W, 3\], got float32"):
        letterbox([smooth(20, 20), np.zeros((20, 20, 3), np.float32)], side=32)
    with pytest.raises(ValueError, match=r"photo 0: expected shape \[H, W, 3\], got \[20, 20\]"):
        letterbox([np.zeros((20, 20), np.uint8)], side=32)
    with pytest.raises(ValueError, match="either size or side"):
        letterbox([smooth(20, 20)])
    with pytest.raises(ValueError, match="size to which photos are stretched"):
        letterbox([smooth(20, 20)], side=32, stretch=True)


def test_photos_that_are_stretched_fill_their_pictures():
    photo = np.zeros((40, 200, 3), np.uint8)
    photo[10:20, 50:100] = 255
    pixels, placement = letterbox([photo], size=(160, 100), stretch=True, channels_last=False)
    assert pixels.is_contiguous()
    white = pixels[0, 0] > 127
    assert (white.sum(0).max(), white.sum(1).max()) == (40, 25)
    assert white[40:80, 25:50].all()
    np.testing.assert_allclose(placement.back(np.array([[25, 40, 50, 80]]), np.array([0])), [[50, 10, 100, 20]])


def test_photos_of_a_pass():
    photos = [smooth(30, 20), smooth(20, 30), smooth(20, 20), smooth(30, 10)]
    for most, apart, expected in (
        (4, True, [[1, 2], [0, 3]]),
        (1, True, [[1], [2], [0], [3]]),
        (3, False, [[0, 1, 2], [3]]),
    ):
        assert [rows.tolist() for rows in split_photos(photos, most, apart=apart)] == expected
    assert split_photos([], 4) == []
