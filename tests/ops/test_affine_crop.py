"""affine_crop against its float64 oracle, literals worked out by hand, and the crops that OpenCV makes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from fastpose import _C, ops
from fastpose.ops import reference

MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)


def photo(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def matrix(scale: float = 1.0, degrees: float = 0.0, shift: tuple[float, float] = (0.0, 0.0)) -> np.ndarray:
    angle = np.deg2rad(degrees)
    c, s = scale * np.cos(angle), scale * np.sin(angle)
    return np.array([[c, -s, shift[0]], [s, c, shift[1]]])


MATRICES = {
    "identity": matrix(),
    "half pixel": matrix(shift=(0.5, 0.5)),
    "enlarge": matrix(2.7, shift=(-31.3, -20.9)),
    "shrink": matrix(0.31, shift=(3.3, 1.7)),
    "turn": matrix(1.3, 37.0, (20.0, -41.0)),
    "upside down": matrix(0.8, 180.0, (60.0, 50.0)),
    "quarter turn": matrix(1.0, 90.0, (40.0, 3.0)),
    "shear": np.array([[1.2, 0.4, -7.0], [-0.3, 0.9, 11.0]]),
    "mirror": np.array([[-1.0, 0.0, 50.0], [0.0, 1.0, 0.0]]),
    "corner": matrix(1.0, 10.0, (45.0, 40.0)),
    "tiny": matrix(0.02, 3.0, (20.0, 20.0)),
    "huge": matrix(400.0, 5.0, (-8000.0, -6000.0)),
}


def both(images, matrices, *args, **options):
    """Native result (NumPy) and the float64 oracle's."""
    as_list = isinstance(images, list)
    tensors = [torch.from_numpy(i) for i in images] if as_list else torch.from_numpy(images)
    dtype = options.pop("dtype", torch.float32)
    got = ops.affine_crop(images, matrices, *args, dtype=dtype, **options)
    for name in ("flip", "gain", "offset"):
        if options.get(name) is not None:
            options[name] = torch.from_numpy(np.asarray(options[name]))
    wanted = reference.affine_crop(
        tensors, torch.from_numpy(matrices), *map(torch.from_numpy, args), dtype=torch.float64, **options
    )
    return got, wanted.numpy()


# --- arithmetic ---------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("border", ["constant", "replicate"])
@pytest.mark.parametrize("name", MATRICES)
def test_agrees_with_the_oracle(name: str, border: str, simd: str) -> None:
    image = photo(61, 83)
    got, wanted = both(image, MATRICES[name][None], size=(48, 53), border=border, border_value=(10, 200, 90))
    assert got.dtype == np.float32
    assert np.abs(got - wanted).max() < 0.02


@pytest.mark.parametrize("name", ["identity", "shrink", "tiny", "turn", "shear", "enlarge"])
@pytest.mark.parametrize("border", ["constant", "replicate"])
def test_antialiasing_agrees_with_the_oracle(name: str, border: str, simd: str) -> None:
    image = photo(61, 83)
    crop = MATRICES[name] @ np.array([[0.4, 0, 0], [0, 0.5, 0], [0, 0, 1]])
    size = (5, 21) if name == "tiny" else (9, 300)
    got, wanted = both(image, crop[None], size=size, border=border, border_value=70.0, antialias=True)
    assert np.abs(got - wanted).max() < 0.02


def test_antialiasing_keeps_the_mean_of_a_checkerboard() -> None:
    image = np.indices((64, 64)).sum(0) % 2 * 255
    image = np.repeat(image[..., None], 3, axis=-1).astype(np.uint8)
    shrunk = ops.affine_crop(image, matrix(0.125)[None], size=(8, 8), antialias=True)
    assert np.abs(shrunk[:, :, 1:-1, 1:-1] - 127.5).max() < 1e-3
    plain = ops.affine_crop(image, matrix(0.125)[None], size=(8, 8))
    assert np.abs(plain[:, :, 1:-1, 1:-1] - 127.5).max() > 100


