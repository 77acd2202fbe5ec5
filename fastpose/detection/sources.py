"""What a user may name a detector by: the one that the package carries, a file, torchvision's networks, a function."""

from __future__ import annotations

import os
from pathlib import Path
from typing import cast

import torch

from fastpose.models.find import packaged_file

from ..devices import pick_device, pick_dtype
from .batch import BatchDetector
from .detections import Detector

__all__ = ["CARRIED_DETECTOR", "carried_detector_file", "find_detector"]

CARRIED_DETECTOR = "carried"
"""Names the detector in the package, which is taken where no other is named."""

_CARRIED_FILE = "person_net.safetensors"
_TORCHVISION = "torchvision:"
_EXPECTED = f"expected {CARRIED_DETECTOR!r}, an .onnx or .safetensors file, '{_TORCHVISION}NAME', or a function"


def find_detector(
    source: str | os.PathLike[str] | BatchDetector | Detector = CARRIED_DETECTOR,
    *,
    device: str | torch.device | None = None,
    dtype: str | torch.dtype | None = None,
    layout: str | None = None,
    person_class: int | None = None,
) -> Detector:
    """The detector that a name, a file or a function stands for.

    Args:
        source: "carried"; an ONNX file; a safetensors file of `save_detector`; "torchvision:NAME", such as
            ``torchvision:fasterrcnn_mobilenet_v3_large_fpn``; or a detector, which is given back as it is.
        device: Where it runs: "cpu", "cuda", "cuda:1", …; by default as each kind says.
        dtype: What this package's own networks compute in, as for `fastpose.load`; the others say so themselves.
        layout: How the outputs of an ONNX file are to be read, where they do not show it.
        person_class: Which of the classes of an ONNX file is a person.

    Returns:
        A function of a photo (see `Detector`); those that are made here are `BatchDetector`.

    Raises:
        TypeError: The source is neither.
        ValueError: No detector has that name, or an option is of no use to it.
        WeightsError: A safetensors file is missing, damaged, or no detector.

    Example:
        >>> find_detector(lambda photo: [[4, 4, 60, 90]])(None)
        [[4, 4, 60, 90]]
    """
    is_onnx = isinstance(source, str | os.PathLike) and Path(source).suffix.lower() == ".onnx"
    for name, value in (("layout", layout), ("person_class", person_class)):
        if value is not None and not is_onnx:
            raise ValueError(f"{name}: is for the detectors of ONNX files, got {value!r} for {source!r}")
    if is_onnx:
        from .onnx import OnnxDetector

        file = cast("str | os.PathLike[str]", source)
        return OnnxDetector(file, device=device, layout=layout, person_class=person_class)
    if callable(source):
        return source
    if not isinstance(source, str | os.PathLike):
        raise TypeError(f"detector: {_EXPECTED}, got {type(source).__name__}")
    name = os.fspath(source)
    if name.startswith(_TORCHVISION):
        from .torchvision import TorchvisionDetector

        return TorchvisionDetector(name.removeprefix(_TORCHVISION), device=device)
    from .person_detector import load_detector

    if name == CARRIED_DETECTOR:
        name = os.fspath(carried_detector_file())
    elif Path(name).suffix.lower() != ".safetensors":
        raise ValueError(f"detector: {_EXPECTED}, got {name!r}")
    device = pick_device(device)
    return load_detector(name, device=device, dtype=pick_dtype(dtype, device))


def carried_detector_file() -> Path:
    """Where the carried detector lies.

    Raises:
        WeightsError: The package is incomplete.
    """
    return packaged_file("fastpose.detection", _CARRIED_FILE, CARRIED_DETECTOR)
