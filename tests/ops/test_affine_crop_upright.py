"""affine_crop where crops are not turned: every level, and each way it has, against the oracle."""

from __future__ import annotations

import platform
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from fastpose import _C, ops
from fastpose.ops import reference

MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
TOLERANCE = 0.02  # grey levels
HEIGHT, WIDTH = 61, 83


X86 = platform.machine() in ("x86_64", "AMD64")


@pytest.fixture(params=["sse2", "avx2", "avx512", "avx512 without VBMI"] if X86 else ["neon", "baseline"])
def level(request: pytest.FixtureRequest) -> Iterator[str]:
    """Each way that this processor can go."""
    name, _, without = request.param.partition(" ")
    if name not in _C.build_info()["simd_supported"]:
        pytest.skip(f"this processor has no {name}")
    before = _C.build_info()["simd"]
    _C.set_simd_level(name)
    _C.allow_simd_vbmi(not without)
    yield request.param
    _C.allow_simd_vbmi(True)
    _C.set_simd_level(before)


def photo(height: int = HEIGHT, width: int = WIDTH, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def window(left: float, top: float, step_x: float, step_y: float) -> np.ndarray:
    """The matrix of a crop whose column x shows source column ``left + step_x * x``, and rows likewise."""
    return np.array([[1 / step_x, 0.0, -left / step_x], [0.0, 1 / step_y, -top / step_y]])


def check(image: np.ndarray, matrices: np.ndarray, tolerance: float = TOLERANCE, **options: object) -> np.ndarray:
    """The op's result, which is the oracle's within the tolerance."""
    got = ops.affine_crop(image, matrices, **options)
    tensors = {k: torch.from_numpy(v) if isinstance(v, np.ndarray) else v for k, v in options.items()}
    tensors["dtype"] = torch.float64
    wanted = reference.affine_crop(torch.from_numpy(image), torch.from_numpy(matrices), **tensors).numpy()
    assert np.abs(got.astype(np.float64) - wanted).max() <= tolerance
    return got


WINDOWS = {
    "inside, larger": (10.3, 7.9, 0.61, 0.43),
    "inside, smaller": (1.25, 0.5, 1.47, 2.6),
    "pixel for pixel": (5.0, 6.0, 1.0, 1.0),
    "the whole image": (0.0, 0.0, (WIDTH - 1) / 52, (HEIGHT - 1) / 47),
    "over the left": (-9.7, 3.0, 0.7, 0.7),
    "over the top": (3.0, -9.7, 0.7, 0.7),
    "over the right": (60.2, 3.0, 0.7, 0.7),
    "over the bottom": (3.0, 40.1, 0.7, 0.7),
    "over all sides": (-20.4, -17.6, 2.3, 2.1),
    "a hair over": (-0.001, -0.001, (WIDTH - 0.998) / 52, (HEIGHT - 0.998) / 47),
    "one column": (-52.5, 10.0, 1.0, 1.0),
    "one row": (10.0, -47.5, 1.0, 1.0),
    "mirrored": (70.4, 5.0, -0.9, 0.9),
    "upside down": (5.0, 55.5, 0.9, -0.9),
    "both, over the sides": (95.5, 70.5, -2.2, -1.9),
    "much larger": (40.0, 30.0, 0.013, 0.011),
    "skips pixels": (0.5, 0.5, 3.7, 5.2),
    "skips more": (-3.0, -3.0, 7.9, 9.0),
    "skips most": (-30.0, -50.0, 29.0, 31.0),
    "shift of a rounding": (4.0, 4.0, 1.0 + 1e-12, 1.0 - 1e-12),
}


@pytest.mark.parametrize("border", ["constant", "replicate"])
@pytest.mark.parametrize("name", WINDOWS)
def test_agrees_with_the_oracle(name: str, border: str, level: str) -> None:
    check(photo(), window(*WINDOWS[name])[None], size=(48, 53), border=border, border_value=(10.5, 200, 90))


@pytest.mark.parametrize("width", [1, 2, 3, 4, 5, 7, 8, 15, 16, 17, 31, 33, 48, 50, 64, 129])
def test_any_width(width: int, level: str) -> None:
    crops = np.stack([window(3.3, 2.2, 0.55, 0.6), window(-4.5, -1.0, 1.9, 1.4), window(75.0, 3.0, -1.1, 1.0)])
    for layout in ("nchw", "nhwc"):
        check(photo(), crops, size=(9, width), layout=layout, border_value=77.0)


@pytest.mark.parametrize(
    "size", [(1, 1), (1, 30), (30, 1), (2, 2), (3, 5), (2, 6), (4, 7), (1, 8), (3, 21), (2, 22), (3, 23)]
)
@pytest.mark.parametrize("border", ["constant", "replicate"])
def test_small_images(size: tuple[int, int], border: str, level: str) -> None:
    crops = np.stack(
        [window(-2.0, -2.0, 0.3, 0.2), window(-1.3, -0.4, 1.0, 1.0), window(size[1] + 0.5, 0.0, -0.7, 0.1)]
    )
    check(photo(*size), crops, size=(11, 34), border=border, border_value=(5.0, 100.0, 250.0))


def test_far_outside_is_exactly_the_border(level: str) -> None:
    far = [(1e3, 0.0), (-1e3, 0.0), (0.0, 1e3), (0.0, -1e3), (1e9, 1e9), (-1e12, 3.0), (3.0, 1e15), (1e300, -1e300)]
    crops = np.stack([window(left, top, 1.3, 0.8) for left, top in far])
    got = ops.affine_crop(photo(), crops, size=(8, 40), border_value=(7.0, 8.5, 9.0), mean=MEAN, std=STD)
    wanted = (np.array([7.0, 8.5, 9.0]) - MEAN) / STD
    np.testing.assert_allclose(got, np.broadcast_to(wanted[:, None, None], (3, 8, 40))[None].repeat(8, 0), rtol=1e-6)
    assert len(np.unique(got[:, 0])) == 1
    edge = ops.affine_crop(photo(), crops, size=(8, 40), border="replicate")
    np.testing.assert_allclose(edge[4], np.broadcast_to(photo()[-1, -1, :, None, None], (3, 8, 40)), atol=1e-3)


def test_huge_and_tiny_steps(level: str) -> None:
    crops = np.stack([window(10.0, 10.0, 1e9, 1e9), window(10.25, 10.5, 1e-9, 1e-9), window(-1e6, -1e6, 6e4, 6e4)])
    for border in ("constant", "replicate"):
        check(photo(), crops, size=(40, 50), border=border, border_value=33.0)


def test_levels_agree(level: str) -> None:
    crops = np.stack([window(*w) for w in WINDOWS.values()])
    options = {"size": (64, 48), "mean": MEAN, "std": STD, "border_value": 99.0}
    got = ops.affine_crop(photo(), crops, **options)
    _C.allow_simd_vbmi(True)
    _C.set_simd_level("")
    np.testing.assert_allclose(got, ops.affine_crop(photo(), crops, **options), atol=2e-4)


def test_a_crop_turned_by_nothing_much_is_the_same(level: str) -> None:
    """Both ways of sampling, on either side of the limit."""
    straight = window(-3.7, -2.2, 0.77, 0.83)
    turned = straight.copy()
    turned[0, 1], turned[1, 0] = 1e-6, -1e-6
    a, b = ops.affine_crop(photo(), np.stack([straight, turned]), size=(64, 96), border_value=50.0)
    np.testing.assert_allclose(a, b, atol=0.1)  # 1e-6 a pixel: 1e-4 px at the far end, times 255, and rounding


def test_flip(level: str) -> None:
    crops = np.stack([window(-3.3, 4.4, 1.2, 0.9)] * 2)
    got = check(photo(), crops, size=(33, 41), flip=np.array([False, True]))
    np.testing.assert_allclose(got[1], got[0, :, :, ::-1], atol=TOLERANCE)


@pytest.mark.parametrize("given", ["gain", "offset", "both"])
def test_colour_is_clipped_before_normalisation(given: str, level: str) -> None:
    rng = np.random.default_rng(3)
    crops = np.stack([window(-3.0, -4.0, 0.7, 0.6), window(20.0, 30.0, 1.7, 1.6)])
    gain, offset = rng.uniform(0.3, 2.0, (2, 3)).astype(np.float32), rng.uniform(-90, 90, (2, 3)).astype(np.float32)
    options = (
        {"gain": gain}
        if given == "gain"
        else {"offset": offset}
        if given == "offset"
        else {"gain": gain, "offset": offset}
    )
    got = check(
        photo(),
        crops,
        2 * TOLERANCE / 57,
        size=(33, 41),
        mean=MEAN,
        std=STD,
        swap_rb=True,
        border_value=180.0,
        **options,
    )
    assert got.max() <= (255 - 103.53) / 57.375 + 1e-5


@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
@pytest.mark.parametrize(("dtype", "rounding"), [(np.uint8, 0.5), (np.float16, 2**-11 * 255), (np.float64, 0.0)])
def test_output_types(dtype: type, rounding: float, layout: str, level: str) -> None:
    crops = np.stack([window(-3.0, -4.0, 0.7, 0.6), window(20.0, 30.0, 1.7, 1.6)])
    got = check(photo(), crops, TOLERANCE + rounding, size=(33, 45), dtype=dtype, layout=layout, border_value=18.0)
    assert got.dtype == dtype


def test_pixels_are_copied_exactly(level: str) -> None:
    image = photo(37, 45)
    whole = np.stack([window(0, 0, 1, 1), window(44, 36, -1, -1)])
    got = ops.affine_crop(image, whole, size=(37, 45), layout="nhwc", dtype="uint8")
    np.testing.assert_array_equal(got[0], image)
    np.testing.assert_array_equal(got[1], image[::-1, ::-1])


@pytest.mark.parametrize("elements", [0, 1, 4, 7, 15])
def test_any_alignment_of_the_output(elements: int, level: str) -> None:
    crops = np.stack([window(-3.0, -4.0, 0.7, 0.6), window(20.0, 30.0, 1.7, 1.6)])
    for dtype in (np.float32, np.float16, np.uint8):
        for width in (48, 53):
            memory = np.zeros(2 * 3 * 20 * width + 64, dtype)
            out = memory[elements : elements + 2 * 3 * 20 * width].reshape(2, 3, 20, width)
            wanted = ops.affine_crop(photo(), crops, size=(20, width), dtype=dtype)
            np.testing.assert_array_equal(ops.affine_crop(photo(), crops, size=(20, width), out=out), wanted)
            assert not memory[:elements].any()
            assert not memory[elements + out.size :].any()


@pytest.mark.parametrize("view", ["part", "upwards", "every other row", "one row for all"])
def test_strides_and_what_lies_around(view: str, level: str) -> None:
    poison = np.full((90, 100, 3), 255, np.uint8)
    poison[10:71, 9:92] = photo() // 2
    image = {
        "part": poison[10:71, 9:92],
        "upwards": poison[70:9:-1, 9:92],
        "every other row": poison[10:71:2, 9:92],
        "one row for all": np.broadcast_to(poison[10, 9:92], (40, 83, 3)),
    }[view]
    crops = np.stack([window(*w) for w in WINDOWS.values()])
    got = ops.affine_crop(image, crops, size=(40, 50))
    np.testing.assert_array_equal(got, ops.affine_crop(np.ascontiguousarray(image), crops, size=(40, 50)))
    assert got.max() <= 127.01


def test_any_number_of_threads_gives_the_same(level: str) -> None:
    crops = np.stack([window(-3.0, -4.0, 0.7, 0.35), window(20.0, 60.0, 0.7, -0.3), window(2.0, 3.0, 0.2, 0.2)])
    before = torch.get_num_threads()
    try:
        results = []
        for threads in (1, 2, 7):
            torch.set_num_threads(threads)
            results.append(ops.affine_crop(photo(), crops, size=(200, 100), mean=MEAN, std=STD))
    finally:
        torch.set_num_threads(before)
    np.testing.assert_array_equal(results[0], results[1])
    np.testing.assert_array_equal(results[0], results[2])