def test_values_worked_out_by_hand(simd: str) -> None:
    image = np.zeros((2, 3, 3), np.uint8)
    image[..., 0] = [[0, 100, 200], [40, 140, 240]]
    image[..., 1] = 50
    image[..., 2] = [[255, 0, 0], [0, 0, 0]]
    # Crop pixel (0, 0) looks at source (0.25, 0.5), pixel (1, 0) at (1.25, 0.5).
    shifted = np.array([[[1, 0, -0.25], [0, 1, -0.5]]])
    crop = ops.affine_crop(image, shifted, size=(1, 2))
    np.testing.assert_allclose(crop[0, 0, 0], [45.0, 145.0], atol=0.01)  # (0 + 0.25*100 + 40 + 0.25*100) / 2
    np.testing.assert_allclose(crop[0, 1, 0], [50.0, 50.0], atol=0.01)
    np.testing.assert_allclose(crop[0, 2, 0], [0.75 * 0.5 * 255, 0.0], atol=0.01)
    # The last column looks half beyond the edge: half border.
    beyond = np.array([[[1, 0, -2.5], [0, 1, 0.0]]])
    np.testing.assert_allclose(
        ops.affine_crop(image, beyond, size=(1, 1), border_value=(20, 30, 40))[0, :, 0, 0],
        [110.0, 40.0, 20.0],
        atol=0.01,
    )
    np.testing.assert_allclose(
        ops.affine_crop(image, beyond, size=(1, 1), border="replicate")[0, :, 0, 0], [200.0, 50.0, 0.0], atol=0.01
    )


def test_identity_copies_every_pixel(simd: str) -> None:
    image = photo(37, 45)
    np.testing.assert_array_equal(
        ops.affine_crop(image, matrix()[None], size=(37, 45), layout="nhwc", dtype="uint8")[0], image
    )


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (2, 2), (2, 9), (3, 17)])
def test_small_images(size: tuple[int, int], simd: str) -> None:
    image = photo(*size)
    crops = np.stack([matrix(3.0, 20.0, (4.0, 3.0)), matrix(0.5), matrix(1.0, shift=(2.0, 2.0))])
    for border in ("constant", "replicate"):
        got, wanted = both(image, crops, size=(11, 34), border=border)
        assert np.abs(got - wanted).max() < 0.02


def test_levels_agree(simd: str) -> None:
    image, crops = photo(300, 400), np.stack(list(MATRICES.values()))
    got = ops.affine_crop(image, crops, size=(64, 48), mean=MEAN, std=STD)
    _C.set_simd_level("")
    np.testing.assert_allclose(got, ops.affine_crop(image, crops, size=(64, 48), mean=MEAN, std=STD), atol=2e-4)


# --- options ------------------------------------------------------------------------------------------------------
def test_normalisation_channel_order_and_layout(simd: str) -> None:
    image, crops = photo(50, 60), np.stack([MATRICES["turn"], MATRICES["shrink"]])
    options = {"size": (33, 41), "mean": MEAN, "std": STD, "border_value": (1.0, 2.0, 3.0)}
    got, wanted = both(image, crops, swap_rb=True, **options)
    assert np.abs(got - wanted).max() < 0.02 / 57
    same = ops.affine_crop(np.ascontiguousarray(image[..., ::-1]), crops, **options)
    np.testing.assert_allclose(got, same, atol=1e-6)
    interleaved = ops.affine_crop(image, crops, swap_rb=True, layout="nhwc", **options)
    np.testing.assert_array_equal(interleaved, got.transpose(0, 2, 3, 1))


def test_flip_mirrors_the_crop(simd: str) -> None:
    image, crops = photo(50, 60), np.stack([MATRICES["turn"], MATRICES["turn"]])
    got = ops.affine_crop(image, crops, size=(33, 41), flip=np.array([False, True]), antialias=True)
    np.testing.assert_allclose(got[1], got[0, :, :, ::-1], atol=0.02)


