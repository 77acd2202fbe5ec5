"""What a call of an op costs beside the work: each on one tiny input, against the native binding called by hand.

The binding checks everything (shapes, dtypes, devices) as it does for the op; outputs that the op allocates are
allocated before it by NumPy or torch. What is timed is `CALLS` calls.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch

from fastpose.codecs import build_codec
from fastpose.ops import affine_crop, heatmap_decode, heatmap_encode, heatmap_loss, oks, oks_nms
from fastpose.ops._codec import native_codec
from fastpose.ops._crop_options import plan as crop_options
from fastpose.ops._native import C

from .harness import Case, Thunk, bench

CALLS = 200
CODEC, SIZE = build_codec("gaussian", heatmap_size=(4, 4)), (16, 16)
NATIVE_CODEC = native_codec(CODEC, SIZE)

Call = Callable[[], Any]


@dataclass
class Tiny:
    """One pose of one keypoint, its heatmap, and outputs for all ops; all arrays or all tensors."""

    points: Any
    visible: Any
    maps: Any
    out_maps: Any
    weights: Any
    poses: Any
    scores: Any
    areas: Any
    wide_scores: Any
    wide_areas: Any
    sigmas: Any
    similarity: Any
    kept: Any
    lowered: Any
    photo: Any
    matrices: Any
    index: Any
    crops: Any
    empty: Callable[..., Any]


def tiny(framework: str) -> Tiny:
    arrays = [
        *(np.full((1, 1, 2), 6, np.float32), np.ones((1, 1), np.float32)),
        *(np.arange(16, dtype=np.float32).reshape(1, 1, 4, 4), np.zeros((1, 1, 4, 4), np.float32)),
        *(np.zeros((1, 1), np.float32), np.array([[[1, 2]], [[30, 40]]], np.float32)),
        *(np.array([0.5, 0.25], np.float32), np.array([100, 90], np.float32)),
        *(np.array([0.5, 0.25]), np.array([100.0, 90.0]), np.array([0.1]), np.zeros((2, 2), np.float32)),
        *(np.zeros(2, np.int64), np.zeros(2)),
        *(np.full((8, 8, 3), 7, np.uint8), np.array([[[1.0, 0, 0], [0, 1, 0]]]), np.zeros(1, np.int64)),
        np.zeros((1, 3, 4, 4), np.float32),
    ]
    if framework == "numpy":
        return Tiny(*arrays, empty=lambda shape, like: np.empty(shape, like.dtype))
    tensors = [torch.from_numpy(array) for array in arrays]
    return Tiny(*tensors, empty=lambda shape, like: torch.empty(shape, dtype=like.dtype, device=like.device))


def crop(d: Tiny) -> tuple[Call, Call]:
    mean, std = (1.0, 2.0, 3.0), (4.0, 5.0, 6.0)
    options = crop_options(((4, 4), mean, std, True, "constant", 0.0, False, "nchw")).native
    return (
        lambda: affine_crop(d.photo, d.matrices, size=(4, 4), mean=mean, std=std, swap_rb=True, out=d.crops),
        lambda: C.affine_crop(d.photo, d.matrices, d.index, None, None, None, options, d.crops),
    )


def encode(d: Tiny) -> tuple[Call, Call]:
    return (
        lambda: heatmap_encode(d.points, d.visible, CODEC, SIZE, out=d.out_maps, out_weights=d.weights),
        lambda: C.heatmap_encode(d.points, d.visible, None, d.out_maps, d.weights, NATIVE_CODEC),
    )


def decode(d: Tiny) -> tuple[Call, Call]:
    return (
        lambda: heatmap_decode(d.maps, CODEC, SIZE),
        lambda: C.heatmap_decode(d.maps, None, None, False, None, None, None, NATIVE_CODEC),
    )


def decode_out(d: Tiny) -> tuple[Call, Call]:
    points, scores = d.empty((1, 1, 2), d.maps), d.empty((1, 1), d.maps)
    return (
        lambda: heatmap_decode(d.maps, CODEC, SIZE, out=points, out_scores=scores),
        lambda: C.heatmap_decode(d.maps, None, None, False, None, points, scores, NATIVE_CODEC),
    )


def loss(d: Tiny) -> tuple[Call, Call]:
    return (
        lambda: heatmap_loss(d.maps, d.points, d.visible, CODEC, SIZE),
        lambda: C.heatmap_loss(d.maps, d.points, d.visible, None, None, False, NATIVE_CODEC)[0],
    )


class _Gradient(torch.autograd.Function):
    """The least that an op with a gradient has to do for autograd."""

    @staticmethod
    def forward(ctx: Any, _: torch.Tensor, made: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        ctx.save_for_backward(made[1])
        return made[0]


def loss_and_gradient(d: Tiny) -> tuple[Call, Call]:
    """Forward only, where the gradient is made; what backward() costs is torch's."""
    predicted = d.maps.clone().requires_grad_()

    def by_hand() -> Any:
        made = C.heatmap_loss(d.maps, d.points, d.visible, None, None, True, NATIVE_CODEC)
        return _Gradient.apply(predicted, made).detach()

    return lambda: heatmap_loss(predicted, d.points, d.visible, CODEC, SIZE).detach(), by_hand


def similarity(d: Tiny) -> tuple[Call, Call]:
    """float32 areas; the binding gets them in double."""
    return (
        lambda: oks(d.poses, d.poses, d.areas, d.sigmas, out=d.similarity),
        lambda: C.oks(d.poses, d.poses, d.wide_areas, d.sigmas, None, None, d.similarity),
    )


def suppression(d: Tiny) -> tuple[Call, Call]:
    """float32 scores and areas; the binding gets them in double."""
    rest = (0.9, None, False, None, True, None, d.lowered)
    return (
        lambda: oks_nms(d.poses, d.scores, d.areas, d.sigmas),
        lambda: C.oks_nms(d.poses, d.wide_scores, d.wide_areas, d.sigmas, *rest)[0],
    )


def check(ours: Any, theirs: Any) -> None:
    """The same bits."""
    for a, b in zip(*((x if isinstance(x, tuple) else (x,)) for x in (ours, theirs)), strict=True):
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b))


def _many(call: Call, of: Call | None = None) -> Thunk:
    """`CALLS` calls; a binding that gives nothing back has filled the outputs of the op ``of``."""
    filled = of() if of else None

    def run() -> Any:
        for _ in range(CALLS):
            result = call()
        return filled if result is None else result

    return run


def _case(name: str, framework: str, make: Callable[[Tiny], tuple[Call, Call]]) -> Case:
    def contender(which: int, data: Tiny) -> Thunk:
        op, by_hand = make(data)
        return _many(op) if which == 0 else _many(by_hand, op)

    return Case(
        f"overhead {name}, {framework}",
        partial(tiny, framework),
        {"fastpose": partial(contender, 0), "binding": partial(contender, 1)},
        check,
        calls=CALLS,
        conditions=((1, "warm"),),
    )


CASES = [
    *(
        _case(name, framework, make)
        for framework in ("numpy", "torch")
        for name, make in (
            ("affine_crop(out=)", crop),
            ("heatmap_encode(out=)", encode),
            ("heatmap_decode(out=)", decode_out),
            ("heatmap_decode", decode),
            ("heatmap_loss", loss),
            ("oks(out=)", similarity),
            ("oks_nms", suppression),
        )
    ),
    _case("heatmap_loss with its gradient", "torch", loss_and_gradient),
]

test_overhead = bench(CASES)
