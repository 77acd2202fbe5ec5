"""Suppression of a detector's boxes: one crowded photo, 64 photos in one call, and soft."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import torch

from fastpose.ops import box_nms, reference

from . import peers
from .data import Boxes, detections
from .harness import Case, Goal, Thunk, at_level, bench

THRESHOLD = 0.6


def fastpose(data: Boxes) -> Thunk:
    return lambda: box_nms(data.boxes, data.scores, None, data.image_index, THRESHOLD)


def fastpose_soft(data: Boxes) -> Thunk:
    return lambda: box_nms(data.boxes, data.scores, None, data.image_index, method="gaussian", min_score=0.01)[0]


def torchvision(data: Boxes) -> Thunk:
    """batched_nms, with the photos as its categories."""
    batched_nms = peers.module("torchvision.ops").batched_nms
    boxes, scores, index = data.tensors()
    return lambda: batched_nms(boxes, scores, index, THRESHOLD).numpy()


def numpy(data: Boxes) -> Thunk:
    """The usual greedy loop a photo: the best against all that are left, vectorised."""
    images = np.split(np.arange(len(data.boxes)), np.flatnonzero(np.diff(data.image_index)) + 1)

    def one(image: Any) -> Any:
        boxes = data.boxes[image]
        areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
        order, kept = np.argsort(-data.scores[image], kind="stable"), []
        while order.size:
            best, rest = order[0], order[1:]
            kept.append(best)
            sides = np.minimum(boxes[best, 2:], boxes[rest, 2:]) - np.maximum(boxes[best, :2], boxes[rest, :2])
            shared = np.maximum(sides, 0).prod(-1)
            order = rest[shared / (areas[best] + areas[rest] - shared) <= THRESHOLD]
        return image[kept]

    return lambda: np.concatenate([one(image) for image in images])


def torch_by_photo(data: Boxes) -> Thunk:
    """What is written where torchvision is not at hand: all overlaps of a photo at once, then row by row."""
    everything = data.tensors()
    photos = [(index, *(x[index] for x in everything[:2])) for index in _indices(everything[2])]

    def one(index: torch.Tensor, boxes: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        order = scores.argsort(descending=True, stable=True)
        boxes = boxes[order]
        sides = torch.minimum(boxes[:, None, 2:], boxes[:, 2:]) - torch.maximum(boxes[:, None, :2], boxes[:, :2])
        shared = sides.clamp(min=0).prod(-1)
        areas = (boxes[:, 2:] - boxes[:, :2]).prod(-1)
        near = (shared / (areas[:, None] + areas - shared) > THRESHOLD).triu(1)
        gone = torch.zeros(len(boxes), dtype=torch.bool)
        for row in range(len(boxes)):
            if not gone[row]:
                gone |= near[row]
        return index[order[~gone]]

    return lambda: torch.cat([one(*photo) for photo in photos]).numpy()


def _indices(image_index: torch.Tensor) -> list[torch.Tensor]:
    return [torch.where(image_index == image)[0] for image in image_index.unique()]


def torch_soft(data: Boxes) -> Thunk:
    everything = data.tensors()

    def run() -> Any:
        result = reference.box_nms(*everything[:2], None, everything[2], method="gaussian", min_score=0.01)
        return result[0].numpy()

    return run


def check(ours: Any, theirs: Any) -> None:
    """The same boxes are kept (the order between photos is free)."""
    assert np.array_equal(np.sort(ours), np.sort(theirs)), f"{len(ours)} boxes kept against {len(theirs)}"


ALONE = frozenset({"fastpose (avx2)", "fastpose (sse2)", "torchvision", "numpy", "torch"})
CASES = [
    *(
        Case(
            f"box_nms {name}",
            partial(detections, *counts),
            {
                "fastpose": fastpose,
                "fastpose (avx2)": at_level("avx2", fastpose),
                "fastpose (sse2)": at_level("sse2", fastpose),
                "torchvision": torchvision,
                "numpy": numpy,
                "torch": torch_by_photo,
            },
            check,
            goals=(Goal("torchvision", 5),),
            one_thread=ALONE,
        )
        for name, counts in (("2,000 boxes of 64 photos", (64, 2000)), ("1,000 boxes of one photo", (1, 1000)))
    ),
    Case(
        "box_nms gaussian, 300 boxes of one photo",
        partial(detections, 1, 300),
        {"fastpose": fastpose_soft, "torch": torch_soft},
        check,
        one_thread=ALONE,
    ),
]

test_box_nms = bench(CASES)