@pytest.mark.parametrize("given", ["gain", "offset", "both"])
def test_colour_is_clipped_before_normalisation(given: str, simd: str) -> None:
    rng = np.random.default_rng(3)
    options = {
        "gain": rng.uniform(0.3, 2.0, (2, 3)).astype(np.float32) if given != "offset" else None,
        "offset": rng.uniform(-90, 90, (2, 3)).astype(np.float32) if given != "gain" else None,
    }
    crops = np.stack([MATRICES["turn"], MATRICES["enlarge"]])
    got, wanted = both(photo(50, 60), crops, size=(33, 41), mean=MEAN, std=STD, swap_rb=True, **options)
    assert np.abs(got - wanted).max() < 0.04 / 57
    assert got.max() <= (255 - 103.53) / 57.375 + 1e-5


@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
@pytest.mark.parametrize(
    ("dtype", "rounding"), [(torch.uint8, 0.5), (torch.float16, 2**-11), (torch.bfloat16, 2**-8), (torch.float64, 0.0)]
)
def test_output_types(dtype: torch.dtype, rounding: float, layout: str, simd: str) -> None:
    image = torch.from_numpy(photo(50, 60))
    crops = torch.from_numpy(np.stack([MATRICES["turn"], MATRICES["half pixel"]]))
    got = ops.affine_crop(image, crops, size=(33, 41), dtype=dtype, layout=layout)
    wanted = reference.affine_crop(image, crops, size=(33, 41), dtype=torch.float64, layout=layout)
    assert got.dtype is dtype
    assert got.shape == wanted.shape
    tolerance = 1e-9 if dtype is torch.float64 else 0.02 + rounding * (255 if dtype is not torch.uint8 else 1)
    assert (got.double() - wanted).abs().max() < tolerance


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_float_images(dtype: type) -> None:
    image = np.random.default_rng(0).uniform(-300, 700, (40, 30, 3)).astype(dtype)
    got, wanted = both(
        image, MATRICES["turn"][None], size=(33, 41), dtype=torch.float64 if dtype is np.float64 else torch.float32
    )
    np.testing.assert_allclose(got, wanted, atol=1e-9 if dtype is np.float64 else 0.02)


# --- many images, odd memory ----------------------------------------------------------------------------------------
def test_many_images_of_any_sizes(simd: str) -> None:
    images = [photo(50, 60, 1), photo(7, 200, 2), photo(120, 9, 3)]
    index = np.array([2, 0, 0, 1, 2])
    crops = np.stack([MATRICES[n] for n in ("turn", "shrink", "identity", "enlarge", "corner")])
    got, wanted = both(images, crops, index, size=(40, 30))
    assert np.abs(got - wanted).max() < 0.02
    for crop, i, one in zip(crops, index, got, strict=True):
        np.testing.assert_array_equal(ops.affine_crop(images[i], crop[None], size=(40, 30))[0], one)


def test_a_batch_is_a_list_of_its_images() -> None:
    batch = np.stack([photo(30, 40, i) for i in range(3)])
    crops = np.stack([MATRICES["turn"]] * 3)
    np.testing.assert_array_equal(
        ops.affine_crop(batch, crops, size=(20, 20)), ops.affine_crop(list(batch), crops, size=(20, 20))
    )
    tensors = ops.affine_crop(torch.from_numpy(batch), torch.from_numpy(crops), size=(20, 20))
    np.testing.assert_array_equal(tensors.numpy(), ops.affine_crop(batch, crops, size=(20, 20)))


