"""Inputs of the benchmarks: seeded, and shaped like what a pose estimator meets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch

from fastpose.codecs import Codec, build_codec
from fastpose.geometry import box_to_center_scale, crop_matrices
from fastpose.skeletons import COCO17

Array = np.ndarray[Any, Any]

MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
BATCH, KEYPOINTS = 64, COCO17.num_keypoints
SIZES = ((64, 48), (96, 72))
"""Heatmaps (height, width); the network's input is four times as large."""


def input_size(heatmap_size: tuple[int, int]) -> tuple[int, int]:
    return heatmap_size[0] * 4, heatmap_size[1] * 4


def codec(kind: str, heatmap_size: tuple[int, int]) -> Codec:
    return build_codec(kind, heatmap_size=heatmap_size)


def size_name(heatmap_size: tuple[int, int]) -> str:
    return f"{BATCH}×{KEYPOINTS}×{heatmap_size[0]}×{heatmap_size[1]}"


@dataclass
class Crops:
    """64 people of 8 photos.

    Attributes:
        photos: uint8 BGR [480,640,3] each.
        boxes: [64,4] xyxy.
        index: [64] photo of each person.
        center, scale: [64,2] of the padded boxes.
        matrices: [64,2,3].
        size: (height, width) of a crop.
        out: [64,3,h,w] float32, shared by all that can fill a given output.
    """

    photos: list[Array]
    boxes: Array
    index: Array
    center: Array
    scale: Array
    matrices: Array
    size: tuple[int, int]
    out: Array

    def moved(self) -> int:
        """Bytes: the pixels of the photos that any crop shows, read; the crops, written."""
        seen = 0
        for i, photo in enumerate(self.photos):
            mask = np.zeros(photo.shape[:2], np.uint8)
            for (x, y), (w, h) in zip(self.center[self.index == i], self.scale[self.index == i], strict=True):
                corner, opposite = (round(x - w / 2), round(y - h / 2)), (round(x + w / 2), round(y + h / 2))
                cv2.rectangle(mask, corner, opposite, 1, thickness=-1)
            seen += int(np.count_nonzero(mask))
        return 3 * seen + self.out.nbytes


def crops(size: tuple[int, int]) -> Crops:
    rng = np.random.default_rng(0)
    # Smooth enough that a position rounded to 1/32 px, as in OpenCV, costs less than a grey level.
    photos = [cv2.resize(rng.integers(0, 256, (24, 32, 3), dtype=np.uint8), (640, 480)) for _ in range(8)]
    index = np.repeat(np.arange(8), 8)
    height = rng.uniform(120, 380, 64)
    width = height * rng.uniform(0.35, 0.7, 64)
    middle = rng.uniform((80, 140), (560, 340), (64, 2))
    half = np.stack([width, height], -1) / 2
    boxes = np.concatenate([middle - half, middle + half], -1).astype(np.float32)
    center, scale = box_to_center_scale(boxes, size)
    matrices = crop_matrices(center, scale, size)
    return Crops(photos, boxes, index, center, scale, matrices, size, np.zeros((64, 3, *size), np.float32))


@dataclass
class Poses:
    """A batch of poses with their heatmaps.

    Attributes:
        codec, size: The codec and the (height, width) of the network's input.
        keypoints: [64,17,2] float32, input pixels; all inside.
        visible: [64,17] float32, all 1: every map has to be drawn and looked at.
        predicted: [64,17,h,w] float32: a peak of 0.3 to 1 and some noise.
        maps, weights: Outputs to fill.
        points, scores: Outputs to fill.
    """

    codec: Codec
    size: tuple[int, int]
    keypoints: Array
    visible: Array
    predicted: Array
    maps: Array
    weights: Array
    points: Array
    scores: Array

    @property
    def map_bytes(self) -> int:
        """Of all heatmaps."""
        return self.predicted.nbytes


