"""The pictures that teach the detector: photos with their boxes, put together, mirrored, made ahead by a thread."""

from __future__ import annotations

import json
import queue
import threading
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from dense_teacher import DenseTeacher, Taught
from label_people import fused, read_lines
from numpy.typing import NDArray
from torch import Tensor

from fastpose.data.dataset import PhotoStore
from fastpose.detection.network import STRIDES
from fastpose.detection.person_detector import DetectorSpec
from fastpose.ops import affine_crop

Array = NDArray[Any]


# Photos and boxes


@dataclass
class Photos:
    """Photos with their boxes.

    Attributes:
        files: The photos.
        boxes: Of each photo [N, 5], xyxy in pixels and how sure it is that this is a person; 0 < score.
        ignored: Of each photo [M, 4], where nothing is known.
        weights: How often each is shown, relative to the others.
    """

    files: list[Path] = field(default_factory=list)
    boxes: list[Array] = field(default_factory=list)
    ignored: list[Array] = field(default_factory=list)
    weights: list[float] = field(default_factory=list)

    def add_set(self, root: Path, settings: dict[str, Any]) -> None:
        """Add one set of the recipe; its ``share`` of what is shown is spread evenly over its photos."""
        folder = root / settings["photos"]
        if "annotations" in settings:
            rows = list(_annotated(root / settings["annotations"]))
        else:
            rows = list(_taught(root / settings["labels"], settings.get("least", 0.15)))
        for name, boxes, ignored in rows:
            if settings.get("nobody"):  # a set that is known to show no people, whatever a detector thinks
                boxes, ignored = np.empty((0, 5)), np.empty((0, 4))
            self.files.append(folder / name)
            self.boxes.append(boxes.reshape(-1, 5).astype(np.float32))
            self.ignored.append(ignored.reshape(-1, 4).astype(np.float32))
            self.weights.append(settings["share"] / len(rows))
        print(f"{settings['photos']}: {len(rows)} photos, {sum(len(row[1]) for row in rows)} boxes")


def _annotated(file: Path) -> Iterator[tuple[str, Array, Array]]:
    content = json.loads(file.read_text(encoding="utf-8"))
    people: dict[int, list[Any]] = {image["id"]: [] for image in content["images"]}
    for annotation in content["annotations"]:
        people[annotation["image_id"]].append(annotation)
    for image in content["images"]:
        rows = np.array([[*a["bbox"], 1.0] for a in people[image["id"]]], float).reshape(-1, 5)
        rows[:, 2:4] += rows[:, :2]
        crowd = np.array([a.get("iscrowd", 0) for a in people[image["id"]]], bool)
        yield image["file_name"], rows[~crowd], rows[crowd, :4]


def _taught(file: Path, least: float) -> Iterator[tuple[str, Array, Array]]:
    for line in read_lines(file):
        rows = fused(line)
        height, width = line["size"]
        rows[:, :4] = np.clip(rows[:, :4], 0, [width, height, width, height])
        # Two thirds of the detectors' scores are as sure as they get.
        rows[:, 4] = np.minimum(rows[:, 4] / 0.7, 1.0)
        yield line["photo"], rows[rows[:, 4] >= least / 0.7], np.empty((0, 4))


# Pictures


@dataclass
class Sample:
    """A picture to train on: what is shown where, and the boxes in its pixels."""

    image: Array
    boxes: list[Array]
    ignored: list[Array]


class PictureMaker:
    """Pictures of one photo or of four, at random places, sizes and colours; those of a step depend on its number."""

    def __init__(self, photos: Photos, spec: DetectorSpec, seed: int, cache: int) -> None:
        self.photos, self.spec, self.seed = photos, spec, seed
        weights = np.array(photos.weights)
        self._bounds = np.cumsum(weights / weights.sum())
        self.store = PhotoStore(photos.files, cache)

    def batch(self, step: int, count: int, size: int) -> tuple[Tensor, list[Array], list[Array]]:
        """Pictures [B, 3, size, size], normalised, boxes [N, 5] of each, and what is ignored [M, 4]."""
        random = np.random.default_rng((self.seed, step))
        samples = [self._picture(random, size) for _ in range(count)]
        pixels = torch.from_numpy(np.stack([sample.image for sample in samples]))
        normal = (pixels.float() - torch.tensor(self.spec.mean)) / torch.tensor(self.spec.std)
        boxes = [np.concatenate(sample.boxes) for sample in samples]
        ignored = [np.concatenate(sample.ignored) for sample in samples]
        return normal.permute(0, 3, 1, 2), boxes, ignored

    def _picture(self, random: np.random.Generator, size: int) -> Sample:
        sample = Sample(np.full((size, size, 3), round(self.spec.border), np.uint8), [], [])
        if random.random() < 0.5:
            # From a person that fills twice the picture to a photo that fills a third of it.
            scale = float(np.exp(random.uniform(np.log(0.4), np.log(1.8))))
            self._place(sample, random, (0, 0, size, size), scale)
            return sample
        x, y = (random.uniform(0.3, 0.7, 2) * size).astype(int).tolist()
        for region in ((0, 0, x, y), (x, 0, size, y), (0, y, x, size), (x, y, size, size)):
            self._place(sample, random, region, float(np.exp(random.uniform(np.log(0.3), np.log(1.1)))))
        return sample

    def _place(
        self, sample: Sample, random: np.random.Generator, region: tuple[int, int, int, int], scale: float
    ) -> None:
        """Show a photo in a region of the picture (xyxy); scale 1: its longer side is as long as the picture."""
        number = int(np.searchsorted(self._bounds, random.random()))
        number = min(number, len(self._bounds) - 1)
        photo = self.store.read(number)
        if photo is None:
            return
        size = sample.image.shape[0]
        x0, y0, x1, y1 = region
        width, height = x1 - x0, y1 - y0
        factor = scale * size / max(photo.shape[:2])
        stretch = float(np.exp(random.uniform(-0.1, 0.1)))
        factors = np.array([factor * stretch, factor / stretch])
        shown = factors * (photo.shape[1], photo.shape[0])
        # Anywhere inside if the photo is smaller than the region, else any part of it that fills the region.
        offset = random.random(2) * ((width, height) - shown)
        flip = random.random() < 0.5
        matrix = np.array([[factors[0], 0, offset[0] + (factors[0] - 1) / 2],
                           [0, factors[1], offset[1] + (factors[1] - 1) / 2]])  # fmt: skip
        gain, offsets = _colour(random)
        crop = affine_crop(
            photo, matrix[None], size=(height, width), border_value=self.spec.border, antialias=True, flip=[flip],
            gain=gain, offset=offsets, dtype=np.uint8, layout="nhwc",
        )  # fmt: skip
        sample.image[y0:y1, x0:x1] = crop[0]
        for rows, kept, least in (
            (self.photos.boxes[number], sample.boxes, 0.3), (self.photos.ignored[number], sample.ignored, 0.0)
        ):  # fmt: skip
            moved = rows.copy()
            moved[:, :4] = rows[:, :4] * np.tile(factors, 2) + np.tile(offset, 2)
            if flip:
                moved[:, [0, 2]] = width - moved[:, [2, 0]]
            whole = _areas(moved)
            moved[:, :4] = np.clip(moved[:, :4], 0, [width, height, width, height])
            visible = _areas(moved) / np.maximum(whole, 1e-6)
            moved[:, :4] += (x0, y0, x0, y0)
            fits = (moved[:, 2:4] - moved[:, :2]).min(1) >= 3
            kept.append(moved[fits & (visible >= least)])
            if least:  # what is left of others is no background
                sample.ignored.append(moved[~(fits & (visible >= least)) & (visible > 0), :4])


