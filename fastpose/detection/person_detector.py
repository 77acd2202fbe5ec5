"""The library's own detector: photos of any sizes to the boxes of the people on them."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import safetensors.torch
import torch
from numpy.typing import NDArray
from torch import Tensor

from fastpose.files import atomic_write
from fastpose.models.weights import WeightsError, read_checkpoint, stored_tensors
from fastpose.ops import affine_crop

from .detections import Detections
from .network import STRIDES, PersonNet, decode_boxes, fold_norms, place_centers

__all__ = ["DetectorSpec", "PersonDetector", "load_detector", "save_detector"]

_SPEC = "fastpose.detector"


@dataclass(frozen=True)
class DetectorSpec:
    """What training and prediction must agree on.

    Attributes:
        widths: `PersonNet`.
        depths: `PersonNet`.
        neck: `PersonNet`.
        side: Longer side of a photo as the network sees it, pixels, a multiple of 32.
        threshold: Least score of a box that is a person.
        mean: Of the channels (BGR), 0 to 255.
        std: Of the channels.
        border: Grey level beside a photo.
    """

    widths: tuple[int, ...] = (12, 24, 48, 96, 160)
    depths: tuple[int, ...] = (0, 1, 2, 1)
    neck: int = 48
    side: int = 320
    threshold: float = 0.4
    mean: tuple[float, float, float] = (103.53, 116.28, 123.675)
    std: tuple[float, float, float] = (57.375, 57.12, 58.395)
    border: float = 114.0

    def __post_init__(self) -> None:
        for name in ("widths", "depths", "mean", "std"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        if self.side < 32 or self.side % 32:
            raise ValueError(f"side: expected a multiple of 32, got {self.side}")
        if not 0 < self.threshold < 1:
            raise ValueError(f"threshold: expected a number between 0 and 1, got {self.threshold}")

    def build(self) -> PersonNet:
        """The network, untrained."""
        return PersonNet(self.widths, self.depths, self.neck)


class PersonDetector:
    """Finds people with a `PersonNet`.

    Args:
        net: The network; a copy of it runs.
        spec: Of the network.
        threshold: Least score; the spec's where not given.
        overlap: Of two boxes that overlap more than this (intersection over union) the one with the lower score goes.
        most: Boxes of a photo, those with the highest scores.

    Example:
        >>> import numpy as np
        >>> spec = DetectorSpec(widths=(8, 8, 8, 8, 8), depths=(0, 0, 0, 0), neck=8, side=64)
        >>> detector = PersonDetector(spec.build(), spec)  # untrained: it finds nobody
        >>> [len(found) for found in detector.detect([np.zeros((48, 64, 3), np.uint8), np.ones((90, 30, 3), np.uint8)])]
        [0, 0]
    """

    def __init__(
        self,
        net: PersonNet,
        spec: DetectorSpec,
        *,
        threshold: float | None = None,
        overlap: float = 0.6,
        most: int = 100,
    ) -> None:
        self.net, self.spec = fold_norms(net), spec
        self.net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.threshold = spec.threshold if threshold is None else threshold
        self.overlap, self.most = overlap, most

    def __call__(self, image: NDArray[np.uint8]) -> Detections:
        """The people of one photo, uint8 [H, W, 3] BGR."""
        return self.detect([image])[0]

    @torch.inference_mode()
    def detect(self, images: Sequence[NDArray[np.uint8]]) -> list[Detections]:
        """The people of photos of any sizes, which go through the network together.

        Args:
            images: uint8 [H, W, 3] BGR each.

        Returns:
            Boxes within each photo and their scores, best first.

        Raises:
            TypeError: A photo is not uint8.
            ValueError: A photo has another shape.
        """
        if not len(images):
            return []
        sizes = np.array([image.shape[:2] for image in images])
        scales = self.spec.side / sizes.max(1)
        multiple = STRIDES[-1]
        height, width = (
            max(multiple, int(-(-side // multiple)) * multiple) for side in np.round(sizes * scales[:, None]).max(0)
        )
        # Upper left corner on upper left corner, not the middles of the corners' pixels.
        matrices = np.zeros((len(images), 2, 3))
        matrices[:, 0, 0] = matrices[:, 1, 1] = scales
        matrices[:, :, 2] = (scales[:, None] - 1) / 2
        pixels = affine_crop(
            list(images),
            matrices,
            size=(height, width),
            mean=self.spec.mean,
            std=self.spec.std,
            border_value=self.spec.border,
            antialias=True,
        )
        parameter = next(self.net.parameters())
        x = torch.from_numpy(pixels).to(parameter.device, parameter.dtype, memory_format=torch.channels_last)
        logits, distances = self.net(x)
        scores, boxes = logits.sigmoid().cpu(), decode_boxes(distances.cpu(), place_centers((height, width))[0])
        return [self._found(*parts) for parts in zip(boxes, scores, sizes.tolist(), scales.tolist(), strict=True)]

    def _found(self, boxes: Tensor, scores: Tensor, size: list[int], scale: float) -> Detections:
        """The people of one photo, of what the network says at every place of it."""
        sure = (scores >= self.threshold) & boxes.isfinite().all(1)
        boxes, scores = boxes[sure] / scale, scores[sure]
        boxes = torch.minimum(boxes.clamp(min=0), boxes.new_tensor([size[1], size[0]] * 2))
        whole = (boxes[:, 2:] > boxes[:, :2]).all(1)
        boxes, scores = boxes[whole], scores[whole]
        kept = _suppressed(boxes, scores, self.overlap)[: self.most]
        return Detections(boxes[kept].numpy(), scores[kept].numpy())


def _suppressed(boxes: Tensor, scores: Tensor, overlap: float) -> Tensor:
    """Indices of the boxes [N, 4] that greedy suppression leaves, best first."""
    order = scores.argsort(descending=True, stable=True)
    boxes = boxes[order]
    low = torch.maximum(boxes[:, None, :2], boxes[None, :, :2])
    high = torch.minimum(boxes[:, None, 2:], boxes[None, :, 2:])
    shared = (high - low).clamp(min=0).prod(-1)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(-1)
    near = shared > overlap * (areas[:, None] + areas[None] - shared)
    gone = torch.zeros(len(boxes), dtype=torch.bool)
    for row in range(len(boxes)):
        if not gone[row]:
            gone[row + 1 :] |= near[row, row + 1 :]
    return order[~gone]


def save_detector(
    net: PersonNet, spec: DetectorSpec, path: str | os.PathLike[str], *, dtype: torch.dtype | None = None
) -> None:
    """Write a network as safetensors, with its spec in the header; atomically.

    Args:
        net: The network.
        spec: Its spec.
        path: File to write.
        dtype: Of the entries in the file, as `fastpose.save_model` takes it; the network's own where not given.
    """
    header = {"format": "pt", _SPEC: json.dumps(asdict(spec))}
    atomic_write(path, safetensors.torch.save(stored_tensors(net.state_dict(), dtype), header))


def load_detector(path: str | os.PathLike[str], **options: Any) -> PersonDetector:
    """A detector from a file that `save_detector` wrote.

    Args:
        path: The file.
        options: Of `PersonDetector`.

    Raises:
        WeightsError: The file is damaged, or is no detector.
    """
    checkpoint = read_checkpoint(path)
    if _SPEC not in checkpoint.metadata:
        raise WeightsError(f"{os.fspath(path)}: is no detector of people (no {_SPEC} in its header)")
    try:
        spec = DetectorSpec(**json.loads(checkpoint.metadata[_SPEC]))
        net = spec.build()
        net.load_state_dict(checkpoint.tensors)
    except (TypeError, ValueError, RuntimeError) as error:
        raise WeightsError(f"{os.fspath(path)}: is no detector of people: {str(error).splitlines()[0]}") from None
    return PersonDetector(net, spec, **options)
