"""heatmap_encode against its oracle, figures that MMPose gave, and values worked out by hand."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from heatmap_cases import CODECS, INPUT, KINDS, at_simd_levels, figures, poses, reference_codecs, resized
from hypothesis import given, settings
from hypothesis import strategies as st

from fastpose import ops
from fastpose.codecs import build_codec
from fastpose.ops import reference
from fastpose.ops._codec import codec_values


@pytest.mark.parametrize("name", CODECS)
@pytest.mark.parametrize("size", [(64, 48), (46, 46), (7, 33), (3, 2)])
def test_equals_the_oracle(name: str, size: tuple[int, int]) -> None:
    codec = resized(CODECS[name], size)
    points, visible = poses(3, 5, seed=len(name))
    joint_weights = torch.tensor([1.0, 1.2, 1.5, 0.5, 1.0])
    maps, weights = ops.heatmap_encode(points, visible, codec, INPUT, joint_weights=joint_weights)
    expected, expected_weights = reference.heatmap_encode(points, visible, codec, INPUT, joint_weights=joint_weights)
    largest = max(1.0, float(expected.abs().max()))
    torch.testing.assert_close(maps, expected, rtol=0, atol=3e-7 * largest)
    torch.testing.assert_close(weights, expected_weights, rtol=0, atol=0)


@pytest.mark.parametrize("name", KINDS)
def test_figures_of_mmpose(name: str, data: Path) -> None:
    figure = figures(data)
    points, visible = np.float32([figure["keypoints"]]), np.float32([figure["visible"]])
    maps, weights = ops.heatmap_encode(points, visible, KINDS[name], INPUT)
    figure = figure["codecs"][name]
    assert isinstance(maps, np.ndarray)
    np.testing.assert_allclose(weights[0], figure["weights"], atol=0)
    np.testing.assert_allclose(maps[0].sum((1, 2), dtype=np.float64), figure["sums"], rtol=1e-6, atol=1e-5)
    for channel, y, x, value in figure["samples"]:
        assert maps[0, channel, y, x] == pytest.approx(value, rel=2e-7, abs=1e-6)


@pytest.mark.shared
def test_reference_figures(shared: Path) -> None:
    for name, codec, size, arrays in reference_codecs(shared):
        if codec.kind == "regression":
            continue
        maps, weights = ops.heatmap_encode(arrays["keypoints"], arrays["visible"], codec, size)
        np.testing.assert_allclose(maps, arrays["encoded"], rtol=0, atol=1e-6, err_msg=name)
        np.testing.assert_array_equal(weights, arrays["weights"], err_msg=name)


def test_gaussian_by_hand() -> None:
    codec = build_codec("gaussian", heatmap_size=(64, 48), sigma=2.0)
    maps, weights = ops.heatmap_encode(np.float32([[[41.0, 80.0]]]), np.ones((1, 1)), codec, INPUT)
    # (10.25, 20) is nearest to pixel (10, 20); the window is 6 pixels to each side.
    assert maps[0, 0, 20, 10] == 1
    assert maps[0, 0, 21, 12] == pytest.approx(math.exp(-5 / 8), abs=1e-7)
    assert maps[0, 0, 20, 16] == pytest.approx(math.exp(-36 / 8), abs=1e-7)
    assert maps[0, 0, 20, 17] == 0
    assert maps[0, 0, 13, 10] == 0
    assert np.count_nonzero(maps) == 13 * 13
    assert weights[0, 0] == 1


def test_edge_of_reach() -> None:
    codec = build_codec("gaussian", heatmap_size=(64, 48), sigma=2.0)
    # Pixel -6: the window ends with pixel 0. Pixel -7: it ends before, but MMPose still counts it. Pixel -8: out.
    points = np.float32([[[-6.6 * 4, 40], [-7.6 * 4, 40], [-8.6 * 4, 40], [53.6 * 4, 40], [52.6 * 4, 40]]])
    maps, weights = ops.heatmap_encode(points, np.ones((1, 5)), codec, INPUT)
    assert weights[0].tolist() == [1, 1, 0, 0, 1]
    assert [bool(m.any()) for m in maps[0]] == [True, False, False, False, True]


def test_visibility_and_what_is_not_a_number() -> None:
    codec = KINDS["udp"]
    points = np.tile(np.float32([50, 60]), (1, 7, 1))
    points[0, 5, 0] = np.nan
    points[0, 6, 1] = np.inf
    visible = np.float32([[0, 0.4, 0.5, 1, 2, 1, 1]])
    maps, weights = ops.heatmap_encode(points, visible, codec, INPUT)
    np.testing.assert_array_equal(weights[0], np.float32([0, 0.4, 0.5, 1, 1, 0, 0]))
    assert [bool(m.any()) for m in maps[0]] == [False, False, True, True, True, False, False]
    nan_visible, weight = ops.heatmap_encode(points[:, :1], np.float32([[np.nan]]), codec, INPUT)
    assert not nan_visible.any()
    assert weight[0, 0] == 0


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int64, torch.float64])
def test_any_kind_of_visibility(dtype: torch.dtype) -> None:
    points, _ = poses(2, 3)
    visible = torch.tensor([[1, 0, 1], [0, 1, 1]])
    expected = ops.heatmap_encode(points, visible.float(), KINDS["dark"], INPUT)
    for got, wanted in zip(ops.heatmap_encode(points, visible.to(dtype), KINDS["dark"], INPUT), expected, strict=True):
        torch.testing.assert_close(got, wanted, rtol=0, atol=0)


@pytest.mark.parametrize("name", KINDS)
def test_no_denormal_numbers(name: str) -> None:
    """Arithmetic on them is a hundred times slower, here and wherever the target goes."""
    maps, _ = ops.heatmap_encode(*poses(4, 5), KINDS[name], INPUT)
    size = maps.abs()
    assert not ((size > 0) & (size < torch.finfo(torch.float32).tiny)).any()


@settings(max_examples=60, deadline=None)
@given(
    name=st.sampled_from(list(CODECS)),
    height=st.integers(2, 40),
    width=st.integers(2, 40),
    points=st.lists(
        st.tuples(st.floats(width=32, allow_nan=True), st.floats(width=32, allow_infinity=True)), min_size=1, max_size=4
    ),
)
def test_any_coordinates(name: str, height: int, width: int, points: list[tuple[float, float]]) -> None:
    codec = resized(CODECS[name], (height, width))
    given_points = torch.tensor([points], dtype=torch.float32)
    maps, weights = ops.heatmap_encode(given_points, torch.ones(1, len(points)), codec, (33, 47))
    expected, expected_weights = reference.heatmap_encode(given_points, torch.ones(1, len(points)), codec, (33, 47))
    largest = max(1.0, float(expected.abs().max()))
    torch.testing.assert_close(maps, expected, rtol=0, atol=5e-7 * largest)
    torch.testing.assert_close(weights, expected_weights, rtol=0, atol=0)
    assert torch.isfinite(maps).all()


def test_frameworks_layouts_and_out() -> None:
    codec = KINDS["udp_combined"]
    points, visible = poses(3, 4)
    expected, expected_weights = ops.heatmap_encode(points, visible, codec, INPUT)
    strided = torch.stack([points, points], -1)[..., 0]
    assert not strided.is_contiguous()
    torch.testing.assert_close(ops.heatmap_encode(strided, visible, codec, INPUT)[0], expected, rtol=0, atol=0)
    arrays = points.numpy().astype(np.float64), visible.numpy()
    arrays[0].setflags(write=False)
    out, out_weights = np.full((3, 12, 64, 48), 7, np.float32), np.full((3, 4), 7, np.float32)
    got = ops.heatmap_encode(*arrays, codec, INPUT, out=out, out_weights=out_weights)
    assert got[0] is out
    assert got[1] is out_weights
    np.testing.assert_array_equal(out, expected.numpy())
    np.testing.assert_array_equal(out_weights, expected_weights.numpy())


@pytest.mark.parametrize("shape", [(0, 17), (2, 0)])
def test_empty(shape: tuple[int, int]) -> None:
    maps, weights = ops.heatmap_encode(torch.zeros(*shape, 2), torch.zeros(shape), KINDS["gaussian"], INPUT)
    assert maps.shape == (*shape, 64, 48)
    assert weights.shape == shape


@pytest.mark.parametrize(
    ("change", "error", "text"),
    [
        ({"keypoints": torch.zeros(2, 5, 3)}, ValueError, "keypoints"),
        ({"keypoints": [[0, 0]]}, TypeError, "keypoints"),
        ({"keypoints": torch.zeros(2, 5, 2, requires_grad=True)}, TypeError, "no gradient"),
        ({"visible": torch.zeros(2, 4)}, ValueError, "visible"),
        ({"visible": np.zeros((2, 5), "U1")}, TypeError, "visible"),
        ({"joint_weights": [1.0, 2.0]}, ValueError, "joint_weights"),
        ({"codec": "udp"}, TypeError, "codec"),
        ({"codec": build_codec("regression")}, ValueError, "codec"),
        ({"codec": build_codec("udp", heatmap_size=(1, 48))}, ValueError, "codec"),
        ({"codec": build_codec("gaussian", heatmap_size=(64, 48), sigma=1e-9)}, ValueError, "sigma"),
        ({"codec": build_codec("megvii", heatmap_size=(64, 48), kernel_size=129)}, ValueError, "127"),
        ({"input_size": (0, 5)}, ValueError, "input_size"),
        ({"out": torch.zeros(2, 5, 64, 47)}, ValueError, "out"),
        ({"out": torch.zeros(2, 5, 64, 48, dtype=torch.float64)}, TypeError, "out"),
        ({"out_weights": torch.zeros(2, 1).expand(2, 5)}, ValueError, "out_weights"),
    ],
)
def test_errors_name_the_argument(change: dict, error: type[Exception], text: str) -> None:
    arguments = {"keypoints": torch.zeros(2, 5, 2), "visible": torch.ones(2, 5), "codec": KINDS["gaussian"]}
    arguments |= {"input_size": INPUT, **change}
    with pytest.raises(error, match=text):
        ops.heatmap_encode(**arguments)


@pytest.mark.parametrize("name", KINDS)
def test_registered_op(name: str) -> None:
    points, visible = poses(2, 3)
    values = codec_values(KINDS[name], INPUT)
    torch.library.opcheck(torch.ops.fastpose.heatmap_encode.default, (points, visible, torch.ones(3), *values))
    compiled = torch.compile(
        lambda p, v: ops.heatmap_encode(p, v, KINDS[name], INPUT), fullgraph=True, backend="aot_eager"
    )
    for got, wanted in zip(
        compiled(points, visible), ops.heatmap_encode(points, visible, KINDS[name], INPUT), strict=True
    ):
        torch.testing.assert_close(got, wanted, rtol=0, atol=0)


@pytest.mark.parametrize("name", ["udp", "udp_combined"])
@pytest.mark.parametrize("offset", [0, 1])
def test_large_outputs_are_the_same(name: str, offset: int) -> None:
    """From 8 MiB on they go past the caches; `offset` floats off, not even the vectors are aligned."""
    codec = resized(KINDS[name], (63, 45))
    batch = 54 if name == "udp" else 18
    points, visible = (value.numpy() for value in poses(batch, 15))
    shape = (batch, codec.output_channels(15), 63, 45)
    out = np.full(int(np.prod(shape)) + offset, np.nan, np.float32)[offset:].reshape(shape)
    assert out.nbytes >= 8 << 20
    ops.heatmap_encode(points, visible, codec, INPUT, out=out)
    for i in range(batch):
        one, _ = ops.heatmap_encode(points[i : i + 1], visible[i : i + 1], codec, INPUT)
        np.testing.assert_array_equal(out[i], one[0])


def test_threads_change_nothing() -> None:
    points, visible = poses(16, 17)
    before = torch.get_num_threads()
    try:
        results = []
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            results.append(ops.heatmap_encode(points, visible, KINDS["dark"], INPUT)[0])
    finally:
        torch.set_num_threads(before)
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2])


def test_simd_levels_agree() -> None:
    code = """
import torch
from heatmap_cases import CODECS, INPUT, poses
from fastpose import ops
from fastpose.ops import reference
for name, codec in CODECS.items():
    got, wanted = (f.heatmap_encode(*poses(2, 5), codec, INPUT)[0] for f in (ops, reference))
    print(name, bool((got - wanted).abs().max() <= 3e-7 * max(1, wanted.abs().max())))
"""
    for level, text in at_simd_levels(code).items():
        assert text.split()[1::2] == ["True"] * len(CODECS), (level, text)
