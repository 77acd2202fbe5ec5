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

from fastpose.ops import affine_crop, heatmap_decode, heatmap_encode, heatmap_loss, oks, oks_nms
from fastpose.ops._codec import codec_values
from fastpose.ops._crop_options import plan as crop_options
from fastpose.ops._native import C
from fastpose.spec import CodecSpec

from .harness import Case, Thunk, bench

CALLS = 200
CODEC, SIZE = CodecSpec("gaussian", (4, 4)), (16, 16)
CODEC_VALUES = codec_values(CODEC, SIZE)

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
    count: Any
    space: Any
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
        *(np.zeros(2, np.int64), np.zeros(2), np.zeros(1, np.int64), np.zeros((2, 1, 1))),
        *(np.full((8, 8, 3), 7, np.uint8), np.array([[[1.0, 0, 0], [0, 1, 0]]]), np.zeros(1, np.int64)),
        np.zeros((1, 3, 4, 4), np.float32),
    ]
    if framework == "numpy":
        return Tiny(*arrays, empty=lambda shape, like: np.empty(shape, like.dtype))
    tensors = [torch.from_numpy(array) for array in arrays]
    return Tiny(*tensors, empty=lambda shape, like: torch.empty(shape, dtype=like.dtype, device=like.device))


def crop(d: Tiny) -> tuple[Call, Call]:
    mean, std = (1.0, 2.0, 3.0), (4.0, 5.0, 6.0)
    _, options, nhwc = crop_options(((4, 4), mean, std, True, "constant", 0.0, False, "nchw"))
    return (
        lambda: affine_crop(d.photo, d.matrices, size=(4, 4), mean=mean, std=std, swap_rb=True, out=d.crops),
        lambda: C.affine_crop(d.photo, d.matrices, d.index, d.crops, *options, None, None, None, nhwc, 0),
    )


def encode(d: Tiny) -> tuple[Call, Call]:
    return (
        lambda: heatmap_encode(d.points, d.visible, CODEC, SIZE, out=d.out_maps, out_weights=d.weights),
        lambda: C.heatmap_encode(d.points, d.visible, None, d.out_maps, d.weights, CODEC_VALUES, 0),
    )


def decode(d: Tiny) -> tuple[Call, Call]:
    def by_hand() -> Any:
        points, scores = d.empty((1, 1, 2), d.maps), d.empty((1, 1), d.maps)
        C.heatmap_decode(d.maps, None, None, False, None, points, scores, CODEC_VALUES, 0)
        return points, scores

    return lambda: heatmap_decode(d.maps, CODEC, SIZE), by_hand


def decode_out(d: Tiny) -> tuple[Call, Call]:
    points, scores = d.empty((1, 1, 2), d.maps), d.empty((1, 1), d.maps)
    return (
        lambda: heatmap_decode(d.maps, CODEC, SIZE, out=points, out_scores=scores),
        lambda: C.heatmap_decode(d.maps, None, None, False, None, points, scores, CODEC_VALUES, 0),
    )


def loss(d: Tiny) -> tuple[Call, Call]:
    def by_hand() -> Any:
        out = d.empty((), d.maps)
        C.heatmap_loss(d.maps, d.points, d.visible, None, 0, out, None, d.space, CODEC_VALUES, 0)
        return out

    return lambda: heatmap_loss(d.maps, d.points, d.visible, CODEC, SIZE), by_hand


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
        out, gradient = d.empty((), d.maps), d.empty((1, 1, 4, 4), d.maps)
        C.heatmap_loss(d.maps, d.points, d.visible, None, 0, out, gradient, d.space, CODEC_VALUES, 0)
        return _Gradient.apply(predicted, (out, gradient)).detach()

    return lambda: heatmap_loss(predicted, d.points, d.visible, CODEC, SIZE).detach(), by_hand


def similarity(d: Tiny) -> tuple[Call, Call]:
    """float32 areas; the binding gets them in double."""
    return (
        lambda: oks(d.poses, d.poses, d.areas, d.sigmas, out=d.similarity),
        lambda: C.oks(d.poses, d.poses, d.wide_areas, d.sigmas, None, None, d.similarity, 0),
    )


def suppression(d: Tiny) -> tuple[Call, Call]:
    """float32 scores and areas; the binding gets them in double."""
    rest = (None, 0.9, False, 1 << 62)

    def by_hand() -> Any:
        kept = d.empty((2,), d.kept)
        C.oks_nms(d.poses, d.wide_scores, d.wide_areas, d.sigmas, *rest, kept, d.lowered, d.count, None, 0)
        return kept

    return lambda: oks_nms(d.poses, d.scores, d.areas, d.sigmas), by_hand


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
