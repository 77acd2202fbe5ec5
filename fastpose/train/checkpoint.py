"""The folder of a run: one run at a time writes to it, and its state is written whole or not at all."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch

from ..files import atomic_write, lock_folder, open_file
from .recipe import Recipe, parse_recipe

__all__ = [
    "BEST",
    "LAST",
    "LOG",
    "SKIPPED",
    "STATE",
    "CheckpointError",
    "load_state",
    "open_folder",
    "save_state",
]

STATE, RECIPE, SKIPPED, LOG = "state.pt", "recipe.yaml", "skipped.txt", "log.csv"
BEST, LAST = "best.safetensors", "last.safetensors"
_VERSION = 1
_MAX_BYTES = 1 << 38  # of a state: weights, their average, and what the optimizer keeps of each


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
        with open_file(path, limit=_MAX_BYTES) as file:
            state = torch.load(file, map_location="cpu", weights_only=True)
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


@contextmanager
def open_folder(recipe: Recipe, out: Path, resume: bool) -> Iterator[dict[str, Any] | None]:
    """The folder of a run, ready to be written to, and nobody else's within the block; the state if it is resumed.

    Raises:
        CheckpointError: Another run writes there; or there is a state and none is wanted, or the other way round, or it
            is of another run.
    """
    if resume and not out.is_dir():
        load_state(out / STATE)  # says what is missing
    out.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        try:
            stack.enter_context(lock_folder(out))
        except BlockingIOError as error:
            raise CheckpointError(f"{out}: {error.strerror}") from None
        state = _state_to_resume(recipe, out) if resume else None
        if not resume and (out / STATE).exists():
            raise CheckpointError(f"{out}: holds a run already; --resume continues it, another --out starts afresh")
        for name in (STATE, RECIPE, SKIPPED, LOG, "*.safetensors"):  # of a run that was killed while it wrote
            for unfinished in out.glob(f".{name}.*.tmp"):
                unfinished.unlink()
        atomic_write(out / RECIPE, recipe.to_yaml().encode())
        yield state


def _state_to_resume(recipe: Recipe, out: Path) -> dict[str, Any]:
    state = load_state(out / STATE)
    before = parse_recipe(state["recipe"])
    if before.model != recipe.model:
        raise CheckpointError(f"{out / STATE}: trains another model than the recipe (keys under model: differ)")
    kinds = before.train.optimizer.name, recipe.train.optimizer.name
    if kinds[0] != kinds[1]:
        raise CheckpointError(f"{out / STATE}: its optimizer is {kinds[0]}, that of the recipe {kinds[1]}")
    taught = ["with" if of.train.distill else "without" for of in (before, recipe)]
    if taught[0] != taught[1]:
        raise CheckpointError(f"{out / STATE}: was trained {taught[0]} train.distill, and the recipe is {taught[1]}")
    return state
