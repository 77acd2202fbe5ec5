"""oks against the float64 oracle, literals worked out by hand, and figures that another implementation gave."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from fastpose import _C, ops
from fastpose.ops import reference
from fastpose.skeletons import COCO17


def people(count: int, keypoints: int = 17, seed: int = 0, channels: int = 3, spread: float = 300.0) -> np.ndarray:
    """Poses of which many resemble each other."""
    rng = np.random.default_rng(seed)
    bodies = rng.uniform(0, 1, (max(count // 3, 1), keypoints, 2)) * [60, 150] + rng.uniform(
        0, spread, (max(count // 3, 1), 1, 2)
    )
    points = bodies[rng.integers(0, len(bodies), count)] + rng.normal(0, 4, (count, keypoints, 2))
    return np.concatenate([points, rng.random((count, keypoints, channels - 2))], -1).astype(np.float32)


def areas_of(count: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).uniform(3000, 20000, count)


def sigmas_of(keypoints: int) -> np.ndarray:
    return np.resize(np.array(COCO17.sigmas), keypoints)


def oracle(a, b, areas, sigmas, **options) -> np.ndarray:
    a, b, areas, sigmas = (torch.as_tensor(np.asarray(x)).double() for x in (a, b, areas, sigmas))
    options = {k: torch.as_tensor(np.asarray(v)) for k, v in options.items() if v is not None}
    return reference.oks(a, b, areas, sigmas, **options).numpy()


# --- arithmetic ---------------------------------------------------------------------------------------------------
def test_by_hand() -> None:
    # sigma 0.5, area 2: a distance of d has exponent d² / (2 · 1² · 2) = d² / 4.
    a = np.array([[[0, 0], [10, 10]]], np.float64)
    b = np.array([[[2, 0], [10, 10]], [[0, 0], [10, 14]]], np.float64)
    result = ops.oks(a, b, [2.0], [0.5, 0.5])
    np.testing.assert_allclose(result, [[(math.exp(-1) + 1) / 2, (1 + math.exp(-4)) / 2]], rtol=1e-14)
    # Only the first keypoint counts; then none.
    np.testing.assert_allclose(ops.oks(a, b, [2.0], [0.5, 0.5], visible=[[2, 0]]), [[math.exp(-1), 1.0]], rtol=1e-14)
    np.testing.assert_array_equal(ops.oks(a, b, [2.0], [0.5, 0.5], visible=[[0, -1]]), [[0.0, 0.0]])
    # The mean of both areas: (2 + 6) / 2 = 4, exponent d² / 8.
    both = ops.oks(a, b, [2.0], [0.5, 0.5], areas_b=[6.0, 6.0])
    np.testing.assert_allclose(both[0, 0], (math.exp(-0.5) + 1) / 2, rtol=1e-14)


@pytest.mark.parametrize(("n", "m", "k"), [(1, 1, 1), (3, 17, 17), (20, 33, 14), (7, 16, 133), (65, 2, 5)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_against_oracle(simd: str, n: int, m: int, k: int, dtype: type) -> None:
    a, b = people(n, k, 2).astype(dtype), people(m, k, 3, channels=2).astype(dtype)
    visible = np.random.default_rng(4).integers(0, 3, (n, k))
    tolerance = 1e-6 if dtype is np.float32 else 1e-13
    for options in (
        {},
        {"visible": visible},
        {"areas_b": areas_of(m, 5)},
        {"visible": visible, "areas_b": areas_of(m)},
    ):
        result = ops.oks(a, b, areas_of(n), sigmas_of(k), **options)
        assert result.dtype == dtype
        np.testing.assert_allclose(result, oracle(a, b, areas_of(n), sigmas_of(k), **options), rtol=0, atol=tolerance)


def test_float64_over_the_whole_range(simd: str) -> None:
    """From one pose to the same one and further and further, until nothing is left of the OKS."""
    distance = np.concatenate([[0.0], np.geomspace(1e-9, 1e3, 2000), [1e155, np.inf, np.nan]])
    a, b = np.zeros((1, 1, 2)), np.zeros((len(distance), 1, 2))
    b[:, 0, 1] = distance
    with np.errstate(over="ignore"):
        wanted = np.exp(-(distance**2) / (8 * 0.1**2 * 100.0))
    wanted[np.isnan(wanted)] = 0
    result = ops.oks(a, b, [100.0], [0.1])[0]
    np.testing.assert_allclose(result, wanted, rtol=1e-12, atol=1e-306)
    near = wanted > 0.1
    np.testing.assert_allclose(result[near], wanted[near], rtol=1e-15)
    assert result[0] == 1.0


def test_equal_poses_agree_fully(simd: str) -> None:
    a = people(9)
    assert np.all(np.diag(ops.oks(a, a, areas_of(9), COCO17.sigmas)) == 1.0)


def test_what_is_not_finite_agrees_with_nothing(simd: str) -> None:
    a = people(4)
    b = a.copy()
    b[0, :, 0] = np.nan
    b[1, 3] = np.inf
    b[2, 0, 1] = -np.inf
    result = ops.oks(a, b, areas_of(4), COCO17.sigmas)
    np.testing.assert_allclose(np.diag(result), [0, 16 / 17, 16 / 17, 1], rtol=1e-6)
    same_place = ops.oks(b, b, areas_of(4), COCO17.sigmas)  # infinite minus infinite is no distance either
    np.testing.assert_allclose(np.diag(same_place), [0, 16 / 17, 16 / 17, 1], rtol=1e-6)


def test_areas_and_coordinates_at_the_edge(simd: str) -> None:
    a = np.array([[[1.0, 2.0]], [[1e20, -1e20]], [[3e38, 3e38]]], np.float32)
    b = np.array([[[1.0, 2.0]], [[1.0, 2.5]], [[1e20, -1e20]]], np.float32)
    for area in ([0.0, 0.0, 0.0], [-5.0, -5.0, -5.0], [1e-300] * 3, [1e40] * 3, [np.inf] * 3, [np.nan] * 3):
        result = ops.oks(a, b, area, [0.05])
        assert np.all((result >= 0) & (result <= 1))
        np.testing.assert_allclose(result, oracle(a, b, area, [0.05]), atol=1e-6)
    np.testing.assert_array_equal(ops.oks(a[:1], b[:2], [0.0], [0.05]), [[1.0, 0.0]])
    for sigma in (1e-30, 1e30):
        np.testing.assert_allclose(ops.oks(a, b, [100.0] * 3, [sigma]), oracle(a, b, [100.0] * 3, [sigma]), atol=1e-6)


def test_figures(data: Path) -> None:
    figures = json.loads((data / "oks_figures.json").read_text())
    poses, areas = np.array(figures["keypoints"]), np.array(figures["areas"])
    row = ops.oks(poses[:1], poses, areas[:1], COCO17.sigmas, areas_b=areas)[0]
    np.testing.assert_allclose(row, figures["oks_of_first"], atol=1e-6)


def test_threads_do_not_change_the_result() -> None:
    a, b = people(64), people(130, seed=9)
    results = []
    before = torch.get_num_threads()
    for threads in (1, 2, 5):
        torch.set_num_threads(threads)
        results.append(ops.oks(a, b, areas_of(64), COCO17.sigmas))
    torch.set_num_threads(before)
    assert all(np.array_equal(results[0], other) for other in results[1:])


# --- forms of the arguments ---------------------------------------------------------------------------------------
def test_tensors_give_tensors() -> None:
    a, b = people(5), people(6)
    wanted = ops.oks(a, b, areas_of(5), COCO17.sigmas)
    ta, tb = torch.from_numpy(a), torch.from_numpy(b)
    result = ops.oks(ta, tb, torch.from_numpy(areas_of(5)), COCO17.sigmas, visible=torch.ones(5, 17))
    assert isinstance(result, torch.Tensor)
    np.testing.assert_array_equal(result.numpy(), wanted)
    out = torch.full((5, 6), -1.0)
    assert ops.oks(ta, tb, torch.from_numpy(areas_of(5)), COCO17.sigmas, out=out) is out
    np.testing.assert_array_equal(out.numpy(), wanted)


def test_memory_order_does_not_matter() -> None:
    a = people(6)
    wanted = ops.oks(a, a, areas_of(6), COCO17.sigmas)
    readonly = a.copy()
    readonly.flags.writeable = False
    for same in (np.asfortranarray(a), np.repeat(a, 2, 0)[::2], a[::-1][::-1], readonly):
        np.testing.assert_array_equal(ops.oks(same, same, areas_of(6), COCO17.sigmas), wanted)
    turned = torch.from_numpy(a).permute(2, 0, 1).contiguous().permute(1, 2, 0)
    assert not turned.is_contiguous()
    np.testing.assert_array_equal(ops.oks(turned, turned, areas_of(6), COCO17.sigmas).numpy(), wanted)


@pytest.mark.parametrize(("n", "m"), [(0, 3), (3, 0), (0, 0)])
def test_empty(n: int, m: int) -> None:
    result = ops.oks(people(3)[:n], people(3)[:m], areas_of(n), COCO17.sigmas)
    assert result.shape == (n, m)
    assert np.all(ops.oks(np.zeros((2, 0, 2), np.float32), np.zeros((1, 0, 2), np.float32), [1, 1], []) == 0)


def test_errors_name_the_argument() -> None:
    a, areas, sigmas = people(3), areas_of(3), np.array(COCO17.sigmas)
    with pytest.raises(TypeError, match=r"poses_a.*float32 or float64.*int64"):
        ops.oks(a.astype(np.int64), a, areas, sigmas)
    with pytest.raises(TypeError, match="poses_b"):
        ops.oks(a, a.astype(np.float64), areas, sigmas)
    with pytest.raises(TypeError, match=r"poses_a.*list"):
        ops.oks(a.tolist(), a, areas, sigmas)
    with pytest.raises(TypeError, match="mixture"):
        ops.oks(a, a, torch.from_numpy(areas), sigmas)
    with pytest.raises(TypeError, match="areas"):
        ops.oks(a, a, ["big"] * 3, sigmas)
    for arguments, name in (
        ((a[0], a, areas, sigmas), "poses_a"),
        ((a[..., :1], a, areas, sigmas), "poses_a"),
        ((a, a[:, :16], areas, sigmas), "poses_b"),
        ((a, a, areas[:2], sigmas), "areas"),
        ((a, a, areas, sigmas[:16]), "sigmas"),
        ((a, a, areas, sigmas * 0), "sigmas"),
        ((a, a, areas, np.where(sigmas > 0.1, np.nan, sigmas)), "sigmas"),
    ):
        with pytest.raises(ValueError, match=name):
            ops.oks(*arguments)
    with pytest.raises(ValueError, match="visible"):
        ops.oks(a, a, areas, sigmas, visible=np.ones((2, 17)))
    with pytest.raises(ValueError, match="areas_b"):
        ops.oks(a, a, areas, sigmas, areas_b=areas[:1])
    with pytest.raises(ValueError, match="out"):
        ops.oks(a, a, areas, sigmas, out=np.empty((3, 4), np.float32))


def test_gradient_is_refused_and_the_reference_has_one() -> None:
    a = torch.from_numpy(people(2)[..., :2]).double().requires_grad_()
    b = a.detach() + 1.5
    areas, sigmas = torch.full((2,), 5000.0, dtype=torch.float64), torch.tensor(COCO17.sigmas, dtype=torch.float64)
    with pytest.raises(TypeError, match=r"reference\.oks"):
        ops.oks(a, b, areas, sigmas)
    with torch.no_grad():
        assert not ops.oks(a, b, areas, sigmas).requires_grad
    assert torch.autograd.gradcheck(lambda x: reference.oks(x, b, areas, sigmas), (a,))


# --- torch --------------------------------------------------------------------------------------------------------
def test_opcheck() -> None:
    a, b = torch.from_numpy(people(4)), torch.from_numpy(people(5))
    sigmas = torch.tensor(COCO17.sigmas, dtype=torch.float64)
    areas = torch.from_numpy(areas_of(4))
    for visible in (None, torch.ones(4, 17, dtype=torch.bool)):
        torch.library.opcheck(torch.ops.fastpose.oks.default, (a, b, areas, sigmas, visible, None))


def test_compiles_whole() -> None:
    a, areas = torch.from_numpy(people(4)), torch.from_numpy(areas_of(4))
    sigmas = torch.tensor(COCO17.sigmas)

    def similarity(x: torch.Tensor) -> torch.Tensor:
        return ops.oks(x, x + 1, areas, sigmas) * 2

    compiled = torch.compile(similarity, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(a), similarity(a))


@pytest.mark.cuda
def test_cuda_gives_the_same() -> None:
    assert _C.with_cuda
    a, b = people(40), people(50, seed=8)
    visible = np.random.default_rng(0).integers(0, 2, (40, 17)).astype(bool)
    wanted = oracle(a, b, areas_of(40), COCO17.sigmas, visible=visible)
    ta, tb = torch.from_numpy(a).cuda(), torch.from_numpy(b).cuda()
    result = ops.oks(ta, tb, areas_of(40), COCO17.sigmas, visible=visible)
    np.testing.assert_allclose(result.cpu().numpy(), wanted, atol=1e-6)
    result = ops.oks(ta.double(), tb.double(), areas_of(40), COCO17.sigmas, visible=visible)
    np.testing.assert_allclose(result.cpu().numpy(), wanted, atol=1e-13)
