"""The gate in the native core: plain calls go through it, all others through Python's, and both give the same."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from fastpose import ops
from fastpose.codecs import build_codec
from fastpose.ops._native import C
from fastpose.skeletons import COCO17

RNG = np.random.default_rng(0)
POSES = RNG.uniform(0, 100, (6, 17, 3)).astype(np.float32)
SCORES = RNG.random(6).astype(np.float32)
AREAS = RNG.uniform(1e3, 1e4, 6).astype(np.float32)
SIGMAS = np.array(COCO17.sigmas)
GATES = tuple(
    f"try_{op}"
    for op in (
        *("heatmap_encode", "heatmap_decode", "heatmap_loss", "oks", "oks_nms", "box_nms"),
        *("simcc_encode", "simcc_decode", "simcc_loss"),
    )
)
GAUSSIAN, COMBINED = (build_codec(kind, heatmap_size=(16, 12)) for kind in ("gaussian", "udp_combined"))
VECTORS, SIZE = build_codec("simcc", visibility=True), (64, 48)
POINTS = RNG.uniform(0, 48, (2, 17, 2)).astype(np.float32)
MAPS = RNG.random((2, 17, 16, 12)).astype(np.float32)

# How tensors come in quickly; torch has it since 2.10.
EXCHANGE_API = hasattr(torch.Tensor, "__dlpack_c_exchange_api__")

Call = Callable[[], Any]
To = Callable[[np.ndarray], Any]


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Whether the native gate took each call that came to it."""
    seen: list[bool] = []

    def recorded(gate: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any) -> Any:
            result = gate(*args)
            seen.append(result is not None)
            return result

        return call

    for name in GATES:
        monkeypatch.setattr(C, name, recorded(getattr(C, name)))
    return seen


def oks_calls(to: To) -> dict[str, Call]:
    poses, areas, scores, sigmas = to(POSES), to(AREAS), to(SCORES), to(SIGMAS)
    wide, visible = to(POSES.astype(np.float64)), to(POSES[..., 0] > 50)
    flags, index = to((POSES[..., 0] > 50).astype(np.uint8)), to(np.array([0, 0, 0, 1, 1, 1]))
    out, kept, lowered = to(np.zeros((6, 6), np.float32)), to(np.zeros(6, np.int64)), to(np.zeros(6))
    nms = ops.oks_nms
    return {
        "oks": lambda: ops.oks(poses, poses, areas, sigmas),
        "oks float64": lambda: ops.oks(wide, wide, AREAS.tolist(), COCO17.sigmas, visible=visible, areas_b=areas),
        "oks out": lambda: ops.oks(poses, poses, AREAS, sigmas, visible=flags, out=out),
        "nms": lambda: nms(poses, scores, areas, sigmas, 0.3),
        "nms float64": lambda: nms(wide, scores, areas, COCO17.sigmas, 0, image_index=index, max_per_image=2),
        "nms padded": lambda: nms(poses, scores, areas, sigmas, 0.3, image_index=[0, 0, 0, 1, 1, 1], padded=True),
        "nms soft": lambda: nms(poses, scores, areas, sigmas, 0.3, soft=True),
        "nms soft list": lambda: nms(poses, SCORES.tolist(), areas, sigmas, 0.3, soft=True, padded=True),
        "nms soft out": lambda: nms(
            poses, SCORES.astype(float), areas, sigmas, 0.3, soft=True, out=kept, out_scores=lowered
        ),
        "nms out": lambda: nms(poses, scores, areas, sigmas, 0.3, out=kept, out_scores=lowered),
        "nms out padded": lambda: nms(poses, scores, areas, sigmas, 0.3, padded=True, out=kept),
    }


