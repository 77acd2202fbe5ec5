"""Training: one function, from a recipe to a saved model, that reads from top to bottom."""

from __future__ import annotations

import dataclasses
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console

from ..data.loader import Loader
from ..devices import pick_device
from ..files import atomic_write
from ..models import PoseModel, save_model
from .averaging import WeightAverage
from .checkpoint import (
    SKIPPED,
    STATE,
    open_run,
    random_state,
    restore_rest,
    restore_weights,
    save_state,
    set_random_state,
)
from .distributed import FirstProcessError, Trained, TrainingError, World, join_processes
from .ema import MovingAverage
from .log import RunLog, format_time
from .memory import copy_all, keep_memory
from .optim import build_optimizer, learning_rate_factor, limit_warmup, set_learning_rate, set_training_mode
from .recipe import Recipe, RecipeError
from .setup import (
    Phase,
    autocast_context,
    build_data,
    build_evaluator,
    build_model,
    build_phases,
    check_core,
    choose_precision,
    compiled,
)

__all__ = ["FirstProcessError", "Outcome", "TrainingError", "train"]

# A run that waits longer than this share of an epoch for its photos says so; epochs of a few seconds tell nothing.
_WAITED, _SECONDS = 0.2, 10.0
# Crops in a row of which not one has a photo that can be read: no data set is like that, its disk is gone.
_UNREADABLE = 1000
BEST, LAST = "best.safetensors", "last.safetensors"


@dataclasses.dataclass
class Outcome:
    """What became of a run.

    Attributes:
        finished: False if it was interrupted; ``resume`` continues it.
        steps: Optimizer steps done, skipped ones counted.
        skipped_steps: Steps without a finite loss or gradient.
        best: Best value of the validation's metric, or None.
        best_epoch: Its epoch, from 1.
        best_weights: What it was measured with: ``trained``, ``ema`` or ``swa``.
        no_better: Validations since then.
        last: Figures of the last validation.
        failed_photos: Photos that could not be read, each with the reason.
    """

    finished: bool = False
    steps: int = 0
    skipped_steps: int = 0
    best: float | None = None
    best_epoch: int | None = None
    best_weights: str | None = None
    no_better: int = 0
    last: dict[str, float] = dataclasses.field(default_factory=dict)
    failed_photos: list[str] = dataclasses.field(default_factory=list)


def train(recipe: Recipe, out: Path, *, resume: bool = False, console: Console | None = None) -> Outcome:
    """Train the network of a recipe.

    Into ``out`` go ``recipe.yaml`` (every value written out), ``best.safetensors`` and ``last.safetensors`` (models
    with their PoseSpec; averaged weights if the recipe averages, and ``best`` the best of what ``eval.weights`` names),
    ``epoch_N.safetensors`` (with ``train.keep``), ``state.pt`` (to resume), ``log.csv``, TensorBoard's ``events`` and
    ``skipped.txt`` (photos that could not be read).

    Started by ``torchrun``, or where torch.distributed runs, all its processes train the network together, and the
    first one writes and speaks for them.

    Args:
        recipe: What to do.
        out: Folder; made if it is not there.
        resume: Continue from ``state.pt``. On the CPU in float32 and deterministic mode the weights become the same as
            those of a run that was never interrupted.
        console: Where to print; the terminal's error output by default.

    Returns:
        What became of it. An interruption (Ctrl-C) saves the state and returns.

    Raises:
        RecipeError, DataError, WeightsError, CheckpointError: Something given cannot be used.
        TrainingError: Too many steps in a row without a finite loss; or another process ended.
    """
    device = pick_device(recipe.train.device, "train.device", needs_core=False)
    with join_processes(device, recipe.train.timeout) as world:
        return _train(recipe, out, resume, console, device, world)


