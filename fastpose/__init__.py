"""FastPose: top-down 2D human pose estimation, from photo and boxes to keypoints, from data set to trained model.

The public names are loaded on first use, so that `import fastpose` costs little more than nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from fastpose._version import __version__

if TYPE_CHECKING:
    from fastpose.codecs import build_codec
    from fastpose.detection import Detections, find_detector
    from fastpose.models import create_model, list_models, load_checkpoint, load_model, save_model
    from fastpose.predict import Poses, Predictor, find_people, load
    from fastpose.skeletons import Skeleton, get_skeleton, list_skeletons
    from fastpose.spec import PoseSpec
    from fastpose.train import train
    from fastpose.video import open_video

_HOME = {
    "Skeleton": "skeletons",
    "get_skeleton": "skeletons",
    "list_skeletons": "skeletons",
    "PoseSpec": "spec",
    "build_codec": "codecs",
    "Detections": "detection",
    "find_detector": "detection",
    "create_model": "models",
    "list_models": "models",
    "load_checkpoint": "models",
    "load_model": "models",
    "save_model": "models",
    "load": "predict",
    "Predictor": "predict",
    "Poses": "predict",
    "find_people": "predict",
    "open_video": "video",
}
_MODULES = (
    "cli",
    "codecs",
    "data",
    "detection",
    "engines",
    "evaluate",
    "geometry",
    "inference",
    "integrations",
    "metrics",
    "models",
    "ops",
    "predict",
    "skeletons",
    "spec",
    "tracking",
    "train",
    "video",
    "views",
)

__all__ = [  # noqa: RUF022 - grouped as in _HOME
    "__version__",
    "Skeleton", "get_skeleton", "list_skeletons", "PoseSpec", "build_codec", "Detections", "find_detector",
    "create_model", "list_models", "load_checkpoint", "load_model", "save_model",
    "load", "Predictor", "Poses", "find_people", "open_video", "train",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name in _HOME:
        value = getattr(importlib.import_module(f"fastpose.{_HOME[name]}"), name)
        globals()[name] = value
        return value
    if name in _MODULES:
        return importlib.import_module(f"fastpose.{name}")
    raise AttributeError(f"module 'fastpose' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME, *_MODULES})
