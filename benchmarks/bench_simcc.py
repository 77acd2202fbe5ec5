"""Coordinate vectors of a batch of 64 × 17 keypoints: labels, keypoints, and the loss with its gradient."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fastpose.codecs import SimCC
from fastpose.ops import reference, simcc_decode, simcc_encode, simcc_loss

from . import peers
from .data import BATCH, KEYPOINTS, Array
from .harness import Case, Goal, Thunk, at_level, bench

SIZES = (((256, 192), (4.9, 5.66)), ((384, 288), (6.0, 6.93)))
"""Input (height, width), and the sigmas with which RTMPose is trained at it."""
LOSS = {"beta": 10.0, "label_softmax": True}
ONE_THREAD = frozenset({"fastpose (avx2)", "fastpose (sse2)", "mmpose", "torch"})


@dataclass
class Vectors:
    """Keypoints with noise around them, as RTMPose predicts them.

    Attributes:
        codec: RTMPose's.
        size: (height, width) of the input.
        keypoints: float32 [64,17,2].
        visible: float32 [64,17].
        x, y: float32 [64,17,Wx], [64,17,Wy].
        labels, weights, points, scores, seen: Outputs to fill.
    """

    codec: SimCC
    size: tuple[int, int]
    keypoints: Array
    visible: Array
    x: Array
    y: Array
    labels: tuple[Array, Array]
    weights: Array
    points: Array
    scores: Array
    seen: Array

    def bytes(self) -> int:
        """Of the two vectors."""
        return self.x.nbytes + self.y.nbytes


def vectors(size: tuple[int, int], sigma: tuple[float, float], dark: bool, visibility: bool) -> Vectors:
    rng = np.random.default_rng(0)
    codec = SimCC(sigma=sigma, normalized=False, dark=dark, visibility=visibility)
    keypoints = rng.uniform(0, 1, (BATCH, KEYPOINTS, 2)).astype(np.float32) * np.float32([size[1] - 1, size[0] - 1])
    visible = np.ones((BATCH, KEYPOINTS), np.float32)
    x, y, weights = simcc_encode(keypoints, visible, codec, size)
    noisy = [part + rng.normal(0, 0.03, part.shape).astype(np.float32) for part in (x, y)]
    points, seen = np.zeros_like(keypoints), np.zeros_like(weights)
    return Vectors(codec, size, keypoints, visible, *noisy, (x, y), weights, points, np.zeros_like(weights), seen)


def _mmpose_codec(data: Vectors) -> Any:
    return peers.mmpose("mmpose.codecs").SimCCLabel(
        input_size=data.size[::-1],
        sigma=data.codec.sigma,
        simcc_split_ratio=2.0,
        normalize=False,
        use_dark=data.codec.dark,
        decode_visibility=data.codec.visibility,
    )


# --- labels
def encode(data: Vectors) -> Thunk:
    made = {"out": data.labels, "out_weights": data.weights}
    return lambda: simcc_encode(data.keypoints, data.visible, data.codec, data.size, **made)


def encode_fresh(data: Vectors) -> Thunk:
    return lambda: simcc_encode(data.keypoints, data.visible, data.codec, data.size)


def encode_mmpose(data: Vectors) -> Thunk:
    """codec.encode a pose; collating the poses is not counted."""
    codec = _mmpose_codec(data)
    keypoints, visible = data.keypoints[:, None], data.visible[:, None]

    def run() -> Any:
        encoded = [codec.encode(keypoints[b], visible[b]) for b in range(len(keypoints))]
        names = ("keypoint_x_labels", "keypoint_y_labels", "keypoint_weights")
        return tuple(np.stack([each[name][0] for each in encoded]) for name in names)

    return run


def encode_torch(data: Vectors) -> Thunk:
    points, visible = torch.from_numpy(data.keypoints), torch.from_numpy(data.visible)
    return lambda: reference.simcc_encode(points, visible, data.codec, data.size)


# --- keypoints
def decode(data: Vectors) -> Thunk:
    made = {"out": data.points, "out_scores": data.scores}
    if data.codec.visibility:
        made["out_visibility"] = data.seen
    return lambda: _told(simcc_decode(data.x, data.y, data.codec, data.size, **made))


def decode_fresh(data: Vectors) -> Thunk:
    return lambda: _told(simcc_decode(data.x, data.y, data.codec, data.size))


def _told(result: tuple[Any, Any, Any]) -> tuple[Any, ...]:
    return result[:2] if result[2] is None else result


def decode_mmpose(data: Vectors) -> Thunk:
    """codec.decode a pose, as its heads do."""
    codec = _mmpose_codec(data)

    def run() -> Any:
        kept = (data.x.copy(), data.y.copy()) if data.codec.dark else (data.x, data.y)  # DARK's blur overwrites them
        decoded = [codec.decode(x[None], y[None]) for x, y in zip(*kept, strict=True)]
        told = [scores if data.codec.visibility else (scores,) for _, scores in decoded]
        points = np.concatenate([points for points, _ in decoded])
        return points, *(np.concatenate(part) for part in zip(*told, strict=True))

    return run


def decode_torch(data: Vectors) -> Thunk:
    x, y = torch.from_numpy(data.x), torch.from_numpy(data.y)
    return lambda: _told(reference.simcc_decode(x, y, data.codec, data.size))


# --- the loss, from keypoints: labels belong to the work
def _with_gradient(data: Vectors, loss: Callable[[Tensor, Tensor], Tensor]) -> Thunk:
    x, y = (torch.from_numpy(part).requires_grad_() for part in (data.x, data.y))

    def run() -> Any:
        x.grad = y.grad = None
        value = loss(x, y)
        value.backward()
        return value.detach(), x.grad, y.grad

    return run


def loss(data: Vectors) -> Thunk:
    points, weights = torch.from_numpy(data.keypoints), torch.from_numpy(data.visible)
    return _with_gradient(data, lambda x, y: simcc_loss((x, y), points, weights, data.codec, data.size, **LOSS))


def loss_mmpose(data: Vectors) -> Thunk:
    """codec.encode a pose, stack, KLDiscretLoss, backward."""
    make = encode_mmpose(data)
    compare = peers.mmpose("mmpose.models.losses").KLDiscretLoss(use_target_weight=True, **LOSS)

    def run(x: Tensor, y: Tensor) -> Any:
        label_x, label_y, weights = (torch.from_numpy(part) for part in make())
        return compare((x, y), (label_x, label_y), weights)

    return _with_gradient(data, run)


def loss_torch(data: Vectors) -> Thunk:
    points, weights = torch.from_numpy(data.keypoints), torch.from_numpy(data.visible)
    return _with_gradient(
        data, lambda x, y: reference.simcc_loss((x, y), points, weights, data.codec, data.size, **LOSS)
    )


def check(ours: Any, theirs: Any) -> None:
    """The same within rounding."""
    for a, b in zip(ours, theirs, strict=True):
        a, b = np.asarray(a), np.asarray(b)
        worst, most = float(np.abs(a - b).max()), float(np.abs(b).max())
        assert worst <= 1e-5 + 1e-4 * most, f"they differ by {worst:.2e} of {most:.2e}"


def check_dark(ours: Any, theirs: Any) -> None:
    """Where the logarithms are almost straight, their rounding decides: all but a few keypoints within 0.01 pixels."""
    check(ours[1:], theirs[1:])
    apart = np.abs(np.asarray(ours[0]) - np.asarray(theirs[0]))
    near = float((apart < 0.01).mean())
    assert near > 0.99, f"{near:.4f} of the coordinates lie within 0.01 pixels"


def _case(
    name: str,
    index: int,
    contenders: dict[str, Callable[[Vectors], Thunk]],
    moved: Callable[[Vectors], int],
    ratio: float,
    *,
    dark: bool = False,
    visibility: bool = False,
) -> Case:
    size, sigma = SIZES[index]
    ours = contenders["fastpose"]
    return Case(
        f"{name} {BATCH}×{KEYPOINTS}×{size[1] * 2}+{size[0] * 2}",
        partial(vectors, size, sigma, dark, visibility),
        {**contenders, "fastpose (avx2)": at_level("avx2", ours), "fastpose (sse2)": at_level("sse2", ours)},
        check_dark if dark else check,
        moved,
        (Goal("mmpose", ratio),),
        one_thread=ONE_THREAD,
    )


ENCODE = {"fastpose": encode, "fastpose (fresh output)": encode_fresh, "mmpose": encode_mmpose, "torch": encode_torch}
DECODE = {"fastpose": decode, "fastpose (fresh output)": decode_fresh, "mmpose": decode_mmpose, "torch": decode_torch}
LOSSES = {"fastpose": loss, "mmpose": loss_mmpose, "torch": loss_torch}
CASES = [
    case
    for index in range(len(SIZES))
    for case in (
        _case("simcc_encode", index, ENCODE, Vectors.bytes, 20),
        _case("simcc_decode", index, DECODE, Vectors.bytes, 15),
        _case("simcc_decode dark", index, DECODE, Vectors.bytes, 15, dark=True),
        _case("simcc_decode visibility", index, DECODE, Vectors.bytes, 15, visibility=True),
        _case("simcc_loss", index, LOSSES, lambda data: 2 * data.bytes(), 10),
    )
]

test_simcc = bench(CASES)
