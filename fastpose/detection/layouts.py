"""How other people's detectors lay their outputs out, and what they expect of a picture: one table of families."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["LAYOUTS", "InputStyle", "Layout", "describe_outputs", "recognise_layout"]

Array = npt.NDArray[Any]
Size = tuple[int, int]

_IMAGENET = ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))  # mean, std; red, green, blue
_YOLO_STRIDES = ((8, 16, 32), (8, 16, 32, 64))


@dataclass(frozen=True)
class InputStyle:
    """The picture that a family of detectors has learned.

    Attributes:
        rgb: Red, green, blue; else blue, green, red.
        mean: Of the channels in that order, 0 to 255.
        std: The same.
        centred: The photo lies in the middle of the picture, not in the upper left corner.
        stretch: The photo fills the picture, whatever becomes of its shape.
        side: Of the picture, pixels, where the file does not say it.
        multiple: Of which the sides of a picture are, where a file takes many sizes.
    """

    rgb: bool = True
    mean: float | tuple[float, ...] = 0.0
    std: float | tuple[float, ...] = 255.0
    centred: bool = False
    stretch: bool = False
    side: int = 640
    multiple: int = 32


@dataclass(frozen=True)
class Layout:
    """A family of detectors.

    Attributes:
        pick: Which outputs (name to array) are read, in the order in which `read` takes them; None if there are none.
        read: Boxes [B, N, 4] xyxy, pixels of the picture, and scores [B, N] of people; from the outputs, the
            picture's (height, width) and the number of the class of people.
        classes: How many classes these outputs tell apart; None if they do not say it.
        style: Of its pictures.
        person_class: Of people, where the number of classes does not say it.
        overlap: Of two boxes that overlap more than this the one with the lower score goes; 1 where the file does so
            itself, or finds everybody once.
    """

    pick: Callable[[Mapping[str, Array]], list[str] | None]
    read: Callable[[list[Array], Size, int], tuple[Array, Array]]
    classes: Callable[[list[Array]], int | None] = lambda outputs: None
    style: InputStyle = field(default_factory=InputStyle)
    person_class: int = 0
    overlap: float = 1.0


# Which outputs


def _table(outputs: Mapping[str, Array]) -> list[str] | None:
    """The only one with three dimensions, at least five numbers a box."""
    tables = [name for name, values in outputs.items() if values.ndim == 3 and min(values.shape[1:]) > 4]
    return tables if len(tables) == 1 else None


def _end_to_end_table(outputs: Mapping[str, Array]) -> list[str] | None:
    names = [name for name, values in outputs.items() if values.ndim == 3 and values.shape[2] >= 6]
    return names if len(names) == 1 else None


def _rows_and_labels(outputs: Mapping[str, Array]) -> list[str] | None:
    rows = [name for name, values in outputs.items() if values.ndim == 3 and values.shape[2] == 5]
    labels = [name for name, values in outputs.items() if values.ndim == 2]
    return [rows[0], labels[0]] if len(rows) == len(labels) == 1 else None


def _logits_and_boxes(outputs: Mapping[str, Array]) -> list[str] | None:
    tables = [name for name, values in outputs.items() if values.ndim == 3]
    fours = [name for name in tables if outputs[name].shape[2] == 4]
    boxes = [name for name in fours if "box" in name.lower() or "det" in name.lower()] or fours
    rest = [name for name in tables if name not in boxes]
    if len(boxes) != 1 or len(rest) != 1 or outputs[boxes[0]].shape[1] != outputs[rest[0]].shape[1]:
        return None
    return [rest[0], boxes[0]]


def _boxes_labels_scores(rank: int) -> Callable[[Mapping[str, Array]], list[str] | None]:
    """Boxes with so many dimensions, labels and scores with one less."""

    def pick(outputs: Mapping[str, Array]) -> list[str] | None:
        boxes = [name for name, values in outputs.items() if values.ndim == rank and values.shape[-1] == 4]
        flat = [name for name, values in outputs.items() if values.ndim == rank - 1]
        scores = [name for name in flat if "score" in name.lower()]
        scores = scores or [name for name in flat if outputs[name].dtype.kind == "f"]
        labels = [name for name in flat if name not in scores]
        return [boxes[0], labels[0], scores[0]] if len(boxes) == len(labels) == len(scores) == 1 else None

    return pick


# What they say


def _read_yolox_grid(outputs: list[Array], size: Size, person: int) -> tuple[Array, Array]:
    table = outputs[0]
    centers, strides = _grid(size, table.shape[1])
    middle = (table[..., :2] + centers / strides - 0.5) * strides
    return _corners(middle, np.exp(np.minimum(table[..., 2:4], 20.0)) * strides), table[..., 4] * table[..., 5 + person]


def _read_yolov5(outputs: list[Array], size: Size, person: int) -> tuple[Array, Array]:
    table = outputs[0]
    return _corners(table[..., :2], table[..., 2:4]), table[..., 4] * table[..., 5 + person]


def _read_yolov8(outputs: list[Array], size: Size, person: int) -> tuple[Array, Array]:
    table = outputs[0]
    boxes = table[:, :4].transpose(0, 2, 1)
    return _corners(boxes[..., :2], boxes[..., 2:]), table[:, 4 + person]


def _read_end_to_end(outputs: list[Array], size: Size, person: int) -> tuple[Array, Array]:
    table = outputs[0]
    return table[..., :4], _of_people(table[..., 4], table[..., 5], person)


def _read_rows_and_labels(outputs: list[Array], size: Size, person: int) -> tuple[Array, Array]:
    rows, labels = outputs
    return rows[..., :4], _of_people(rows[..., 4], labels, person)


def _read_logits(outputs: list[Array], size: Size, person: int) -> tuple[Array, Array]:
    logits, boxes = outputs
    with np.errstate(over="ignore"):
        return _corners_of_fractions(boxes, size), 1 / (1 + np.exp(-logits[..., person]))


def _read_softmax(outputs: list[Array], size: Size, person: int) -> tuple[Array, Array]:
    logits, boxes = outputs
    powers = np.exp(logits - logits.max(-1, keepdims=True))
    return _corners_of_fractions(boxes, size), powers[..., person] / powers.sum(-1)


def _read_fractions(outputs: list[Array], size: Size, person: int) -> tuple[Array, Array]:
    table = outputs[0]
    return _corners_of_fractions(table[..., :4], size), table[..., 4 + person]


def _read_boxes_labels_scores(outputs: list[Array], size: Size, person: int) -> tuple[Array, Array]:
    boxes, labels, scores = outputs
    if boxes.ndim == 2:  # of a single photo
        boxes, labels, scores = boxes[None], labels[None], scores[None]
    return boxes, _of_people(scores, labels, person)


def _of_people(scores: Array, labels: Array, person: int) -> Array:
    if (np.abs(labels - np.round(labels)) > 0).any():
        raise ValueError("expected whole numbers as classes")
    return np.where(labels == person, scores, 0)


def _corners(middle: Array, extent: Array) -> Array:
    return np.concatenate([middle - extent / 2, middle + extent / 2], axis=-1)


def _corners_of_fractions(boxes: Array, size: Size) -> Array:
    scale = np.array(size[::-1], np.float32)
    return _corners(boxes[..., :2] * scale, boxes[..., 2:] * scale)


@lru_cache(maxsize=8)
def _grid(size: Size, count: int) -> tuple[Array, Array]:
    """Centres [N, 2] and strides [N, 1] of the cells of a picture, row by row, the finest level first.

    Raises:
        ValueError: So many cells it has on no levels that are in use.
    """
    strides = next((strides for strides in _YOLO_STRIDES if _cells(size, strides) == count), None)
    if strides is None:
        expected = _cells(size, _YOLO_STRIDES[0])
        raise ValueError(f"a picture of {size[0]}x{size[1]} has {expected} cells, expected as many boxes, got {count}")
    centers, steps = [], []
    for stride in strides:
        y, x = np.mgrid[: size[0] // stride, : size[1] // stride]
        centers.append((np.stack([x, y], -1).reshape(-1, 2) + 0.5) * stride)
        steps.append(np.full((x.size, 1), stride))
    return np.concatenate(centers).astype(np.float32), np.concatenate(steps).astype(np.float32)


def _cells(size: Size, strides: Sequence[int]) -> int:
    return sum((size[0] // stride) * (size[1] // stride) for stride in strides)


_CENTRED = InputStyle(centred=True)
_RTMDET = InputStyle(rgb=False, mean=_IMAGENET[0][::-1], std=(57.375, 57.12, 58.395))
_YOLOX = InputStyle(rgb=False, std=1.0)

LAYOUTS: Mapping[str, Layout] = {
    "yolox-grid": Layout(_table, _read_yolox_grid, lambda outputs: outputs[0].shape[2] - 5, _YOLOX, overlap=0.6),
    "yolox": Layout(_table, _read_yolov5, lambda outputs: outputs[0].shape[2] - 5, _YOLOX, overlap=0.6),
    "yolov5": Layout(_table, _read_yolov5, lambda outputs: outputs[0].shape[2] - 5, _CENTRED, overlap=0.6),
    "yolov8": Layout(_table, _read_yolov8, lambda outputs: outputs[0].shape[1] - 4, _CENTRED, overlap=0.6),
    "yolo-nms": Layout(_end_to_end_table, _read_end_to_end, style=_CENTRED),
    "mmdeploy": Layout(_rows_and_labels, _read_rows_and_labels, style=_RTMDET),
    "detr": Layout(
        _logits_and_boxes,
        _read_softmax,
        lambda outputs: outputs[0].shape[2] - 1,
        InputStyle(mean=_IMAGENET[0], std=_IMAGENET[1], side=800),
    ),
    "rtdetr": Layout(_logits_and_boxes, _read_logits, lambda outputs: outputs[0].shape[2], InputStyle(stretch=True)),
    "rfdetr": Layout(
        _logits_and_boxes,
        _read_logits,
        lambda outputs: outputs[0].shape[2],
        InputStyle(mean=_IMAGENET[0], std=_IMAGENET[1], stretch=True, side=560),
    ),
    "rtdetr-boxes": Layout(_boxes_labels_scores(3), _read_boxes_labels_scores, style=InputStyle(stretch=True)),
    "rtdetr-ultralytics": Layout(
        _table, _read_fractions, lambda outputs: outputs[0].shape[2] - 4, InputStyle(stretch=True)
    ),
    "torchvision": Layout(
        _boxes_labels_scores(2), _read_boxes_labels_scores, style=InputStyle(side=1333, multiple=1), person_class=1
    ),
}
"""The families by name; `docs/detectors.md` says what is exported how."""


def recognise_layout(
    outputs: Mapping[str, Array],
    size: Size,
    *,
    classes: int | None = None,
    sized: bool = False,
    suppressed: bool = False,
) -> str | None:
    """The family of a detector.

    Args:
        outputs: By name, what it gave for an even picture.
        size: (height, width) of the picture.
        classes: How many it tells apart, if the file says so.
        sized: Whether it takes the photo's size beside the picture.
        suppressed: Whether the file says that it leaves one box for each of those that it has found.

    Returns:
        A name of `LAYOUTS`; None if it cannot be told.
    """
    if sized:
        return "rtdetr-boxes" if LAYOUTS["rtdetr-boxes"].pick(outputs) else None
    for layout in ("torchvision", "mmdeploy"):
        if LAYOUTS[layout].pick(outputs):
            return layout
    picked = _logits_and_boxes(outputs)
    if picked:
        return _detr_like(outputs, picked, size)
    picked = _table(outputs) or _end_to_end_table(outputs)
    if not picked:
        return None
    table = outputs[picked[0]]
    return "yolo-nms" if suppressed and table.shape[2] >= 6 else _yolo_like(table, size, classes)


def _detr_like(outputs: Mapping[str, Array], picked: list[str], size: Size) -> str | None:
    logits, boxes = (outputs[name] for name in picked)
    if any(boxes.shape[1] == _cells(size, strides) for strides in _YOLO_STRIDES):
        return None  # a box a cell: no DETR
    if not ((boxes > -0.01) & (boxes < 1.01)).all():
        return None
    classes = logits.shape[2]
    if classes == 92:  # COCO's 91 and nobody
        return "detr"
    return "rfdetr" if classes == 91 or picked == ["labels", "dets"] else "rtdetr"


def _yolo_like(table: Array, size: Size, classes: int | None) -> str | None:
    rows, columns = table.shape[1:]
    for strides in _YOLO_STRIDES:
        cells = _cells(size, strides)
        if columns == cells and rows > 4:
            return "yolov8"
        if rows == cells and columns > 5:
            return _yolox_kind(table, size)
        if rows == 3 * cells and columns > 5:
            return "yolov5"
    if columns == 6:
        return "yolo-nms"
    if classes is not None and columns == 4 + classes:
        return "rtdetr-ultralytics"
    return None


def _yolox_kind(table: Array, size: Size) -> str | None:
    """Whether centres are pixels of the picture, or relative to their cells: those lie far off if read as the other."""
    centers, strides = _grid(size, table.shape[1])
    pixels = np.abs(table[0, :, :2] - centers).mean()
    relative = np.abs(table[0, :, :2] - 0.5).mean() * strides.mean()
    if not np.isfinite(pixels + relative):
        return None
    return "yolox" if pixels < relative else "yolox-grid"


def describe_outputs(outputs: Mapping[str, Array]) -> str:
    """What a file gave, for messages: names and shapes, and where it is no numbers."""
    words = [
        f"{name} {list(values.shape)}" + ("" if np.isfinite(values).all() else " (not finite)")
        for name, values in outputs.items()
    ]
    return ", ".join(words) or "none"
