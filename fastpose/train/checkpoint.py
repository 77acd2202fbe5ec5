"""The state of a run in one file, written so that a crash at any moment leaves the old file or the new one."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import torch

from ..files import atomic_write
from .recipe import parse_recipe

__all__ = ["CheckpointError", "load_state", "random_state", "save_state", "set_random_state"]

_VERSION = 1


class CheckpointError(ValueError):
    """A state file that cannot be used; the message names it."""


def save_state(path: Path, state: dict[str, Any]) -> None:
    """Write tensors, numbers and texts in nested dictionaries and lists, atomically.

    Args:
        path: The file; its folder exists.
        state: What to write; ``torch.load(weights_only=True)`` must be able to read it.
    """
    buffer = io.BytesIO()
    torch.save({"fastpose_state": _VERSION, **state}, buffer)
    atomic_write(path, buffer.getbuffer())


def load_state(path: Path) -> dict[str, Any]:
    """Read what :func:`save_state` wrote, onto the CPU.

    Raises:
        CheckpointError: The file is missing, cut short, or not a training state of this version.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise CheckpointError(f"{path}: {error.strerror or error}") from None
    except Exception as error:
        raise CheckpointError(f"{path}: not a training state, or damaged ({str(error).splitlines()[0]})") from None
    if not isinstance(state, dict) or state.get("fastpose_state") != _VERSION:
        raise CheckpointError(f"{path}: not a training state of this version of fastpose")
    if "batch" in state:  # written by a run of one process, before there could be several
        images = state.pop("batch") * parse_recipe(state["recipe"]).train.batch_size
        state |= {"images_in_epoch": images, "random": [[state["random"]]]}
    return state


def random_state(device: torch.device) -> list[torch.Tensor]:
    """State of this process's random generators: the CPU's, and that of the GPU that it trains on."""
    return [torch.get_rng_state(), *([torch.cuda.get_rng_state(device)] if device.type == "cuda" else [])]


def set_random_state(state: list[torch.Tensor], device: torch.device) -> None:
    """Put the generators where :func:`random_state` found them."""
    torch.set_rng_state(state[0])
    if device.type == "cuda" and len(state) > 1:
        torch.cuda.set_rng_state(state[1], device)
