"""simcc_decode against its oracle, and values by hand; MMPose's figures are in tests/codecs/test_simcc.py."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from heatmap_cases import at_simd_levels
from simcc_cases import CODECS, INPUT, network_vectors, reference_codecs

from fastpose import ops
from fastpose.codecs import SimCC
from fastpose.ops import reference
from fastpose.ops._codec import vector_values

DTYPES = [torch.float32, torch.float16, torch.bfloat16]


def compare(got: Any, wanted: Any, **tolerance: float) -> None:
    for one, other in zip(got, wanted, strict=True):
        if other is None:
            assert one is None
        else:
            torch.testing.assert_close(one, other, **{"rtol": 1e-5, "atol": 1e-5, **tolerance})


@pytest.mark.parametrize("name", CODECS)
@pytest.mark.parametrize("size", [(256, 192), (46, 31), (9, 33), (3, 2)])
@pytest.mark.parametrize("dtype", DTYPES)
def test_equals_the_oracle(name: str, size: tuple[int, int], dtype: torch.dtype) -> None:
    codec = CODECS[name]
    x, y = (part.to(dtype) for part in network_vectors(codec, 3, 6, len(name), size))
    other = tuple(part.to(dtype) for part in network_vectors(codec, 3, 6, 99, size))
    index = torch.tensor([0, 2, 1, 5, 4, 3])
    inverse = torch.tensor([[[2.0, 0.1, 5], [-0.1, 3, 7]]], dtype=torch.float64).repeat(3, 1, 1)
    for more in ({}, {"flipped": other, "flip_index": index}, {"inverse": inverse}):
        got = ops.simcc_decode(x, y, codec, size, **more)
        wanted = reference.simcc_decode(x, y, codec, size, **more)
        # The native step is of ratios, the oracle's of rounded logarithms; where these are almost straight, that shows.
        near = (wanted[0].abs() < 4 * max(size)).all(-1)  # a step of many pixels is all rounding
        got, wanted = (got[0][near], *got[1:]), (wanted[0][near], *wanted[1:])
        compare(got, wanted, atol=0.02 if codec.dark else 1e-5)


@pytest.mark.shared
def test_reference_figures(shared: Path) -> None:
    for name, codec, size, arrays in reference_codecs(shared):
        x, y = (arrays[f"predicted_{axis}"].astype(np.float32) for axis in "xy")
        points, scores, told = ops.simcc_decode(x, y, codec, size)
        np.testing.assert_allclose(scores, arrays["scores"], atol=1e-6, err_msg=name)
        apart = np.sort(np.abs(points - arrays["decoded"]).ravel())
        assert apart[-3 if codec.dark else -1] < 1e-3, name
        assert apart[-1] < 0.01, name
        if codec.visibility:
            np.testing.assert_allclose(told, arrays["visibility"], atol=1e-5, err_msg=name)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("bins", [1, 3, 16, 17, 100, 129, 300, 700])
def test_ties_and_numbers_that_are_none(dtype: torch.dtype, bins: int) -> None:
    codec, size = SimCC(split_ratio=1.0), (bins, bins)
    rng = np.random.default_rng(bins)
    x = torch.from_numpy(rng.integers(-3, 4, (4, 9, bins)).astype(np.float32))  # ties everywhere
    y = torch.from_numpy(rng.integers(1, 4, (4, 9, bins)).astype(np.float32))
    x[torch.rand(x.shape, generator=torch.Generator().manual_seed(0)) < 0.2] = np.nan
    x[0, 0], x[0, 1], y[0, 2] = np.nan, -np.inf, np.nan
    x[0, 3, bins // 2] = np.inf
    got = ops.simcc_decode(x.to(dtype), y.to(dtype), codec, size)
    best = [part.nan_to_num(nan=-np.inf, neginf=-np.inf, posinf=np.inf).max(-1) for part in (x, y)]
    scores = torch.minimum(best[0].values, best[1].values)
    scores = torch.where(scores.isneginf(), 0, scores)
    points = torch.stack([torch.where(scores > 0, part.indices, -1).float() for part in best], -1)
    compare(got, (points, scores, None), rtol=0, atol=0)
    assert scores[0, :3].tolist() == [0, 0, 0]


def test_by_hand() -> None:
    x, y = torch.zeros(1, 3, 384), torch.zeros(1, 3, 512)
    x[0, 0, 20], y[0, 0, 31] = 0.5, 0.75
    x[0, 1, 383], y[0, 1, 511] = 2, 1
    points, scores, told = ops.simcc_decode(x, y, SimCC(), INPUT)
    assert points.tolist() == [[[10, 15.5], [191.5, 255.5], [-0.5, -0.5]]]
    assert scores.tolist() == [[0.5, 1, 0]]
    assert told is None
    sharp = SimCC(sigma=(6.0, 6.93), visibility=True)
    _, _, told = ops.simcc_decode(x, y, sharp, INPUT)
    assert told[0, 2] == pytest.approx(1 / 512)
    assert told[0, 0] == pytest.approx(1)
    x[0, 0, 21] = 0.499  # exp(-900 / 1000) of the peak
    _, _, told = ops.simcc_decode(x, y, sharp, INPUT)
    assert told[0, 0] == pytest.approx(1 / (1 + np.exp(-0.9)), rel=1e-4)
    x[0, 1] = np.nan
    _, _, told = ops.simcc_decode(x, y, sharp, INPUT)
    assert told[0, 1] == 0


def test_dark_finds_the_middle() -> None:
    codec = CODECS["dark"]
    middles = torch.rand(5, 17, 2, generator=torch.Generator().manual_seed(1)) * torch.tensor([150.0, 200.0]) + 20
    bins = torch.arange(512.0)
    x = torch.exp(-((bins[:384] - 2 * middles[..., :1]) ** 2) / (2 * 4.9**2))
    y = torch.exp(-((bins - 2 * middles[..., 1:]) ** 2) / (2 * 5.66**2))
    points, _, _ = ops.simcc_decode(x, y, codec, INPUT)
    plain, _, _ = ops.simcc_decode(x, y, dataclasses.replace(codec, dark=False), INPUT)
    assert (points - middles).abs().mean() < 0.5 * (plain - middles).abs().mean()
    small, _, _ = ops.simcc_decode(x * 1e-3, y * 1e-3, codec, INPUT)  # values that are clipped: the whole blur counts
    compare((small,), (reference.simcc_decode(x * 1e-3, y * 1e-3, codec, INPUT)[0],), atol=2e-3)


def test_the_mirror() -> None:
    codec, index = SimCC(visibility=True), [0, 2, 1, 4, 3]
    x, y = network_vectors(codec, 3, 5)
    mirrored = x[:, index].flip(-1), y[:, index]
    wanted = ops.simcc_decode(x, y, codec, INPUT)
    compare(ops.simcc_decode(x, y, codec, INPUT, flipped=mirrored, flip_index=index), wanted, rtol=0, atol=1e-6)
    arrays = [part.numpy() for part in (x, y, *mirrored)]
    got = ops.simcc_decode(*arrays[:2], codec, INPUT, flipped=tuple(arrays[2:]), flip_index=np.array(index))
    assert all(isinstance(part, np.ndarray) for part in got)
    np.testing.assert_allclose(got[0], wanted[0].numpy(), atol=1e-6)


def test_memory() -> None:
    codec = CODECS["rtmw"]
    x, y = network_vectors(codec, 2, 5)
    wanted = ops.simcc_decode(x, y, codec, INPUT)
    out = torch.empty(2, 5, 2), torch.empty(2, 5), torch.empty(2, 5)
    got = ops.simcc_decode(x, y, codec, INPUT, out=out[0], out_scores=out[1], out_visibility=out[2])
    assert all(a is b for a, b in zip(got, out, strict=True))
    compare(got, wanted, rtol=0, atol=0)
    turned = x.transpose(1, 2).contiguous().transpose(1, 2)
    compare(ops.simcc_decode(turned, y.flip(-1).flip(-1)[:], codec, INPUT), wanted, rtol=0, atol=0)
    for batch, keypoints in ((0, 5), (2, 0)):
        x, y = torch.empty(batch, keypoints, 384), torch.empty(batch, keypoints, 512)
        points, scores, told = ops.simcc_decode(x, y, codec, INPUT)
        assert points.shape == (batch, keypoints, 2)
        assert scores.shape == told.shape == (batch, keypoints)


def test_errors() -> None:
    codec, x, y = SimCC(), torch.zeros(2, 3, 384), torch.zeros(2, 3, 512)
    decode = ops.simcc_decode
    for call, error, message in (
        (lambda: decode(x, x, codec, INPUT), ValueError, r"y: expected shape \[B, K, Y\]"),
        (lambda: decode(x, y.half(), codec, INPUT), TypeError, "y: expected dtype float32"),
        (lambda: decode(x.double(), y.double(), codec, INPUT), TypeError, "x: expected"),
        (lambda: decode(x, y.numpy(), codec, INPUT), TypeError, "y"),
        (lambda: decode(x, y, codec, INPUT, flipped=(x, y)), ValueError, "flip_index: expected"),
        (lambda: decode(x, y, codec, INPUT, flip_index=[0, 1, 2]), ValueError, "flip_index: expected"),
        (lambda: decode(x, y, codec, INPUT, flipped=(x, y), flip_index=[0, 1, 3]), ValueError, "from 0 to 2"),
        (lambda: decode(x, y, codec, INPUT, inverse=torch.full((2, 2, 3), np.nan)), ValueError, "expected finite"),
        (lambda: decode(x, y, codec, INPUT, out_visibility=torch.empty(2, 3)), ValueError, "out_visibility: expected"),
        (lambda: decode(x.requires_grad_(), y, codec, INPUT), TypeError, "x: .* no gradient"),
    ):  # fmt: skip
        with pytest.raises(error, match=message):
            call()


@pytest.mark.parametrize("name", ["simcc", "rtmw"])
def test_opcheck_and_compiled(name: str) -> None:
    codec, index = CODECS[name], [0, 2, 1]
    x, y = network_vectors(codec, 2, 3)
    pairs = torch.tensor(index)
    values = vector_values(codec, INPUT)
    torch.library.opcheck(torch.ops.fastpose.simcc_decode.default, (x, y, x, y, pairs, None, *values))
    torch.library.opcheck(torch.ops.fastpose.simcc_decode.default, (x, y, None, None, None, None, *values))

    def run(a: Any, b: Any) -> Any:
        return ops.simcc_decode(a, b, codec, INPUT, flipped=(a, b), flip_index=pairs)

    compare(torch.compile(run, fullgraph=True, backend="aot_eager")(x, y), run(x, y), rtol=0, atol=0)


def test_every_simd_level() -> None:
    code = """
from simcc_cases import CODECS, network_vectors
from fastpose import ops
for codec in CODECS.values():
    points, scores, told = ops.simcc_decode(*network_vectors(codec, 3, 5, size=(61, 47)), codec, (61, 47))
    seen = [] if told is None else [[round(v, 5) for v in row] for row in told.tolist()]
    print(points.tolist(), scores.tolist(), seen)
"""
    printed = at_simd_levels(code)
    assert len(set(printed.values())) == 1
