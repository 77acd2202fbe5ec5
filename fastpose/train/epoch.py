"""An epoch: its optimizer steps, and the validation after it."""

from __future__ import annotations

import dataclasses
import math
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, closing
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..data.dataset import PoseDataset
from ..data.loader import Batch, Loader
from ..evaluate import Evaluator
from ..models import PoseModel, save_model
from .checkpoint import BEST, LAST, STATE, save_state
from .log import RunLog
from .memory import copy_all
from .optim import learning_rate_factor, set_learning_rate, set_training_mode
from .recipe import Recipe
from .run import Run, TrainState
from .settings import ScheduleSettings
from .setup import Phase

__all__ = ["Trainer"]

# A run that waits longer than this share of an epoch for its photos says so; epochs of a few seconds tell nothing.
_WAITED, _SECONDS = 0.2, 10.0
# Crops in a row of which not one has a photo that can be read: no data set is like that, its disk is gone.
_UNREADABLE = 1000


@dataclasses.dataclass
class Trainer:
    """What a run works with, and its epochs.

    Attributes:
        recipe: What to do.
        state: What changes on the way, and is saved.
        dataset: The people to train on.
        phases: Parts of the run, in order.
        loaders: Of each phase.
        evaluator: Measures networks; None validates nothing.
        schedule: Of the learning rate.
        forward: The network to train, as it is called.
        autocast: Makes the context in which it runs.
        joint_weights: float32 [K], a factor on each keypoint's label weights.
        total_images: Crops of the whole run.
        log: What is said and written down.
    """

    recipe: Recipe
    state: TrainState
    dataset: PoseDataset
    phases: list[Phase]
    loaders: list[Loader]
    evaluator: Evaluator | None
    schedule: ScheduleSettings
    forward: Callable[[Tensor], Any]
    autocast: Callable[[], AbstractContextManager[Any]]
    joint_weights: Tensor
    total_images: int
    log: RunLog

    def __post_init__(self) -> None:
        self._first_epoch = self.run.epoch
        self._failures = self._unreadable = 0  # steps in a row without a finite loss; crops in a row without a photo
        self._told = False  # that loading bounds the run
        self._unread: dict[int, str] = {}  # photos that could not be read in some epoch before, and why
        self._unjudged: dict[str, None] = {}  # why photos could not be read in some validation
        # Running statistics take in a step's activations before its loss is known to be finite.
        self._buffers = list(self.state.model.buffers())
        self._good_buffers = [buffer.clone() for buffer in self._buffers]

    @property
    def run(self) -> Run:
        """Where the run stands."""
        return self.state.run

    @property
    def can_save(self) -> bool:
        """Not after steps without a finite loss: the weights may be what none comes from. At the end all the same."""
        return not self._failures or self.run.epoch == self.recipe.train.epochs

    def epochs(self) -> Iterator[tuple[int, Phase, Loader]]:
        """Epochs that are left: number from 0, phase and loader."""
        for phase, loader in zip(self.phases, self.loaders, strict=True):
            for epoch in range(max(self.run.epoch, phase.first_epoch), phase.first_epoch + phase.epochs):
                yield epoch, phase, loader

    def failed_photos(self, *, validated: bool = False) -> list[str]:
        """Why photos to train on could not be read, in all processes; or those that were to be validated, too."""
        parts = self.state.world.gather(list((self._unread | self.dataset.photos.failed).values()))
        reasons = dict.fromkeys(reason for part in parts for reason in part)
        return list({**reasons, **self._unjudged} if validated else reasons)

    def save(self) -> None:
        """Write the state and the last model."""
        state, folder = self.state, self.run.folder
        content = {"recipe": self.recipe.to_yaml(), **state.state_dict()}
        if state.world.main:
            save_state(folder / STATE, content)
        self._save_model(state.ema.model if state.ema else state.model, LAST)

    def _save_model(self, model: PoseModel, name: str, metadata: dict[str, str] | None = None) -> None:
        model = self.state.network.full_model(model)
        if self.state.world.main:
            save_model(model, self.run.folder / name, metadata=metadata)

    # Training

    def train_epoch(self, epoch: int, phase: Phase, loader: Loader, interrupted: threading.Event) -> bool:
        """Do the steps of an epoch, those that are left of one that was interrupted.

        Args:
            epoch: From 0.
            phase: Its phase.
            loader: Gives its batches.
            interrupted: Ends it after the step that is under way, in all processes.

        Returns:
            Whether it was done to its end; otherwise ``run.images_in_epoch`` says how far.

        Raises:
            TrainingError: No photo can be read, or too many steps in a row have no finite loss.
        """
        run, world, together = self.run, self.state.world, self.recipe.train.accumulate
        start = _first_batch(run.images_in_epoch, phase, len(loader), together)
        run.images_seen -= run.images_in_epoch - start * phase.images
        set_training_mode(self.state.model)
        crops_in_epoch = waited_before = 0.0
        began = time.perf_counter()
        with closing(loader.epoch(epoch, start)) as source:
            batches = _Waiting(source)
            for first in range(start, len(loader), together):
                count = min(together, len(loader) - first)
                lr = phase.lr * learning_rate_factor(self.schedule, run.steps, run.images_seen / self.total_images)
                set_learning_rate(self.state.optimizer, lr)
                losses, own_crops = self._add_gradients(phase, islice(batches, count), count)
                crops = world.sum(own_crops)[0]
                crops_in_epoch += crops
                self._check_crops(crops, phase.images * count)
                if not crops:
                    continue
                loss, grad_norm = self._update(losses, phase.images * count / crops)
                self.log.step(
                    step=run.steps,
                    epoch=epoch,
                    epochs=self.recipe.train.epochs,
                    images=run.images_seen,
                    batch=phase.images * count,
                    loss=loss,
                    lr=lr,
                    grad_norm=grad_norm,
                    waited=batches.seconds - waited_before,
                )
                waited_before = batches.seconds
                if world.any(interrupted.is_set()):
                    run.images_in_epoch = (first + count) * phase.images
                    return False
        self._check_waiting(epoch, waited_before, time.perf_counter() - began)
        self._check_photos(epoch, start < len(loader) and not crops_in_epoch)
        run.epoch, run.images_in_epoch = epoch + 1, 0
        swa = self.recipe.train.swa
        if self.state.swa and swa and epoch >= self.recipe.train.epochs - swa.epochs:
            self.state.swa.update(self.state.network.full_model(self.state.model))
        return True

    def _add_gradients(self, phase: Phase, batches: Iterable[Batch], count: int) -> tuple[list[Tensor], int]:
        """Forward and backward passes of the batches of a step.

        Returns:
            Their losses, scalars, and the crops of this process in them.
        """
        network, distillation = self.state.network, self.state.distillation
        self.state.optimizer.zero_grad(set_to_none=True)
        factor = distillation.factor(self.run.epoch / self.recipe.train.epochs) if distillation else 0.0
        labels = distillation.labels if distillation else 1.0
        losses: list[Tensor] = []
        crops = 0
        for number, batch in enumerate(batches, 1):
            if len(batch.people) < phase.least_crops:  # a left-over crop whose maps of one pixel have no variance
                batch = _without_crops(batch)
            own = len(batch.people)
            batch = network.pad_empty(batch, phase.least_crops)
            network.set_grad_sync(number == count)
            with self.autocast():
                output = self.forward(batch.images)
            output, distance = output if distillation else (output, 0.0)
            loss = phase.loss(output, batch.keypoints, batch.weights * self.joint_weights, batch.annotated)
            loss = labels * loss + factor * distance
            loss = loss * (own / (phase.images * count))
            network.backward(self.state.scaler.scale(loss), empty=not own)
            self.run.images_seen += phase.images
            if own:
                losses.append(loss.detach())
            crops += own
        return losses, crops

    def _update(self, losses: list[Tensor], correction: float) -> tuple[float, float]:
        """An optimizer step, which is skipped where loss or gradient is not finite.

        Args:
            losses: Of this process's batches.
            correction: Photos that cannot be read leave the processes unlike numbers of crops; each counts the same.

        Returns:
            The loss of all processes, and the norm of its gradient before clipping.
        """
        state, run, settings = self.state, self.run, self.recipe.train
        state.scaler.unscale_(state.optimizer)
        state.network.scale_grads(correction)
        norm = state.network.clip_grad_norm(settings.clip_grad)
        # The only time in a step that a GPU is waited for.
        *own_losses, grad_norm = torch.stack([x.float() for x in (*losses, norm)]).tolist()
        loss = state.world.sum(sum(own_losses))[0] * correction
        if math.isfinite(loss) and math.isfinite(grad_norm):
            state.optimizer.step()
            if state.ema:
                state.ema.update(run.steps)
            copy_all(self._good_buffers, self._buffers)
            self._failures = 0
        else:
            copy_all(self._buffers, self._good_buffers)
            run.skipped_steps += 1
            self._failures += 1
            self.log.say(f"step {run.steps + 1}: loss {loss}, gradient {grad_norm}; step skipped")
            if self._failures >= settings.nan_limit:
                raise state.world.failure(
                    f"{self._failures} steps in a row without a finite loss and gradient, up to step {run.steps + 1}; "
                    "a smaller train.optimizer.lr or train.clip_grad may help"
                )
        state.scaler.update()
        run.steps += 1
        return loss, grad_norm

    def _check_crops(self, crops: float, wanted: int) -> None:
        """End a run whose disk is gone."""
        self._unreadable = 0 if crops else self._unreadable + wanted
        if self._unreadable >= _UNREADABLE:
            reason = (self.failed_photos() or ["batches of one crop are left out"])[-1]
            raise self.state.world.failure(f"no photo of {self._unreadable} crops in a row can be read: {reason}")

    def _check_photos(self, epoch: int, nothing: bool) -> None:
        """End a run that trained on nothing in an epoch, or lost most of its photos since the one before."""
        world, failed = self.state.world, self.dataset.photos.failed
        if nothing:
            reason = (self.failed_photos() or ["batches of one crop are left out"])[0]
            raise world.failure(f"no photo can be read: {reason}")
        lost = world.sum(len(failed.keys() - self._unread.keys()))[0]
        if epoch > self._first_epoch and lost > len(np.unique(self.dataset.photo)) / 2:
            last = self.failed_photos()[-1]
            raise world.failure(f"{lost:.0f} photos that were read before cannot be read any more: {last}")
        self._unread |= failed

    def _check_waiting(self, epoch: int, waited: float, seconds: float) -> None:
        if self._told or seconds <= _SECONDS or waited <= _WAITED * seconds:
            return
        self._told = True
        self.log.say(
            f"loading bounds the run: for {waited / seconds:.0%} of epoch {epoch + 1} the network waited for photos; "
            "more data.workers, or more memory for them (data.cache_gb), may help"
        )

    # Validation

    def validate(self) -> None:
        """Measure the weights after the last epoch, and keep the models that the recipe wants kept.

        Without an evaluator the last weights are the best.

        Raises:
            ValueError: What the network predicts cannot be measured, or no photo can be read.
        """
        run, recipe = self.run, self.recipe
        epoch = run.epoch - 1
        pairs = list(zip(self.phases, self.loaders, strict=True))
        # A recipe that has become shorter ends before the epoch.
        phase, loader = next((pair for pair in pairs if epoch < pair[0].first_epoch + pair[0].epochs), pairs[-1])
        networks = {"trained": self.state.model}
        if self.state.ema:
            networks["ema"] = self.state.ema.model
        if self.state.swa and self.state.swa.count:  # before the last epochs there is no mean of them
            networks["swa"] = self.state.swa.model
        kinds = [kind for kind in recipe.judged if kind in networks] or ["trained"]
        if "swa" in kinds:
            self._estimate_statistics(phase, loader, epoch)
        chosen = kinds[-1]
        if self.evaluator:
            chosen = self._measure(self.evaluator, {kind: networks[kind] for kind in kinds}, phase, epoch)
        elif run.epoch == recipe.train.epochs:
            self._save_model(networks[chosen], BEST, {"epoch": str(run.epoch)})
        if recipe.train.keep:
            self._keep_numbered(networks[chosen])
        run.validation_due = False

    def _measure(self, evaluator: Evaluator, networks: dict[str, PoseModel], phase: Phase, epoch: int) -> str:
        """Measure networks by kind, and save the best one if none was better; its kind."""
        run, name = self.run, evaluator.metric_name
        options: dict[str, Any] = {"flip_test": self.recipe.eval.flip_test, "autocast": self.autocast}
        results = {}
        for kind, network in networks.items():
            results[kind] = evaluator(self.state.network.full_model(network), spec=phase.spec, **options)
            self._unjudged |= dict.fromkeys(evaluator.failed)
        chosen = next(iter(results))
        for kind in results:
            if evaluator.metric.better(results[kind][name], results[chosen][name]):
                chosen = kind
        run.last = results[chosen]
        # At another input size it is another model's figure.
        comparable = phase.spec.input_size == self.state.model.spec.input_size
        best = comparable and (run.best is None or evaluator.metric.better(run.last[name], run.best))
        if best:
            figure = run.last[name]
            metadata = {"epoch": str(epoch + 1), "weights": chosen, name: f"{figure:.4f}"}
            self._save_model(networks[chosen], BEST, metadata)
            run.best, run.best_epoch, run.best_weights = figure, epoch + 1, chosen
        run.no_better = 0 if best else run.no_better + comparable
        self.log.metrics(
            step=run.steps,
            epoch=epoch,
            epochs=self.recipe.train.epochs,
            name=name,
            results=results,
            kind=chosen,
            best=best,
        )
        return chosen

    def _estimate_statistics(self, phase: Phase, loader: Loader, epoch: int) -> None:
        """Give the mean of the weights the statistics of training crops."""
        assert self.state.swa
        assert self.recipe.train.swa
        with closing(loader.epoch(epoch)) as batches:
            some = (batch.images for batch in islice(batches, self.recipe.train.swa.batches))
            self.state.swa.estimate_statistics((x for x in some if len(x) >= phase.least_crops), self.autocast)

    def _keep_numbered(self, model: PoseModel) -> None:
        epoch, folder = self.run.epoch, self.run.folder
        self._save_model(model, f"epoch_{epoch:04}.safetensors", {"epoch": str(epoch)})
        for old in (
            sorted(folder.glob("epoch_*.safetensors"))[: -self.recipe.train.keep] if self.state.world.main else ()
        ):
            old.unlink(missing_ok=True)


class _Waiting:
    """An iterator that counts the seconds that it is waited for."""

    def __init__(self, source: Iterator[Batch]) -> None:
        self._source = source
        self.seconds = 0.0

    def __iter__(self) -> _Waiting:
        return self

    def __next__(self) -> Batch:
        asked = time.perf_counter()
        batch = next(self._source)
        self.seconds += time.perf_counter() - asked
        return batch


def _without_crops(batch: Batch) -> Batch:
    """The batch as it is where no photo can be read."""
    return dataclasses.replace(batch, **{f.name: getattr(batch, f.name)[:0] for f in dataclasses.fields(batch)})


def _first_batch(images: int, phase: Phase, batches: int, accumulate: int) -> int:
    """Number of the batch that follows so many images of an epoch; with other batches than they came in, before them.

    Args:
        images: Crops of the epoch that were trained on.
        phase: The epoch's phase.
        batches: In the epoch.
        accumulate: Batches in a step.

    Returns:
        The first batch of a step, or ``batches``.
    """
    batch = images // phase.images
    return batch if batch >= batches else batch - batch % accumulate
