"""Detectors in ONNX files, run by ONNX Runtime."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fastpose.checks import check_choice, check_size
from fastpose.models.weights import WeightsError

from .batch import BatchDetector, PendingDetections, Photo
from .layouts import LAYOUTS, InputStyle, describe_outputs, recognise_layout
from .letterbox import Placement, check_photos, letterbox, split_photos
from .onnx_session import OnnxSession
from .passes import BATCH, Pass, PendingPasses

__all__ = ["OnnxDetector"]

Array = npt.NDArray[Any]

_COCO_PERSON = {80: 0, 91: 1, 1: 0}  # by the number of classes: COCO's, without and with its gaps, and people only


class OnnxDetector(BatchDetector):
    """Finds people with somebody else's network, from an ONNX file.

    The layout of its outputs is recognised by their names and shapes, for which the network runs once on an even
    picture. What it wants of a picture comes from the file where that says it, else from the table of families,
    `fastpose.detection.layouts.LAYOUTS`.

    The network runs with as many threads as torch has when the detector is made.

    Args:
        file: The file.
        device: "cpu", "cuda", "cuda:1", …; by default the GPU, where ONNX Runtime and the native core both run on it.
        layout: A name of `LAYOUTS`; needed where the outputs do not show it.
        person_class: Number of the class of people; needed where neither the file nor the number of classes shows it.
        size: Of the pictures, where the file takes any size: (height, width), or pixels of a photo's longer side.
        batch: Photos of a pass, where the file takes any number; by default 16 on a GPU, and 1 on a CPU, where more
            take longer.
        rgb: Whether the network wants red, green, blue; the family's order by default.
        mean: Of the channels in that order, 0 to 255; the family's by default.
        std: The same.
        threshold: Least score.
        overlap: Of two boxes that overlap more than this (intersection over union) the one with the lower score goes;
            by default 0.6, or 1 (none goes) for families that see to it themselves.
        most: Boxes of a photo, those with the highest scores.

    Attributes:
        layout: The name of its layout.
        person_class: The class of people.
        style: What it wants of a picture.

    Raises:
        ImportError: ONNX Runtime is not installed.
        WeightsError: The file is missing or damaged, is no detector, or wants another input.
        ValueError: An option is wrong, or is needed.

    Example:
        A file of YOLOX's own releases::

            detector = OnnxDetector("yolox_nano.onnx")
            people, nobody = detector.detect([photo, empty_street])
    """

    def __init__(
        self,
        file: str | os.PathLike[str],
        *,
        device: str | torch.device | None = None,
        layout: str | None = None,
        person_class: int | None = None,
        size: int | tuple[int, int] | None = None,
        batch: int | None = None,
        rgb: bool | None = None,
        mean: float | tuple[float, float, float] | None = None,
        std: float | tuple[float, float, float] | None = None,
        threshold: float = 0.3,
        overlap: float | None = None,
        most: int = 300,
    ) -> None:
        if layout is not None:
            check_choice("layout", layout, tuple(LAYOUTS))
        if isinstance(size, tuple | list):
            size = check_size("size", size)
        elif size is not None and size < 1:
            raise ValueError(f"size: expected pixels, at least 1, got {size!r}")
        if batch is not None and batch < 1:
            raise ValueError(f"batch: expected at least 1 photo, got {batch!r}")
        self._session = session = OnnxSession(file, device)
        self.device, self.threshold, self.most = session.device, threshold, most
        image, facts = session.image, session.facts
        probe = image.size or _pair(size or facts.side or InputStyle.side)
        with session.turn():
            outputs = session.run(torch.zeros((image.batch or 1, 3, *probe), dtype=image.dtype)).arrays()
        classes = None if facts.names is None else len(facts.names)
        self.layout = layout or recognise_layout(
            outputs, probe, classes=classes, sized=session.takes_size, suppressed=facts.suppressed
        )
        family = LAYOUTS[self.layout] if self.layout else None
        picked = family.pick(outputs) if family else None
        if family is None or picked is None:
            wanted = f"the layout {layout!r}" if layout else "a detector that is known"
            raise WeightsError(
                f"{session.name}: its outputs are not those of {wanted}: found {describe_outputs(outputs)} for a "
                f"picture of {probe[0]}x{probe[1]}; layout says how to read them: {', '.join(LAYOUTS)}"
            )
        self._family = family
        session.outputs = self._picked = picked
        first = [outputs[name] for name in picked]
        self.person_class = self._find_person(person_class, family.classes(first) if classes is None else classes)
        self._batch = 1 if first[0].ndim == 2 else image.batch or batch or BATCH[self.device.type]
        self.overlap = family.overlap if overlap is None else overlap
        style = replace(family.style, mean=0.0, std=1.0) if image.dtype == torch.uint8 else family.style
        self.style = replace(
            style,
            rgb=style.rgb if rgb is None else rgb,
            mean=style.mean if mean is None else mean,
            std=style.std if std is None else std,
            side=facts.side or style.side,
            multiple=max(facts.stride or 1, style.multiple),
        )
        self._size = image.size
        if image.size is None:
            self._size, self.style = self._any_size(size)
        elif size is not None and _pair(size) != image.size:
            raise ValueError(f"size: {session.name} takes pictures of {image.size} only, got {size!r}")
        self._read(outputs, probe, image.batch or 1)  # what cannot be read shows now

    def _any_size(self, given: int | tuple[int, int] | None) -> tuple[tuple[int, int] | None, InputStyle]:
        """The size of pictures where the file takes any; None if photos' longer sides are equal, and what they are."""
        if isinstance(given, tuple):
            return given, self.style
        style = replace(self.style, side=given or self.style.side)
        return (_pair(style.side) if style.stretch else None), style

    def _find_person(self, given: int | None, classes: int | None) -> int:
        name, names = self._session.name, self._session.facts.names
        if given is not None:
            if given < 0 or (classes is not None and given >= classes):
                raise ValueError(f"person_class: {name} has {classes} classes, counted from 0, got {given}")
            return given
        if names is not None:
            found = [number for number, word in names.items() if word.lower() in ("person", "people", "pedestrian")]
            if not found:
                raise ValueError(f"person_class: is needed, as {name} names no class of people: {list(names.values())}")
            return found[0]
        if classes is None:
            return self._family.person_class
        if classes not in _COCO_PERSON:
            raise ValueError(f"person_class: is needed, as {name} has {classes} classes, neither 80 nor 91 nor one")
        return _COCO_PERSON[classes]

    @torch.inference_mode()
    def submit(self, images: Sequence[Photo], threshold: float | None = None) -> PendingDetections:
        """Begin to look for people, see `BatchDetector.submit`."""
        check_photos(images)
        parts = split_photos(images, self._batch, apart=self._size is None)
        with self._session.turn():
            passes = [self._start([images[row] for row in rows.tolist()], rows) for rows in parts]
        least = self.threshold if threshold is None else threshold
        return PendingPasses(passes, len(images), least, self.overlap, self.most)

    def _start(self, images: Sequence[Photo], rows: npt.NDArray[np.int64]) -> Pass:
        pixels, placement = self._pictures(images)
        running = self._session.run(pixels)

        def fetch() -> tuple[Array, Array]:
            boxes, scores = self._read(running.arrays(), placement.shape, len(pixels))
            return boxes[: len(rows)], scores[: len(rows)]

        if self.device.type == "cuda":
            return Pass(rows, placement, fetch, images)
        found = fetch()  # outputs are large: the next pass shall have their memory
        return Pass(rows, placement, lambda: found)

    def _pictures(self, images: Sequence[Photo]) -> tuple[Tensor, Placement]:
        """Pictures [B, 3, h, w] as the network wants them, in a full batch where it takes no other."""
        style, image = self.style, self._session.image
        pixels, placement = letterbox(
            images,
            size=self._size,
            side=style.side if self._size is None else None,
            multiple=style.multiple,
            centred=style.centred,
            stretch=style.stretch,
            rgb=style.rgb,
            mean=style.mean,
            std=style.std,
            dtype=image.dtype,
            channels_last=image.channels_last,
            device=self.device,
        )
        missing = (image.batch or 0) - len(pixels)
        if missing > 0:
            pixels = torch.cat([pixels, pixels.new_zeros((missing, *pixels.shape[1:]))])
        return pixels, placement

    def _read(self, outputs: dict[str, Array], size: tuple[int, int], count: int) -> tuple[Array, Array]:
        """Boxes [B, n, 4] and scores [B, n] of what the network gave for so many pictures.

        Raises:
            WeightsError: They are none.
        """
        try:
            boxes, scores = self._family.read([outputs[name] for name in self._picked], size, self.person_class)
            if boxes.ndim != 3 or len(boxes) != count or scores.shape != boxes.shape[:2]:
                raise ValueError(f"expected the boxes of {count} pictures and a score each")
            largest = np.max(scores, initial=0.0, where=~np.isnan(scores))
            if largest > 1.001:
                raise ValueError(f"expected scores from 0 to 1, got {largest:g}")
        except (IndexError, ValueError) as error:
            found = describe_outputs(outputs)
            raise WeightsError(f"{self._session.name}: {found} cannot be read as {self.layout}: {error}") from None
        return boxes.astype(np.float32, copy=False), scores.clip(0.0, 1.0).astype(np.float32, copy=False)


def _pair(size: int | tuple[int, int]) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else size