def _areas(rows: Array) -> Array:
    return np.asarray(np.clip(rows[:, 2:4] - rows[:, :2], 0, None).prod(1))


def _colour(random: np.random.Generator) -> tuple[Array, Array]:
    """Gain and offset [1, 3] of a change of contrast, brightness and the channels' gains."""
    contrast = 1 + random.uniform(-0.3, 0.3)
    gain = contrast * (1 + random.uniform(-0.15, 0.15, 3))
    offset = (1 - contrast) * 127.5 + random.uniform(-30, 30)
    if random.random() < 0.3:
        gain, offset = np.ones(3), 0.0
    return gain[None].astype(np.float32), np.full((1, 3), offset, np.float32)


@dataclass
class Batch:
    """Pictures [B, 3, size, size], normalised; boxes [N, 5] of each; what is ignored [M, 4]; what the teacher says."""

    images: Tensor
    boxes: list[Array]
    ignored: list[Array]
    taught: Taught | None

    def mirrored(self) -> Batch:
        """The same seen in a mirror."""
        size = self.images.shape[-1]
        boxes, ignored = ([_mirrored(rows, size) for rows in part] for part in (self.boxes, self.ignored))
        taught = None
        if self.taught is not None:
            order = _mirrored_places(size)
            left, upper, right, lower = self.taught.boxes[:, order].unbind(-1)
            corners = torch.stack([size - right, upper, size - left, lower], -1)
            taught = Taught(self.taught.scores[:, order], corners, [x.flip(3) for x in self.taught.features])
        return Batch(self.images.flip(3), boxes, ignored, taught)


def _mirrored(rows: Array, size: int) -> Array:
    moved = rows.copy()
    moved[:, [0, 2]] = size - rows[:, [2, 0]]
    return moved


def _mirrored_places(size: int) -> Tensor:
    """Number of the place that each place is in a mirror [A]."""
    parts, before = [], 0
    for stride in STRIDES:
        side = size // stride
        parts.append((torch.arange(side * side).reshape(side, side) + before).flip(1).flatten())
        before += side * side
    return torch.cat(parts)


def batches_ahead(
    maker: PictureMaker,
    teacher: DenseTeacher | None,
    first: int,
    last: int,
    count: int,
    size: int,
    *,
    labels: float = 0.0,
    echoes: int = 1,
) -> Iterator[Batch]:
    """The batches of the steps, made by a thread.

    Pictures and what the teacher says of them take as long as learning from them, so each is shown ``echoes`` times,
    in a mirror from the second time on (Choi et al., "Faster Neural Network Training with Data Echoing", 2019).
    """
    ready: queue.Queue[Any] = queue.Queue(4)

    def produce() -> None:
        try:
            random = np.random.default_rng(first)
            kept: deque[Batch] = deque(maxlen=64)
            for step in range(first, last):
                if step % echoes and kept:
                    ready.put(kept[random.integers(len(kept))])
                    continue
                images, boxes, ignored = maker.batch(step, count, size)
                taught = teacher(images) if teacher is not None and random.random() >= labels else None
                new = Batch(images, boxes, ignored, taught)
                if echoes > 1:
                    kept.append(new.mirrored())
                ready.put(new)
        except BaseException as error:  # handed to the consumer
            ready.put(error)

    threading.Thread(target=produce, daemon=True).start()
    for _ in range(first, last):
        item = ready.get()
        if isinstance(item, BaseException):
            raise item
        yield item