def poses(kind: str, heatmap_size: tuple[int, int]) -> Poses:
    rng = np.random.default_rng(1)
    h, w = heatmap_size
    size = input_size(heatmap_size)
    keypoints = rng.uniform(8, (size[1] - 8, size[0] - 8), (BATCH, KEYPOINTS, 2)).astype(np.float32)
    shape = (BATCH, KEYPOINTS)
    y, x = (np.arange(n, dtype=np.float32) for n in (h, w))
    px, py = keypoints[..., 0] / 4, keypoints[..., 1] / 4
    along_y, along_x = np.exp(-((y - py[..., None]) ** 2) / 8), np.exp(-((x - px[..., None]) ** 2) / 8)
    peaks = along_y[..., :, None] * along_x[..., None, :]
    peaks *= rng.uniform(0.3, 1.0, (*shape, 1, 1)).astype(np.float32)
    noise = rng.standard_normal((*shape, h, w), dtype=np.float32) * np.float32(0.005)
    return Poses(
        codec(kind, heatmap_size),
        size,
        keypoints,
        np.ones(shape, np.float32),
        peaks + noise,
        np.zeros((*shape, h, w), np.float32),
        np.zeros(shape, np.float32),
        np.zeros((*shape, 2), np.float32),
        np.zeros(shape, np.float32),
    )


@dataclass
class People:
    """Detected poses, several for most persons.

    Attributes:
        poses: [N,17,3] float32 (x, y, score).
        scores, areas: [N] float32.
        sigmas: [17].
        image_index: [N] int64, sorted.
    """

    poses: Array
    scores: Array
    areas: Array
    sigmas: Array
    image_index: Array

    def tensors(self) -> tuple[torch.Tensor, ...]:
        """All fields, in this order."""
        return tuple(torch.from_numpy(v) for v in (self.poses, self.scores, self.areas, self.sigmas, self.image_index))


def people(images: int, persons: int, detections: int) -> People:
    """``persons`` of each image, each found ``detections`` times, a few pixels apart."""
    rng = np.random.default_rng(2)
    count = images * persons * detections
    base = rng.uniform(0, 1, (images * persons, 17, 2)) * (80, 200) + rng.uniform(0, 1500, (images * persons, 1, 2))
    points = np.repeat(base, detections, axis=0) + rng.normal(0, 4 if detections > 1 else 0, (count, 17, 2))
    order = np.concatenate([rng.permutation(persons * detections) + i * persons * detections for i in range(images)])
    return People(
        np.concatenate([points[order], np.ones((count, 17, 1))], -1).astype(np.float32),
        rng.random(count).astype(np.float32),
        rng.uniform(5e3, 3e4, count).astype(np.float32),
        np.array(COCO17.sigmas),
        np.repeat(np.arange(images), persons * detections),
    )


@dataclass
class Boxes:
    """What a detector gives before suppression: several boxes for most persons.

    Attributes:
        boxes: [N,4] float32 x1, y1, x2, y2.
        scores: [N] float32, all different.
        image_index: [N] int64, sorted.
    """

    boxes: Array
    scores: Array
    image_index: Array

    def tensors(self) -> tuple[torch.Tensor, ...]:
        """All fields, in this order."""
        return tuple(torch.from_numpy(v) for v in (self.boxes, self.scores, self.image_index))


def detections(images: int, count: int) -> Boxes:
    """``count`` boxes of all images together, about four of each person, in photos of 640×640."""
    rng = np.random.default_rng(4)
    index = np.sort(rng.integers(0, images, count))
    persons = 1 + count // (4 * images)
    low = rng.uniform(0, 500, (images, persons, 2))
    base = np.concatenate([low, low + rng.uniform(20, 200, (images, persons, 2))], -1)
    boxes = base[index, rng.integers(0, persons, count)] + rng.normal(0, 6, (count, 4))
    return Boxes(boxes.astype(np.float32), (rng.permutation(count) + 1).astype(np.float32) / (count + 1), index)
