"""Mean squared error of a batch of 64 × 17 heatmaps, with its gradient."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from fastpose.ops import heatmap_encode, heatmap_loss, reference

from . import bench_heatmap_encode as encoders
from . import peers
from .data import SIZES, Poses, poses, size_name
from .harness import Case, Goal, Thunk, at_level, bench, compiled

Loss = Callable[[torch.Tensor], torch.Tensor]


def _with_gradient(data: Poses, loss: Loss) -> Thunk:
    """Loss and gradient, which is made afresh as in training."""
    predicted = torch.from_numpy(data.predicted).requires_grad_()

    def run() -> Any:
        predicted.grad = None
        value = loss(predicted)
        value.backward()
        return value.detach(), predicted.grad

    return run


def _truth(data: Poses) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.from_numpy(data.keypoints), torch.from_numpy(data.visible)


def _target(data: Poses) -> torch.Tensor:
    return torch.from_numpy(heatmap_encode(data.keypoints, data.visible, data.codec, data.size)[0])


def _weighted(predicted: torch.Tensor, target: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    return (F.mse_loss(predicted, target, reduction="none") * weights[..., None, None]).mean()


# From keypoints: the target belongs to the work.
def fastpose(data: Poses) -> Thunk:
    keypoints, weights = _truth(data)
    return _with_gradient(data, lambda p: heatmap_loss(p, keypoints, weights, data.codec, data.size))


def mmpose(data: Poses) -> Thunk:
    """codec.encode a pose, stack, KeypointMSELoss, backward."""
    encode = encoders.mmpose(data)
    loss = peers.mmpose("mmpose.models.losses").KeypointMSELoss(use_target_weight=True)

    def run(predicted: torch.Tensor) -> torch.Tensor:
        maps, weights = (torch.from_numpy(np.stack(part)) for part in encode())
        return loss(predicted, maps, weights)

    return _with_gradient(data, run)


def numpy_torch(data: Poses) -> Thunk:
    """Targets by vectorised NumPy into memory that is there, the loss by torch."""
    encode = encoders.numpy_encode(data)

    def run(predicted: torch.Tensor) -> torch.Tensor:
        maps, weights = (torch.from_numpy(part) for part in encode())
        return _weighted(predicted, maps, weights)

    return _with_gradient(data, run)


def torch_reference(data: Poses) -> Thunk:
    keypoints, weights = _truth(data)
    return _with_gradient(data, lambda p: reference.heatmap_loss(p, keypoints, weights, data.codec, data.size))


def torch_compile(data: Poses) -> Thunk:
    keypoints, weights = _truth(data)
    loss = compiled(lambda p, k, w: reference.heatmap_loss(p, k, w, data.codec, data.size))
    return _with_gradient(data, lambda p: loss(p, keypoints, weights))


# With the target given.
def fastpose_given(data: Poses) -> Thunk:
    target, (_, weights) = _target(data), _truth(data)
    return _with_gradient(data, lambda p: heatmap_loss(p, None, weights, data.codec, data.size, target=target))


def mmpose_given(data: Poses) -> Thunk:
    target, (_, weights) = _target(data), _truth(data)
    loss = peers.mmpose("mmpose.models.losses").KeypointMSELoss(use_target_weight=True)
    return _with_gradient(data, lambda p: loss(p, target, weights))


def torch_given(data: Poses) -> Thunk:
    target, (_, weights) = _target(data), _truth(data)
    return _with_gradient(data, lambda p: _weighted(p, target, weights))


def torch_given_unweighted(data: Poses) -> Thunk:
    """Without weights, which is less work: the same value only because all weights are 1 here."""
    target = _target(data)
    return _with_gradient(data, lambda p: F.mse_loss(p, target))


def torch_given_compile(data: Poses) -> Thunk:
    target, (_, weights) = _target(data), _truth(data)
    loss = compiled(_weighted)
    return _with_gradient(data, lambda p: loss(p, target, weights))


def check(ours: Any, theirs: Any) -> None:
    """Loss and gradient within 1e-5 of their size (the order of float32 additions)."""
    for name, a, b in zip(("loss", "gradient"), ours, theirs, strict=True):
        worst = float((a - b).abs().max() / a.abs().max())
        assert worst <= 1e-5, f"{name} differs by {worst:.2e} of its size"


CASES = []
for _size in SIZES:
    _from_keypoints = {
        "fastpose": fastpose,
        "fastpose (avx2)": at_level("avx2", fastpose),
        "fastpose (sse2)": at_level("sse2", fastpose),
        "mmpose": mmpose,
        "numpy + torch": numpy_torch,
        "torch": torch_reference,
    }
    _given = {
        "fastpose": fastpose_given,
        "fastpose (avx2)": at_level("avx2", fastpose_given),
        "fastpose (sse2)": at_level("sse2", fastpose_given),
        "mmpose": mmpose_given,
        "torch": torch_given,
        "torch (no weights)": torch_given_unweighted,
    }
    if _size == SIZES[0]:
        _from_keypoints["torch.compile"] = torch_compile
        _given["torch.compile"] = torch_given_compile
    _one_thread = frozenset({"fastpose (avx2)", "fastpose (sse2)", "torch.compile"})
    CASES += [
        Case(
            f"heatmap_loss {size_name(_size)}",
            partial(poses, "gaussian", _size),
            _from_keypoints,
            check,
            lambda data: 2 * data.map_bytes,  # predicted read, gradient written
            (Goal("mmpose", 18),),
            _one_thread,
        ),
        Case(
            f"heatmap_loss given target {size_name(_size)}",
            partial(poses, "gaussian", _size),
            _given,
            check,
            lambda data: 3 * data.map_bytes,
            (Goal("mmpose", 8),),
            _one_thread,
        ),
    ]

test_heatmap_loss = bench(CASES)
