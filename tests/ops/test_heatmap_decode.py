"""heatmap_decode against its oracle, figures that MMPose gave, and values worked out by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from heatmap_cases import (
    CODECS,
    INPUT,
    KINDS,
    at_simd_levels,
    figures,
    formula_maps,
    network_maps,
    poses,
    reference_codecs,
    resized,
    suitable,
)
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fastpose import ops
from fastpose.codecs import build_codec
from fastpose.ops import reference
from fastpose.ops._codec import codec_values
from fastpose.ops.reference.heatmap_decode import merge_flipped
from fastpose.skeletons import COCO17

IDENTITY = torch.eye(2, 3, dtype=torch.float64)


def closely(
    got: tuple[torch.Tensor, torch.Tensor], wanted: tuple[torch.Tensor, torch.Tensor], pixels: float = 2e-3
) -> None:
    torch.testing.assert_close(got[0], wanted[0], rtol=0, atol=pixels)
    torch.testing.assert_close(got[1], wanted[1], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", CODECS)
@pytest.mark.parametrize("size", [(64, 48), (46, 46), (9, 33), (5, 4)])
def test_equals_the_oracle(name: str, size: tuple[int, int]) -> None:
    codec = resized(CODECS[name], size)
    maps = network_maps(codec, 4, 5, seed=len(name))
    closely(ops.heatmap_decode(maps, codec, INPUT), reference.heatmap_decode(maps, codec, INPUT))


@pytest.mark.parametrize("name", KINDS)
def test_figures_of_mmpose(name: str, data: Path) -> None:
    figure = figures(data)["codecs"][name]
    points, scores = ops.heatmap_decode(formula_maps(name), KINDS[name], INPUT)
    np.testing.assert_allclose(points[0], figure["decoded"], rtol=0, atol=1e-3)
    np.testing.assert_allclose(scores[0], figure["scores"], rtol=1e-6)


@pytest.mark.shared
@pytest.mark.parametrize("module", [ops, reference], ids=["native", "reference"])
def test_reference_figures(module: object, shared: Path) -> None:
    for name, codec, size, arrays in reference_codecs(shared):
        if codec.kind == "regression":
            continue
        maps = torch.from_numpy(arrays["predicted"].astype(np.float32))
        points, scores = (value.numpy() for value in module.heatmap_decode(maps, codec, size))  # type: ignore[attr-defined]
        assert np.isfinite(points).all()
        assert np.isfinite(scores).all()
        # Where an Udp map is empty MMPose gives NaN, or reads the offsets of another keypoint.
        known = np.isfinite(arrays["decoded"]).all(-1)
        if codec.kind.startswith("udp"):
            known &= arrays["scores"] > 0
        np.testing.assert_allclose(points[known], arrays["decoded"][known], rtol=0, atol=1e-3, err_msg=name)
        known = np.isfinite(arrays["scores"])
        np.testing.assert_allclose(scores[known], arrays["scores"][known], rtol=1e-6, atol=1e-7, err_msg=name)


@pytest.mark.parametrize(("name", "pixels"), [("dark", 0.01), ("udp", 0.01), ("udp_combined", 0.01), ("gaussian", 2.9)])
def test_decode_inverts_encode(name: str, pixels: float) -> None:
    """In crop pixels, which is what identity matrices give, away from the border."""
    codec = KINDS[name]
    rng = np.random.default_rng(3)
    points = torch.from_numpy(rng.uniform([40, 40], [150, 210], (8, 17, 2)).astype(np.float32))
    maps, _ = ops.heatmap_encode(points, torch.ones(8, 17), codec, INPUT)
    back, scores = ops.heatmap_decode(maps, codec, INPUT, inverse=IDENTITY.expand(8, 2, 3))
    assert float((back - points).norm(dim=-1).max()) < pixels
    assert float(scores.min()) > 0.2


def test_udp_without_matrices_reports_a_fraction_of_the_input() -> None:
    maps = network_maps(KINDS["udp"], 2, 3)
    plain, _ = ops.heatmap_decode(maps, KINDS["udp"], INPUT)
    crop, _ = ops.heatmap_decode(maps, KINDS["udp"], INPUT, inverse=IDENTITY.expand(2, 2, 3))
    torch.testing.assert_close(plain, crop * torch.tensor([192 / 191, 256 / 255]), rtol=1e-6, atol=1e-5)


def blank(*values: tuple[int, int, float], size: tuple[int, int] = (64, 48)) -> np.ndarray:
    maps = np.zeros((1, 1, *size), np.float32)
    for y, x, value in values:
        maps[0, 0, y, x] = value
    return maps


def test_quarter_of_a_pixel_by_hand() -> None:
    codec = KINDS["gaussian"]

    def decoded(*values: tuple[int, int, float]) -> list[float]:
        return ops.heatmap_decode(blank(*values), codec, INPUT)[0][0, 0].tolist()

    assert decoded((20, 10, 1.0), (20, 11, 0.5), (19, 10, 0.4)) == [41, 79]
    assert decoded((20, 10, 1.0)) == [40, 80]
    assert decoded((20, 1, 1.0), (20, 2, 0.5), (21, 1, 0.5)) == [4, 81]  # no step along x in columns 0 and 1
    assert decoded((0, 10, 1.0), (0, 11, 0.5)) == [40, 0]  # none at all in row 0
    assert decoded((63, 47, 1.0), (62, 47, 0.5)) == [188, 252]


def test_first_of_equal_maxima() -> None:
    maps = blank((30, 40, 0.7), (30, 5, 0.7), (31, 2, 0.7))
    assert ops.heatmap_decode(maps, KINDS["gaussian"], INPUT)[0][0, 0].tolist() == [20, 120]
    # also where the two lie in different blocks of the search, or in its tail
    for size in [(3, 5), (64, 48), (100, 101)]:
        flat = np.zeros(size[0] * size[1], np.float32)
        for first in (0, len(flat) // 2, len(flat) - 2):
            flat[:] = 0.25
            flat[[first, -1]] = 0.5
            codec = build_codec("gaussian", heatmap_size=size)
            point = ops.heatmap_decode(flat.reshape(1, 1, *size), codec, size)[0][0, 0]
            assert np.abs(point - [first % size[1], first // size[1]]).max() <= 0.25


@pytest.mark.parametrize("name", KINDS)
def test_nan_never_wins(name: str) -> None:
    codec = KINDS[name]
    maps = network_maps(codec, 2, 4, seed=5)
    where = torch.rand(maps.shape, generator=torch.Generator().manual_seed(1)) < 0.3
    holes = maps.masked_fill(where, torch.nan)
    got = ops.heatmap_decode(holes, codec, INPUT)
    closely(got, reference.heatmap_decode(holes, codec, INPUT))
    assert torch.isfinite(got[0]).all()
    if name == "gaussian":
        expected = holes.nan_to_num(-torch.inf).flatten(2).max(-1)
        torch.testing.assert_close(got[1], expected.values)


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("value", [0.0, -1.0, torch.nan, torch.inf, -torch.inf])
def test_maps_without_a_peak(name: str, value: float) -> None:
    codec = KINDS[name]
    maps = torch.full((1, codec.output_channels(2), 64, 48), value)
    points, scores = ops.heatmap_decode(maps, codec, INPUT)
    assert torch.isfinite(points).all()
    assert not scores.isnan().any()
    if value != torch.inf:
        corner = {"gaussian": -4.0, "dark": -4.0, "megvii": -4.0 if value == -1 else 0.0}.get(name, 0.0)
        assert points.flatten().tolist() == [corner] * 4
        score = value if value == -1 else 0.0
        assert scores[0, 0] == pytest.approx(score / 255 + 0.5 if name == "megvii" else score)


@pytest.mark.parametrize("name", ["dark", "udp"])
@pytest.mark.parametrize("case", ["faint", "loud", "negative", "flat", "noise"])
def test_where_the_whole_map_matters(name: str, case: str) -> None:
    """Values that are clipped, or a Hessian near 0: the scale of the blurred map decides."""
    codec = KINDS[name]
    maps = network_maps(codec, 3, 4, seed=11)
    if case == "faint":
        maps = maps * 0.01
    elif case == "loud":
        maps = maps * 300
    elif case == "negative":
        maps = maps - 0.05
    elif case == "flat":
        maps = maps * 1e-3 + 0.5
    else:
        maps = torch.rand(maps.shape, generator=torch.Generator().manual_seed(2))
    got, wanted = ops.heatmap_decode(maps, codec, INPUT), reference.heatmap_decode(maps, codec, INPUT)
    closely(got, wanted)


def test_blur_of_the_surroundings_is_that_of_the_whole_map() -> None:
    """Float64 says that the factor drops out: the same step from the map and from a thousandth of it."""
    maps = network_maps(KINDS["dark"], 4, 17, seed=4)
    small = ops.heatmap_decode(maps * 1e-3, KINDS["dark"], INPUT)[0]
    exact = reference.heatmap_decode(maps.double(), KINDS["dark"], INPUT)[0]
    torch.testing.assert_close(small, exact.float(), rtol=0, atol=1e-3)


@pytest.mark.parametrize("kind", ["dark", "udp"])
@pytest.mark.parametrize("taps", [1, 3, 7, 25])
def test_windows_of_any_size_everywhere(kind: str, taps: int) -> None:
    """A peak on every pixel of a small map: windows inside, over each border, and up to the end of the memory."""
    codec = build_codec(kind, heatmap_size=(20, 19), blur_kernel=taps)
    y, x = np.mgrid[0:20, 0:19]
    peaks = np.exp(-((x - x.reshape(-1, 1, 1) - 0.2) ** 2 + (y - y.reshape(-1, 1, 1) + 0.3) ** 2) / 8) + 0.01
    maps = torch.from_numpy(peaks.astype(np.float32))[:, None]
    closely(ops.heatmap_decode(maps, codec, (80, 76)), reference.heatmap_decode(maps, codec, (80, 76)))


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("shift", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_mirrored_maps(name: str, shift: bool, dtype: torch.dtype) -> None:
    codec = KINDS[name]
    maps = network_maps(codec, 2, 17, seed=1).to(dtype)
    mirrored = merge_flipped(maps, codec, COCO17.flip_index, False)
    mirrored = (mirrored.float() + 0.02 * network_maps(codec, 2, 17, seed=2)).to(dtype)
    options = {"flipped": mirrored, "flip_index": COCO17.flip_index, "flip_shift": shift}
    closely(ops.heatmap_decode(maps, codec, INPUT, **options), reference.heatmap_decode(maps, codec, INPUT, **options))


@pytest.mark.shared
def test_mirrored_maps_of_the_reference(shared: Path) -> None:
    arrays = np.load(shared / "reference" / "losses.npz")
    for kind, key, wanted, shift in [
        ("gaussian", "flip/in", "flip/plain", False),
        ("gaussian", "flip/in", "flip/shift", True),
        ("udp_combined", "flip/combined_in", "flip/combined", False),
    ]:
        codec = suitable(kind, heatmap_size=(8, 6), blur_kernel=1)
        turned = torch.from_numpy(arrays[wanted])
        options = {"flipped": torch.from_numpy(arrays[key]), "flip_index": COCO17.flip_index, "flip_shift": shift}
        # Averaged with nothing, the mirrored maps themselves are decoded.
        got = ops.heatmap_decode(torch.zeros_like(turned), codec, (32, 24), **options)
        closely(got, ops.heatmap_decode(turned * 0.5, codec, (32, 24)))


@pytest.mark.parametrize("name", KINDS)
def test_source_pixels(name: str) -> None:
    codec = KINDS[name]
    maps = network_maps(codec, 3, 5)
    rng = np.random.default_rng(0)
    matrices = torch.from_numpy(rng.normal(0, 1, (3, 2, 3)) * [[[2, 1, 300], [1, 2, 300]]])
    crop, scores = ops.heatmap_decode(maps, codec, INPUT, inverse=IDENTITY.expand(3, 2, 3))
    source, same = ops.heatmap_decode(maps, codec, INPUT, inverse=matrices)
    expected = crop.double() @ matrices[..., :2].mT + matrices[:, None, :, 2]
    torch.testing.assert_close(source, expected.float(), rtol=1e-6, atol=1e-4)
    assert torch.equal(scores, same)
    from_list, _ = ops.heatmap_decode(maps.numpy(), codec, INPUT, inverse=matrices.tolist())
    np.testing.assert_array_equal(from_list, source.numpy())


@settings(max_examples=80, deadline=None)
@given(
    name=st.sampled_from(list(CODECS)),
    height=st.integers(2, 30),
    width=st.integers(2, 30),
    seed=st.integers(0, 2**31),
    extremes=st.lists(st.sampled_from([np.nan, np.inf, -np.inf, 3e38, -3e38, 1e-40, 0.0]), max_size=6),
    flip=st.booleans(),
)
@example(name="udp_combined", height=2, width=8, seed=1109, extremes=[np.nan, 3e38, np.nan, np.nan, np.inf], flip=True)
def test_any_map(name: str, height: int, width: int, seed: int, extremes: list[float], flip: bool) -> None:
    codec = resized(CODECS[name], (height, width))
    rng = np.random.default_rng(seed)
    maps = rng.normal(0, 1, (1, codec.output_channels(2), height, width)).astype(np.float32)
    for value in extremes:
        maps.flat[rng.integers(maps.size)] = value
    options = {"flipped": np.roll(maps, 1, -1), "flip_index": [1, 0], "flip_shift": True} if flip else {}
    points, scores = ops.heatmap_decode(maps, codec, (40, 40), **options)
    assert not np.isnan(scores).any()
    assert np.isfinite(points).all()
    as_tensors = {k: torch.from_numpy(v) if isinstance(v, np.ndarray) else v for k, v in options.items()}
    wanted = reference.heatmap_decode(torch.from_numpy(maps), codec, (40, 40), **as_tensors)
    if not extremes:
        np.testing.assert_allclose(points, wanted[0].numpy(), rtol=1e-4, atol=5e-3)
        np.testing.assert_allclose(scores, wanted[1].numpy(), rtol=1e-6, atol=1e-6)


def test_frameworks_layouts_and_out() -> None:
    codec = KINDS["udp"]
    maps = network_maps(codec, 3, 4)
    expected, expected_scores = ops.heatmap_decode(maps, codec, INPUT)
    last = maps.contiguous(memory_format=torch.channels_last)
    assert not last.is_contiguous()
    assert torch.equal(ops.heatmap_decode(last, codec, INPUT)[0], expected)
    array = maps.numpy().copy()
    array.setflags(write=False)
    out, out_scores = np.zeros((3, 4, 2), np.float32), np.zeros((3, 4), np.float32)
    got = ops.heatmap_decode(array, codec, INPUT, out=out, out_scores=out_scores)
    assert got[0] is out
    assert got[1] is out_scores
    np.testing.assert_array_equal(out, expected.numpy())
    np.testing.assert_array_equal(out_scores, expected_scores.numpy())
    with torch.no_grad():
        assert torch.equal(ops.heatmap_decode(maps.clone().requires_grad_(), codec, INPUT)[0], expected)


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("shape", [(0, 17), (2, 0)])
def test_empty(name: str, shape: tuple[int, int]) -> None:
    codec = KINDS[name]
    points, scores = ops.heatmap_decode(torch.zeros(shape[0], codec.output_channels(shape[1]), 64, 48), codec, INPUT)
    assert points.shape == (*shape, 2)
    assert scores.shape == shape


@pytest.mark.parametrize(
    ("change", "error", "text"),
    [
        ({"heatmaps": torch.zeros(2, 3, 64, 47)}, ValueError, "heatmaps"),
        ({"heatmaps": torch.zeros(3, 64, 48)}, ValueError, "heatmaps"),
        ({"heatmaps": torch.zeros(2, 3, 64, 48, dtype=torch.float64)}, TypeError, "heatmaps"),
        ({"heatmaps": torch.zeros(2, 3, 64, 48, requires_grad=True)}, TypeError, "no gradient"),
        ({"heatmaps": torch.zeros(2, 4, 64, 48), "codec": KINDS["udp_combined"]}, ValueError, "multiple of 3"),
        ({"flipped": torch.zeros(2, 3, 64, 48)}, ValueError, "flip_index"),
        ({"flip_index": [0, 1, 2]}, ValueError, "flip_index"),
        ({"flipped": torch.zeros(2, 2, 64, 48), "flip_index": [0, 2, 1]}, ValueError, "flipped"),
        ({"flipped": torch.zeros(2, 3, 64, 48).half(), "flip_index": [0, 2, 1]}, TypeError, "flipped"),
        ({"flipped": torch.zeros(2, 3, 64, 48), "flip_index": [0, 3, 1]}, ValueError, "flip_index"),
        ({"flipped": torch.zeros(2, 3, 64, 48), "flip_index": [0, -1, 1]}, ValueError, "flip_index"),
        ({"flipped": torch.zeros(2, 3, 64, 48), "flip_index": [0.0, 2.0, 1.0]}, TypeError, "flip_index"),
        ({"inverse": torch.zeros(2, 2, 2)}, ValueError, "inverse"),
        ({"inverse": torch.full((2, 2, 3), torch.nan)}, ValueError, "inverse"),
        ({"out": torch.zeros(2, 3, 3)}, ValueError, "out"),
        ({"codec": build_codec("regression")}, ValueError, "codec"),
    ],
)
def test_errors_name_the_argument(change: dict, error: type[Exception], text: str) -> None:
    arguments = {"heatmaps": torch.zeros(2, 3, 64, 48), "codec": KINDS["gaussian"], "input_size": INPUT, **change}
    with pytest.raises(error, match=text):
        ops.heatmap_decode(**arguments)


@pytest.mark.parametrize("name", KINDS)
def test_registered_op(name: str) -> None:
    codec = KINDS[name]
    maps = network_maps(codec, 2, 3)
    pairs = torch.tensor([0, 2, 1])
    arguments = (maps, maps.flip(-1), pairs, True, IDENTITY.expand(2, 2, 3).clone(), *codec_values(codec, INPUT))
    torch.library.opcheck(torch.ops.fastpose.heatmap_decode.default, arguments)

    def decode(plain: torch.Tensor, mirrored: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return ops.heatmap_decode(plain, codec, INPUT, flipped=mirrored, flip_index=[0, 2, 1], flip_shift=True)

    compiled = torch.compile(decode, fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(maps, maps.flip(-1))[0], decode(maps, maps.flip(-1))[0])


def test_exported() -> None:
    class Head(torch.nn.Module):
        def forward(self, maps: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return ops.heatmap_decode(maps, KINDS["dark"], INPUT)

    maps = network_maps(KINDS["dark"], 2, 3)
    exported = torch.export.export(Head(), (maps,)).module()
    assert torch.equal(exported(maps)[0], Head()(maps)[0])


def test_threads_change_nothing() -> None:
    maps = network_maps(KINDS["udp"], 8, 17)
    before = torch.get_num_threads()
    try:
        results = []
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            results.append(ops.heatmap_decode(maps, KINDS["udp"], INPUT)[0])
    finally:
        torch.set_num_threads(before)
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2])


def test_simd_levels_agree() -> None:
    code = """
