"""The library's own detector: photos of any sizes to the boxes of the people on them."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import safetensors.torch
import torch

from fastpose.devices import pick_device
from fastpose.files import atomic_write
from fastpose.models.weights import WeightsError, read_checkpoint, stored_tensors

from .batch import BatchDetector, PendingDetections, Photo
from .letterbox import check_photos, letterbox, split_photos
from .network import STRIDES, PersonNet, decode_boxes, fold_norms, place_centers
from .passes import BATCH, CANDIDATES, Pass, PendingPasses, record_event

__all__ = ["DetectorSpec", "PersonDetector", "load_detector", "read_detector", "save_detector"]

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


class PersonDetector(BatchDetector):
    """Finds people with a `PersonNet`.

    Args:
        net: The network; a copy of it runs.
        spec: Of the network.
        device: "cpu", "cuda", "cuda:1", …; by default the GPU if there is one and the native core was built for it.
        dtype: What the network computes in.
        threshold: Least score; the spec's where not given.
        overlap: Of two boxes that overlap more than this (intersection over union) the one with the lower score goes.
        most: Boxes of a photo, those with the highest scores.

    Example:
        >>> import numpy as np
        >>> spec = DetectorSpec(widths=(8, 8, 8, 8, 8), depths=(0, 0, 0, 0), neck=8, side=64)
        >>> detector = PersonDetector(spec.build(), spec, device="cpu")  # untrained: it finds nobody
        >>> [len(found) for found in detector.detect([np.zeros((48, 64, 3), np.uint8), np.ones((90, 30, 3), np.uint8)])]
        [0, 0]
    """

    def __init__(
        self,
        net: PersonNet,
        spec: DetectorSpec,
        *,
        device: str | torch.device | None = None,
        dtype: torch.dtype = torch.float32,
        threshold: float | None = None,
        overlap: float = 0.6,
        most: int = 300,
    ) -> None:
        self.spec, self.device, self.dtype = spec, pick_device(device), dtype
        self.net = fold_norms(net).to(device=self.device, dtype=dtype)
        self.net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.threshold = spec.threshold if threshold is None else threshold
        self.overlap, self.most = overlap, most

    @torch.inference_mode()
    def submit(self, images: Sequence[Photo], threshold: float | None = None) -> PendingDetections:
        """Begin to look for people, see `BatchDetector.submit`."""
        check_photos(images)
        passes = [
            self._start([images[row] for row in rows.tolist()], rows)
            for rows in split_photos(images, BATCH[self.device.type])
        ]
        done = record_event(self.device) if passes else None
        least = self.threshold if threshold is None else threshold
        return PendingPasses(passes, len(images), least, self.overlap, self.most, done)

    def _start(self, images: Sequence[Photo], rows: npt.NDArray[np.int64]) -> Pass:
        """The surest boxes of some photos, on their way to host memory."""
        spec = self.spec
        pixels, placement = letterbox(
            images,
            side=spec.side,
            multiple=STRIDES[-1],
            border=spec.border,
            mean=spec.mean,
            std=spec.std,
            dtype=self.dtype,
            device=self.device,
        )
        logits, distances = self.net(pixels)
        scores, places = logits.sigmoid().nan_to_num(nan=0.0).topk(min(CANDIDATES, logits.shape[1]))
        centers = place_centers(placement.shape)[0].to(self.device, non_blocking=True)
        boxes = decode_boxes(distances, centers).gather(1, places[..., None].expand(-1, -1, 4))
        found = torch.cat([boxes, scores[..., None]], 2).to("cpu", non_blocking=True)
        return Pass(rows, placement, lambda: (found[..., :4].numpy(), found[..., 4].numpy()), [images, pixels])


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
    return PersonDetector(*read_detector(path), **options)


def read_detector(path: str | os.PathLike[str]) -> tuple[PersonNet, DetectorSpec]:
    """The network of such a file, and its spec.

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
    return net, spec