def heatmap_calls(to: To) -> dict[str, Call]:
    points, visible, weights = to(POINTS), to(np.ones((2, 17), np.float32)), to(RNG.random(17).astype(np.float32))
    maps, half, many = to(MAPS), to(MAPS.astype(np.float16)), to(RNG.random((2, 51, 16, 12)).astype(np.float32))
    flip, inverse = to(np.array(COCO17.flip_index)), to(np.tile(np.eye(2, 3), (2, 1, 1)))
    out, out_scores, out_maps = to(np.zeros((2, 17, 2), np.float32)), to(np.zeros((2, 17), np.float32)), to(MAPS.copy())
    encode, decode, loss = ops.heatmap_encode, ops.heatmap_decode, ops.heatmap_loss
    return {
        "encode": lambda: encode(points, visible, GAUSSIAN, SIZE),
        "encode combined": lambda: encode(points, visible, COMBINED, SIZE, joint_weights=weights),
        "encode list": lambda: encode(points, visible, GAUSSIAN, SIZE, joint_weights=COCO17.joint_weights),
        "encode out": lambda: encode(points, visible, GAUSSIAN, SIZE, out=out_maps, out_weights=out_scores),
        "decode": lambda: decode(maps, GAUSSIAN, SIZE),
        "decode half": lambda: decode(half, GAUSSIAN, SIZE, flipped=half, flip_index=COCO17.flip_index),
        "decode combined": lambda: decode(many, COMBINED, SIZE, flipped=many, flip_index=flip, flip_shift=True),
        "decode source": lambda: decode(maps, GAUSSIAN, SIZE, inverse=inverse, out_scores=out_scores),
        "decode matrices": lambda: decode(maps, GAUSSIAN, SIZE, inverse=np.tile(np.eye(2, 3), (2, 1, 1)), out=out),
        "loss": lambda: loss(maps, points, visible, GAUSSIAN, SIZE),
        "loss hardest": lambda: loss(maps, points, None, GAUSSIAN, SIZE, ohkm_topk=3),
        "loss combined": lambda: loss(many, points, visible, COMBINED, SIZE),
        "loss target": lambda: loss(half, None, visible, GAUSSIAN, SIZE, target=maps),
    }


def vectors_calls(to: To) -> dict[str, Call]:
    points, visible, weights = to(POINTS), to(np.ones((2, 17), np.float32)), to(RNG.random(17).astype(np.float32))
    x, y = (to(RNG.random((2, 17, bins)).astype(np.float32)) for bins in (96, 128))
    half = tuple(to(RNG.random((2, 17, bins)).astype(np.float16)) for bins in (96, 128))
    out = tuple(to(np.zeros((2, 17, bins), np.float32)) for bins in (96, 128))
    found, scores, inverse = to(np.zeros((2, 17, 2), np.float32)), to(np.zeros((2, 17), np.float32)), np.eye(2, 3)
    encode, decode, loss = ops.simcc_encode, ops.simcc_decode, ops.simcc_loss
    return {
        "vectors encode": lambda: encode(points, visible, VECTORS, SIZE, joint_weights=weights),
        "vectors encode out": lambda: encode(points, visible, VECTORS, SIZE, out=out, out_weights=scores),
        "vectors decode": lambda: decode(x, y, VECTORS, SIZE, inverse=np.tile(inverse, (2, 1, 1)), out=found),
        "vectors decode half": lambda: decode(*half, VECTORS, SIZE, flipped=half, flip_index=COCO17.flip_index),
        "vectors loss": lambda: loss((x, y), points, visible, VECTORS, SIZE, keypoint_weights=weights),
        "vectors loss half": lambda: loss(half, points, None, VECTORS, SIZE, beta=10, label_softmax=True),
    }


def loss_and_gradient(dtype: torch.dtype, **options: Any) -> Any:
    predicted = torch.from_numpy(MAPS).to(dtype).requires_grad_()
    points = torch.from_numpy(POINTS)
    loss = ops.heatmap_loss(predicted, points, torch.ones(2, 17), GAUSSIAN, SIZE, **options)
    (3 * loss).backward()
    assert predicted.grad is not None
    return loss.detach(), predicted.grad.float()


def box_calls(to: To) -> dict[str, Call]:
    corners = RNG.uniform(0, 60, (6, 2))
    wide = np.concatenate([corners, corners + RNG.uniform(20, 60, (6, 2))], 1)
    boxes, scores, index = to(wide.astype(np.float32)), to(SCORES), to(np.array([0, 0, 0, 1, 1, 1]))
    exact, kept, lowered = to(wide), to(np.zeros(6, np.int64)), to(np.zeros(6))
    nms = ops.box_nms
    return {
        "boxes": lambda: nms(boxes, scores, index, [0, 1, 0, 1, 0, 1], 0.1, most=2),
        "boxes float64": lambda: nms(exact, SCORES.tolist(), threshold=0, min_score=0.2, padded=True),
        "boxes linear": lambda: nms(boxes, scores, image_index=index, threshold=0.1, method="linear"),
        "boxes gaussian": lambda: nms(boxes, scores, method="gaussian", sigma=1, padded=True),
        "boxes out": lambda: nms(boxes, SCORES.astype(float), method="gaussian", out=kept, out_scores=lowered),
    }


