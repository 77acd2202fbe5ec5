"""affine_crop of large outputs, at every alignment, and where images have more elements than 32 bits count."""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

from fastpose import _C, ops

LARGE = 8 << 20  # bytes of an output
WIDEST = 720_000_000  # px of a row: three times as many are more than 2^31
ELEMENTS = {torch.float32: 4, torch.float16: 2, torch.bfloat16: 2, torch.uint8: 1}


@pytest.fixture(params=_C.build_info()["simd_supported"])
def level(request: pytest.FixtureRequest) -> Iterator[str]:
    before = _C.build_info()["simd"]
    _C.set_simd_level(request.param)
    yield request.param
    _C.set_simd_level(before)


def turned(count: int, degrees: float) -> torch.Tensor:
    """Matrices of crops that look at a photo of 90×120 here and there, partly beyond it."""
    angle = np.deg2rad(degrees)
    matrix = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) * 1.7
    shift = np.random.default_rng(1).uniform(-60, 20, (count, 2, 1))
    return torch.from_numpy(np.concatenate([np.broadcast_to(matrix, (count, 2, 2)), shift], 2))


@pytest.mark.parametrize("degrees", [0.0, 25.0])
@pytest.mark.parametrize("dtype", ELEMENTS)
@pytest.mark.parametrize("width", [5, 64, 203])
def test_large_outputs_are_those_of_small_ones(width: int, dtype: torch.dtype, degrees: float, level: str) -> None:
    """Whatever line of memory they begin at, and with nothing written before and behind them."""
    image = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (90, 120, 3), dtype=np.uint8))
    height = 37
    count = -(-LARGE // (3 * height * width * ELEMENTS[dtype]))
    pattern = turned(8, degrees)
    options: dict[str, Any] = {"size": (height, width), "dtype": dtype, "border_value": (3.0, 5.0, 7.0)}
    matrices = pattern.repeat(-(-count // 8), 1, 1)[:count]
    wanted = ops.affine_crop(image, pattern, **options)
    for offset in (0, 1, 16, 19):
        memory = torch.full((count * wanted[0].numel() + 64,), 9, dtype=dtype)
        out = memory[offset : offset + count * wanted[0].numel()].view(count, *wanted.shape[1:])
        ops.affine_crop(image, matrices, **options, out=out)
        for first in range(0, count, 8):
            assert torch.equal(out[first : first + 8], wanted[: min(8, count - first)])
        around = torch.cat([memory[:offset], memory[offset + out.numel() :]])
        assert bool((around == 9).all())


def test_large_outputs_with_threads(level: str) -> None:
    """Threads share crops, and lines of memory at their ends."""
    image = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (90, 120, 3), dtype=np.uint8))
    size = (1201, 301)
    results = []
    threads = torch.get_num_threads()
    try:
        for count in (1, 3):
            torch.set_num_threads(count)
            results.append(ops.affine_crop(image, turned(3, 0.0), size=size))
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(*results)


def untouched_row(dtype: type) -> np.ndarray:
    """An image of one row, whose memory is there only where it is used."""
    size = WIDEST * 3 * np.dtype(dtype).itemsize
    try:
        memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | getattr(mmap, "MAP_NORESERVE", 0))
    except (OSError, OverflowError, AttributeError) as error:
        pytest.skip(f"no address space for {size >> 30} GiB: {error}")
    return np.frombuffer(memory, dtype).reshape(1, WIDEST, 3)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize("border", ["constant", "replicate"])
def test_far_out_in_a_row(border: str, dtype: type, level: str) -> None:
    image = untouched_row(dtype)
    image[0, -5:] = np.arange(15).reshape(5, 3)
    matrix = np.array([[[1.0, 0.0, -(WIDEST - 5)], [0.0, 1.0, 0.0]]])
    got = ops.affine_crop(image, matrix, size=(1, 5), border=border)
    np.testing.assert_array_equal(got[0, :, 0].T, np.arange(15).reshape(5, 3))


def test_gradient_far_out_in_a_row(level: str) -> None:
    image, grad = untouched_row(np.float32), untouched_row(np.float32)
    matrix = np.array([[[1.0, 0.0, -(WIDEST - 5)], [0.0, 1.0, 0.0]]])
    slope = np.arange(1, 7, dtype=np.float32).reshape(1, 3, 1, 2)
    options = _C.CropOptions(1, 2, (1.0,) * 3, (0.0,) * 3, (0.0,) * 3, False, False, False, False)
    index = np.zeros(1, np.int64)
    _C.affine_crop_backward([image], matrix, index, None, None, None, options, slope, [grad])
    np.testing.assert_array_equal(grad[0, -5:-3], slope[0, :, 0].T)
    for elsewhere in (grad[0, -3:], grad[0, -8:-5], grad[0, :8]):
        assert not elsewhere.any()
