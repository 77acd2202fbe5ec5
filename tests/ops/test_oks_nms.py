"""oks_nms against the float64 oracle, a naive version, and what another implementation kept."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from fastpose import _C, ops
from fastpose.ops import reference
from fastpose.skeletons import COCO17

SIGMAS = np.array(COCO17.sigmas)


def crowd(count: int, seed: int = 0, keypoints: int = 17, dtype: type = np.float32) -> tuple[np.ndarray, ...]:
    """Poses, scores and areas; about three poses a person."""
    rng = np.random.default_rng(seed)
    bodies = rng.uniform(0, 1, (count // 3 + 1, keypoints, 2)) * [60, 150]
    bodies += rng.uniform(0, 400, (len(bodies), 1, 2))
    points = bodies[rng.integers(0, len(bodies), count)]
    points = points + rng.normal(0, 1, points.shape) * rng.uniform(0, 8, (count, 1, 1))
    poses = np.concatenate([points, rng.random((count, keypoints, 1))], -1).astype(dtype)
    return poses, rng.random(count), rng.uniform(3000, 20000, count)


def sigmas_of(keypoints: int) -> np.ndarray:
    return np.resize(SIGMAS, keypoints)


def oracle(poses, scores, areas, sigmas, *rest, image_index=None, **options):
    tensors = [torch.from_numpy(np.asarray(x, np.float64)) for x in (poses, scores, areas, sigmas)]
    index = None if image_index is None else torch.from_numpy(np.asarray(image_index))
    result = reference.oks_nms(*tensors, *rest, image_index=index, **options)
    return tuple(r.numpy() for r in result) if isinstance(result, tuple) else result.numpy()


# --- hard ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("count", [1, 2, 3, 15, 16, 17, 33, 64, 100])
@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.9, 1.0])
def test_hard_keeps_what_the_oracle_keeps(simd: str, count: int, threshold: float) -> None:
    for seed, dtype in ((count, np.float32), (count + 1, np.float64)):
        poses, scores, areas = crowd(count, seed, dtype=dtype)
        kept = ops.oks_nms(poses, scores, areas, SIGMAS, threshold)
        assert kept.dtype == np.int64
        np.testing.assert_array_equal(kept, oracle(poses, scores, areas, SIGMAS, threshold))


@pytest.mark.parametrize("keypoints", [1, 5, 133])
def test_any_number_of_keypoints(simd: str, keypoints: int) -> None:
    poses, scores, areas = crowd(50, 3, keypoints)
    for channels in (2, 3):
        kept = ops.oks_nms(poses[..., :channels], scores, areas, sigmas_of(keypoints), 0.6)
        np.testing.assert_array_equal(kept, oracle(poses, scores, areas, sigmas_of(keypoints), 0.6))


def test_an_oks_of_exactly_the_threshold_is_kept(simd: str) -> None:
    # Three keypoints in the same place and one infinitely far: an OKS of exactly 3/4.
    poses = np.zeros((3, 4, 2), np.float32)
    poses[1:, 3] = 1e6
    poses[2, 2] = 1e6
    scores, areas, sigmas = [0.9, 0.8, 0.7], [100.0] * 3, [0.1] * 4
    assert ops.oks_nms(poses, scores, areas, sigmas, 0.75).tolist() == [0, 1, 2]
    assert ops.oks_nms(poses, scores, areas, sigmas, np.nextafter(0.75, 0)).tolist() == [0, 2]
    # What is suppressed suppresses nobody: 1 would have taken 2 with it.
    assert ops.oks_nms(poses, scores, areas, sigmas, 0.7).tolist() == [0, 2]


def test_close_calls_are_decided_in_double(simd: str) -> None:
    """Thresholds a hair beside the OKS of a pair: float alone would get half of them wrong."""
    poses, scores, areas = crowd(24, 5)
    exact = reference.oks(
        *(torch.from_numpy(x).double() for x in (poses, poses, areas, SIGMAS)), areas_b=torch.from_numpy(areas)
    ).numpy()
    close = exact[(exact > 0.2) & (exact < 0.999)]
    assert len(close) > 20
    for value in close[:20]:
        for threshold in (value * (1 - 1e-12), value * (1 + 1e-12)):
            kept = ops.oks_nms(poses, scores, areas, SIGMAS, threshold)
            np.testing.assert_array_equal(kept, oracle(poses, scores, areas, SIGMAS, threshold))


def test_of_equal_scores_the_lower_index_wins(simd: str) -> None:
    poses, _, areas = crowd(1)
    poses, areas = np.repeat(poses, 40, 0), np.repeat(areas, 40)
    assert ops.oks_nms(poses, np.ones(40), areas, SIGMAS, 0.5).tolist() == [0]
    scores = np.zeros(40)
    scores[[7, 31]] = 2
    assert ops.oks_nms(poses, scores, areas, SIGMAS, 0.5).tolist() == [7]
    assert ops.oks_nms(poses, scores, areas, SIGMAS, 1.0).tolist() == [
        7,
        31,
        *(i for i in range(40) if i not in (7, 31)),
    ]


def test_poses_far_apart_all_stay() -> None:
    poses = np.zeros((1000, 17, 2), np.float32) + (np.arange(1000, dtype=np.float32) * 500)[:, None, None]
    scores = np.random.default_rng(0).random(1000)
    kept = ops.oks_nms(poses, scores, np.full(1000, 1e4), SIGMAS, 0.1)
    np.testing.assert_array_equal(kept, np.argsort(-scores, kind="stable"))


# --- many images --------------------------------------------------------------------------------------------------
def test_images_leave_each_other_alone(simd: str) -> None:
    poses, scores, areas = crowd(120, 11)
    index = np.random.default_rng(2).choice([-3, 0, 5, 2**40], 120)
    for soft in (False, True):
        together = ops.oks_nms(poses, scores, areas, SIGMAS, 0.5, image_index=index, soft=soft)
        together, lowered = together if soft else (together, None)
        apart = []
        for image in np.unique(index):
            own = np.flatnonzero(index == image)
            part = ops.oks_nms(poses[own], scores[own], areas[own], SIGMAS, 0.5, soft=soft)
            apart += own[part[0] if soft else part].tolist()
        assert sorted(together.tolist()) == sorted(apart)
        final = scores[together] if lowered is None else lowered
        assert np.all(np.diff(final) <= 0)
    np.testing.assert_array_equal(
        ops.oks_nms(poses, scores, areas, SIGMAS, 0.5, image_index=index),
        oracle(poses, scores, areas, SIGMAS, 0.5, image_index=index),
    )


@pytest.mark.parametrize("soft", [False, True])
def test_limit_per_image(soft: bool) -> None:
    poses, scores, areas = crowd(60, 4)
    index = np.arange(60) % 3
    result = ops.oks_nms(poses, scores, areas, SIGMAS, 0.5, image_index=index, soft=soft, max_per_image=4)
    wanted = oracle(poses, scores, areas, SIGMAS, 0.5, image_index=index, soft=soft, max_per_image=4)
    np.testing.assert_array_equal(result[0] if soft else result, wanted[0] if soft else wanted)
    assert np.bincount(index[result[0] if soft else result]).tolist() == [4, 4, 4]


# --- soft ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("count", [1, 2, 17, 40])
@pytest.mark.parametrize("threshold", [0.05, 0.5, 0.9])
def test_soft_lowers_as_the_oracle(simd: str, count: int, threshold: float) -> None:
    for dtype in (np.float32, np.float64):
        poses, scores, areas = crowd(count, count + 7, dtype=dtype)
        kept, lowered = ops.oks_nms(poses, scores, areas, SIGMAS, threshold, soft=True)
        wanted, wanted_scores = oracle(poses, scores, areas, SIGMAS, threshold, soft=True)
        np.testing.assert_array_equal(kept, wanted)
        np.testing.assert_allclose(lowered, wanted_scores, rtol=1e-7)


def test_soft_by_hand() -> None:
    poses = np.zeros((2, 4, 2), np.float64)
    poses[1, 2:] = 1e6  # OKS 1/2
    kept, lowered = ops.oks_nms(poses, [0.6, 0.8], [50.0, 50.0], [0.1] * 4, 0.25, soft=True)
    assert kept.tolist() == [1, 0]
    np.testing.assert_allclose(lowered, [0.8, 0.6 * np.exp(-1.0)], rtol=1e-14)
    single = ops.oks_nms(poses, np.array([0.6, 0.8], np.float32), [50.0, 50.0], [0.1] * 4, 0.25, soft=True)[1]
    assert single.dtype == np.float32


def test_figures(data: Path, simd: str) -> None:
    figures = json.loads((data / "oks_figures.json").read_text())
    for dtype in (np.float32, np.float64):
        poses = np.array(figures["keypoints"], dtype)
        for threshold, kept in figures["hard"].items():
            result = ops.oks_nms(poses, figures["scores"], figures["areas"], SIGMAS, float(threshold))
            assert result.tolist() == kept
        for case in figures["soft"]:
            result = ops.oks_nms(
                *(poses, figures["scores"], figures["areas"], SIGMAS, case["threshold"]),
                soft=True,
                max_per_image=case["limit"],
            )
            assert result[0].tolist() == case["kept"]


# --- strange values -----------------------------------------------------------------------------------------------
def test_scores_that_are_no_numbers_come_last(simd: str) -> None:
    poses = np.arange(5, dtype=np.float32)[:, None, None] * 1e4 + np.zeros((5, 17, 2), np.float32)
    scores = [np.nan, -np.inf, 0.5, np.inf, np.nan]
    assert ops.oks_nms(poses, scores, [100.0] * 5, SIGMAS).tolist() == [3, 2, 0, 1, 4]
    kept, lowered = ops.oks_nms(poses, scores, [100.0] * 5, SIGMAS, soft=True)
    assert kept.tolist() == [3, 2, 0, 1, 4]
    assert lowered.tolist() == [np.inf, 0.5, -np.inf, -np.inf, -np.inf]


def test_poses_that_are_no_numbers_suppress_nothing(simd: str) -> None:
    poses, scores, areas = crowd(40, 2)
    poses[::3] = np.nan
    poses[1, 5] = np.inf
    areas[4] = np.nan
    areas[5] = -1.0
    areas[7] = np.inf
    for threshold in (0.2, 0.9):
        kept = ops.oks_nms(poses, scores, areas, SIGMAS, threshold)
        np.testing.assert_array_equal(kept, oracle(poses, scores, areas, SIGMAS, threshold))
        assert set(range(0, 40, 3)) <= set(kept.tolist())


def test_threads_do_not_change_the_result() -> None:
    poses, scores, areas = crowd(400, 6)
    index = np.arange(400) // 7
    before = torch.get_num_threads()
    for soft in (False, True):
        results = []
        for threads in (1, 2, 6):
            torch.set_num_threads(threads)
            results.append(ops.oks_nms(poses, scores, areas, SIGMAS, 0.4, image_index=index, soft=soft))
        torch.set_num_threads(before)
        for other in results[1:]:
            for one, two in zip(results[0] if soft else [results[0]], other if soft else [other], strict=True):
                np.testing.assert_array_equal(one, two)


# --- forms of the arguments ---------------------------------------------------------------------------------------
def test_tensors_lists_and_memory_order() -> None:
    poses, scores, areas = crowd(30, 8)
    wanted = ops.oks_nms(poses, scores, areas, SIGMAS, 0.6)
    result = ops.oks_nms(torch.from_numpy(poses), torch.from_numpy(scores), areas.tolist(), COCO17.sigmas, 0.6)
    assert isinstance(result, torch.Tensor)
    np.testing.assert_array_equal(result.numpy(), wanted)
    for same in (np.asfortranarray(poses), np.repeat(poses, 2, 1)[:, ::2]):
        np.testing.assert_array_equal(ops.oks_nms(same, scores.tolist(), areas, SIGMAS, 0.6), wanted)
    doubled = torch.from_numpy(poses).half()
    with pytest.raises(TypeError, match=r"poses.*float16"):
        ops.oks_nms(doubled, scores, areas, SIGMAS)


def test_padded_and_preallocated() -> None:
    poses, scores, areas = crowd(30, 8)
    wanted, lowered = ops.oks_nms(poses, scores, areas, SIGMAS, 0.6, soft=True, max_per_image=5)
    indices, places = np.empty(30, np.int64), np.empty(30)
    result, full = ops.oks_nms(
        poses, scores, areas, SIGMAS, 0.6, soft=True, max_per_image=5, padded=True, out=indices, out_scores=places
    )
    assert result is indices
    assert full is places
    assert indices.tolist() == [*wanted.tolist(), *[-1] * 25]
    assert places.tolist() == [*lowered.tolist(), *[0.0] * 25]
    with pytest.raises(ValueError, match="out"):
        ops.oks_nms(poses, scores, areas, SIGMAS, out=np.empty(29, np.int64))


@pytest.mark.parametrize("soft", [False, True])
def test_empty(soft: bool) -> None:
    result = ops.oks_nms(np.zeros((0, 17, 3), np.float32), [], [], SIGMAS, soft=soft, image_index=np.zeros(0, np.int64))
    assert (result[0] if soft else result).shape == (0,)
    tensor = ops.oks_nms(torch.zeros(0, 17, 3), [], [], SIGMAS)
    assert tensor.dtype == torch.int64
    assert tensor.shape == (0,)


def test_errors_name_the_argument() -> None:
    poses, scores, areas = crowd(4)
    for arguments, options, name in (
        ((poses[0], scores, areas, SIGMAS), {}, "poses"),
        ((poses, scores[:3], areas, SIGMAS), {}, "scores"),
        ((poses, scores, areas[:, None], SIGMAS), {}, "areas"),
        ((poses, scores, areas, SIGMAS[:5]), {}, "sigmas"),
        ((poses, scores, areas, -SIGMAS), {}, "sigmas"),
        ((poses, scores, areas, SIGMAS, -0.1), {}, "threshold"),
        ((poses, scores, areas, SIGMAS, float("nan")), {}, "threshold"),
        ((poses, scores, areas, SIGMAS, 0.0), {"soft": True}, "threshold"),
        ((poses, scores, areas, SIGMAS), {"image_index": [0, 1]}, "image_index"),
        ((poses, scores, areas, SIGMAS), {"max_per_image": 0}, "max_per_image"),
    ):
        with pytest.raises(ValueError, match=name):
            ops.oks_nms(*arguments, **options)
    with pytest.raises(TypeError, match="image_index"):
        ops.oks_nms(poses, scores, areas, SIGMAS, image_index=[0.5, 1, 2, 3])
    with pytest.raises(TypeError, match=r"poses.*int32"):
        ops.oks_nms(poses.astype(np.int32), scores, areas, SIGMAS)
    with pytest.raises(TypeError, match=r"scores.*mixture"):
        ops.oks_nms(poses, torch.from_numpy(scores), areas, SIGMAS)
    with pytest.raises(TypeError, match="oks_nms has no gradient"):
        ops.oks_nms(torch.from_numpy(poses).requires_grad_(), scores, areas, SIGMAS)


# --- torch --------------------------------------------------------------------------------------------------------
def test_opcheck() -> None:
    poses, scores, areas = (torch.from_numpy(x) for x in crowd(9))
    for index, soft in ((None, False), (torch.arange(9) // 3, True)):
        arguments = (poses, scores, areas, torch.from_numpy(SIGMAS), index, 0.5, soft, 5)
        torch.library.opcheck(torch.ops.fastpose.oks_nms.default, arguments)


def test_compiles_whole_when_padded() -> None:
    poses, scores, areas = (torch.from_numpy(x) for x in crowd(12))

    def best(x: torch.Tensor) -> torch.Tensor:
        return ops.oks_nms(x + 1, scores, areas, torch.from_numpy(SIGMAS), 0.5, padded=True) + 1

    compiled = torch.compile(best, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(poses), best(poses))


@pytest.mark.cuda
@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("count", [0, 1, 64, 65, 500])
def test_cuda_gives_the_same(soft: bool, count: int) -> None:
    assert _C.with_cuda
    for dtype in (np.float32, np.float64):
        poses, scores, areas = crowd(count, 21, dtype=dtype)
        for index in (None, np.arange(count) // 9, np.random.default_rng(1).integers(0, 4, count)):
            for limit in (None, 3):
                options = {"image_index": index, "soft": soft, "max_per_image": limit}
                wanted = ops.oks_nms(poses, scores, areas, SIGMAS, 0.5, **options)
                result = ops.oks_nms(torch.from_numpy(poses).cuda(), scores, areas, SIGMAS, 0.5, **options)
                if soft:
                    np.testing.assert_array_equal(result[0].cpu().numpy(), wanted[0])
                    np.testing.assert_allclose(result[1].cpu().numpy(), wanted[1], rtol=1e-7)
                else:
                    np.testing.assert_array_equal(result.cpu().numpy(), wanted)


@pytest.mark.cuda
def test_cuda_refuses_what_does_not_fit() -> None:
    count = 131073
    with pytest.raises(ValueError, match="poses"):
        ops.oks_nms(torch.zeros(count, 1, 2, device="cuda"), np.zeros(count), np.ones(count), [0.1])
