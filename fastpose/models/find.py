"""What a user may name a model by: a zoo entry, a file, or nothing for the model that the package carries."""

from __future__ import annotations

import os
from importlib import resources
from pathlib import Path

from .factory import create_model
from .hub import is_address
from .pose_model import PoseModel
from .weights import WeightsError, load_model

__all__ = ["CARRIED_MODEL", "carried_file", "find_model", "is_weights_file", "packaged_file"]

CARRIED_MODEL = "resnet18_slim_refined.people_160x160"
"""The model in the package, which is taken where no name is given."""

_CARRIED_FILE = "resnet18_slim_refined.safetensors"
_SUFFIXES = (".safetensors", ".pth", ".pt", ".ckpt", ".bin")


def find_model(name_or_file: str | os.PathLike[str] | None = None) -> PoseModel:
    """The trained model that a name stands for.

    Args:
        name_or_file: A zoo name, or a file that `save_model` wrote, also as an address that `fastpose.models.hub.fetch`
            takes (`hf:owner/name`); by default the model that the package carries.

    Returns:
        The network in float32, on the CPU, in evaluation mode.

    Raises:
        WeightsError: The file is missing, cut short or no model, or no weights are in reach for that name.
        ValueError: No model has that name.

    Example:
        >>> find_model().name
        'resnet18_slim_refined.people_160x160'
    """
    if name_or_file is None or name_or_file == CARRIED_MODEL:
        return load_model(carried_file())
    if is_weights_file(name_or_file):
        return load_model(name_or_file)
    return create_model(os.fspath(name_or_file), pretrained=True).eval()


def is_weights_file(name_or_file: str | os.PathLike[str]) -> bool:
    """Whether it means a file: a path or an address, which may lead nowhere, or the name of a file that is there."""
    name = os.fspath(name_or_file)
    if is_address(name):
        return True
    is_path = not isinstance(name_or_file, str) or os.sep in name or Path(name).suffix.lower() in _SUFFIXES
    return is_path or Path(name).is_file()


def carried_file() -> Path:
    """Where the carried model lies.

    Raises:
        WeightsError: The package is incomplete.
    """
    return packaged_file("fastpose.models", _CARRIED_FILE, CARRIED_MODEL)


def packaged_file(package: str, file: str, name: str) -> Path:
    """Where weights lie that a part of the package carries.

    Args:
        package: The part.
        file: Name of the file.
        name: What users know it by.

    Raises:
        WeightsError: The package is incomplete.
    """
    path = Path(str(resources.files(package))) / "carried" / file
    if not path.is_file():
        raise WeightsError(f"{name}: the package should hold {path}, and does not; reinstall it")
    return path