@pytest.mark.parametrize("as_tensor", [False, True])
def test_strides(as_tensor: bool) -> None:
    big = photo(80, 90)
    big.setflags(write=False)
    views = [big[5:60, 7:70], big[::2], big[::-1], big[:, ::-1], big[..., ::-1], big.transpose(1, 0, 2), big[:, ::3]]
    if as_tensor:
        big = big.copy()
        tensor = torch.from_numpy(big)
        views = [tensor[5:60, 7:70], tensor[::2], tensor[:, ::2], tensor.transpose(0, 1), tensor[..., [2, 1, 0]]]
        views.append(torch.from_numpy(photo(3, 8)).permute(1, 0, 2))
        views.append(torch.from_numpy(photo(40, 3)).expand(40, 3, 3))
    for view in views:
        copy = view.contiguous() if as_tensor else np.ascontiguousarray(view)
        crop = torch.from_numpy(MATRICES["turn"][None]) if as_tensor else MATRICES["turn"][None]
        got, wanted = (ops.affine_crop(v, crop, size=(33, 41)) for v in (view, copy))
        assert (np.asarray(got) == np.asarray(wanted)).all()


def test_nothing_beyond_the_image_is_read(simd: str) -> None:
    """The rows and columns around a view are poison: they would show."""
    poison = np.full((70, 80, 3), 255, np.uint8)
    poison[8:50, 9:60] = 10
    view = poison[8:50, 9:60]
    for name, m in MATRICES.items():
        crop = ops.affine_crop(view, m[None], size=(60, 70), border_value=10.0)
        assert np.abs(crop - 10).max() < 1e-3, name


def test_large_image_rows() -> None:
    image = np.broadcast_to(np.arange(5000, dtype=np.float64)[None, :, None] % 251, (40, 5000, 3)).astype(np.uint8)
    crop = np.stack([matrix(1.0, 0.3, (-4700.25, 0.0)), matrix(0.05, 0.0, (0.0, 5.0))])
    got, wanted = both(image, crop, size=(30, 256))
    assert np.abs(got - wanted).max() < 0.02


def test_out_is_filled_and_returned() -> None:
    image, crop = photo(30, 40), MATRICES["turn"][None]
    wanted = ops.affine_crop(image, crop, size=(20, 24))
    for out in (np.full((1, 3, 20, 24), np.nan, np.float32), torch.full((1, 3, 20, 24), torch.nan)):
        assert ops.affine_crop(image, crop, size=(20, 24), out=out) is out
        np.testing.assert_array_equal(np.asarray(out), wanted)
    half = torch.empty((1, 3, 20, 24), dtype=torch.bfloat16)
    assert ops.affine_crop(image, crop, size=(20, 24), out=half).dtype is torch.bfloat16


def test_nothing_in_nothing_out() -> None:
    none = np.zeros((0, 2, 3))
    assert ops.affine_crop([], none, size=(4, 5)).shape == (0, 3, 4, 5)
    assert ops.affine_crop(photo(9, 9), none, size=(4, 5), layout="nhwc").shape == (0, 4, 5, 3)
    assert ops.affine_crop([], torch.zeros(0, 2, 3), size=(4, 5)).shape == (0, 3, 4, 5)
    assert ops.affine_crop(np.zeros((0, 9, 9, 3), np.uint8), none, size=(4, 5)).shape == (0, 3, 4, 5)


def test_far_outside_is_border(simd: str) -> None:
    image = photo(50, 60)
    far = np.stack([matrix(shift=(1e12, -1e12)), matrix(1e-9), matrix(1e9), matrix(1.0, 30.0, (-1e300, 1e5))])
    for antialias in (False, True):
        crops = ops.affine_crop(image, far, size=(8, 40), border_value=7.0, antialias=antialias)
        assert np.isfinite(crops).all()
        np.testing.assert_array_equal(crops[0], 7.0)
        np.testing.assert_array_equal(crops[3], 7.0)
        edge = ops.affine_crop(image, far, size=(8, 40), border="replicate", antialias=antialias)
        np.testing.assert_allclose(edge[0], np.broadcast_to(image[-1, 0, :, None, None], (3, 8, 40)), atol=1e-3)