CALLS = {
    **box_calls(lambda a: a),
    **oks_calls(lambda a: a),
    **heatmap_calls(lambda a: a),
    **vectors_calls(lambda a: a),
    **{f"{k}, tensors": v for k, v in box_calls(torch.from_numpy).items()},
    **{f"{k}, tensors": v for k, v in oks_calls(torch.from_numpy).items()},
    **{f"{k}, tensors": v for k, v in heatmap_calls(torch.from_numpy).items()},
    **{f"{k}, tensors": v for k, v in vectors_calls(torch.from_numpy).items()},
    "gradient": lambda: loss_and_gradient(torch.float32),
    "gradient, half": lambda: loss_and_gradient(torch.bfloat16, ohkm_topk=2),
}


def same(a: Any, b: Any) -> None:
    if isinstance(a, tuple):
        assert isinstance(b, tuple)
        assert len(a) == len(b)
        for one, other in zip(a, b, strict=True):
            same(one, other)
        return
    assert type(a) is type(b)
    assert a.dtype == b.dtype
    np.testing.assert_array_equal(np.asarray(a), np.asarray(b))


def copied(result: Any) -> Any:
    if isinstance(result, tuple):
        return tuple(copied(part) for part in result)
    return result.clone() if isinstance(result, torch.Tensor) else result.copy()


