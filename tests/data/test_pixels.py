"""Random changes of pixels: against the transforms they are named after, their ranges, and their probabilities."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from fastpose.data.augment import draw_seeds
from fastpose.data.pixels import (
    Blur,
    Distortion,
    GridDropout,
    Holes,
    HueSaturationValue,
    Photometric,
    PixelChanges,
    change_pixels,
    distort,
    draw_distortion,
)

COUNT = 1500
SEEDS = draw_seeds(0, 0, COUNT).tolist()
FIGURES = json.loads((Path(__file__).parent / "photometric_figures.json").read_text())


def noise(height=24, width=20):
    return np.random.default_rng(1).integers(0, 256, (height, width, 3)).astype(np.uint8)


def changed(settings, seed, crop=None, rgb=False):
    crop = noise() if crop is None else crop.copy()
    change_pixels(crop, seed, settings, rgb=rgb)
    return crop


EVERYTHING = PixelChanges(
    HueSaturationValue(), Photometric(), Blur(0.5), Blur(0.5), Holes(count=(1, 3)), GridDropout(unit=(4, 9))
)


def test_a_seed_decides():
    assert (changed(EVERYTHING, 7) == changed(EVERYTHING, 7)).all()
    assert sum((changed(EVERYTHING, seed) != changed(EVERYTHING, 7)).any() for seed in range(20)) >= 19
    np.testing.assert_array_equal(draw_seeds(0, 0, COUNT), SEEDS)
    assert len({*SEEDS, *draw_seeds(0, 1, COUNT).tolist(), *draw_seeds(1, 0, COUNT).tolist()}) == 3 * COUNT


def test_the_order_of_channels_changes_no_colour():
    settings = PixelChanges(HueSaturationValue(40, 90, 90), None, Blur(0.5), Blur(0.5), Holes())
    for seed in range(20):
        other = changed(settings, seed, noise()[..., ::-1].copy(), rgb=True)
        np.testing.assert_array_equal(changed(settings, seed), other[..., ::-1])


def test_nothing_is_changed_by_default():
    np.testing.assert_array_equal(changed(PixelChanges(), 3), noise())


@pytest.mark.parametrize("channel", [0, 1, 2])
def test_hsv_ranges(channel):
    # Strong colours come back from HSV almost as they went in, so the steps can be read off the result.
    hsv = np.full((1, 1, 3), (100, 128, 128), np.uint8)
    crop = cv2.cvtColor(np.tile(hsv, (2, 2, 1)), cv2.COLOR_HSV2BGR)
    before = cv2.cvtColor(crop, cv2.COLOR_BGR2HSV)[0, 0].astype(int)
    settings = PixelChanges(hsv=HueSaturationValue(hue=5, saturation=30, value=30))
    after = np.array([cv2.cvtColor(changed(settings, s, crop), cv2.COLOR_BGR2HSV)[0, 0] for s in SEEDS], int)
    most, slack = (5, 30, 30)[channel], (1, 2, 0)[channel]
    steps = (after - before)[:, channel]
    # Half of the time nothing; of the other half, a step below 1 either way is cut to nothing.
    still = 0.5 + 0.5 / most
    assert (np.abs(steps) <= slack).mean() == pytest.approx(
        still if slack == 0 else still + 0.5 * slack / most, abs=0.04
    )
    assert most - 1 - slack <= steps.max() <= most + slack
    assert -most - slack <= steps.min() <= -most + 1 + slack


def test_hue_goes_round():
    red = np.zeros((2, 2, 3), np.uint8)
    red[..., 2] = 255
    hues = {
        int(cv2.cvtColor(changed(PixelChanges(HueSaturationValue(9, 0, 0)), s, red), cv2.COLOR_BGR2HSV)[0, 0, 0])
        for s in SEEDS[:300]
    }
    assert hues == {*range(9), *range(172, 180)}


def test_photometric_distortion_is_that_of_mmpose():
    rows, columns = np.mgrid[:6, :8]
    gradient = np.stack([rows * 40 + 5, columns * 30 + 7, 250 - rows * 20 - columns * 10], -1).astype(np.uint8)
    drawn = [
        Distortion(20.5, 1.3, -9, 0.6, [2, 0, 1]),
        Distortion(-31.0, 1.0, 17, None, [0, 1, 2]),
        Distortion(0.0, 0.7, None, None, [0, 1, 2]),
        Distortion(0.0, 1.0, None, 1.5, [1, 0, 2]),
    ]
    for distortion, expected in zip(drawn, FIGURES["crops"], strict=True):
        crop = gradient.copy()
        distort(crop, distortion, rgb=False)
        # One grey level: conversions of colour differ between OpenCV's versions and processors.
        assert np.abs(crop.ravel().astype(int) - expected).max() <= 1


def test_photometric_ranges_and_probabilities():
    drawn = [draw_distortion(np.random.default_rng(seed), Photometric()) for seed in SEEDS]
    offsets = np.array([d.offset for d in drawn if d.offset])
    contrasts = np.array([d.contrast for d in drawn if d.contrast != 1])
    hues = [d.hue for d in drawn if d.hue is not None]
    saturations = np.array([d.saturation for d in drawn if d.saturation is not None])
    shares = [len(values) / COUNT for values in (offsets, contrasts, hues, saturations)]
    assert shares == pytest.approx([0.5, 0.25, 0.5, 0.5], abs=0.04)
    assert np.mean([d.order != [0, 1, 2] for d in drawn]) == pytest.approx(0.5 * 5 / 6, abs=0.04)
    assert (set(hues), min(hues), max(hues)) == (set(range(-18, 18)), -18, 17)
    for values, low, high in ((offsets, -32, 32), (contrasts, 0.5, 1.5), (saturations, 0.5, 1.5)):
        near = (high - low) * 0.02
        assert low <= values.min() < low + near
        assert high - near < values.max() <= high
        assert values.mean() == pytest.approx((low + high) / 2, abs=(high - low) * 0.04)


@pytest.mark.parametrize(
    ("key", "blurred"), [("blur", lambda x, k: cv2.blur(x, (k, k))), ("median_blur", cv2.medianBlur)]
)
def test_blurs(key, blurred):
    options = [noise(), *(blurred(noise(), size) for size in (3, 5, 7))]
    counts = np.zeros(4)
    for seed in SEEDS:
        result = changed(PixelChanges(**{key: Blur(prob=0.6)}), seed)
        counts += [(result == option).all() for option in options]
    assert counts.sum() == COUNT
    assert counts / COUNT == pytest.approx([0.4, 0.2, 0.2, 0.2], abs=0.04)


@pytest.mark.parametrize(
    ("settings", "heights", "widths"),
    [
        (Holes(1.0), (20, 40), (10, 20)),
        (Holes(1.0, height=(10, 40), width=(5, 8), unit="pixel"), (10, 40), (5, 8)),
    ],
)
def test_holes(settings, heights, widths):
    white = np.full((100, 50, 3), 255, np.uint8)
    found = []
    for seed in SEEDS[:600]:
        rows, columns = np.nonzero(changed(PixelChanges(holes=settings), seed, white)[..., 0] == 0)
        height, width = np.ptp(rows) + 1, np.ptp(columns) + 1
        assert len(rows) == height * width
        found.append((height, width, rows.min() / (100 - height), columns.min() / (50 - width)))
    height, width, top, left = np.array(found).T
    for values, (low, high) in ((height, heights), (width, widths)):
        assert low <= values.min() <= low + 1
        assert high - 1 <= values.max() <= high
    for position in (top, left):  # anywhere, edges too
        assert (position.min(), position.max()) == pytest.approx((0, 1), abs=0.02)
        assert position.mean() == pytest.approx(0.5, abs=0.04)


def test_number_and_probability_of_holes():
    white = np.full((200, 200, 3), 255, np.uint8)
    settings = PixelChanges(holes=Holes(0.5, count=(1, 2), height=(1, 1), width=(1, 1), unit="pixel"))
    black = np.array([(changed(settings, seed, white) == 0).all(2).sum() for seed in SEEDS])
    assert [(black == n).mean() for n in range(3)] == pytest.approx([0.5, 0.25, 0.25], abs=0.04)


def test_grid():
    white = np.full((60, 50, 3), 255, np.uint8)
    units = set()
    for seed in SEEDS[:400]:
        black = changed(PixelChanges(grid=GridDropout(1.0, unit=(5, 8))), seed, white)[..., 0] == 0
        columns, rows = black.any(0), black.any(1)
        np.testing.assert_array_equal(black, rows[:, None] & columns)
        starts = np.flatnonzero(np.diff(columns.astype(int)) == 1)
        (unit,) = set(np.diff(starts).tolist())
        units.add(unit)
        assert columns[starts[0] + 1 : starts[0] + 1 + unit].sum() == unit // 2
        assert np.flatnonzero(columns)[0] <= unit - unit // 2
    assert units == {5, 6, 7, 8}
    untouched = [(changed(PixelChanges(grid=GridDropout(0.3)), seed, white) == 255).all() for seed in SEEDS]
    assert np.mean(untouched) == pytest.approx(0.7, abs=0.04)


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: Blur(prob=1.5), "prob"),
        (lambda: Blur(size=(3, 6)), "size"),
        (lambda: Holes(height=(0.5, 1.5)), "height"),
        (lambda: Holes(count=(3, 2)), "count"),
        (lambda: GridDropout(unit=(1, 5)), "unit"),
        (lambda: GridDropout(ratio=0), "ratio"),
        (lambda: Photometric(contrast=(1.5, 0.5)), "contrast"),
        (lambda: Photometric(hue=0), "hue"),
        (lambda: HueSaturationValue(value=-1), "value"),
    ],
)
def test_wrong_settings_are_named(make, named):
    with pytest.raises(ValueError, match=named):
        make()
