"""simcc_encode against its oracle, and values by hand; MMPose's figures are in tests/codecs/test_simcc.py."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from heatmap_cases import at_simd_levels, poses
from hypothesis import given, settings
from hypothesis import strategies as st
from simcc_cases import CODECS, INPUT, reference_codecs

from fastpose import ops
from fastpose.codecs import SimCC, build_codec
from fastpose.ops import reference
from fastpose.ops._codec import vector_values


@pytest.mark.parametrize("name", CODECS)
@pytest.mark.parametrize("size", [(256, 192), (46, 31), (7, 33), (1, 2)])
def test_equals_the_oracle(name: str, size: tuple[int, int]) -> None:
    points, visible = poses(3, 5, seed=len(name), size=size)
    joint_weights = torch.tensor([1.0, 1.2, 1.5, 0.5, 1.0])
    got = ops.simcc_encode(points, visible, CODECS[name], size, joint_weights=joint_weights)
    wanted = reference.simcc_encode(points, visible, CODECS[name], size, joint_weights=joint_weights)
    for vectors, expected in zip(got[:2], wanted[:2], strict=True):
        torch.testing.assert_close(vectors, expected, rtol=1e-6, atol=2e-7)
    torch.testing.assert_close(got[2], wanted[2], rtol=0, atol=0)


@pytest.mark.shared
def test_reference_figures(shared: Path) -> None:
    for name, codec, size, arrays in reference_codecs(shared):
        x, y, weights = ops.simcc_encode(arrays["keypoints"], arrays["visible"], codec, size)
        np.testing.assert_allclose(x, arrays["encoded_x"], rtol=1e-5, atol=1e-6, err_msg=name)
        np.testing.assert_allclose(y, arrays["encoded_y"], rtol=1e-5, atol=1e-6, err_msg=name)
        np.testing.assert_array_equal(weights, arrays["weights"], err_msg=name)


def test_labels_by_hand() -> None:
    points = np.float32([[[41.2, 80.25]]])  # bins 82 and 160.5, which rounds to the even one
    x, y, _ = ops.simcc_encode(points, np.ones((1, 1)), SimCC(sigma=(4.0, 5.0), normalized=False), INPUT)
    assert (x.argmax(), y.argmax()) == (82, 160)
    assert x[0, 0, 86] == x[0, 0, 78] == pytest.approx(math.exp(-0.5), rel=1e-6)
    assert y[0, 0, 150] == pytest.approx(math.exp(-2), rel=1e-6)
    assert x[0, 0, 0] == 0  # exp(-210) is no normal float
    x, y, _ = ops.simcc_encode(points, np.ones((1, 1)), SimCC(), INPUT)
    assert x.sum() == pytest.approx(1, abs=1e-6)
    x, y, _ = ops.simcc_encode(points, np.ones((1, 1)), CODECS["standard"], INPUT)
    assert x[0, 0, 124] == pytest.approx(0.9)
    assert x[0, 0, 0] == x[0, 0, 575] == pytest.approx(0.1 / 575)
    assert y.sum() == pytest.approx(1, abs=1e-5)


def test_edge_of_reach() -> None:
    codec = SimCC(sigma=(2.0, 2.0))  # 6 bins to either side
    # Bins -7, -8 (which ends before bin 0), 389 and 390 (which begins behind bin 383).
    points = np.float32([[[-3.5, 40], [-4, 40], [194.5, 40], [195, 40], [90, -4], [90, 259]]])
    x, y, weights = ops.simcc_encode(points, np.ones((1, 6)), codec, INPUT)
    assert weights[0].tolist() == [1, 0, 1, 0, 0, 0]
    assert [bool(v.any()) for v in x[0]] == [True, False, True, False, False, False]
    assert [bool(v.any()) for v in y[0]] == [True, False, True, False, False, False]
    _, _, weights = ops.simcc_encode(
        np.float32([[[0, 0], [-0.6, 5], [191.5, 255], [192, 5]]]), np.ones((1, 4)), CODECS["one bin"], INPUT
    )
    assert weights[0].tolist() == [1, 0, 0, 0]  # 191.5 rounds to 192


def test_visibility_and_what_is_not_a_number() -> None:
    points = np.tile(np.float32([50, 60]), (1, 7, 1))
    points[0, 5, 0], points[0, 6, 1] = np.nan, np.inf
    visible = np.float32([[0, 0.4, 0.5, 1, 2, 1, 1]])
    x, y, weights = ops.simcc_encode(points, visible, SimCC(), INPUT)
    np.testing.assert_array_equal(weights[0], np.float32([0, 0.4, 0.5, 1, 1, 0, 0]))
    for vectors in (x, y):
        assert [bool(v.any()) for v in vectors[0]] == [False, False, True, True, True, False, False]
    x, _, weights = ops.simcc_encode(points[:, :1], np.float32([[np.nan]]), SimCC(), INPUT)
    assert not x.any()
    assert weights[0, 0] == 0


@pytest.mark.parametrize("name", CODECS)
def test_no_denormal_numbers(name: str) -> None:
    for vectors in ops.simcc_encode(*poses(4, 5), CODECS[name], INPUT)[:2]:
        size = vectors.abs()
        assert not ((size > 0) & (size < torch.finfo(torch.float32).tiny)).any()


@settings(max_examples=60, deadline=None)
@given(
    name=st.sampled_from(list(CODECS)),
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    points=st.lists(
        st.tuples(st.floats(width=32, allow_nan=True), st.floats(width=32, allow_infinity=True)), min_size=1, max_size=4
    ),
)
def test_any_coordinates(name: str, height: int, width: int, points: list[tuple[float, float]]) -> None:
    keypoints = torch.tensor([points], dtype=torch.float32)
    visible = torch.ones(keypoints.shape[:2])
    got = ops.simcc_encode(keypoints, visible, CODECS[name], (height, width))
    wanted = reference.simcc_encode(keypoints, visible, CODECS[name], (height, width))
    for one, other in zip(got, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=2e-7)


@pytest.mark.parametrize("batch", [0, 1, 700])
def test_memory_that_is_given(batch: int) -> None:
    """Of 700 people the vectors are large enough for the stores that go past the caches."""
    points, visible = (array.numpy() for array in poses(batch, 4))
    out = np.full((batch, 4, 384), 7, np.float32), np.full((batch, 4, 512), 7, np.float32)
    weights = np.full((batch, 4), 7, np.float32)
    got = ops.simcc_encode(points, visible, SimCC(), INPUT, out=out, out_weights=weights)
    assert got[0] is out[0]
    assert got[1] is out[1]
    assert got[2] is weights
    wanted = reference.simcc_encode(torch.from_numpy(points), torch.from_numpy(visible), SimCC(), INPUT)
    for one, other in zip(got, wanted, strict=True):
        np.testing.assert_allclose(one, other.numpy(), rtol=1e-6, atol=2e-7)


def test_other_memory_and_dtypes() -> None:
    points, visible = poses(4, 6)
    wanted = ops.simcc_encode(points, visible, SimCC(), INPUT)
    turned = points.transpose(0, 1).contiguous().transpose(0, 1)
    for keypoints, levels in (
        (turned, visible),
        (points, visible.double()),
        (points.double(), visible.to(torch.uint8)),
    ):
        for one, other in zip(ops.simcc_encode(keypoints, levels, SimCC(), INPUT), wanted, strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=0)


def test_errors() -> None:
    points, visible = torch.zeros(2, 3, 2), torch.ones(2, 3)
    maps, encode = build_codec("gaussian", heatmap_size=(64, 48)), ops.simcc_encode
    for call, error, message in (
        (lambda: encode(points, visible, maps, INPUT), ValueError, "codec: expected a codec of vectors"),
        (lambda: encode(points, visible, 3, INPUT), TypeError, "codec: expected a codec"),
        (lambda: encode(points, visible, SimCC(), (256, 0)), ValueError, "input_size"),
        (lambda: encode(points, visible, SimCC(sigma=1e5), INPUT), ValueError, "sigma of 0.001 to 4096"),
        (lambda: encode(points, visible, SimCC(split_ratio=200), INPUT), ValueError, "1 to 32768 bins"),
        (lambda: encode(points, visible, SimCC(sigma=30, dark=True), INPUT), ValueError, "127 taps"),
        (lambda: encode(points[..., :1], visible, SimCC(), INPUT), ValueError, "keypoints: expected shape"),
        (lambda: encode(points, visible[:1], SimCC(), INPUT), ValueError, "visible: expected shape"),
        (lambda: encode(points.requires_grad_(), visible, SimCC(), INPUT), TypeError, "keypoints: .* no gradient"),
    ):  # fmt: skip
        with pytest.raises(error, match=message):
            call()


@pytest.mark.parametrize("name", CODECS)
def test_opcheck(name: str) -> None:
    points, visible = poses(2, 3)
    values = vector_values(CODECS[name], INPUT)
    torch.library.opcheck(torch.ops.fastpose.simcc_encode.default, (points, visible, None, *values))


def test_compiled() -> None:
    points, visible = poses(2, 3)
    compiled = torch.compile(lambda p, v: ops.simcc_encode(p, v, SimCC(), INPUT), fullgraph=True, backend="aot_eager")
    for one, other in zip(compiled(points, visible), ops.simcc_encode(points, visible, SimCC(), INPUT), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)


def test_every_simd_level() -> None:
    code = """
import numpy as np
from heatmap_cases import poses
from simcc_cases import CODECS
from fastpose import ops
for codec in CODECS.values():
    x, y, weights = ops.simcc_encode(*(a.numpy() for a in poses(3, 5)), codec, (61, 47))
    print(*np.concatenate([x.ravel(), y.ravel(), weights.ravel()]))
"""
    printed = at_simd_levels(code)
    values = [np.fromstring(text, sep=" ") for text in printed.values()]
    for other in values[1:]:
        np.testing.assert_allclose(other, values[0], rtol=1e-5, atol=1e-8)
