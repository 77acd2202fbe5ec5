"""box_nms against the oracle, figures worked out by hand, and torchvision where that is installed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from fastpose import ops
from fastpose.ops import reference
from fastpose.ops._native import C

METHODS = ("hard", "linear", "gaussian")
# An overlap of 8/10 of the first two in exact numbers, of 0 with the third.
THREE = np.array([[0, 0, 10, 10], [0, 0, 10, 8], [50, 0, 60, 10]], np.float32)


def crowd(count: int, seed: int = 0, dtype: type = np.float32, size: float = 640) -> tuple[np.ndarray, np.ndarray]:
    """Boxes and scores that all differ; about four boxes a person."""
    rng = np.random.default_rng(seed)
    people = rng.uniform(0, size, (count // 4 + 1, 4))
    people[:, 2:] = people[:, :2] + rng.uniform(0.05, 0.4, (len(people), 2)) * size
    boxes = people[rng.integers(0, len(people), count)] + rng.normal(0, 0.015 * size, (count, 4))
    return boxes.astype(dtype), (rng.permutation(count).astype(np.float32) + 1) / (count + 1)


def oracle(boxes: Any, scores: Any, classes: Any = None, image_index: Any = None, *rest: Any, **options: Any) -> Any:
    box, score, kind, image = (
        None if x is None else torch.from_numpy(np.array(x)) for x in (boxes, scores, classes, image_index)
    )
    result = reference.box_nms(box, score, kind, image, *rest, **options)
    return tuple(r.numpy() for r in result) if isinstance(result, tuple) else result.numpy()


def width_of(method: str, number: float) -> dict[str, Any]:
    return {"method": method, ("sigma" if method == "gaussian" else "threshold"): number}


# --- hard ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("count", [1, 2, 3, 7, 8, 15, 16, 17, 31, 32, 33, 64, 100])
@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.6, 0.9, 1.0])
def test_hard_keeps_what_the_oracle_keeps(simd: str, count: int, threshold: float) -> None:
    for seed, dtype in ((count, np.float32), (count + 1, np.float64)):
        boxes, scores = crowd(count, seed, dtype)
        kept = ops.box_nms(boxes, scores, threshold=threshold)
        assert kept.dtype == np.int64
        np.testing.assert_array_equal(kept, oracle(boxes, scores, threshold=threshold))


def test_an_overlap_of_exactly_the_threshold_is_kept(simd: str) -> None:
    for boxes, share in ((THREE, np.float32(0.8)), (THREE.astype(np.float64), np.float64(0.8))):
        scores = [0.9, 0.8, 0.7]
        assert ops.box_nms(boxes, scores, threshold=float(share)).tolist() == [0, 1, 2]
        assert ops.box_nms(boxes, scores, threshold=float(np.nextafter(share, share.dtype.type(0)))).tolist() == [0, 2]
        # Thresholds between two float32: decided as the number that was given, not as what it rounds to.
        above, below = float(np.nextafter(float(share), 1)), float(np.nextafter(float(share), 0))
        assert ops.box_nms(boxes, scores, threshold=above).tolist() == [0, 1, 2]
        assert ops.box_nms(boxes, scores, threshold=below).tolist() == [0, 2]


def test_what_is_suppressed_suppresses_nobody(simd: str) -> None:
    row = np.array([[0, 0, 10, 10], [0, 4, 10, 14], [0, 8, 10, 18]], np.float32)  # each overlaps the next by 6/14
    assert ops.box_nms(row, [0.9, 0.8, 0.7], threshold=0.4).tolist() == [0, 2]
    assert ops.box_nms(row, [0.8, 0.9, 0.7], threshold=0.4).tolist() == [1]


def test_of_equal_scores_the_lower_index_wins(simd: str) -> None:
    boxes = np.repeat(THREE[:1], 40, 0)
    assert ops.box_nms(boxes, np.ones(40)).tolist() == [0]
    scores = np.zeros(40)
    scores[[7, 31]] = 2
    assert ops.box_nms(boxes, scores).tolist() == [7]
    others = [i for i in range(40) if i not in (7, 31)]
    assert ops.box_nms(boxes, scores, threshold=1.0).tolist() == [7, 31, *others]
    apart = boxes + np.arange(40, dtype=np.float32)[:, None] * 100
    assert ops.box_nms(apart, np.ones(40), image_index=np.arange(40) % 3).tolist() == list(range(40))


# --- images and classes -------------------------------------------------------------------------------------------
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_images_and_classes_leave_each_other_alone(simd: str, method: str, dtype: type) -> None:
    boxes, scores = crowd(150, 11, dtype)
    rng = np.random.default_rng(2)
    image, kind = rng.choice([-3, 0, 5, 2**40], 150), rng.choice([0, 1, -(2**63)], 150)
    for most in (None, 4, 1):
        options = width_of(method, 0.4) | {"most": most}
        for places in ({"image_index": image}, {"classes": kind}, {"image_index": image, "classes": kind}):
            result, wanted = ops.box_nms(boxes, scores, **places, **options), oracle(boxes, scores, **places, **options)
            if method == "hard":
                np.testing.assert_array_equal(result, wanted)
            else:
                np.testing.assert_array_equal(result[0], wanted[0])
                np.testing.assert_allclose(result[1], wanted[1], rtol=1e-6)
            kept = result if method == "hard" else result[0]
            if most is not None:
                counted = np.unique(places.get("image_index", np.zeros(150))[kept], return_counts=True)[1]
                assert counted.tolist() == [most] * len(counted)


def test_most_counts_all_classes_together_and_takes_the_best() -> None:
    boxes = THREE[[0, 0, 0, 2]]
    assert ops.box_nms(boxes, [0.6, 0.9, 0.8, 0.7], [0, 1, 2, 0], most=2).tolist() == [1, 2]
    assert ops.box_nms(boxes, [0.6, 0.9, 0.8, 0.7], [0, 1, 2, 0], [0, 0, 0, 1], most=2).tolist() == [1, 2, 3]
    assert ops.box_nms(boxes, [0.6, 0.9, 0.8, 0.7], [0, 1, 2, 0], most=2**62).tolist() == [1, 2, 3, 0]


# --- soft ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("count", [1, 2, 16, 17, 60])
@pytest.mark.parametrize("method", ["linear", "gaussian"])
@pytest.mark.parametrize("number", [0.05, 0.5])
def test_soft_lowers_as_the_oracle(simd: str, count: int, method: Any, number: float) -> None:
    for dtype in (np.float32, np.float64):
        boxes, scores = crowd(count, count + 7, dtype)
        for least in (-np.inf, 0.1):
            options = width_of(method, number) | {"min_score": least}
            kept, lowered = ops.box_nms(boxes, scores.astype(dtype), **options)
            wanted, wanted_scores = oracle(boxes, scores.astype(dtype), **options)
            np.testing.assert_array_equal(kept, wanted)
            np.testing.assert_allclose(lowered, wanted_scores, rtol=1e-6)
            assert lowered.dtype == dtype
            assert np.all(np.diff(lowered) <= 0)
            assert np.all(lowered >= np.float32(least))


def test_soft_by_hand(simd: str) -> None:
    kept, lowered = ops.box_nms(THREE, [0.9, 0.8, 0.7], threshold=0.5, method="linear")
    assert kept.tolist() == [0, 2, 1]
    np.testing.assert_allclose(lowered, [0.9, 0.7, 0.8 * 0.2], rtol=1e-6)
    assert ops.box_nms(THREE, [0.9, 0.8, 0.7], threshold=0.85, method="linear")[1].tolist() == [0.9, 0.8, 0.7]
    kept, lowered = ops.box_nms(THREE, [0.9, 0.8, 0.7], method="gaussian", sigma=0.25)
    np.testing.assert_allclose(lowered, [0.9, 0.7, 0.8 * np.exp(-0.64 / 0.25)], rtol=1e-6)
    kept, lowered = ops.box_nms(THREE, [0.9, 0.8, 0.7], method="gaussian", sigma=0.25, min_score=0.1)
    assert kept.tolist() == [0, 2]


def test_the_same_place_and_scores_that_cannot_sink(simd: str) -> None:
    boxes = np.repeat(THREE[:1], 4, 0)
    kept, lowered = ops.box_nms(boxes, [-1.0, 0.5, 0.0, 0.25], threshold=0.5, method="linear")
    assert kept.tolist() == [1, 2, 3, 0]
    assert lowered.tolist() == [0.5, 0.0, 0.0, -1.0]


@pytest.mark.parametrize("method", METHODS)
def test_the_least_score(method: Any) -> None:
    scores = np.array([0.9, 0.5, 0.1])
    kept = ops.box_nms(THREE * [[1], [1], [1]] + [[0], [100], [0]], scores, method=method, min_score=0.5)
    assert (kept if method == "hard" else kept[0]).tolist() == [0, 1]
    assert len(ops.box_nms(THREE, scores, min_score=2.0)) == 0
    assert ops.box_nms(THREE, [np.nan, 0.5, 0.1], min_score=-1e308).tolist() == [1, 2]


# --- strange values -----------------------------------------------------------------------------------------------
@pytest.mark.parametrize("method", METHODS)
def test_scores_that_are_no_numbers_come_last(simd: str, method: Any) -> None:
    boxes = np.arange(5, dtype=np.float32)[:, None] * 1e4 + THREE[0]
    result = ops.box_nms(boxes, [np.nan, -np.inf, 0.5, np.inf, np.nan], method=method)
    kept = result if method == "hard" else result[0]
    assert kept.tolist() == [3, 2, 0, 1, 4]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_boxes_that_are_no_numbers_or_reversed_meet_nobody(simd: str, dtype: type) -> None:
    boxes, scores = crowd(60, 2, dtype)
    boxes[:] = boxes[0] + np.random.default_rng(0).uniform(-2, 2, boxes.shape)
    boxes[::7, 1] = np.nan
    boxes[1::7, [0, 2]] = boxes[1::7, [2, 0]]
    boxes[2::7] = boxes[2::7][:, [2, 3, 0, 1]]
    boxes[3::7, 2] = np.inf
    boxes[4::7] = boxes[4::7][:, [0, 1, 0, 1]]  # no area
    for threshold in (0.0, 0.2, 0.9):
        kept = ops.box_nms(boxes, scores, threshold=threshold)
        np.testing.assert_array_equal(kept, oracle(boxes, scores, threshold=threshold))
        alone = [i for i in range(60) if i % 7 < 3]
        assert set(alone) <= set(kept.tolist())
    for method in ("linear", "gaussian"):
        lowered = ops.box_nms(boxes, scores, method=method)[1]
        assert np.isfinite(lowered).all()


def test_the_largest_and_smallest_numbers(simd: str) -> None:
    for dtype in (np.float32, np.float64):
        great = np.finfo(dtype).max
        boxes = np.array([[-great, -great, great, great], [0, 0, 1, 1], [0, 0, 1, 1], [0, 0, 1e-30, 1e-30]], dtype)
        kept = ops.box_nms(boxes, [0.9, 0.8, 0.7, 0.6], threshold=0.5)
        np.testing.assert_array_equal(kept, oracle(boxes, [0.9, 0.8, 0.7, 0.6], threshold=0.5))
        assert ops.box_nms(boxes, [0.9, 0.8, 0.7, 0.6], threshold=1e300).tolist() == [0, 1, 2, 3]
        assert ops.box_nms(boxes, [0.9, 0.8, 0.7, 0.6], threshold=np.inf).tolist() == [0, 1, 2, 3]


def test_threads_do_not_change_the_result() -> None:
    boxes, scores = crowd(2000, 6)
    image, kind = np.arange(2000) // 31, np.arange(2000) % 3
    before = torch.get_num_threads()
    for method in METHODS:
        results = []
        for threads in (1, 2, 6):
            torch.set_num_threads(threads)
            result = ops.box_nms(boxes, scores, kind, image, **width_of(method, 0.4))
            results.append(result if isinstance(result, tuple) else (result,))
        torch.set_num_threads(before)
        for other in results[1:]:
            for one, two in zip(results[0], other, strict=True):
                np.testing.assert_array_equal(one, two)


# --- beside torchvision -------------------------------------------------------------------------------------------
@pytest.mark.parametrize("count", [300, 2000])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_torchvision_keeps_the_same_in_the_same_order(simd: str, count: int, dtype: torch.dtype) -> None:
    """Beyond a thousand boxes exactly; below, coordinates of whole numbers are safe from its shifting of classes."""
    boxes_of = pytest.importorskip("torchvision.ops.boxes", exc_type=Exception)
    for seed in range(5):
        boxes, scores = (torch.from_numpy(x).to(dtype) for x in crowd(count, seed))
        boxes = boxes.round() if count < 1000 else boxes
        index = torch.from_numpy(np.random.default_rng(seed).integers(0, 64, count))
        for threshold in (0.3, 0.5, 0.65):
            wanted = boxes_of.batched_nms(boxes, scores, index, threshold)
            for places in ({"image_index": index}, {"classes": index}):
                torch.testing.assert_close(ops.box_nms(boxes, scores, threshold=threshold, **places), wanted)


# --- forms of the arguments ---------------------------------------------------------------------------------------
def test_tensors_lists_and_memory_order() -> None:
    boxes, scores = crowd(30, 8)
    index = np.arange(30) % 2
    wanted = ops.box_nms(boxes, scores, image_index=index)
    result = ops.box_nms(torch.from_numpy(boxes), scores.tolist(), image_index=index.tolist())
    assert isinstance(result, torch.Tensor)
    np.testing.assert_array_equal(result.numpy(), wanted)
    wide = np.repeat(boxes, 2, 1)[:, ::2]
    for same in (np.asfortranarray(boxes), wide):
        for number in (np.int32, np.uint8):
            kept = ops.box_nms(same, scores.astype(float), image_index=index.astype(number))
            np.testing.assert_array_equal(kept, wanted)
    kept = ops.box_nms(torch.from_numpy(boxes).t().contiguous().t(), torch.from_numpy(scores).half(), classes=index)
    assert len(kept) > 0
    lowered = ops.box_nms(torch.from_numpy(boxes), torch.from_numpy(scores), method="linear")[1]
    assert lowered.dtype is torch.float32


def test_padded_and_preallocated() -> None:
    boxes, scores = crowd(30, 8)
    wanted, lowered = ops.box_nms(boxes, scores, method="gaussian", most=5)
    indices, places = np.empty(30, np.int64), np.empty(30)
    result, full = ops.box_nms(boxes, scores, method="gaussian", most=5, padded=True, out=indices, out_scores=places)
    assert np.shares_memory(result, indices)
    np.testing.assert_array_equal(indices[:5], wanted)
    assert indices[5:].tolist() == [-1] * 25
    np.testing.assert_allclose(places[:5], lowered, rtol=1e-6)
    assert places[5:].tolist() == [0.0] * 25
    assert full.shape == (30,)
    kept = ops.box_nms(boxes, scores, out=indices)
    assert np.shares_memory(kept, indices)
    np.testing.assert_array_equal(kept, ops.box_nms(boxes, scores))


@pytest.mark.parametrize("method", METHODS)
def test_nothing_gives_nothing(method: Any) -> None:
    for boxes in (np.zeros((0, 4), np.float32), torch.zeros(0, 4)):
        for options in ({}, {"padded": True}, {"classes": [], "image_index": [], "most": 3}):
            result = ops.box_nms(boxes, [], method=method, **options)
            for part in result if isinstance(result, tuple) else (result,):
                assert part.shape == (0,)


BAD = {
    "boxes: expected shape": lambda b, s: ops.box_nms(b[:, :3].copy(), s),
    "boxes: expected shape .* got \\[4\\]": lambda b, s: ops.box_nms(b[0], s),
    "scores: expected shape": lambda b, s: ops.box_nms(b, s[:5]),
    "classes: expected shape": lambda b, s: ops.box_nms(b, s, np.zeros(5, np.int64)),
    "image_index: expected shape": lambda b, s: ops.box_nms(b, s, None, np.zeros((30, 1), np.int64)),
    "threshold: expected a number of 0 or above, got -0.1": lambda b, s: ops.box_nms(b, s, threshold=-0.1),
    "threshold: expected a number of 0 or above, got nan": lambda b, s: ops.box_nms(b, s, threshold=np.nan),
    "threshold: .*gaussian": lambda b, s: ops.box_nms(b, s, threshold=0.5, method="gaussian"),
    "method: expected hard, linear or gaussian, got 'soft'": lambda b, s: ops.box_nms(b, s, method="soft"),
    "method: expected hard, linear or gaussian, got \\[\\]": lambda b, s: ops.box_nms(b, s, method=[]),
    "sigma: expected a number above 0": lambda b, s: ops.box_nms(b, s, method="gaussian", sigma=0),
    "sigma: expected a number above 0, got nan": lambda b, s: ops.box_nms(b, s, method="gaussian", sigma=np.nan),
    "sigma: expected method": lambda b, s: ops.box_nms(b, s, sigma=0.5),
    "min_score: expected a number, got nan": lambda b, s: ops.box_nms(b, s, min_score=float("nan")),
    "most: expected 1 or more, got 0": lambda b, s: ops.box_nms(b, s, most=0),
    "most: expected a number of 64 bits": lambda b, s: ops.box_nms(b, s, most=2**63),
    "out: expected shape": lambda b, s: ops.box_nms(b, s, out=np.zeros(29, np.int64)),
    "out: expected memory of its own": lambda b, s: overlapping(b, s),
}  # fmt: skip
BAD_TYPES = {
    "boxes: expected dtype float32 or float64, got float16": lambda b, s: ops.box_nms(b.astype(np.float16), s),
    "boxes: expected dtype float32 or float64, got int64": lambda b, s: ops.box_nms(b.astype(np.int64), s),
    "boxes: expected a NumPy array or a tensor, got list": lambda b, s: ops.box_nms(b.tolist(), s),
    "classes: expected int64, got float32": lambda b, s: ops.box_nms(b, s, s),
    "image_index: expected int64, got float64": lambda b, s: ops.box_nms(b, s, None, s.astype(float)),
    "scores: expected NumPy arrays throughout": lambda b, s: ops.box_nms(b, torch.from_numpy(s)),
    "threshold: expected a number, got str": lambda b, s: ops.box_nms(b, s, threshold="0.5"),
    "most: expected an int, got float": lambda b, s: ops.box_nms(b, s, most=2.0),
    "padded: expected True or False": lambda b, s: ops.box_nms(b, s, padded="yes"),
    "boxes: box_nms has no gradient": lambda b, s: ops.box_nms(torch.from_numpy(b).requires_grad_(), s),
    "scores: box_nms has no gradient": lambda b, s: ops.box_nms(torch.from_numpy(b), torch.ones(30).requires_grad_()),
    "out: expected dtype int64": lambda b, s: ops.box_nms(b, s, out=np.zeros(30, np.int32)),
}  # fmt: skip


def overlapping(boxes: np.ndarray, scores: np.ndarray) -> Any:
    index = np.zeros(30, np.int64)
    return ops.box_nms(boxes, scores, index, out=index)


@pytest.mark.parametrize("message", BAD)
def test_bad_values(message: str) -> None:
    with pytest.raises(ValueError, match=message):
        BAD[message](*crowd(30))


@pytest.mark.parametrize("message", BAD_TYPES)
def test_bad_types(message: str) -> None:
    with pytest.raises(TypeError, match=message):
        BAD_TYPES[message](*crowd(30))


def test_the_core_knows_its_methods() -> None:
    boxes, scores = crowd(3)
    for method in (-1, 3, 2**62):
        with pytest.raises(ValueError, match="method: expected 0"):
            C.box_nms(boxes, scores.astype(float), None, None, 0.5, method, 0.5, 0.0, None, True, None, None)


# --- torch's dispatcher -------------------------------------------------------------------------------------------
@pytest.mark.parametrize("method", [0, 1, 2])
def test_opcheck(method: int) -> None:
    boxes, scores = (torch.from_numpy(x) for x in crowd(9))
    for index in (None, torch.arange(9) // 3):
        arguments = (boxes, scores.double(), index, index, 0.5, method, 0.5, 0.01, 5)
        torch.library.opcheck(torch.ops.fastpose.box_nms.default, arguments)


def test_compiles_whole_when_padded() -> None:
    boxes, scores = (torch.from_numpy(x) for x in crowd(12))

    def best(x: torch.Tensor) -> torch.Tensor:
        return ops.box_nms(x + 1, scores, padded=True) + 1

    compiled = torch.compile(best, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(boxes), best(boxes))


@pytest.mark.cuda
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("count", [0, 1, 64, 65, 500])
def test_cuda_gives_the_same(method: Any, count: int) -> None:
    for dtype in (np.float32, np.float64):
        boxes, scores = crowd(count, 21, dtype)
        for image in (None, np.arange(count) // 9, np.random.default_rng(1).integers(0, 4, count)):
            for kind, most in ((None, None), (np.arange(count) % 3, None), (np.arange(count) % 3, 3)):
                options = width_of(method, 0.4) | {"most": most, "min_score": 0.05}
                wanted = ops.box_nms(boxes, scores, kind, image, **options)
                result = ops.box_nms(torch.from_numpy(boxes).cuda(), scores, kind, image, **options)
                if method == "hard":
                    np.testing.assert_array_equal(result.cpu().numpy(), wanted)
                else:
                    np.testing.assert_array_equal(result[0].cpu().numpy(), wanted[0])
                    np.testing.assert_allclose(result[1].cpu().numpy(), wanted[1], rtol=1e-6)


@pytest.mark.cuda
def test_cuda_refuses_what_does_not_fit() -> None:
    with pytest.raises(ValueError, match="boxes: expected at most 131072 boxes on CUDA"):
        ops.box_nms(torch.zeros(131073, 4, device="cuda"), np.zeros(131073))


def test_scores_in_an_array_beside_tensors():
    """What is given to be filled may be of the other framework; it came to an AttributeError."""
    boxes, scores, lowered = torch.rand(5, 4), torch.rand(5), np.zeros(5)
    found = ops.box_nms(boxes, scores, method="linear", out_scores=lowered)
    np.testing.assert_allclose(found[1], ops.box_nms(boxes, scores, method="linear")[1])
