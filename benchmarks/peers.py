"""Peers that may be installed: imported once, or AbsentError by name."""

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
    for name in ("torch", "numpy", "opencv-python", "opencv-python-headless", "mmpose", "mmcv-lite", "mmcv", "kornia"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found
