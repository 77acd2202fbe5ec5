"""Suppression of poses that describe the same person: one crowded image, and a hundred ordinary ones."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from fastpose.ops import oks_nms, reference

from . import peers
from .data import People, people
from .harness import Case, Goal, Thunk, at_level, bench

THRESHOLD = 0.9


def fastpose(data: People) -> Thunk:
    index = data.image_index if data.image_index[-1] else None
    return lambda: oks_nms(data.poses, data.scores, data.areas, data.sigmas, THRESHOLD, image_index=index)


def _images(data: People) -> list[Any]:
    return np.split(np.arange(len(data.poses)), np.flatnonzero(np.diff(data.image_index)) + 1)


def mmpose(data: People) -> Thunk:
    """oks_nms an image."""
    nms = peers.mmpose("mmpose.evaluation.functional.nms").oks_nms
    images = _images(data)
    records = [
        [{"score": data.scores[i], "keypoints": data.poses[i], "area": data.areas[i]} for i in image]
        for image in images
    ]

    def run() -> Any:
        return np.concatenate([image[nms(r, THRESHOLD, data.sigmas)] for image, r in zip(images, records, strict=True)])

    return run


def numpy(data: People) -> Thunk:
    """The usual greedy loop: the best against all that are left, vectorised."""
    variance = 2 * (2 * data.sigmas) ** 2
    images = _images(data)

    def one(image: Any) -> Any:
        points, areas = data.poses[image, :, :2], data.areas[image]
        order, kept = np.argsort(-data.scores[image], kind="stable"), []
        while order.size:
            best, rest = order[0], order[1:]
            kept.append(best)
            offset = points[rest] - points[best]
            area = (areas[best] + areas[rest]) / 2
            similarity = np.exp(-(offset * offset).sum(-1) / (variance * area[:, None])).mean(1)
            order = rest[similarity <= THRESHOLD]
        return image[kept]

    return lambda: np.concatenate([one(image) for image in images])


def torch_reference(data: People) -> Thunk:
    poses, scores, areas, sigmas, index = data.tensors()
    return lambda: reference.oks_nms(poses, scores, areas, sigmas, THRESHOLD, image_index=index).numpy()


def check(ours: Any, theirs: Any) -> None:
    """The same poses are kept (the order between images is free)."""
    assert np.array_equal(np.sort(ours), np.sort(theirs)), f"{len(ours)} poses kept against {len(theirs)}"


CASES = [
    Case(
        f"oks_nms {name}",
        partial(people, *counts),
        {
            "fastpose": fastpose,
            "fastpose (avx2)": at_level("avx2", fastpose),
            "fastpose (sse2)": at_level("sse2", fastpose),
            "mmpose": mmpose,
            "numpy": numpy,
            # Not for many images, where it takes seconds: it compares every pose with every other of the call.
            **({"torch": torch_reference} if counts[0] == 1 else {}),
        },
        check,
        goals=goals,
        one_thread=frozenset({"fastpose (avx2)", "fastpose (sse2)", "mmpose", "numpy", "torch"}),
    )
    for name, counts, goals in (
        ("200 poses of 40 people", (1, 40, 5), (Goal("numpy", 70),)),
        ("200 people", (1, 200, 1), (Goal("numpy", 70),)),
        ("100 images × 20 poses", (100, 10, 2), ()),
    )
]

test_oks_nms = bench(CASES)
