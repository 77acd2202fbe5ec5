"""Detectors of torchvision, by name or as they are."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from fastpose.devices import pick_device
from fastpose.models.weights import WeightsError

from .batch import BatchDetector, PendingDetections, Photo
from .letterbox import check_photos, letterbox
from .passes import Pass, PendingPasses

__all__ = ["TorchvisionDetector"]

Array = npt.NDArray[Any]


class TorchvisionDetector(BatchDetector):
    """Finds people with a detector of torchvision: Faster R-CNN, RetinaNet, FCOS, SSD, Mask or Keypoint R-CNN.

    Photos of any sizes go in together, each as it is, and the network resizes and pads them itself. On a GPU it waits
    for itself, as it chooses its boxes on the way.

    Args:
        model: A name such as ``fasterrcnn_mobilenet_v3_large_fpn``, with the best weights that torchvision publishes
            for it, which torchvision fetches once; or a network that takes and gives what those do. It is put on the
            device and into evaluation mode.
        device: "cpu", "cuda", "cuda:1", …; by default the GPU if there is one and the native core was built for it.
        person_class: Number of the class of people; by default that which the weights say, else 1.
        threshold: Least score.
        overlap: Of two boxes that overlap more than this (intersection over union) the one with the lower score goes;
            by default none, as the network sees to it.
        most: Boxes of a photo, those with the highest scores.

    Attributes:
        model: The network.
        person_class: The class of people.

    Raises:
        ImportError: A name is given, and torchvision is not installed.
        TypeError: The model is neither a name nor a network.
        ValueError: torchvision has no such detector.
        WeightsError: The weights cannot be had.

    Example:
        >>> class Sees(torch.nn.Module):
        ...     def forward(self, photos):
        ...         box, one = torch.tensor([[4.0, 4, 30, 60]]), torch.ones(1)
        ...         return [{"boxes": box, "labels": one.long(), "scores": one * 0.9} for _ in photos]
        >>> detector = TorchvisionDetector(Sees(), device="cpu")
        >>> detector(np.zeros((64, 48, 3), np.uint8)).boxes.tolist()
        [[4.0, 4.0, 30.0, 60.0]]
    """

    def __init__(
        self,
        model: str | nn.Module,
        *,
        device: str | torch.device | None = None,
        person_class: int | None = None,
        threshold: float = 0.5,
        overlap: float = 1.0,
        most: int = 300,
    ) -> None:
        self.device = pick_device(device)
        self.name, said = "torchvision's detector", None
        if isinstance(model, str):
            self.name = f"torchvision:{model}"
            model, said = _build(model)
        if not isinstance(model, nn.Module):
            raise TypeError(f"model: expected a name or a network, got {type(model).__name__}")
        self.model = model.to(self.device).eval()
        self.person_class = person_class if person_class is not None else 1 if said is None else said
        self.threshold, self.overlap, self.most = threshold, overlap, most

    @torch.inference_mode()
    def submit(self, images: Sequence[Photo], threshold: float | None = None) -> PendingDetections:
        """Look for people, see `BatchDetector.submit`."""
        check_photos(images)
        pictures = [
            letterbox(
                [image],
                size=(int(image.shape[0]), int(image.shape[1])),
                rgb=True,
                std=255.0,
                channels_last=False,
                device=self.device,
            )
            for image in images
        ]
        answers = self.model([pixels[0] for pixels, _ in pictures]) if pictures else []
        if not isinstance(answers, list | tuple) or len(answers) != len(pictures):
            raise ValueError(f"{self.name}: expected a list of {len(pictures)} answers, got {type(answers).__name__}")
        passes = [
            Pass(np.array([row]), placement, partial(self._read, answer))
            for row, (answer, (_, placement)) in enumerate(zip(answers, pictures, strict=True))
        ]
        least = self.threshold if threshold is None else threshold
        return PendingPasses(passes, len(images), least, self.overlap, self.most)

    def _read(self, answer: Any) -> tuple[Array, Array]:
        """Boxes [1, N, 4] of a photo and their scores [1, N], of people."""
        keys = ("boxes", "labels", "scores")
        if not isinstance(answer, dict) or not all(isinstance(answer.get(key), torch.Tensor) for key in keys):
            found = sorted(answer) if isinstance(answer, dict) else type(answer).__name__
            raise ValueError(f"{self.name}: expected tensors boxes, labels and scores, got {found}")
        boxes, labels, scores = (answer[key].detach().cpu().numpy() for key in keys)
        if boxes.shape != (len(boxes), 4) or labels.shape != scores.shape or scores.shape != boxes.shape[:1]:
            shapes = [list(values.shape) for values in (boxes, labels, scores)]
            raise ValueError(f"{self.name}: expected boxes [N, 4], labels [N] and scores [N], got {shapes}")
        scores = np.where(labels == self.person_class, scores, 0.0)
        return boxes[None].astype(np.float32), scores[None].astype(np.float32)


def _build(name: str) -> tuple[nn.Module, int | None]:
    """The network of a name with its best weights, and the class that they call a person."""
    try:
        from torchvision import models
    except (ImportError, RuntimeError) as error:  # the latter where it was built for another torch
        raise ImportError(
            f"torchvision:{name} needs a torchvision for torch {torch.__version__}: pip install torchvision ({error})"
        ) from error
    known = models.list_models(module=models.detection)
    if name not in known:
        raise ValueError(f"torchvision:{name}: there is no such detector; expected one of {', '.join(known)}")
    weights = models.get_model_weights(name).DEFAULT
    try:
        model = models.get_model(name, weights=weights)
    except (OSError, RuntimeError) as error:  # no network, no room, or a file that is not what it should be
        raise WeightsError(f"torchvision:{name}: its weights cannot be had: {error}") from None
    categories = [str(word).lower() for word in weights.meta.get("categories", [])]
    return model, categories.index("person") if "person" in categories else None