def test_any_number_of_threads_gives_the_same() -> None:
    images, crops = [photo(200, 300, i) for i in range(5)], np.stack([MATRICES["turn"]] * 5)
    before = torch.get_num_threads()
    try:
        results = []
        for threads in (1, 2, 7):
            torch.set_num_threads(threads)
            results.append(ops.affine_crop(images, crops, size=(256, 192), mean=MEAN, std=STD))
    finally:
        torch.set_num_threads(before)
    np.testing.assert_array_equal(results[0], results[1])
    np.testing.assert_array_equal(results[0], results[2])


def test_without_the_exchange_api() -> None:
    image, crop = torch.from_numpy(photo(50, 60))[3:, 5:], torch.from_numpy(MATRICES["turn"])[None]
    wanted = ops.affine_crop(image, crop, size=(20, 24), dtype=torch.bfloat16)
    _C.use_exchange_api(False)
    try:
        got = ops.affine_crop(image, crop, size=(20, 24), dtype=torch.bfloat16)
    finally:
        _C.use_exchange_api(True)
    assert torch.equal(got, wanted)


# --- errors -------------------------------------------------------------------------------------------------------
I2 = np.stack([matrix(), matrix()])


@pytest.mark.parametrize(
    ("error", "name", "images", "matrices", "options"),
    [
        (ValueError, r"matrices.*row 1", photo(9, 9), np.stack([matrix(), matrix() * np.nan]), {}),
        (ValueError, r"matrices.*row 1", photo(9, 9), np.stack([matrix(), matrix() + np.inf]), {}),
        (ValueError, r"matrices.*row 0", photo(9, 9), np.stack([matrix(0.0), matrix()]), {}),
        (ValueError, r"matrices.*\[M, 2, 3\].*\[2, 3\]", photo(9, 9), matrix(), {}),
        (TypeError, "matrices", photo(9, 9), "no", {}),
        (TypeError, "images.*int64", np.zeros((9, 9, 3), np.int64), I2, {}),
        (TypeError, "images", ["photo.jpg"], I2, {}),
        (ValueError, r"images.*\[H, W, 3\]", np.zeros((9, 9), np.uint8), I2, {}),
        (ValueError, "images.*three channels", np.zeros((9, 9, 4), np.uint8), I2, {}),
        (ValueError, "images.*at least one pixel", np.zeros((0, 9, 3), np.uint8), I2, {}),
        (
            ValueError,
            "images.*less than",
            torch.zeros(1, 1, 3, dtype=torch.uint8).expand(2**31, 1, 3),
            torch.from_numpy(I2),
            {},
        ),
        (ValueError, "image_index", [photo(9, 9)] * 3, I2, {}),
        (ValueError, "image_index.*row 1", [photo(9, 9)] * 2, I2, {"image_index": np.array([0, 2])}),
        (ValueError, "image_index.*row 0", [photo(9, 9)] * 2, I2, {"image_index": np.array([-1, 0])}),
        (TypeError, "image_index", photo(9, 9), I2, {"image_index": np.array([0.0, 0.0])}),
        (ValueError, "image_index", photo(9, 9), I2, {"image_index": np.array([0])}),
        (ValueError, "images", [], I2, {"image_index": np.array([0, 0])}),
        (ValueError, "size", photo(9, 9), I2, {"size": (0, 4)}),
        (ValueError, "size", photo(9, 9), I2, {"size": 4}),
        (ValueError, "std", photo(9, 9), I2, {"std": 0.0}),
        (ValueError, "mean", photo(9, 9), I2, {"mean": (1.0, 2.0)}),
        (ValueError, "mean", photo(9, 9), I2, {"mean": float("nan")}),
        (ValueError, "border_value", photo(9, 9), I2, {"border_value": float("inf")}),
        (ValueError, "border", photo(9, 9), I2, {"border": "mirror"}),
        (ValueError, "layout", photo(9, 9), I2, {"layout": "chw"}),
        (TypeError, "dtype", photo(9, 9), I2, {"dtype": "int32"}),
        (TypeError, "bfloat16", photo(9, 9), I2, {"dtype": "bfloat16"}),
        (ValueError, "gain.*row 1", photo(9, 9), I2, {"gain": np.float32([[1, 1, 1], [1, np.nan, 1]])}),
        (ValueError, "offset", photo(9, 9), I2, {"offset": np.zeros((2, 1), np.float32)}),
        (TypeError, "flip", photo(9, 9), I2, {"flip": np.array([0.5, 1.0])}),
        (ValueError, "out", photo(9, 9), I2, {"out": np.zeros((2, 3, 4, 6), np.float32)}),
        (ValueError, "out.*contiguous", photo(9, 9), I2, {"out": np.zeros((2, 3, 8, 5), np.float32)[:, :, ::2]}),
        (TypeError, "images", [photo(9, 9), torch.zeros(9, 9, 3)], I2, {}),
        (TypeError, "matrices.*mixture", photo(9, 9), torch.zeros(2, 2, 3), {}),
    ],
)
def test_errors_name_the_argument(error: type, name: str, images, matrices, options: dict) -> None:
    options = {"size": (4, 5), **options}
    with pytest.raises(error, match=name):
        ops.affine_crop(images, matrices, **options)


