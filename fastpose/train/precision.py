"""The precision that a network is trained in."""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch

from .recipe import Recipe

__all__ = ["autocast_context", "choose_precision"]


def autocast_context(precision: str, device: torch.device) -> Callable[[], AbstractContextManager[Any]]:
    """Makes the context in which a network of this precision runs."""
    if precision == "float32":
        return nullcontext
    return lambda: torch.autocast(device.type, dtype=getattr(torch, precision))


def choose_precision(recipe: Recipe, device: torch.device) -> str:
    """The precision that the recipe names; for ``auto`` one that follows from recipe and device alone.

    A deterministic run is in float32. A GPU trains in bfloat16, those before Ampere, which emulate it, in float16 (a
    sharded run, with which the scaled loss does not go, in float32). A CPU trains in bfloat16 if it multiplies matrices
    of it in hardware (AMX), else in float32.
    """
    settings = recipe.train
    if settings.precision != "auto":
        return settings.precision
    if settings.deterministic:
        return "float32"
    if device.type == "cuda":
        if torch.cuda.get_device_capability(device) >= (8, 0):
            return "bfloat16"
        return "float32" if settings.sharded else "float16"
    return "bfloat16" if _has_amx() else "float32"


@functools.cache
def _has_amx() -> bool:
    """Whether this processor has tiles of bfloat16, and the system lets them be used."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:  # not Linux
        return False
    flags = next((line for line in lines if line.startswith("flags")), "")
    return "amx_bf16" in flags.split()
