"""Keypoints out of a batch of 64 × 17 heatmaps."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import torch

from fastpose.ops import heatmap_decode, reference

from .bench_heatmap_encode import ONE_THREAD, mmpose_codec
from .data import SIZES, Poses, poses, size_name
from .harness import Case, Goal, Thunk, at_level, bench, compiled
from .peers import numpy_quarter


def fastpose(data: Poses) -> Thunk:
    return lambda: heatmap_decode(data.predicted, data.codec, data.size, out=data.points, out_scores=data.scores)


def fastpose_fresh(data: Poses) -> Thunk:
    return lambda: heatmap_decode(data.predicted, data.codec, data.size)


def mmpose(data: Poses) -> Thunk:
    codec = mmpose_codec(data)

    def run() -> Any:
        decoded = [codec.decode(maps) for maps in data.predicted]
        return [keypoints[0] for keypoints, _ in decoded], [scores[0] for _, scores in decoded]

    return run


def numpy(data: Poses) -> Thunk:
    h, w = data.predicted.shape[2:]
    scale = np.array([data.size[1] / w, data.size[0] / h], np.float32)

    def run() -> Any:
        points, scores = numpy_quarter(data.predicted)
        return points * scale, scores

    return run


def torch_reference(data: Poses) -> Thunk:
    maps = torch.from_numpy(data.predicted)
    return lambda: reference.heatmap_decode(maps, data.codec, data.size)


def torch_compile(data: Poses) -> Thunk:
    maps = torch.from_numpy(data.predicted)
    decode = compiled(lambda m: reference.heatmap_decode(m, data.codec, data.size))
    return lambda: decode(maps)


def check(ours: Any, theirs: Any) -> None:
    """Keypoints within 0.05 px of the input (float32 logarithms of a blurred map), scores within 1e-6."""
    for name, a, b, limit in zip(("keypoints", "scores"), ours, theirs, (0.05, 1e-6), strict=True):
        worst = float(np.abs(np.asarray(a) - np.stack([np.asarray(x) for x in b])).max())
        assert worst <= limit, f"{name} differ by {worst:.2e}"


_GOALS: dict[str, tuple[Goal, ...]] = {
    "gaussian": (Goal("mmpose", 9), Goal("numpy", 1.5)),
    "dark": (Goal("mmpose", 40),),
    "udp": (),
}


def _case(kind: str, size: tuple[int, int]) -> Case:
    contenders = {
        "fastpose": fastpose,
        "fastpose (fresh output)": fastpose_fresh,
        "fastpose (avx2)": at_level("avx2", fastpose),
        "fastpose (sse2)": at_level("sse2", fastpose),
        "mmpose": mmpose,
    }
    if kind == "gaussian":
        contenders["numpy"] = numpy
    if kind == "gaussian" or size == SIZES[0]:  # with a blur it takes seconds, being written for exactness
        contenders["torch"] = torch_reference
    if kind == "gaussian" and size == SIZES[0]:
        contenders["torch.compile"] = torch_compile
    return Case(
        f"heatmap_decode {kind} {size_name(size)}",
        partial(poses, kind, size),
        contenders,
        check,
        lambda data: data.map_bytes,
        _GOALS[kind],
        one_thread=ONE_THREAD if kind == "gaussian" else ONE_THREAD | {"torch"},
    )


KINDS: tuple[str, ...] = ("gaussian", "dark", "udp")
CASES = [_case(kind, size) for size in SIZES for kind in KINDS]

test_heatmap_decode = bench(CASES)
