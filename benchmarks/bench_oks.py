"""OKS of every pose with every other: 200 × 200, 17 keypoints."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from fastpose.ops import oks, reference

from . import peers
from .data import People, people
from .harness import Case, Thunk, at_level, bench, compiled


def fastpose(data: People) -> Thunk:
    out = np.empty((len(data.poses),) * 2, np.float32)
    return lambda: oks(data.poses, data.poses, data.areas, data.sigmas, areas_b=data.areas, out=out)


def mmpose(data: People) -> Thunk:
    """oks_iou, one row a call."""
    oks_iou = peers.mmpose("mmpose.evaluation.functional.nms").oks_iou
    flat = data.poses.reshape(len(data.poses), -1)
    rows = list(zip(flat, data.areas, strict=True))
    return lambda: np.stack([oks_iou(pose, flat, area, data.areas, data.sigmas) for pose, area in rows])


def numpy(data: People) -> Thunk:
    variance = (2 * (2 * data.sigmas) ** 2).astype(np.float32)

    def run() -> Any:
        points = data.poses[..., :2]
        offset = points[:, None] - points[None]
        area = (data.areas[:, None] + data.areas) / 2
        exponent = (offset * offset).sum(-1) / (variance * area[..., None])
        return np.exp(-exponent).mean(-1)

    return run


def torch_reference(data: People) -> Thunk:
    poses, _, areas, sigmas, _ = data.tensors()
    return lambda: reference.oks(poses, poses, areas, sigmas, areas_b=areas)


def torch_compile(data: People) -> Thunk:
    poses, _, areas, sigmas, _ = data.tensors()
    run = compiled(lambda p, a, s: reference.oks(p, p, a, s, areas_b=a))
    return lambda: run(poses, areas, sigmas)


def check(ours: Any, theirs: Any) -> None:
    """Within 1e-5."""
    worst = float(np.abs(np.asarray(ours) - np.asarray(theirs)).max())
    assert worst <= 1e-5, f"it differs by {worst:.2e}"


CASES = [
    Case(
        "oks 200×200",
        partial(people, 1, 40, 5),
        {
            "fastpose": fastpose,
            "fastpose (avx2)": at_level("avx2", fastpose),
            "fastpose (sse2)": at_level("sse2", fastpose),
            "mmpose": mmpose,
            "numpy": numpy,
            "torch": torch_reference,
            "torch.compile": torch_compile,
        },
        check,
        one_thread=frozenset({"fastpose (avx2)", "fastpose (sse2)", "mmpose", "numpy", "torch.compile"}),
    )
]

test_oks = bench(CASES)
