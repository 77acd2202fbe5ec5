"""Several crops averaged: where they lie, and that their maps meet at the same pixels."""

import cv2
import numpy as np
import pytest
import torch

from fastpose.codecs import build_codec
from fastpose.geometry import box_to_center_scale, crop_matrices, invert_matrices, transform_points
from fastpose.skeletons import Skeleton
from fastpose.spec import PoseSpec
from fastpose.views import ViewAverage, build_views

PAIR = Skeleton.from_names("pair", ["left_end", "right_end", "middle"])
VIEWS = [(1.0, 0.0), (1.2, 0.0), (0.9, -15.0), (1.0, 15.0)]
BOXES = np.array([[10, 20, 60, 130], [40, 5, 120, 70.5]], np.float32)


def spec_of(kind, **changes):
    blur = {"kernel_size": 5} if kind == "megvii" else {} if kind == "udp_combined" else {"sigma": 1.5}
    codec = build_codec(kind, heatmap_size=(32, 24), **blur)
    return PoseSpec(PAIR, (128, 96), codec, udp=kind == "udp").replace(**changes)


def matrices_of(spec, scale=1.0, degrees=0.0):
    center, region = box_to_center_scale(BOXES, spec.input_size, spec.padding)
    return crop_matrices(center, region * np.float32(scale), spec.input_size, degrees, spec.udp)


@pytest.mark.parametrize("kind", ["gaussian", "udp"])
def test_views_are_the_crops_of_larger_boxes_and_of_turned_ones(kind):
    spec = spec_of(kind)
    found = ViewAverage(spec, VIEWS).matrices(matrices_of(spec)).reshape(len(VIEWS), 2, 2, 3)
    clockwise = 1 if kind == "udp" else -1  # how each convention turns
    for view, (scale, degrees) in zip(found, VIEWS, strict=True):
        if kind == "udp" and degrees:
            continue  # UDP turns the photo before it scales the axes, which differ by a pixel
        np.testing.assert_allclose(view, matrices_of(spec, scale, clockwise * degrees), atol=2e-3)


def encoded(spec, views, points):
    """Perfect heatmaps [V * M, K, h, w] of points of the photo [M, K, 2], as each view shows them."""
    matrices = views.matrices(matrices_of(spec)).reshape(len(views), len(points), 2, 3)
    maps = [
        spec.codec.encode(transform_points(points, m).astype(np.float32), np.ones(points.shape[:2]), spec.input_size)[0]
        for m in matrices
    ]
    return torch.from_numpy(np.concatenate(maps))


@pytest.mark.parametrize("kind", ["gaussian", "dark", "udp", "megvii"])
@pytest.mark.parametrize("flip", [False, True])
def test_what_every_view_sees_is_where_one_crop_sees_it(kind, flip):
    spec = spec_of(kind)
    rng = np.random.default_rng(0)
    points = np.stack([rng.uniform(b[:2] + 8, b[2:] - 8, (3, 2)) for b in BOXES]).astype(np.float32)
    views = ViewAverage(spec, VIEWS)
    maps = encoded(spec, views, points)
    # What, brought back from the mirror, are the same maps.
    shifted = torch.cat((maps[..., 1:], maps[..., -1:]), -1) if spec.codec.shifts_mirror else maps
    flipped = shifted[:, [1, 0, 2]].flip(3) if flip else None
    average = views.merge(maps, flipped)
    inverse = torch.from_numpy(invert_matrices(matrices_of(spec)))
    found, scores = spec.codec.decode(average, spec.input_size, inverse=inverse)
    single = spec.codec.decode(maps[:2], spec.input_size, inverse=inverse)[0]
    stride = 128 / 32 * 1.5  # a heatmap pixel in the photo, about
    limit = {"gaussian": 0.6, "megvii": 0.6, "dark": 0.5, "udp": 0.12}[kind] * stride
    assert np.abs(np.asarray(found) - points).max() < max(limit, 1.2 * np.abs(np.asarray(single) - points).max())
    assert float(torch.as_tensor(scores).min()) > 0.5


