"""Training: from a recipe to a saved model."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from ..data.dataset import PoseDataset
from ..data.loader import Loader
from ..devices import pick_device
from ..files import atomic_write
from .averaging import WeightAverage
from .checkpoint import SKIPPED, STATE, open_folder
from .distillation import build_distillation
from .distributed import DistributedModel, FirstProcessError, TrainingError, World, join_processes
from .ema import MovingAverage
from .epoch import Trainer
from .log import RunLog, format_time
from .optim import build_optimizer, limit_warmup
from .precision import autocast_context, choose_precision
from .process import process_settings, seed_process
from .recipe import Recipe, RecipeError
from .run import Run, TrainState
from .setup import Phase, build_model, build_phases, check_core, compiled
from .sources import build_data, build_evaluator

__all__ = ["FirstProcessError", "TrainingError", "train"]


def train(recipe: Recipe, out: Path, *, resume: bool = False, console: Console | None = None) -> Run:
    """Train the network of a recipe; :func:`fastpose.train` also takes its name, and values to change.

    Into ``out`` go ``recipe.yaml`` (every value written out), ``best.safetensors`` and ``last.safetensors`` (models
    with their PoseSpec; averaged weights if the recipe averages, and ``best`` the best of what ``eval.weights`` names),
    ``epoch_N.safetensors`` (with ``train.keep``), ``state.pt`` (to resume), ``log.csv``, TensorBoard's ``events`` and
    ``skipped.txt`` (photos that could not be read).

    Started by ``torchrun``, or where torch.distributed runs, all its processes train the network together, and the
    first one writes and speaks for them. Random generators and settings of the process are afterwards as they were.

    Args:
        recipe: What to do.
        out: Folder; made if it is not there.
        resume: Continue from ``state.pt``. On the CPU in float32 and deterministic mode the weights become the same as
            those of a run that was never interrupted.
        console: Where to print; the terminal's error output by default.

    Returns:
        What became of it. An interruption (Ctrl-C) saves the state and returns.

    Raises:
        RecipeError, DataError, WeightsError, CheckpointError: Something given cannot be used, or another run is writing
            to ``out``.
        TrainingError: Too many steps in a row without a finite loss; or another process ended.
    """
    device = pick_device(recipe.train.device, "train.device", needs_core=False)
    settings = process_settings(device, deterministic=recipe.train.deterministic)
    with settings, join_processes(device, recipe.train.timeout) as world, ExitStack() as stack:
        saved = world.from_main(lambda: stack.enter_context(open_folder(recipe, out, resume)))
        if not world.main:
            console = Console(quiet=True, force_terminal=False)
        console = console or Console(stderr=True, highlight=False, soft_wrap=True)
        return _run(recipe, Run(out), saved, device, world, console)


def _run(
    recipe: Recipe, run: Run, saved: dict[str, Any] | None, device: torch.device, world: World, console: Console
) -> Run:
    """:func:`train`, where nobody else writes to the folder, in each of the processes."""
    trainer = _prepare(recipe, run, saved, device, world, console)
    started = time.monotonic()
    with trainer.log, _interrupts() as interrupted:
        run.finished = _train_epochs(trainer, interrupted)
    _conclude(trainer, time.monotonic() - started)
    return run


def _train_epochs(trainer: Trainer, interrupted: threading.Event) -> bool:
    """The epochs of a run, each saved before it is validated; False if it was interrupted."""
    run, recipe, world, say = trainer.run, trainer.recipe, trainer.state.world, trainer.log.say
    if run.validation_due:
        _validate(trainer)
    for epoch, phase, loader in trainer.epochs():
        if not trainer.train_epoch(epoch, phase, loader, interrupted):
            trainer.save()
            say(f"interrupted at epoch {epoch + 1}, step {run.steps}; saved, --resume continues")
            return False
        final = run.epoch == recipe.train.epochs
        run.validation_due = final or run.epoch % recipe.eval.every == 0
        if trainer.can_save:
            trainer.save()
        if run.validation_due:
            _validate(trainer)
        if world.any(interrupted.is_set()) and not final:
            say(f"interrupted after epoch {run.epoch}; saved, --resume continues")
            return False
        if run.out_of_patience(recipe):
            say(f"ended after epoch {run.epoch}: {run.no_better} validations no better than the best")
            break
    return True


def _validate(trainer: Trainer) -> None:
    """Validate what is saved, and save what came of it."""
    try:
        trainer.validate()
    except Exception:
        if trainer.can_save:
            trainer.log.say(
                f"epoch {trainer.run.epoch} is saved, but its validation failed: --resume validates it again and goes "
                "on, with data.val=null without"
            )
        raise
    if trainer.can_save:
        trainer.save()


def _prepare(
    recipe: Recipe, run: Run, saved: dict[str, Any] | None, device: torch.device, world: World, console: Console
) -> Trainer:
    """What a run works with, as it was saved if it was.

    Args:
        recipe: What to do.
        run: A new one.
        saved: The state to resume from, or None.
        device: Of this process.
        world: The processes.
        console: Where to print.
    """
    settings = recipe.train
    say: Callable[[str], None] = lambda text: console.print(text, markup=False)  # noqa: E731
    seed_process(settings.seed, device)
    model = build_model(recipe, say)
    check_core(model, device)
    model = model.to(device).train()
    if settings.channels_last:
        model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    dataset = build_data(recipe, model.spec, say)
    evaluator = build_evaluator(recipe, model.spec)
    distillation = build_distillation(recipe, model)
    phases = build_phases(recipe, model, world.size)
    if dataset.epoch_length < phases[0].least_crops:
        raise RecipeError(f"data: {dataset.epoch_length} crop in an epoch, and this network needs two in a batch")
    ema = MovingAverage(model, settings.ema) if settings.ema else None
    swa = WeightAverage(model) if settings.swa else None
    if world.rank:
        seed_process(settings.seed + world.rank, device)  # each process drops other paths
    run.precision = world.from_main(lambda: _precision(recipe, saved, device))
    network = DistributedModel(
        world,
        model,
        ema.model if ema else None,
        around=distillation,
        sharded=settings.sharded,
        sync_batchnorm=settings.sync_batchnorm,
    )
    scaler = torch.amp.GradScaler(device.type, enabled=run.precision == "float16")
    optimizer = build_optimizer(model, settings.optimizer, distillation.align if distillation else None)
    state = TrainState(run, world, device, model, network, ema, swa, optimizer, scaler, distillation)
    if saved:
        state.load_state_dict(saved, run.folder / STATE)
    loaders = [_loader(recipe, phase, dataset, state) for phase in phases]
    steps = sum(p.epochs * -(-len(x) // settings.accumulate) for p, x in zip(phases, loaders, strict=True))
    images = sum(p.epochs * len(x) * p.images for p, x in zip(phases, loaders, strict=True))
    joint_weights = torch.ones(model.spec.num_keypoints, device=device)
    if settings.use_joint_weights:
        joint_weights = joint_weights.new_tensor(model.spec.skeleton.joint_weights)
    trainer = Trainer(
        recipe=recipe,
        state=state,
        dataset=dataset,
        phases=phases,
        loaders=loaders,
        evaluator=evaluator,
        schedule=limit_warmup(settings.schedule, steps),
        forward=compiled(network.forward, say) if settings.compile else network.forward,
        autocast=autocast_context(run.precision, device),
        joint_weights=joint_weights,
        total_images=images,
        log=RunLog(
            run.folder if world.main else None,
            images,
            every=recipe.log.every,
            tensorboard=recipe.log.tensorboard,
            step=run.steps,
            console=console,
        ),
    )
    say(_first_line(trainer, steps, resumed=saved is not None))
    return trainer


def _precision(recipe: Recipe, saved: dict[str, Any] | None, device: torch.device) -> str:
    """What the recipe names; for ``auto`` what the run began with, also on another machine."""
    automatic = recipe.train.precision == "auto"
    precision = str(saved["precision"]) if saved and automatic else choose_precision(recipe, device)
    if recipe.train.sharded and precision == "float16":  # chosen before the run was divided
        raise RecipeError("train.sharded: does not go with float16, which the run has; set train.precision=float32")
    return precision


def _loader(recipe: Recipe, phase: Phase, dataset: PoseDataset, state: TrainState) -> Loader:
    return Loader(
        dataset,
        phase.spec,
        batch_size=phase.batch_size,
        augmentation=phase.augmentation,
        seed=recipe.train.seed,
        workers=recipe.data.workers,
        reduce=recipe.data.reduce,
        device=state.device,
        part=(state.world.rank, state.world.size),
    )


def _first_line(trainer: Trainer, steps: int, *, resumed: bool) -> str:
    """What is trained, where and how."""
    recipe, run, world = trainer.recipe, trainer.run, trainer.state.world
    wanted, warmup = recipe.train.schedule.warmup, trainer.schedule.warmup
    parameters = sum(p.numel() for p in trainer.state.model.parameters())
    return (
        f"{recipe.model.name}: {parameters / 1e6:.2f} M parameters, {len(trainer.dataset)} people, "
        f"{recipe.train.epochs} epochs, {run.precision} on {trainer.state.device}"
        + (f" and {world.size - 1} more processes" if world.size > 1 else "")
        + (f", taught by {recipe.train.distill.teacher}" if recipe.train.distill else "")
        + f", {_describe_rate(recipe, trainer.phases)}"
        + (f", warm-up {warmup} of {steps} steps" if warmup < wanted else "")
        + (f", resumed at epoch {run.epoch + 1}, step {run.steps}" if resumed else "")
        + ("" if trainer.evaluator else "; data.val is not given, so nothing is validated")
        + "".join(f"; {sentence}" for sentence in trainer.phases[-1].spec.skeleton.warnings)
    )


def _describe_rate(recipe: Recipe, phases: list[Phase]) -> str:
    """The learning rate, and why it is not the recipe's where it is not."""
    settings, lr = recipe.train, phases[-1].lr / recipe.train.phases[-1].lr_factor
    if lr == settings.optimizer.lr:
        return f"lr {lr:g}"
    images = phases[-1].images * settings.accumulate
    return f"lr {lr:g} for {images} crops in a step ({settings.optimizer.lr:g} for {settings.base_batch_size})"


def _conclude(trainer: Trainer, seconds: float) -> None:
    """Note the photos that were left out, and say what came of the run."""
    run, say = trainer.run, trainer.log.say
    run.failed_photos = trainer.failed_photos(validated=run.finished)
    if not run.finished:
        return
    if run.failed_photos and trainer.state.world.main:
        names = "\n".join(run.failed_photos) + "\n"
        atomic_write(run.folder / SKIPPED, names.encode("utf-8", "surrogateescape"))
        say(f"{len(run.failed_photos)} photos could not be read and were left out; {run.folder / SKIPPED} names them")
    best = "" if run.best is None else f", best {run.best:.4f} at epoch {run.best_epoch}"
    if best and len(trainer.recipe.judged) > 1:
        best += f" ({run.best_weights})"
    say(f"done in {format_time(seconds)}{best}: {run.best_checkpoint}")


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