def test_read_only_output_is_refused() -> None:
    out = np.zeros((2, 3, 4, 5), np.float32)
    out.setflags(write=False)
    with pytest.raises(ValueError, match=r"out.*writable"):
        ops.affine_crop(photo(9, 9), I2, size=(4, 5), out=out)


# --- torch --------------------------------------------------------------------------------------------------------
def float_case(dtype: torch.dtype = torch.float64) -> tuple[list[torch.Tensor], torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    images = [torch.rand(s, generator=generator, dtype=dtype) * 255 for s in ((5, 7, 3), (6, 4, 3))]
    crops = torch.from_numpy(np.stack([matrix(1.3, 20.0, (1.0, -1.0)), matrix(0.4, -10.0, (0.7, 1.3))]))
    return [image.requires_grad_() for image in images], crops


@pytest.mark.parametrize("border", ["constant", "replicate"])
@pytest.mark.parametrize(
    "options", [{}, {"antialias": True, "layout": "nhwc"}, {"gain": True, "swap_rb": True, "std": 3.0}]
)
def test_gradient(border: str, options: dict) -> None:
    images, crops = float_case()
    options = dict(options)
    if options.pop("gain", False):
        options["gain"] = torch.tensor([[1.5, 0.5, 1.0], [2.0, 1.0, 0.3]])
        options["offset"] = torch.tensor([[-50.0, 3.0, 1.0], [9.0, -120.0, 0.0]])
    flip = torch.tensor([True, False])

    def run(*images: torch.Tensor) -> torch.Tensor:
        return ops.affine_crop(
            list(images), crops, size=(4, 5), dtype=torch.float64, border=border, flip=flip, **options
        )

    assert torch.autograd.gradcheck(run, tuple(images))


def test_gradient_of_a_batch_and_an_index() -> None:
    batch = torch.rand(2, 6, 5, 3, dtype=torch.float64, requires_grad=True)
    crops = torch.from_numpy(np.stack([matrix(1.3, 20.0), matrix(0.7), matrix(1.0)]))
    index = torch.tensor([1, 1, 0])
    assert torch.autograd.gradcheck(
        lambda b: ops.affine_crop(b, crops, index, size=(4, 5), dtype=torch.float64), (batch,)
    )


def test_gradient_in_half_precision_reaches_the_images() -> None:
    images, crops = float_case(torch.float32)
    ops.affine_crop(images, crops, size=(4, 5), dtype=torch.float16).sum().backward()
    plain, _ = float_case(torch.float32)
    reference.affine_crop(plain, crops, size=(4, 5)).sum().backward()
    for got, wanted in zip(images, plain, strict=True):
        torch.testing.assert_close(got.grad, wanted.grad, atol=1e-4, rtol=1e-4)


def test_gradients_that_do_not_exist_are_refused() -> None:
    image, crops = torch.from_numpy(photo(9, 9)), torch.from_numpy(I2)
    with pytest.raises(TypeError, match="matrices"):
        ops.affine_crop(image, crops.clone().requires_grad_(), size=(4, 5))
    with pytest.raises(TypeError, match="gain"):
        ops.affine_crop(image, crops, size=(4, 5), gain=torch.ones(2, 3, requires_grad=True))
    with pytest.raises(TypeError, match="dtype"):
        ops.affine_crop(image.float().requires_grad_(), crops, size=(4, 5), dtype=torch.uint8)
    with torch.no_grad():
        crop = ops.affine_crop(image.float().requires_grad_(), crops.clone().requires_grad_(), size=(4, 5))
    assert not crop.requires_grad


def test_the_binding_refuses_a_tensor_that_requires_grad() -> None:
    image = torch.rand(9, 9, 3, requires_grad=True)
    options = _C.CropOptions(4, 5, *[(0.0,) * 3] * 3, False, False, False, False)
    index = torch.zeros(1, dtype=torch.int64)
    with pytest.raises(TypeError, match=r"images.*grad"):
        _C.affine_crop(image, torch.from_numpy(I2[:1]), index, None, None, None, options, None)


def arguments(dtype: torch.dtype, grad: bool) -> tuple:
    images, crops = float_case(torch.float32)
    images = [i.detach().to(dtype).requires_grad_(grad) for i in images]
    ones, zeros = [1.0] * 3, [0.0] * 3
    index = torch.tensor([1, 0])
    return (
        images, crops, index, [4, 5], ones, zeros, zeros, True, False, True, torch.tensor([True, False]),
        torch.ones(2, 3), torch.zeros(2, 3), torch.float32, False,
    )  # fmt: skip


@pytest.mark.parametrize(("dtype", "grad"), [(torch.uint8, False), (torch.float32, True)])
def test_opcheck(dtype: torch.dtype, grad: bool) -> None:
    torch.library.opcheck(torch.ops.fastpose.affine_crop.default, arguments(dtype, grad))


def test_compile_and_export() -> None:
    image, crops = torch.from_numpy(photo(30, 40)), torch.from_numpy(I2)

    class Crop(torch.nn.Module):
        def forward(self, image: torch.Tensor, crops: torch.Tensor) -> torch.Tensor:
            return ops.affine_crop(image, crops, size=(8, 12), mean=MEAN, std=STD, swap_rb=True) * 2

    wanted = Crop()(image, crops)
    torch.testing.assert_close(torch.compile(Crop(), fullgraph=True, backend="aot_eager")(image, crops), wanted)
    torch.testing.assert_close(torch.export.export(Crop(), (image, crops)).module()(image, crops), wanted)


# --- figures of another implementation --------------------------------------------------------------------------------
@pytest.mark.shared
def test_crops_of_photos(shared: Path, simd: str) -> None:
    cv2 = pytest.importorskip("cv2")
    entries = json.loads((shared / "reference" / "crops.json").read_text())
    crops = np.load(shared / "reference" / "crops.npz")
    for entry in entries:
        image = cv2.imread(str(shared / "data" / "samples" / entry["image"]))
        width, height = entry["size"]
        crop = np.array(entry["matrix"])[None]
        got = ops.affine_crop(image, crop, size=(height, width), dtype=np.uint8, layout="nhwc")[0]
        assert np.abs(got.astype(int) - crops[entry["crop"]].astype(int)).max() <= 1
        exact, wanted = both(image, crop, size=(height, width))
        assert np.abs(exact - wanted).max() < 0.02


def test_while_another_thread_compiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """What says that torch.compile is at work is one flag for all threads, and a loader's thread crops meanwhile."""
    photo = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)
    matrices = np.array([[[0.5, 0.1, 3], [-0.1, 0.5, 2]]])
    expected = ops.affine_crop(photo, matrices, size=(16, 16))
    monkeypatch.setattr("fastpose.ops._crop_options.is_compiling", lambda: True)
    np.testing.assert_array_equal(ops.affine_crop(photo, matrices, size=(16, 16)), expected)
