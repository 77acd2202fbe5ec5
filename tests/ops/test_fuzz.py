"""Every op through its public function, with arguments that nobody would write on purpose.

What holds for each call: it gives what the oracle gives, at every SIMD level, with the same bits for one thread and for
two, from whatever memory (negative, zero and large strides, read-only, transposed). What the ops refuse is in
test_fuzz_arguments.py. By default the same few examples each time; ``FASTPOSE_FUZZ_EXAMPLES=2000 pytest
tests/ops/test_fuzz.py tests/ops/test_fuzz_arguments.py`` tries that many a test, new ones in each run.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from fuzz_cases import NOT_FINITE, Source, arrays, fuzz, tensor
from heatmap_cases import suitable

from fastpose import ops
from fastpose.codecs import Codec, SimCC, build_codec
from fastpose.ops import reference
from fastpose.skeletons import COCO17


# --- affine_crop ------------------------------------------------------------------------------------------------------
def photo(source: Source, dtype: Any) -> Any:
    """A view into a larger picture, maybe upside down or with its channels reversed."""
    height, width = source.count(1, 30), source.count(1, 30)
    shape = (height + source.count(0, 2), width + source.count(0, 2), 3)
    picture = source.rng.integers(0, 256, shape).astype(dtype)
    if dtype is not np.uint8 and source.count(0, 3) == 0:
        picture[source.rng.random(shape) < 0.05] = source.pick(list(NOT_FINITE))
    if source.tensors:
        return torch.from_numpy(picture)[-height:, :width]
    view = picture[-height:, :width]
    if source.flag():
        view = view[::-1]
    if source.flag():
        view = view[..., ::-1]
    view.setflags(write=source.flag())
    return view


def crop_matrix(source: Source, antialias: bool) -> np.ndarray:
    """Of every kind that is allowed: also one that maps everything far outside."""
    turn = source.rng.uniform(0, 6.3) if source.flag() else 0.0
    scale = 2.0 ** source.rng.uniform(-2 if antialias else -5, 5)
    stretch = np.diag([scale, scale * 2.0 ** source.rng.uniform(-0.5, 0.5)])
    linear = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]) @ stretch
    shift = source.rng.uniform(-40, 40, 2) * source.pick([0, 1, 1, 1, 1e3, 1e8])
    return np.concatenate([linear, shift[:, None]], 1)


@fuzz(60)
def test_affine_crop(seed: int, data: Any) -> None:
    source = Source(seed, data)
    dtype = source.pick([np.uint8, np.uint8, np.uint8, np.float32, np.float64])
    images = [photo(source, dtype) for _ in range(source.count(1, 3))]
    count, antialias = source.count(0, 4), source.flag()
    matrices = np.stack([crop_matrix(source, antialias) for _ in range(count)] or [np.empty((2, 3))])[:count]
    index = source.rng.integers(0, len(images), count)
    options: dict[str, Any] = {
        "size": (source.count(1, 12), source.count(1, 40)),
        "swap_rb": source.flag(),
        "border": source.pick(["constant", "replicate"]),
        "border_value": source.pick([0.0, (10, 20.5, 300)]),
        "antialias": antialias,
        "layout": source.pick(["nchw", "nhwc"]),
        "mean": source.pick([None, (123.675, 116.28, 103.53)]),
        "std": source.pick([None, 2.0]),
    }
    extra = {"flip": source.rng.random(count) < 0.5, "gain": source.numbers((count, 3), 0, 2, odd=False)}
    extra["offset"] = source.numbers((count, 3), -90, 90, odd=False)
    extra = {name: value for name, value in extra.items() if source.flag()}
    given_to = {name: source.memory(value) for name, value in extra.items()}
    where = source.memory(matrices), source.memory(index)
    (got,) = source.run(lambda: ops.affine_crop(images, *where, **options, **given_to))
    wanted = reference.affine_crop(
        [tensor(image) for image in images],
        *(tensor(matrices), tensor(index)),
        dtype=torch.float64,
        **options,
        **{name: tensor(value) for name, value in extra.items()},
    ).numpy()
    assert got.shape == wanted.shape
    # A position that rounding moves across a pixel centre has another neighbour of weight 0: NaN there, or not.
    both = np.isfinite(got) & np.isfinite(wanted)
    assert both.all() or dtype is not np.uint8
    np.testing.assert_allclose(got[both], wanted[both], rtol=1e-5, atol=0.05)


@fuzz(30)
def test_a_matrix_that_maps_far_outside_gives_the_border(seed: int, data: Any) -> None:
    source = Source(seed, data)
    image = photo(source, source.pick([np.uint8, np.float32]))
    matrices = np.stack([crop_matrix(source, False) for _ in range(3)])
    matrices[:, :, 2] = source.rng.choice([-1.0, 1.0], (3, 2)) * source.pick([1e4, 1e9, 1e18, 1e200])
    where = source.memory(matrices)
    (got,) = source.run(lambda: ops.affine_crop(image, where, size=(5, 37), border_value=(7, 8, 9)))
    np.testing.assert_array_equal(got, np.broadcast_to(np.float32([7, 8, 9])[:, None, None], got.shape))


# --- heatmaps ---------------------------------------------------------------------------------------------------------
def codec_of(source: Source) -> tuple[Codec, tuple[int, int]]:
    kind = source.pick(["gaussian", "dark", "udp", "udp_combined", "megvii"])
    size = source.count(2, 40), source.count(2, 40)
    blur = source.pick([1, 3, 9, 11, 17])
    sigma, kernel = source.pick([0.5, 1.5, 2.0, 3.0]), source.pick([1, 5, 11, 23])
    codec = suitable(kind, heatmap_size=size, sigma=sigma, kernel_size=kernel, blur_kernel=blur)
    return codec, source.pick([(size[0] * 4, size[1] * 4), (size[0], size[1]), (301, 77)])


def maps_of(source: Source, codec: Codec, batch: int, keypoints: int, dtype: Any = np.float32) -> np.ndarray:
    """Noise, or bumps on noise; some values not finite, if it so happens."""
    height, width = codec.heatmap_size or (0, 0)
    shape = (batch, keypoints * (3 if codec.kind == "udp_combined" else 1), height, width)
    maps = source.numbers(shape, 0.0, source.pick([1.0, 0.01]))
    if source.flag():
        y, x = np.mgrid[:height, :width]
        cx, cy = (source.rng.uniform(0, side, (*shape[:2], 1, 1)) for side in (width, height))
        maps = 0.02 * maps + np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / 8)
    with np.errstate(over="ignore"):
        return (maps * (255 if codec.kind == "megvii" else 1)).astype(dtype)


def points_of(source: Source, batch: int, keypoints: int, size: tuple[int, int]) -> np.ndarray:
    return source.numbers((batch, keypoints, 2), -0.3 * max(size), 1.3 * max(size)).astype(np.float32)


@fuzz(60)
def test_heatmap_encode(seed: int, data: Any) -> None:
    source = Source(seed, data)
    codec, size = codec_of(source)
    batch, keypoints = source.count(0, 3), source.count(0, 6)
    points = points_of(source, batch, keypoints, size)
    visible = source.numbers((batch, keypoints), -0.5, 2.5).astype(source.pick([np.float32, np.float64]))
    factors = source.rng.uniform(0, 2, keypoints).astype(np.float32) if source.flag() else None
    where = source.memory(points), source.memory(visible)
    weights_of = None if factors is None else source.memory(factors)
    got = source.run(lambda: ops.heatmap_encode(*where, codec, size, joint_weights=weights_of))
    wanted = reference.heatmap_encode(
        *(tensor(points), tensor(visible.astype(np.float32)), codec, size),
        joint_weights=None if factors is None else tensor(factors),
    )
    for one, other in zip(got, wanted, strict=True):
        np.testing.assert_allclose(one, other.numpy(), rtol=2e-6, atol=1e-4 if codec.kind == "megvii" else 3e-6)


@fuzz(100)
def test_heatmap_decode(seed: int, data: Any) -> None:
    source = Source(seed, data)
    codec, size = codec_of(source)
    batch, keypoints = source.count(0, 3), source.count(1, 5)
    dtype = source.pick([np.float32, np.float32, np.float16])
    maps = maps_of(source, codec, batch, keypoints, dtype)
    options: dict[str, Any] = {"flip_shift": source.flag()}
    plain: dict[str, Any] = dict(options)
    if source.flag():
        for name, value in (
            ("flipped", maps_of(source, codec, batch, keypoints, dtype)),
            ("flip_index", source.rng.permutation(keypoints)),
        ):
            options[name], plain[name] = source.memory(value), tensor(value)
    where = source.memory(maps)
    points, scores = source.run(lambda: ops.heatmap_decode(where, codec, size, **options))
    wanted_points, wanted_scores = (x.numpy() for x in reference.heatmap_decode(tensor(maps), codec, size, **plain))
    assert not np.isnan(scores).any()
    assert not np.isnan(points).any()
    np.testing.assert_allclose(scores, wanted_scores, rtol=1e-5, atol=1e-6)
    # A Newton step of many pixels, on noise, is all rounding.
    near = np.abs(wanted_points) < 4 * max(size)
    np.testing.assert_allclose(points[near], wanted_points[near], rtol=2e-3, atol=2e-3 * max(size) / 10)


@fuzz(60)
def test_nan_never_wins_the_arg_max(seed: int, data: Any) -> None:
    source = Source(seed, data)
    codec = build_codec("gaussian", heatmap_size=codec_of(source)[0].heatmap_size)
    height, width = codec.heatmap_size or (0, 0)
    maps = np.full((1, 4, height, width), source.pick([np.nan, -np.inf, -1.0]), np.float32)
    maps[source.rng.random(maps.shape) < source.pick([0.0, 0.1, 0.9])] = np.nan
    best = source.rng.integers(0, height * width, 4)
    for k, index in enumerate(best):
        maps[0, k].flat[index] = 0.5
    where = source.memory(maps)
    points, scores = source.run(lambda: ops.heatmap_decode(where, codec, (4 * height, 4 * width)))
    assert (scores == 0.5).all()
    expected = np.stack([best % width, best // width], -1)
    assert (np.abs(points[0] / 4 - expected) <= 0.25).all()


@fuzz(60)
def test_heatmap_loss(seed: int, data: Any) -> None:
    source = Source(seed, data)
    codec, size = codec_of(source)
    batch, keypoints = source.count(0, 3), source.count(1, 5)
    maps = maps_of(source, codec, batch, keypoints)
    points: Any = points_of(source, batch, keypoints, size)
    target = None
    if source.count(0, 3) == 0:
        points, target = None, maps_of(source, codec, batch, keypoints)
    weights = source.rng.choice([0.0, 0.5, 1.0, 2.0, -1.0, np.nan], (batch, keypoints)).astype(np.float32)
    weights = weights if source.flag() else None
    topk = source.count(1, keypoints) if source.flag() and codec.kind != "udp_combined" else None
    where, factors = source.memory(maps), None if weights is None else source.memory(weights)
    places = None if points is None else source.memory(points)
    given_target = None if target is None else source.memory(target)

    def call() -> Any:
        leaf = where.clone().requires_grad_() if source.tensors else where
        loss = ops.heatmap_loss(leaf, places, factors, codec, size, target=given_target, ohkm_topk=topk)
        return (loss, *torch.autograd.grad(loss, leaf)) if source.tensors else loss

    got = source.run(call)
    exact = tensor(maps).double().requires_grad_()
    wanted = reference.heatmap_loss(
        *(exact, None if points is None else tensor(points).double(), None if weights is None else tensor(weights)),
        *(codec, size),
        target=None if target is None else tensor(target).double(),
        ohkm_topk=topk,
    )
    if not np.isfinite(got[0]) or wanted.item() > 1e30:
        return  # overflow in float32; which of several NaN losses counts is not decided alike
    if codec.kind == "udp_combined" and not np.isfinite(maps).all():
        return  # the native loss does not look at offsets outside the disc, the oracle multiplies them by 0
    np.testing.assert_allclose(got[0], wanted.item(), rtol=1e-4, atol=1e-7)
    if source.tensors and topk is None and batch > 0:
        slope = torch.autograd.grad(wanted, exact)[0].numpy()
        np.testing.assert_allclose(got[1], slope, rtol=1e-4, atol=1e-5 * np.abs(slope).max() + 1e-12)


# --- coordinate vectors -----------------------------------------------------------------------------------------------
def vectors_codec(source: Source) -> tuple[SimCC, tuple[int, int]]:
    gaussian = source.count(0, 3) > 0
    sigma = source.pick([0.4, 2.0, 4.9, 6.0]), source.pick([1.0, 5.66, 19.0])
    codec = SimCC(
        sigma=sigma,
        split_ratio=source.pick([0.9, 1.0, 2.0, 3.0]),
        smoothing="gaussian" if gaussian else "standard",
        label_smoothing=0.0 if gaussian else source.pick([0.0, 0.1, 1.0]),
        normalized=source.flag(),
        dark=source.flag(),
        visibility=source.flag(),
    )
    return codec, (source.count(2, 90), source.count(2, 90))


def vectors_of(source: Source, codec: SimCC, size: tuple[int, int], people: tuple[int, int], dtype: Any) -> Any:
    """Noise, or bumps on noise; some values not finite, if it so happens."""
    vectors, bumps = [], source.flag()
    for bins in codec.sizes(size):
        values = source.numbers((*people, bins), 0.0, source.pick([1.0, 0.01]))
        if bumps:
            middle = source.rng.uniform(0, bins, (*people, 1))
            values = 0.02 * values + np.exp(-((np.arange(bins) - middle) ** 2) / 60)
        with np.errstate(over="ignore"):
            vectors.append(values.astype(dtype))
    return tuple(vectors)


@fuzz(60)
def test_simcc_encode(seed: int, data: Any) -> None:
    source = Source(seed, data)
    codec, size = vectors_codec(source)
    people = source.count(0, 3), source.count(0, 6)
    points = points_of(source, *people, size)
    visible = source.numbers(people, -0.5, 2.5).astype(source.pick([np.float32, np.float64]))
    factors = source.rng.uniform(0, 2, people[1]).astype(np.float32) if source.flag() else None
    where = source.memory(points), source.memory(visible)
    weights_of = None if factors is None else source.memory(factors)
    got = source.run(lambda: ops.simcc_encode(*where, codec, size, joint_weights=weights_of))
    wanted = reference.simcc_encode(
        *(tensor(points), tensor(visible.astype(np.float32)), codec, size),
        joint_weights=None if factors is None else tensor(factors),
    )
    for one, other in zip(got, wanted, strict=True):
        np.testing.assert_allclose(one, other.numpy(), rtol=2e-6, atol=2e-7)


@fuzz(100)
def test_simcc_decode(seed: int, data: Any) -> None:
    source = Source(seed, data)
    codec, size = vectors_codec(source)
    people = source.count(0, 3), source.count(1, 5)
    dtype = source.pick([np.float32, np.float32, np.float16])
    vectors = vectors_of(source, codec, size, people, dtype)
    options: dict[str, Any] = {}
    plain: dict[str, Any] = {}
    if source.flag():
        other, index = vectors_of(source, codec, size, people, dtype), source.rng.permutation(people[1])
        options = {"flipped": tuple(map(source.memory, other)), "flip_index": source.memory(index)}
        plain = {"flipped": tuple(map(tensor, other)), "flip_index": tensor(index)}
    where = tuple(map(source.memory, vectors))
    got = source.run(lambda: tuple(p for p in ops.simcc_decode(*where, codec, size, **options) if p is not None))
    wanted = reference.simcc_decode(*map(tensor, vectors), codec, size, **plain)
    assert len(got) == (3 if codec.visibility else 2)
    assert not any(np.isnan(part).any() for part in got)
    np.testing.assert_allclose(got[1], wanted[1].numpy(), rtol=1e-5, atol=1e-6)
    if codec.visibility:
        np.testing.assert_allclose(got[2], wanted[2].numpy(), rtol=1e-3, atol=1e-5)
    if not codec.dark:  # on noise a Newton step is all rounding
        np.testing.assert_allclose(got[0], wanted[0].numpy(), rtol=1e-5, atol=1e-4)


@fuzz(60)
def test_simcc_loss(seed: int, data: Any) -> None:
    source = Source(seed, data)
    codec, size = vectors_codec(source)
    people = source.count(0, 3), source.count(1, 5)
    vectors = vectors_of(source, codec, size, people, np.float32)
    points = points_of(source, *people, size)
    weights = source.rng.choice([0.0, 0.5, 1.0, 2.0, -1.0, np.nan], people).astype(np.float32)
    weights = weights if source.flag() else None
    each = source.rng.choice([0.0, 0.5, 1.0, -1.0], people[1]).astype(np.float32) if source.flag() else None
    options = {"beta": source.pick([1.0, 10.0]), "label_softmax": source.flag(), "label_beta": source.pick([10.0, 1.0])}
    where = tuple(map(source.memory, vectors))
    rest = source.memory(points), None if weights is None else source.memory(weights), codec, size
    factors = None if each is None else source.memory(each)

    def call() -> Any:
        leaves = tuple(part.clone().requires_grad_() for part in where) if source.tensors else where
        loss = ops.simcc_loss(leaves, *rest, keypoint_weights=factors, **options)
        return (loss, *torch.autograd.grad(loss, leaves)) if source.tensors else loss

    got = source.run(call)
    exact = tuple(tensor(part).double().requires_grad_() for part in vectors)
    wanted = reference.simcc_loss(
        *(exact, tensor(points), None if weights is None else tensor(weights).double(), codec, size),
        keypoint_weights=None if each is None else tensor(each).double(),
        **options,
    )
    if not np.isfinite(got[0]) or abs(wanted.item()) > 1e30:
        return  # overflow in float32
    np.testing.assert_allclose(got[0], wanted.item(), rtol=1e-4, atol=1e-6)
    if source.tensors and people[0] > 0:
        for mine, slope in zip(got[1:], torch.autograd.grad(wanted, exact), strict=True):
            largest, terms = float(slope.abs().max()), 2 * options["beta"] / slope.shape[-1]
            np.testing.assert_allclose(mine, slope.numpy(), rtol=1e-3, atol=1e-4 * largest + 2e-7 * terms)


# --- oks ------------------------------------------------------------------------------------------------------------
@fuzz(60)
def test_oks(seed: int, data: Any) -> None:
    source = Source(seed, data)
    n, m, keypoints = source.count(0, 9), source.count(0, 40), source.count(0, 18)
    dtype = source.pick([np.float32, np.float64])
    a = source.numbers((n, keypoints, source.pick([2, 3])), 0, 200).astype(dtype)
    b = source.numbers((m, keypoints, source.pick([2, 3])), 0, 200).astype(dtype)
    if n > 0 and m > 0:
        b[..., :2] = np.where(source.rng.random((m, 1, 1)) < 0.5, a[:1, :, :2] + 2, b[..., :2])
    areas, sigmas = source.numbers((n,), -10, 40000), source.rng.uniform(0.02, 0.12, keypoints)
    options = {"visible": source.rng.integers(0, 3, (n, keypoints)), "areas_b": source.numbers((m,), -10, 40000)}
    options = {name: value for name, value in options.items() if source.flag()}
    where = [source.memory(value) for value in (a, b, areas, sigmas)]
    elsewhere = {name: source.memory(value) for name, value in options.items()}
    (got,) = source.run(lambda: ops.oks(*where, **elsewhere))
    exact = [tensor(value).double() for value in (a, b, areas, sigmas)]
    wanted = reference.oks(*exact, **{name: tensor(value) for name, value in options.items()}).numpy()
    assert got.dtype == dtype
    np.testing.assert_allclose(got, wanted, rtol=0, atol=2e-6 if dtype is np.float32 else 1e-9)


@fuzz(60)
def test_oks_nms(seed: int, data: Any) -> None:
    source = Source(seed, data)
    n, keypoints = source.count(0, 40), source.count(1, 17)
    poses = source.numbers((n, keypoints, 3), 0, 200)
    like = source.rng.random((n, 1, 1)) < 0.7
    poses = np.where(
        like & (n > 0), np.broadcast_to(poses[:1], poses.shape) + source.rng.normal(0, 6, poses.shape), poses
    )
    poses = poses.astype(source.pick([np.float32, np.float64]))
    scores, areas = source.numbers((n,), 0, 1), source.numbers((n,), -10, 40000)
    sigmas = source.rng.uniform(0.02, 0.12, keypoints)
    image = source.rng.integers(0, 3, n) if source.flag() else None
    soft = source.flag()
    options = {"soft": soft, "max_per_image": source.pick([None, None, 1, 5])}
    threshold = source.pick([0.0, 0.3, 0.9, 1.0]) if not soft else source.pick([0.1, 0.9])
    where = [source.memory(value) for value in (poses, scores, areas, sigmas)]
    elsewhere = None if image is None else source.memory(image)
    got = source.run(lambda: ops.oks_nms(*where, threshold, image_index=elsewhere, **options))
    exact = [tensor(value).double() for value in (poses, scores, areas, sigmas)]
    wanted = arrays(
        reference.oks_nms(*exact, threshold, image_index=None if image is None else tensor(image), **options)
    )
    if soft:  # scores within 1e-8 may change places
        np.testing.assert_allclose(got[1], wanted[1], rtol=1e-6, atol=1e-6)
        if options["max_per_image"] is None:
            assert sorted(got[0]) == sorted(wanted[0])
    else:
        np.testing.assert_array_equal(got[0], wanted[0])


@fuzz(80)
def test_box_nms(seed: int, data: Any) -> None:
    source = Source(seed, data)
    n, dtype = source.count(0, 70), source.pick([np.float32, np.float64])
    boxes = source.numbers((n, 4), 0, 200)
    like = source.rng.random((n, 1)) < 0.7
    boxes = np.where(like & (n > 0), np.broadcast_to(boxes[:1], boxes.shape) + source.rng.normal(0, 9, (n, 4)), boxes)
    boxes = boxes.astype(dtype)
    scores = source.rng.integers(0, 4, n) / 4 if source.flag() else source.numbers((n,), 0, 1)
    kind, image = (source.rng.integers(-1, 2, n) if source.flag() else None for _ in range(2))
    method = source.pick(["hard", "linear", "gaussian"])
    options = {"method": method, "most": source.pick([None, None, 1, 5]), "min_score": source.pick([-np.inf, 0.0, 0.3])}
    options["sigma" if method == "gaussian" else "threshold"] = source.pick([0.05, 0.3, 0.6, 1.0])
    where = [None if value is None else source.memory(value) for value in (boxes, scores, kind, image)]
    got = source.run(lambda: ops.box_nms(*where, **options))
    exact = [None if value is None else tensor(value) for value in (boxes, scores, kind, image)]
    wanted = arrays(reference.box_nms(*exact, **options))
    if method == "hard":
        np.testing.assert_array_equal(got[0], wanted[0])
    else:  # a score may be lowered to one that lies beside another, or beside the least: within some roundings
        np.testing.assert_allclose(got[1], wanted[1], rtol=1e-12)
        np.testing.assert_array_equal(np.sort(got[0]), np.sort(wanted[0]))


@fuzz(60)
def test_oks_nms_of_equal_scores_at_any_size(seed: int, data: Any) -> None:
    source = Source(seed, data)
    n, keypoints, size = source.count(0, 40), source.count(1, 20), source.pick([1e-3, 1.0, 1e3, 1e12, 1e20])
    poses = (source.rng.normal(0, 0.03, (n, keypoints, 2)) * size).astype(np.float32)
    scores, areas = source.rng.integers(0, 4, n) / 4, source.rng.uniform(0, size**2, n)
    sigmas, image = np.resize(COCO17.sigmas, keypoints), source.rng.integers(0, 3, n)
    threshold, soft = float(source.rng.uniform(0.01, 1)), source.flag()
    where = [source.memory(value) for value in (poses, scores, areas, sigmas, image)]
    got = source.run(lambda: ops.oks_nms(*where[:4], threshold, image_index=where[4], soft=soft))
    exact = [tensor(value).double() for value in (poses, scores, areas, sigmas)]
    wanted = arrays(reference.oks_nms(*exact, threshold, image_index=tensor(image), soft=soft))
    if soft:  # which of two nearly equal scores comes first is open; what the scores are is not
        np.testing.assert_allclose(got[1], wanted[1], rtol=1e-6, atol=1e-12)
        assert sorted(got[0]) == sorted(wanted[0])
    else:
        np.testing.assert_array_equal(got[0], wanted[0])
