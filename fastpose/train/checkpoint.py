"""The state of a run in one file, written so that a crash at any moment leaves the old file or the new one; resumed."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..files import atomic_write
from ..models import PoseModel
from .averaging import WeightAverage
from .distributed import Trained
from .recipe import Recipe, parse_recipe

__all__ = [
    "SKIPPED",
    "STATE",
    "CheckpointError",
    "load_state",
    "open_run",
    "random_state",
    "restore_rest",
    "restore_weights",
    "save_state",
    "set_random_state",
]

STATE, RECIPE, SKIPPED = "state.pt", "recipe.yaml", "skipped.txt"
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


def open_run(recipe: Recipe, out: Path, resume: bool) -> dict[str, Any] | None:
    """The folder of a run, ready to be written to; the saved state if there is one to resume.

    Raises:
        CheckpointError: There is a state and none is wanted, or the other way round, or it is of another run.
    """
    state = None
    if resume:
        state = load_state(out / STATE)
        before = parse_recipe(state["recipe"])
        if before.model != recipe.model:
            raise CheckpointError(f"{out / STATE}: trains another model than the recipe (keys under model: differ)")
        kinds = before.train.optimizer.name, recipe.train.optimizer.name
        if kinds[0] != kinds[1]:
            raise CheckpointError(f"{out / STATE}: its optimizer is {kinds[0]}, that of the recipe {kinds[1]}")
    elif (out / STATE).exists():
        raise CheckpointError(f"{out}: holds a run already; --resume continues it, another --out starts afresh")
    out.mkdir(parents=True, exist_ok=True)
    for name in (STATE, RECIPE, SKIPPED, "log.csv", "*.safetensors"):  # of a run that was killed while it wrote
        for unfinished in out.glob(f".{name}.*.tmp"):
            unfinished.unlink()
    atomic_write(out / RECIPE, recipe.to_yaml().encode())
    return state


def restore_weights(state: dict[str, Any], path: Path, model: nn.Module, average: nn.Module | None) -> None:
    """Put a saved state into network and average.

    Raises:
        CheckpointError: It does not fit; ``path`` is what the error names.
    """
    with _fitting(path):
        model.load_state_dict(state["model"])
        if average is not None:
            average.load_state_dict(state["average"] or state["model"])


def restore_rest(
    state: dict[str, Any],
    path: Path,
    trained: Trained,
    swa: WeightAverage[PoseModel] | None,
    optimizer: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
) -> None:
    """Put a saved state into mean, optimizer and loss scale; rates and decays stay what the recipe says now.

    Raises:
        CheckpointError: It does not fit; ``path`` is what the error names.
    """
    settings = [{key: value for key, value in group.items() if key != "params"} for group in optimizer.param_groups]
    with _fitting(path):
        trained.load_optimizer(optimizer, state["optimizer"])
        if swa and state.get("swa"):
            swa.load_state_dict(state["swa"])
        if state["scaler"]:  # else it was trained in another precision
            scaler.load_state_dict(state["scaler"])
    for group, values in zip(optimizer.param_groups, settings, strict=True):
        group.update(values)


@contextmanager
def _fitting(path: Path) -> Iterator[None]:
    try:
        yield
    except (KeyError, RuntimeError, ValueError) as error:
        raise CheckpointError(f"{path}: does not fit the recipe ({str(error).splitlines()[0]})") from None
