"""Peers that may be installed, imported once, or AbsentError by name; and one that everybody writes in NumPy."""

from __future__ import annotations

import contextlib
import importlib
import importlib.metadata
import io
import os
import sys
import warnings
from functools import cache
from types import ModuleType

import numpy as np

from .data import Array
from .harness import AbsentError


@cache
def _import(name: str) -> ModuleType | str:
    try:
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return importlib.import_module(name)
    except ImportError as error:
        return f"{name} cannot be imported ({error})"


def module(name: str) -> ModuleType:
    """The module.

    Raises:
        AbsentError: It cannot be imported.
    """
    found = _import(name)
    if isinstance(found, str):
        raise AbsentError(found)
    return found


def mmpose(name: str) -> ModuleType:
    """A module of MMPose, after the stand-ins for what it imports but does not need.

    The variable FASTPOSE_PEERS names the folder that holds them, `mmpose_standins.py`; without it MMPose is imported
    as it is.

    Raises:
        AbsentError: It cannot be imported.
    """
    folder = os.environ.get("FASTPOSE_PEERS")
    if folder:
        if folder not in sys.path:
            sys.path.append(folder)
        module("mmpose_standins")
    return module(name)


def versions() -> dict[str, str]:
    """Of the packages that take part and are installed."""
    found = {"python": sys.version.split()[0]}
    for name in (
        "torch",
        "numpy",
        "opencv-python",
        "opencv-python-headless",
        "mmpose",
        "mmcv-lite",
        "mmcv",
        "kornia",
        "torchvision",
    ):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def numpy_quarter(maps: Array) -> tuple[Array, Array]:
    """arg-max and a quarter of a pixel towards the higher neighbour, over all maps [..., h, w] at once.

    Returns:
        points: float32 [..., 2] (x, y), pixels of the maps; -1 where nothing is above 0.
        scores: [...].
    """
    h, w = maps.shape[-2:]
    flat = maps.reshape(-1, h * w)
    rows = np.arange(len(flat))
    index = flat.argmax(1)
    scores = flat[rows, index]
    y, x = np.divmod(index, w)
    points = np.stack([x, y], -1).astype(np.float32)
    for axis, (at, side, step) in enumerate(((x, w, 1), (y, h, w))):
        inner = (at > 0) & (at < side - 1)
        r, i = rows[inner], index[inner]
        points[inner, axis] += np.float32(0.25) * np.sign(flat[r, i + step] - flat[r, i - step])
    points[scores <= 0] = -1
    return points.reshape(*maps.shape[:-2], 2), scores.reshape(maps.shape[:-2])