def test_the_average_is_that_of_opencv():
    """Each map warped by cv2 into the ordinary crop's pixels, averaged where it covers."""
    spec = spec_of("gaussian")
    views = ViewAverage(spec, VIEWS)
    maps = torch.rand(len(VIEWS) * 2, 3, 32, 24, generator=torch.Generator().manual_seed(0))
    found = views.merge(maps).numpy()
    step = np.diag([4.0, 4.0, 1.0])  # input pixels in a heatmap pixel
    ordinary = matrices_of(spec)
    seen = views.matrices(ordinary).reshape(len(VIEWS), 2, 2, 3)
    bottom = [[0.0, 0.0, 1.0]]
    for person in range(2):
        total, covered = np.zeros((3, 32, 24)), np.zeros((32, 24))
        for number, view in enumerate(seen[:, person]):
            to_view = np.concatenate([view, bottom]) @ np.linalg.inv(np.concatenate([ordinary[person], bottom]))
            matrix = (np.linalg.inv(step) @ to_view @ step)[:2]  # pixel of the average -> pixel of the view
            # In double size, as cv2 rounds where it looks to 1/32 pixel.
            warp = lambda image: cv2.warpAffine(image, matrix, (24, 32), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)  # noqa: E731, B023
            for joint in range(3):
                total[joint] += warp(maps[2 * number + person, joint].numpy())
            covered += warp(np.ones((32, 24), np.float32))
        inside = covered > 1.5
        expected = total / np.maximum(covered, 1e-6)
        assert np.abs(found[person] - expected)[:, inside].max() < 0.04


def test_a_view_counts_only_where_it_shows_something():
    views = ViewAverage(spec_of("gaussian"), [(1.0, 0.0), (0.5, 0.0)])
    average = views.merge(torch.cat([torch.full((1, 3, 32, 24), 2.0), torch.full((1, 3, 32, 24), 4.0)]))
    assert average[0, 0, 0, 0] == pytest.approx(2)  # outside of the half-size crop
    assert average[0, 0, 16, 12] == pytest.approx(3)


def test_two_opinions_do_not_meet_in_the_middle():
    spec = spec_of("gaussian")
    views = ViewAverage(spec, [(1.0, 0.0), (1.0, 1e-6), (1.0, -1e-6)])
    maps = torch.zeros(3, 3, 32, 24)
    maps[0, :, 10, 4], maps[1, :, 10, 20], maps[2, :, 10, 20] = 0.9, 0.8, 0.8
    points, scores = spec.codec.decode(views.merge(maps), spec.input_size)
    assert np.abs(np.asarray(points)[0, :, 0] - 80).max() <= 1.01
    assert np.asarray(scores)[0] == pytest.approx([1.6 / 3] * 3, abs=1e-3)


def test_arguments():
    spec = spec_of("gaussian")
    assert build_views(spec) is None
    assert build_views(spec, (1,), (0,)) is None
    assert build_views(spec, (0.9, 1.1), (-10, 0, 10)).views[0] == (0.9, -10.0)
    assert len(build_views(spec, (1.1,))) == 1
    for scales, rotations, said in (
        ((), (0,), "scales: expected different numbers from 0.25 to 4, got"),
        ((1, 1), (0,), "scales"),
        ((0.1,), (0,), "scales"),
        ((float("nan"),), (0,), "scales"),
        ((1,), (200,), "rotations: expected different numbers from -180 to 180"),
    ):
        with pytest.raises(ValueError, match=said):
            build_views(spec, scales, rotations)
    combined = PoseSpec(PAIR, (128, 96), build_codec("udp_combined", heatmap_size=(32, 24)), udp=True)
    with pytest.raises(ValueError, match="several crops cannot be averaged with the codec udp_combined"):
        build_views(combined, (0.9, 1.1))
