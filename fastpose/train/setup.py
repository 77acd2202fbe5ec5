"""From a recipe to the network and the phases of a run."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..codecs import change_codec
from ..data.augment import Augmentation
from ..models import (
    Loss,
    PoseModel,
    WeightsError,
    build_loss,
    create_model,
    load_backbone,
    load_body,
    load_checkpoint,
)
from ..models.find import is_weights_file
from ..models.hub import user_file
from ..models.output import Stage
from ..ops._native import C
from ..skeletons import Skeleton
from ..spec import PoseSpec
from .optim import freeze, is_trained, scaled_lr
from .recipe import Recipe, RecipeError
from .sources import data_skeleton

__all__ = ["Phase", "build_model", "build_phases", "check_core", "compiled"]


@dataclasses.dataclass(frozen=True)
class Phase:
    """Consecutive epochs with one input size.

    Attributes:
        first_epoch: From 0.
        epochs: Number of epochs.
        spec: The model's spec at this phase's input size and sigma.
        batch_size: Crops in a batch of one process.
        images: Crops in a batch of all processes together.
        lr: Learning rate at the top of the schedule.
        augmentation: Random changes of the crops.
        loss: What is minimised.
        least_crops: That a process's batch must have: two where BatchNorm sees maps of one pixel, else one.
    """

    first_epoch: int
    epochs: int
    spec: PoseSpec
    batch_size: int
    images: int
    lr: float
    augmentation: Augmentation
    loss: Loss
    least_crops: int = 1


def build_model(recipe: Recipe, say: Callable[[str], None]) -> PoseModel:
    """The network of a recipe, with its starting weights; ``say`` gets a line about weights that did not fit.

    Raises:
        RecipeError: The name or an option does not fit, or the starting weights cannot be used.
    """
    settings = recipe.model
    if is_weights_file(settings.name):
        raise RecipeError(
            f"model.name: expected a zoo name or an architecture, got {settings.name!r}; model.init takes the weights "
            "of a file"
        )
    skeleton: Skeleton | str | None = data_skeleton(recipe) if settings.skeleton == "data" else settings.skeleton
    # YAML has no tuples, and sizes and channel lists are tuples everywhere else.
    options: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in settings.options.items()
    }
    try:
        if settings.codec:
            options["codec"] = settings.codec
        model = create_model(settings.name, skeleton=skeleton, pretrained=settings.pretrained, **options)
        if recipe.train.grad_checkpointing:
            model.set_grad_checkpointing()
        if settings.backbone:
            load_backbone(model, user_file(settings.backbone))
        if settings.init:
            _load_start(model, user_file(settings.init), say)
    except (TypeError, ValueError, KeyError) as error:
        raise RecipeError(f"model: {error.args[0] if isinstance(error, KeyError) else error}") from None
    freeze(model, recipe.train.freeze)
    return model


def _load_start(model: PoseModel, path: Path, say: Callable[[str], None]) -> None:
    """Starting weights from a saved model; of one for other keypoints, what does not depend on those."""
    try:
        load_checkpoint(model, path)
        return
    except WeightsError as error:
        if not path.is_file():
            raise
        refused = error
    try:
        fresh = load_body(model, path)
    except WeightsError:
        raise WeightsError(f"init: {refused}\n(model.backbone={path} takes the backbone alone)") from None
    say(f"{path}: made for other keypoints, so {len(fresh)} entries start fresh: {', '.join(fresh[:4])}")


def compiled(model: nn.Module, say: Callable[[str], None]) -> Callable[[Tensor], Any]:
    """The network through ``torch.compile``; where that fails, ``say`` gets the reason, and it runs as it is."""
    run: Callable[[Tensor], Any] = torch.compile(model)

    def forward(x: Tensor) -> Any:
        nonlocal run
        try:
            return run(x)
        except Exception as error:  # the compiler and its tools fail in many ways; a fault of the network shows below
            if run is model:
                raise
            say(f"train.compile: goes on without, {type(error).__name__}: {str(error).strip().splitlines()[0]}")
            run = model
            return model(x)

    return forward


def build_phases(recipe: Recipe, model: PoseModel, processes: int = 1) -> list[Phase]:
    """The epochs of a run divided by the phases' shares, at least one each.

    The network is tried at every phase's input size, so that one that it cannot take is found before the first epoch.

    Args:
        recipe: What to do.
        model: The network.
        processes: That train together.

    Returns:
        The phases.

    Raises:
        RecipeError: An input size or a batch size does not suit the network, or the last size is not the model's.
    """
    settings, spec = recipe.train.phases, model.spec
    shares = np.cumsum([phase.share for phase in settings])
    ends = np.round(shares / shares[-1] * recipe.train.epochs)
    phases: list[Phase] = []
    first = 0
    for number, (phase, end) in enumerate(zip(settings, ends.astype(int).tolist(), strict=True)):
        last = min(max(end, first + 1), recipe.train.epochs - (len(settings) - 1 - number))
        try:
            phase_spec = spec.replace(input_size=phase.input_size) if phase.input_size else spec
        except ValueError as error:
            raise RecipeError(f"train.phases.{number}: {error}") from None
        least = _try_size(model, phase_spec, f"train.phases.{number}.input_size")
        if phase.sigma:
            try:
                phase_spec = phase_spec.replace(codec=change_codec(phase_spec.codec, sigma=phase.sigma))
            except ValueError as error:
                raise RecipeError(f"train.phases.{number}.sigma: {error}") from None
        try:
            loss = build_loss(model.head, phase_spec, recipe.train.loss)
        except ValueError as error:
            raise RecipeError(f"train.{error}") from None
        batch_size = phase.batch_size or recipe.train.batch_size
        if recipe.train.sync_batchnorm and processes > 1:
            least = 1  # statistics are of all processes' crops
        if batch_size < least:
            key = f"train.phases.{number}.batch_size" if phase.batch_size else "train.batch_size"
            raise RecipeError(
                f"{key}: expected at least {least}, got {batch_size}: at {list(phase_spec.input_size)} the network has "
                "BatchNorm on maps of one pixel, of which one crop has no variance"
            )
        phases.append(
            Phase(
                first_epoch=first,
                epochs=last - first,
                spec=phase_spec,
                batch_size=batch_size,
                images=batch_size * processes,
                lr=scaled_lr(recipe.train, batch_size * processes) * phase.lr_factor,
                augmentation=phase.augment or recipe.augment,
                loss=loss,
                least_crops=least,
            )
        )
        first = last
    if phases[-1].spec.input_size != spec.input_size:
        raise RecipeError(
            f"train.phases.{len(settings) - 1}.input_size: the last phase trains at the model's size "
            f"{list(spec.input_size)}, got {list(phases[-1].spec.input_size)}; set model.options.input_size"
        )
    return phases


@torch.inference_mode()
def _try_size(model: PoseModel, spec: PoseSpec, key: str) -> int:
    """Refuse an input size that the network cannot take, or at which its maps are not of the spec's size.

    Returns:
        The crops that a batch of this size must have.
    """
    training = model.training
    parameter = next(model.parameters())
    crop = torch.zeros(1, 3, *spec.input_size, device=parameter.device, dtype=parameter.dtype)
    try:
        with _norm_inputs(model.eval()) as values:
            output = model(crop)
    except RuntimeError as error:
        raise RecipeError(f"{key}: the network cannot take {list(spec.input_size)} ({error})") from None
    finally:
        model.train(training)
    if not spec.codec.accepts(output.last, spec.num_keypoints, spec.input_size):
        expected = spec.codec.output_shape(spec.num_keypoints, spec.input_size)
        raise RecipeError(
            f"{key}: at {list(spec.input_size)} the network gives {_shapes(output.last)}, expected "
            f"{list(expected)}; sides in multiples of 32 suit every network"
        )
    return 2 if 1 in values else 1


def _shapes(stage: Stage) -> list[Any]:
    """What a stage gives for one crop."""
    return list(stage.shape[1:]) if isinstance(stage, Tensor) else [list(part.shape[1:]) for part in stage]


@contextmanager
def _norm_inputs(model: nn.Module) -> Iterator[list[int]]:
    """Collects how many values of each channel the BatchNorms get that take statistics in training."""
    values: list[int] = []

    def note(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        values.append(inputs[0].numel() // inputs[0].shape[1])

    norms = (module for module in model.modules() if isinstance(module, _BatchNorm) and is_trained(module))
    handles = [norm.register_forward_pre_hook(note) for norm in norms]
    try:
        yield values
    finally:
        for handle in handles:
            handle.remove()


def check_core(model: PoseModel, device: torch.device) -> None:
    """Refuse to train on a GPU what only the native core can, where it was built without CUDA.

    Raises:
        RecipeError: The network's loss is on heatmaps.
    """
    if device.type == "cuda" and not C.with_cuda and model.spec.codec.needs_core:
        raise RecipeError(
            "train.device: a GPU is there, but the native core, which trains heatmaps, was built without CUDA; "
            "reinstall with FASTPOSE_CUDA=on, or set train.device=cpu"
        )
