"""Training: ``fastpose.train(recipe, out)``, and the parts that it is made of.

The package can be called, because its verb and its parts share a name: ``fastpose.train(...)`` is
``fastpose.train.train(...)``, in whatever order it and modules such as :mod:`fastpose.train.recipe` are imported.
"""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

    from .recipe import Recipe
    from .run import Run

__all__ = ["train"]


def train(
    recipe: str | os.PathLike[str] | Mapping[str, Any] | Recipe,
    out: str | os.PathLike[str],
    *,
    resume: bool = False,
    console: Console | None = None,
    **overrides: Any,
) -> Run:
    """Train a network.

    Args:
        recipe: A zoo name, the name of a recipe in the package, a YAML file, a mapping of the same keys, or a
            :class:`fastpose.train.recipe.Recipe`.
        out: Folder for checkpoints and log (see :func:`fastpose.train.loop.train`); made if it is not there.
        resume: Continue the run in that folder.
        console: Where to print; the terminal's error output by default. ``rich.console.Console(quiet=True)`` is silent.
        **overrides: Values of the recipe to change. A mapping changes only the keys that it has:
            ``train={"epochs": 3}`` is ``**{"train.epochs": 3}``; a list takes the place of a list. ``data`` may be a
            file, as ``data=FILE`` in a shell.

    Returns:
        What became of it. An interruption (Ctrl-C) saves the state and returns, ``finished`` being False.

    Raises:
        RecipeError, DataError, WeightsError, CheckpointError: Something given cannot be used (all are ValueErrors), or
            another run is writing to ``out``.
        TrainingError: Too many steps in a row without a finite loss; or another process ended.

    Example:
        >>> run = fastpose.train("synthetic_demo", "runs/demo", train={"epochs": 3})  # doctest: +SKIP
        >>> run.best, run.best_checkpoint, run.curve("loss")  # doctest: +SKIP
    """
    from .loop import train as run_recipe
    from .recipe import load_recipe

    return run_recipe(load_recipe(recipe, overrides), Path(out), resume=resume, console=console)


class _CallablePackage(ModuleType):
    def __call__(self, *args: Any, **overrides: Any) -> Run:
        return train(*args, **overrides)


__signature__ = inspect.signature(train)  # what help() and editors show of the call
sys.modules[__name__].__class__ = _CallablePackage