import hashlib
from heatmap_cases import CODECS, INPUT, network_maps
from fastpose import ops
for name, codec in CODECS.items():
    points, scores = ops.heatmap_decode(network_maps(codec, 4, 17), codec, INPUT)
    print(name, [round(v, 2) for v in points.flatten().tolist()], hashlib.sha1(scores.numpy().tobytes()).hexdigest())
"""
    printed = at_simd_levels(code)
    assert len(set(printed.values())) == 1, {level: text[:300] for level, text in printed.items()}


def test_poses_survive_the_whole_way() -> None:
    """Keypoints outside the map come back as (-1, -1) pixels: their target is empty."""
    points, visible = poses(4, 17)
    maps, weights = ops.heatmap_encode(points, visible, KINDS["gaussian"], INPUT)
    back, scores = ops.heatmap_decode(maps, KINDS["gaussian"], INPUT)
    drawn = maps.flatten(2).any(-1)
    assert torch.equal(scores > 0, drawn)
    assert (back[~drawn] == -4).all()
    assert (weights[drawn] > 0).all()


def test_arrays_beside_tensors_are_refused() -> None:
    codec = build_codec("gaussian", heatmap_size=(16, 12))
    maps = torch.zeros(1, 2, 16, 12)
    with pytest.raises(TypeError, match="flipped: expected NumPy arrays throughout or tensors throughout"):
        ops.heatmap_decode(maps, codec, (64, 48), flipped=maps.numpy(), flip_index=[1, 0])
    with pytest.raises(TypeError, match="target: expected NumPy arrays throughout or tensors throughout"):
        ops.heatmap_loss(maps, None, None, codec, (64, 48), target=maps.numpy())