@pytest.mark.parametrize("name", CALLS)
def test_plain_calls_are_taken_and_give_what_the_other_way_gives(
    name: str, taken: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    quick = copied(CALLS[name]())
    assert taken == [EXCHANGE_API or not ("tensors" in name or "gradient" in name)]
    for gate in GATES:
        monkeypatch.setattr(C, gate, lambda *args: None)
    same(quick, CALLS[name]())


class Own(torch.Tensor):
    """Somebody's subclass, whose __torch_function__ has a say."""


def refused() -> dict[str, Call]:
    poses, areas, scores = torch.from_numpy(POSES), torch.from_numpy(AREAS), torch.from_numpy(SCORES)
    strided = torch.from_numpy(np.repeat(POSES, 2, -1))[..., ::2]

    def without_grad() -> Any:
        with torch.no_grad():
            return ops.oks(poses.clone().requires_grad_(), poses, areas, SIGMAS)

    return {
        "subclass": lambda: ops.oks(poses.as_subclass(Own), poses, areas, SIGMAS),
        "memory order": lambda: ops.oks(strided, poses, areas, SIGMAS),
        "NumPy's memory order": lambda: ops.oks(np.asfortranarray(POSES), POSES, AREAS, SIGMAS),
        "requires grad": without_grad,
        "whole numbers": lambda: ops.oks(POSES, POSES, AREAS.astype(int), SIGMAS),
        "visible numbers": lambda: ops.oks(POSES, POSES, AREAS, SIGMAS, visible=np.ones((6, 17))),
        "list of whole numbers": lambda: ops.oks(POSES, POSES, [1000] * 6, SIGMAS),
        "half": lambda: ops.oks_nms(poses, scores.half(), areas, SIGMAS, 0.5),
        "NumPy's number": lambda: ops.oks_nms(POSES, SCORES, AREAS, SIGMAS, np.float32(0.5)),
        "points in double": lambda: ops.heatmap_encode(POINTS.astype(float), np.ones((2, 17)), GAUSSIAN, SIZE),
        "visible bool": lambda: ops.heatmap_encode(POINTS, np.ones((2, 17), bool), GAUSSIAN, SIZE),
        "maps in another order": lambda: ops.heatmap_decode(MAPS.swapaxes(2, 3).copy().swapaxes(2, 3), GAUSSIAN, SIZE),
        "whole-number shift": lambda: ops.heatmap_decode(
            MAPS, GAUSSIAN, SIZE, flipped=MAPS, flip_index=COCO17.flip_index, flip_shift=1
        ),
        "loss of lists": lambda: ops.heatmap_loss(MAPS, POINTS.tolist(), None, GAUSSIAN, SIZE),
        "NumPy's whole number": lambda: ops.heatmap_loss(MAPS, POINTS, None, GAUSSIAN, SIZE, ohkm_topk=np.int64(2)),
        "index": lambda: ops.oks_nms(POSES, SCORES, AREAS, SIGMAS, image_index=np.zeros(6, np.int32)),
    }


@pytest.mark.parametrize("name", refused())
def test_everything_else_is_left_to_python(name: str, taken: list[bool]) -> None:
    assert refused()[name]() is not None
    assert taken == [False]


def test_without_the_exchange_api_tensors_go_the_other_way(taken: list[bool]) -> None:
    poses = torch.from_numpy(POSES)
    quick = ops.oks(poses, poses, AREAS, SIGMAS)
    C.use_exchange_api(False)
    try:
        same(quick, ops.oks(poses, poses, AREAS, SIGMAS))
    finally:
        C.use_exchange_api(True)
    assert taken == [EXCHANGE_API, False]


def test_a_default_device_does_not_move_the_result() -> None:
    poses = torch.from_numpy(POSES)
    with torch.device("meta"):
        result = ops.oks(poses, poses, AREAS, SIGMAS)
    assert result.device.type == "cpu"


def test_long_arguments_that_do_not_fit_the_gates_own_memory(taken: list[bool]) -> None:
    poses = np.tile(POSES, (1000, 1, 1)) + (np.arange(6000, dtype=np.float32) * 1000)[:, None, None]
    scores, areas = RNG.random(6000).astype(np.float32), np.full(6000, 1e3, np.float32)
    kept = ops.oks_nms(poses, scores, areas, SIGMAS, 0.5)
    np.testing.assert_array_equal(kept, np.argsort(-scores, kind="stable"))
    assert taken == [True]


DENSE, MAPS_ONE, ONE = torch.rand(4, 3), torch.rand(1, 1, 16, 12), torch.ones(1, 1)
SPARSE_CALLS: dict[str, Callable[[torch.Tensor], Any]] = {
    "heatmaps": lambda s: ops.heatmap_decode(s, GAUSSIAN, SIZE),
    "flipped": lambda s: ops.heatmap_decode(MAPS_ONE, GAUSSIAN, SIZE, flipped=s, flip_index=[0]),
    "inverse": lambda s: ops.heatmap_decode(MAPS_ONE, GAUSSIAN, SIZE, inverse=s.double()),
    "keypoints": lambda s: ops.heatmap_encode(s, ONE, GAUSSIAN, SIZE),
    "visible": lambda s: ops.heatmap_encode(torch.ones(1, 1, 2), s, GAUSSIAN, SIZE),
    "predicted": lambda s: ops.heatmap_loss(s, torch.ones(1, 1, 2), ONE, GAUSSIAN, SIZE),
    "weights": lambda s: ops.heatmap_loss(MAPS_ONE, torch.ones(1, 1, 2), s, GAUSSIAN, SIZE),
    "target": lambda s: ops.heatmap_loss(MAPS_ONE, None, ONE, GAUSSIAN, SIZE, target=s),
    "poses_a": lambda s: ops.oks(s, s, [1.0], [0.1]),
    "areas": lambda s: ops.oks(torch.from_numpy(POSES), torch.from_numpy(POSES), s, SIGMAS),
    "sigmas": lambda s: ops.oks(torch.from_numpy(POSES), torch.from_numpy(POSES), AREAS, s.double()),
    "poses": lambda s: ops.oks_nms(s, SCORES, AREAS, SIGMAS),
    "scores": lambda s: ops.oks_nms(torch.from_numpy(POSES), s, AREAS, SIGMAS),
}


@pytest.mark.filterwarnings("ignore:Sparse:UserWarning")
@pytest.mark.parametrize("layout", ["to_sparse", "to_sparse_csr", "to_sparse_csc"])
@pytest.mark.parametrize("name", SPARSE_CALLS)
def test_sparse_tensors_are_refused_by_name(name: str, layout: str) -> None:
    with pytest.raises(TypeError, match=rf"{name}: expected a dense tensor, got torch\.sparse"):
        SPARSE_CALLS[name](getattr(DENSE, layout)())