def _train(
    recipe: Recipe, out: Path, resume: bool, console: Console | None, device: torch.device, world: World
) -> Outcome:
    """:func:`train`, in each of the processes."""
    settings = recipe.train
    state = world.from_main(lambda: open_run(recipe, out, resume))
    torch.manual_seed(settings.seed)
    torch.use_deterministic_algorithms(settings.deterministic)
    console = console or Console(stderr=True, highlight=False, soft_wrap=True)
    if not world.main:
        console = Console(quiet=True, force_terminal=False)
    say: Callable[[str], None] = lambda text: console.print(text, markup=False)  # noqa: E731

    # What there is to work with.
    if device.type == "cpu":
        keep_memory()
    model = build_model(recipe, say)
    check_core(model, device)
    model = model.to(device).train()
    if settings.channels_last:
        model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    dataset = build_data(recipe, model.spec, say)
    evaluator = build_evaluator(recipe, model.spec)
    phases = build_phases(recipe, model, world.size)
    average = MovingAverage(model, settings.ema) if settings.ema else None
    swa = WeightAverage(model) if settings.swa else None
    if world.rank:
        torch.manual_seed(settings.seed + world.rank)  # each process drops other paths
    joint_weights = torch.ones(model.spec.num_keypoints, device=device)
    if settings.use_joint_weights:
        joint_weights = joint_weights.new_tensor(model.spec.skeleton.joint_weights)

    # Where the run stands.
    outcome = Outcome()
    first_epoch = images_in_epoch = images_seen = failures_in_row = unreadable_in_row = 0
    if state:
        restore_weights(state, out / STATE, model, average.model if average else None)
    if state and settings.precision == "auto":
        precision = str(state["precision"])
    else:
        precision = world.from_main(lambda: choose_precision(recipe, model, phases, device))
    if settings.sharded and precision == "float16":  # chosen before the run was divided
        raise RecipeError("train.sharded: does not go with float16, which the run has; set train.precision=float32")
    autocast = autocast_context(precision, device)
    scaler = torch.amp.GradScaler(device.type, enabled=precision == "float16")
    trained = Trained(
        world,
        model,
        average.model if average else None,
        sharded=settings.sharded,
        sync_batchnorm=settings.sync_batchnorm,
    )
    forward: Callable[[torch.Tensor], Any] = compiled(trained.forward, say) if settings.compile else trained.forward
    optimizer = build_optimizer(model, settings.optimizer)
    if state:
        restore_rest(state, out / STATE, trained, swa, optimizer, scaler)
        for name in ("steps", "skipped_steps", "best", "best_epoch", "no_better"):
            setattr(outcome, name, state[name])
        outcome.best_weights = state.get("best_weights")
        first_epoch, images_in_epoch, images_seen = state["epoch"], state["images_in_epoch"], state["images_seen"]
        if world.rank < len(state["random"]):
            set_random_state(state["random"][world.rank], device)

    loaders = [
        Loader(
            dataset,
            phase.spec,
            batch_size=phase.batch_size,
            augmentation=phase.augmentation,
            seed=settings.seed,
            workers=recipe.data.workers,
            reduce=recipe.data.reduce,
            device=device,
            part=(world.rank, world.size),
        )
        for phase in phases
    ]
    total_images = sum(p.epochs * len(x) * p.images for p, x in zip(phases, loaders, strict=True))
    total_steps = sum(p.epochs * -(-len(x) // settings.accumulate) for p, x in zip(phases, loaders, strict=True))
    schedule = limit_warmup(settings.schedule, total_steps)
    say(
        f"{recipe.model.name}: {sum(p.numel() for p in model.parameters()) / 1e6:.2f} M parameters, "
        f"{len(dataset)} people, {settings.epochs} epochs, {precision} on {device}"
        + (f" and {world.size - 1} more processes" if world.size > 1 else "")
        + f", {_describe_rate(recipe, phases)}"
        + (f", warm-up {schedule.warmup} of {total_steps} steps" if schedule.warmup < settings.schedule.warmup else "")
        + (f", resumed at epoch {first_epoch + 1}, step {outcome.steps}" if state else "")
    )

    def save(epoch: int, images: int) -> None:
        content = {
            "recipe": recipe.to_yaml(),
            "model": trained.state_dict(model),
            "average": trained.state_dict(average.model) if average else None,
            "swa": swa.state_dict() if swa else None,
            "optimizer": trained.optimizer_state(optimizer),
            "scaler": scaler.state_dict(),
            "epoch": epoch,
            "images_in_epoch": images,
            "images_seen": images_seen,
            "steps": outcome.steps,
            "skipped_steps": outcome.skipped_steps,
            "best": outcome.best,
            "best_epoch": outcome.best_epoch,
            "best_weights": outcome.best_weights,
            "no_better": outcome.no_better,
            "precision": precision,
            "random": world.gather(random_state(device)),
        }
        if world.main:
            save_state(out / STATE, content)
        keep(average.model if average else model, LAST)

    def keep(judged: PoseModel, name: str, metadata: dict[str, str] | None = None) -> None:
        whole = trained.whole(judged)
        if world.main:
            save_model(whole, out / name, metadata=metadata)

    unread: dict[int, str] = {}  # photos that could not be read in some epoch before, and why
    unjudged: dict[str, None] = {}  # why photos could not be read in some validation

    def failed_photos() -> list[str]:
        parts = world.gather(list((unread | dataset.photos.failed).values()))
        return list(dict.fromkeys(reason for part in parts for reason in part))

    log = RunLog(
        out if world.main else None,
        total_images,
        every=recipe.log.every,
        tensorboard=recipe.log.tensorboard,
        step=outcome.steps,
        console=console,
    )
    with log, _interrupts() as interrupted:
        started = time.monotonic()
        # Running statistics take in a step's activations before its loss is known to be finite.
        buffers = list(model.buffers())
        good_buffers = [buffer.clone() for buffer in buffers]
        told = False  # that loading bounds the run
        for phase, loader in zip(phases, loaders, strict=True):
            for epoch in range(max(first_epoch, phase.first_epoch), phase.first_epoch + phase.epochs):
                start = 0
                if epoch == first_epoch:
                    start = _first_batch(images_in_epoch, phase, len(loader), settings.accumulate)
                    images_seen -= images_in_epoch - start * phase.images
                set_training_mode(model)
                began = asked = time.perf_counter()
                waited = waited_in_epoch = crops_in_epoch = 0.0
                for number, batch in enumerate(loader.epoch(epoch, start), start):
                    waited += time.perf_counter() - asked
                    position = number % settings.accumulate  # within the batches of one step
                    if position == 0:
                        factor = learning_rate_factor(schedule, outcome.steps, images_seen / total_images)
                        set_learning_rate(optimizer, phase.lr * factor)
                        optimizer.zero_grad(set_to_none=True)
                        summed = min(settings.accumulate, len(loader) - number)
                        losses: list[torch.Tensor] = []
                        crops_in_step = 0.0
                    own = len(batch.people)
                    batch = trained.filled(batch)
                    trained.exchange(position + 1 == summed)
                    with autocast():
                        output = forward(batch.images)
                    weights = batch.weights * joint_weights
                    loss = phase.loss(output, batch.keypoints, weights, batch.annotated)
                    loss = loss * (own / (phase.images * summed))
                    trained.backward(scaler.scale(loss), empty=not own)
                    images_seen += phase.images
                    if own:
                        losses.append(loss.detach())
                    crops_in_step += own
                    if position + 1 < summed:
                        asked = time.perf_counter()
                        continue
                    crops_in_step = world.sum(crops_in_step)[0]
                    crops_in_epoch += crops_in_step
                    unreadable_in_row = 0 if crops_in_step else unreadable_in_row + phase.images * summed
                    if not crops_in_step:
                        if unreadable_in_row >= _UNREADABLE:
                            last = failed_photos()[-1]
                            raise world.failure(f"no photo of {unreadable_in_row} crops in a row can be read: {last}")
                        asked = time.perf_counter()
                        continue
                    # Photos that cannot be read leave the processes unlike numbers of crops; each counts the same.
                    correction = phase.images * summed / crops_in_step
                    scaler.unscale_(optimizer)
                    trained.scale_gradients(correction)
                    norm = trained.clip_gradients(settings.clip_grad)
                    # The only time in a step that a GPU is waited for.
                    *own_losses, grad_norm = torch.stack([x.float() for x in (*losses, norm)]).tolist()
                    loss_sum = world.sum(sum(own_losses))[0] * correction
                    if math.isfinite(loss_sum) and math.isfinite(grad_norm):
                        optimizer.step()
                        if average:
                            average.update(outcome.steps)
                        copy_all(good_buffers, buffers)
                        failures_in_row = 0
                    else:
                        copy_all(buffers, good_buffers)
                        outcome.skipped_steps += 1
                        failures_in_row += 1
                        say(f"step {outcome.steps + 1}: loss {loss_sum}, gradient {grad_norm}; step skipped")
                        if failures_in_row >= settings.nan_limit:
                            raise world.failure(
                                f"{failures_in_row} steps in a row without a finite loss and gradient, up to step "
                                f"{outcome.steps + 1}; a smaller train.optimizer.lr or train.clip_grad may help"
                            )
                    scaler.update()
                    outcome.steps += 1
                    log.step(
                        step=outcome.steps,
                        epoch=epoch,
                        epochs=settings.epochs,
                        images=images_seen,
                        batch=phase.images * summed,
                        loss=loss_sum,
                        lr=phase.lr * factor,
                        grad_norm=grad_norm,
                        waited=waited,
                    )
                    waited_in_epoch += waited
                    waited = 0.0
                    if world.any(interrupted.is_set()):
                        save(epoch, (number + 1) * phase.images)
                        say(f"interrupted at epoch {epoch + 1}, step {outcome.steps}; saved, --resume continues")
                        outcome.failed_photos = failed_photos()
                        return outcome
                    asked = time.perf_counter()

                seconds = time.perf_counter() - began
                if not told and seconds > _SECONDS and waited_in_epoch > _WAITED * seconds:
                    told = True
                    say(
                        f"loading bounds the run: for {waited_in_epoch / seconds:.0%} of epoch {epoch + 1} the network "
                        "waited for photos; more data.workers, or more memory for them (data.cache_gb), may help"
                    )
                if start < len(loader) and not crops_in_epoch:
                    raise world.failure(f"no photo can be read: {failed_photos()[0]}")
                lost = world.sum(len(dataset.photos.failed.keys() - unread.keys()))[0]
                if epoch > first_epoch and lost > len(np.unique(dataset.photo)) / 2:
                    last = failed_photos()[-1]
                    raise world.failure(f"{lost:.0f} photos that were read before cannot be read any more: {last}")
                unread |= dataset.photos.failed
                final = epoch + 1 == settings.epochs
                due = final or (epoch + 1) % recipe.eval.every == 0
                networks = {"trained": model, "ema": average.model if average else model}
                if swa and settings.swa and epoch >= settings.epochs - settings.swa.epochs:
                    swa.update(trained.whole(model))
                    networks["swa"] = swa.model
                    if due and "swa" in recipe.judged:
                        with closing(loader.epoch(epoch)) as ready:
                            some = (batch.images for batch in islice(ready, settings.swa.batches))
                            swa.estimate_statistics((images for images in some if len(images)), autocast)
                # Before the last epochs there is no mean of them.
                kinds = [kind for kind in recipe.judged if kind in networks] or ["trained"]
                judged = networks[kinds[-1]]
                if evaluator and due:
                    options: dict[str, Any] = {"flip_test": recipe.eval.flip_test, "autocast": autocast}
                    results = {}
                    for kind in kinds:
                        results[kind] = evaluator(trained.whole(networks[kind]), spec=phase.spec, **options)
                        unjudged |= dict.fromkeys(evaluator.failed)
                    name = evaluator.metric_name
                    kind = max(kinds, key=lambda kind: results[kind][name])
                    judged, outcome.last = networks[kind], results[kind]
                    # At another input size it is another model's figure.
                    comparable = phase.spec.input_size == model.spec.input_size
                    best = comparable and (outcome.best is None or outcome.last[name] > outcome.best)
                    outcome.no_better = 0 if best else outcome.no_better + comparable
                    if best:
                        outcome.best, outcome.best_epoch, outcome.best_weights = outcome.last[name], epoch + 1, kind
                        keep(judged, BEST, {"epoch": str(epoch + 1), "weights": kind, name: f"{outcome.best:.4f}"})
                    log.metrics(
                        step=outcome.steps,
                        epoch=epoch,
                        epochs=settings.epochs,
                        name=name,
                        results=results,
                        kind=kind,
                        best=best,
                    )
                elif final and not evaluator:
                    keep(judged, BEST, {"epoch": str(epoch + 1)})
                if settings.keep and due:
                    keep(judged, f"epoch_{epoch + 1:04}.safetensors", {"epoch": str(epoch + 1)})
                    for old in sorted(out.glob("epoch_*.safetensors"))[: -settings.keep] if world.main else ():
                        old.unlink(missing_ok=True)
                if not failures_in_row or final:  # else the weights may be what no loss comes from
                    save(epoch + 1, 0)
                if world.any(interrupted.is_set()) and not final:
                    say(f"interrupted after epoch {epoch + 1}; saved, --resume continues")
                    outcome.failed_photos = failed_photos()
                    return outcome
                if recipe.eval.patience and outcome.no_better >= recipe.eval.patience:
                    say(f"ended after epoch {epoch + 1}: {outcome.no_better} validations no better than the best")
                    break
            else:
                continue
            break

    outcome.finished = True
    outcome.failed_photos = failed_photos() + list(unjudged)
    if outcome.failed_photos and world.main:
        atomic_write(out / SKIPPED, ("\n".join(outcome.failed_photos) + "\n").encode("utf-8", "surrogateescape"))
        say(f"{len(outcome.failed_photos)} photos could not be read and were left out; {out / SKIPPED} names them")
    best_note = f", best {outcome.best:.4f} at epoch {outcome.best_epoch}" if outcome.best is not None else ""
    if len(recipe.judged) > 1 and best_note:
        best_note += f" ({outcome.best_weights})"
    say(f"done in {format_time(time.monotonic() - started)}{best_note}: {out / BEST}")
    return outcome


def _describe_rate(recipe: Recipe, phases: list[Phase]) -> str:
    """The learning rate, and why it is not the recipe's where it is not."""
    settings, lr = recipe.train, phases[-1].lr / recipe.train.phases[-1].lr_factor
    if lr == settings.optimizer.lr:
        return f"lr {lr:g}"
    images = phases[-1].images * settings.accumulate
    return f"lr {lr:g} for {images} crops in a step ({settings.optimizer.lr:g} for {settings.base_batch_size})"


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


@contextmanager
def _interrupts() -> Iterator[threading.Event]:
    """Set on the first Ctrl-C or termination signal; a second Ctrl-C ends the process as usual."""
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():  # signals can only be caught there
        yield event
        return
    previous: dict[int, Any] = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def note(number: int, frame: Any) -> None:
        event.set()
        signal.signal(number, previous[number])

    for number in previous:
        signal.signal(number, note)
    try:
        yield event
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
