"""A run: where it stands and what became of it, and all that ``state.pt`` holds."""

from __future__ import annotations

import csv
import dataclasses
import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..files import open_file, read_file
from ..models import PoseModel
from .averaging import WeightAverage
from .checkpoint import BEST, LAST, LOG, SKIPPED, STATE, CheckpointError, load_state
from .distillation import Distillation
from .distributed import DistributedModel, World
from .ema import MovingAverage
from .process import random_state, set_random_state
from .recipe import Recipe, parse_recipe

__all__ = ["Run", "TrainState"]

_WHOLE_NUMBERS = ("step", "epoch", "images")  # columns of the log
# What is not of the state: where it lies, and what is told at the end.
_NOT_SAVED = ("folder", "finished", "last", "failed_photos")


@dataclasses.dataclass
class Run:
    """Where a training run stands, and what became of it.

    Attributes:
        folder: Where its files are.
        finished: False if it was interrupted; ``resume`` continues it.
        epoch: Epochs done.
        images_in_epoch: Crops of the next epoch that were trained on already.
        images_seen: Crops trained on in the whole run.
        steps: Optimizer steps done, skipped ones counted.
        skipped_steps: Steps without a finite loss or gradient.
        validation_due: Whether the last epoch's weights are saved and still to be validated.
        best: Best value of the validation's metric, or None.
        best_epoch: Its epoch, from 1.
        best_weights: What it was measured with: ``trained``, ``ema`` or ``swa``.
        no_better: Validations since then.
        precision: What the network is trained in: ``float32``, ``bfloat16`` or ``float16``.
        last: Figures of the last validation.
        failed_photos: Photos that could not be read, each with the reason.
    """

    folder: Path
    finished: bool = False
    epoch: int = 0
    images_in_epoch: int = 0
    images_seen: int = 0
    steps: int = 0
    skipped_steps: int = 0
    validation_due: bool = False
    best: float | None = None
    best_epoch: int | None = None
    best_weights: str | None = None
    no_better: int = 0
    precision: str = "float32"
    last: dict[str, float] = dataclasses.field(default_factory=dict)
    failed_photos: list[str] = dataclasses.field(default_factory=list)

    @classmethod
    def read(cls, folder: str | Path) -> Run:
        """A run of some time before, as its ``state.pt`` has it.

        Raises:
            CheckpointError: There is no state, or it is damaged.
        """
        run = cls(Path(folder))
        state = load_state(run.folder / STATE)
        run.load_state_dict(state)
        recipe = parse_recipe(state["recipe"])
        run.finished = not run.validation_due and (run.epoch >= recipe.train.epochs or run.out_of_patience(recipe))
        skipped = run.folder / SKIPPED
        if skipped.is_file():
            run.failed_photos = read_file(skipped).decode("utf-8", "surrogateescape").splitlines()
        return run

    def out_of_patience(self, recipe: Recipe) -> bool:
        """Whether the recipe ends a run after so many validations that were no better."""
        return recipe.eval.patience is not None and self.no_better >= recipe.eval.patience

    @property
    def best_checkpoint(self) -> Path:
        """The model that was best in validation (of a run without any, the last one), for ``fastpose.load``."""
        return self.folder / BEST

    @property
    def last_checkpoint(self) -> Path:
        """The model of the last save, for ``fastpose.load``."""
        return self.folder / LAST

    def log(self) -> list[dict[str, Any]]:
        """The lines of ``log.csv``: optimizer steps and validations, in order.

        Returns:
            One mapping a line, without the columns that are empty in it: ``step``, ``epoch`` (from 0) and ``images``
            are whole numbers, ``weights`` is text, all others are floats (``loss``, ``lr``, ``grad_norm``, ``metric``).
        """
        with io.TextIOWrapper(open_file(self.folder / LOG), encoding="utf-8", errors="replace", newline="") as file:
            rows = csv.DictReader(file)
            return [{name: _value(name, text) for name, text in row.items() if name and text} for row in rows]

    def curve(self, name: str = "loss") -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """A column of the log over the steps.

        Args:
            name: ``loss``, ``lr``, ``grad_norm``, ``images_per_second``, ``waited``; or ``metric``, of validations.

        Returns:
            Optimizer steps [N], from 1, and the values at them [N]; lines without a value are left out.
        """
        rows = [row for row in self.log() if isinstance(row.get(name), int | float)]
        return np.array([row["step"] for row in rows], np.int64), np.array([row[name] for row in rows], np.float64)

    def state_dict(self) -> dict[str, Any]:
        """What :meth:`load_state_dict` takes: numbers and texts by name."""
        return {field.name: getattr(self, field.name) for field in _saved()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from what :meth:`state_dict` gave; what an older version did not note stays as it is."""
        for field in _saved():
            setattr(self, field.name, state.get(field.name, getattr(self, field.name)))


def _saved() -> Iterator[dataclasses.Field[Any]]:
    return (field for field in dataclasses.fields(Run) if field.name not in _NOT_SAVED)


def _value(name: str, text: str) -> Any:
    if name == "weights":
        return text
    return int(text) if name in _WHOLE_NUMBERS else float(text)


@dataclasses.dataclass
class TrainState:
    """Everything that changes while a network is trained, and that ``state.pt`` holds.

    Attributes:
        run: The numbers.
        world: The processes.
        device: Of this process.
        model: The network.
        network: The same, as the processes train it together.
        ema: Moving average of its weights, or None.
        swa: Mean of its weights over the last epochs, or None.
        optimizer: With its learning rates.
        scaler: Of the loss in float16; off in other precisions.
        distillation: The network beside its teacher, or None.
    """

    run: Run
    world: World
    device: torch.device
    model: PoseModel
    network: DistributedModel
    ema: MovingAverage[PoseModel] | None
    swa: WeightAverage[PoseModel] | None
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    distillation: Distillation | None = None

    def state_dict(self) -> dict[str, Any]:
        """What :meth:`load_state_dict` takes: complete in the first process. All processes have to call it."""
        return {
            **self.run.state_dict(),
            "model": self.network.state_dict(self.model),
            "average": self.network.state_dict(self.ema.model) if self.ema else None,
            "swa": self.swa.state_dict() if self.swa else None,
            "optimizer": self.network.optimizer_state_dict(self.optimizer),
            "scaler": self.scaler.state_dict(),
            "distillation": self.distillation.state() if self.distillation else None,
            "random": self.world.gather(random_state(self.device)),
        }

    def load_state_dict(self, state: dict[str, Any], path: Path) -> None:
        """Continue from what :meth:`state_dict` gave; rates, decays and precision stay what the recipe says now.

        Args:
            state: The same in all processes.
            path: What an error names.

        Raises:
            CheckpointError: It does not fit.
        """
        settings = [{k: v for k, v in group.items() if k != "params"} for group in self.optimizer.param_groups]
        with _fitting(path):
            self.network.load_state_dict(self.model, state["model"])
            if self.ema:
                self.network.load_state_dict(self.ema.model, state["average"] or state["model"])
            if self.swa and state.get("swa"):
                self.swa.load_state_dict(state["swa"])
            self.network.load_optimizer_state_dict(self.optimizer, state["optimizer"])
            if self.distillation:
                self.distillation.load_state(state["distillation"])
            if state["scaler"]:  # else it was trained in another precision
                self.scaler.load_state_dict(state["scaler"])
        for group, values in zip(self.optimizer.param_groups, settings, strict=True):
            group.update(values)
        precision = self.run.precision
        self.run.load_state_dict(state)
        self.run.precision = precision
        if self.world.rank < len(state["random"]):
            set_random_state(state["random"][self.world.rank], self.device)


@contextmanager
def _fitting(path: Path) -> Iterator[None]:
    try:
        yield
    except (KeyError, RuntimeError, ValueError) as error:
        raise CheckpointError(f"{path}: does not fit the recipe ({str(error).splitlines()[0]})") from None
