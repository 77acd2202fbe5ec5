"""From a recipe to the things a run works with: network, people, phases, precision, device."""

from __future__ import annotations

import copy
import dataclasses
import os
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..data.augment import Augmentation
from ..data.dataset import PoseDataset, Source
from ..data.labels import clean_labels, read_teacher
from ..data.prefetch import local_processes
from ..data.readers import read_annotations
from ..data.records import PoseRecords
from ..data.synthetic import synthetic_records
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
from ..models.heads import RegressionHead
from ..models.hub import fetch
from ..ops._native import C
from ..skeletons import Skeleton
from ..spec import PoseSpec
from .evaluate import Evaluator
from .measures import AP_METRICS, default_metric
from .optim import freeze, scaled_lr
from .recipe import Recipe, RecipeError, SourceSettings

__all__ = [
    "Phase",
    "autocast_context",
    "build_data",
    "build_evaluator",
    "build_model",
    "build_phases",
    "check_core",
    "choose_precision",
    "compiled",
    "data_skeleton",
    "pick_device",
]


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
    """

    first_epoch: int
    epochs: int
    spec: PoseSpec
    batch_size: int
    images: int
    lr: float
    augmentation: Augmentation
    loss: Loss


def build_model(recipe: Recipe, say: Callable[[str], None]) -> PoseModel:
    """The network of a recipe, with its starting weights; ``say`` gets a line about weights that did not fit.

    Raises:
        RecipeError: The name or an option does not fit, or the starting weights cannot be used.
    """
    settings = recipe.model
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
            web = "://" in settings.backbone
            load_backbone(model, fetch(settings.backbone) if web else Path(settings.backbone).expanduser())
        if settings.init:
            _load_start(model, Path(settings.init).expanduser(), say)
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


def data_skeleton(recipe: Recipe) -> Skeleton:
    """The keypoints of the first source, with what ``data.skeleton`` says of them."""
    source, _ = _source(recipe.data.train[0], recipe, "train")
    return source.records.skeleton


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


def build_data(recipe: Recipe, spec: PoseSpec, say: Callable[[str], None]) -> PoseDataset:
    """The people to train on, with the teacher's corrections; ``say`` gets a line about each source.

    Raises:
        RecipeError: A source has no keypoint of the network's, or none has people to train on.
    """
    sources = []
    for settings in recipe.data.train:
        source, note = _source(settings, recipe, "train")
        sources.append(source)
        say(note)
    own, skeletons = spec.skeleton.keypoints, [source.records.skeleton.keypoints for source in sources]
    unlabelled = [name for name in own if not any(name in names for names in skeletons)]
    left = [name for name in dict.fromkeys(name for names in skeletons for name in names) if name not in own]
    hint = "model.skeleton=data trains the keypoints of the data"
    if unlabelled or left:
        parts = [
            f"{', '.join(names)} {what}"
            for names, what in ((unlabelled, "without labels"), (left, "left out"))
            if names
        ]
        say(f"keypoints: {'; '.join(parts)} ({hint})")
    try:
        return PoseDataset(sources, spec.skeleton, cache=_cache_bytes(recipe))
    except ValueError as error:
        why = f" ({hint})" if left else ""
        raise RecipeError(f"data: {str(error).removeprefix('data: ')}{why}") from None


def _source(settings: SourceSettings, recipe: Recipe, part: str) -> tuple[Source, str]:
    if settings.synthetic is not None:
        scenes = settings.synthetic
        records = _amended(synthetic_records(scenes.scenes, scenes.seed, scenes.size, scenes.people), recipe)
        return Source(records, repeats=settings.repeats), f"synthetic: {len(records)} people in {scenes.scenes} scenes"
    assert settings.annotations is not None  # the recipe's validation saw to that
    whole = Path(settings.annotations).suffix.lower() in (".yaml", ".yml")  # one file about all parts of a data set
    records = read_annotations(
        _place(recipe, settings.annotations),
        None if whole and settings.images is None else _place(recipe, settings.images or ""),
        format=settings.format,
        split=part if whole else None,
        detections=_place(recipe, recipe.data.detections) if recipe.data.detections and part == "val" else None,
    )
    records = _amended(records, recipe)
    keypoints = weights = None
    note = f"{settings.annotations}: {len(records)} people on {len(records.image_paths)} photos"
    if records.skipped:
        note += "; left out " + ", ".join(f"{count} {reason}" for reason, count in records.skipped.items())
    if settings.teacher is not None:
        teacher = read_teacher(_place(recipe, settings.teacher.file), records)
        keypoints, weights, counts = clean_labels(records, teacher, settings.teacher)
        total = max(1, int((records.visible > 0).sum()))
        note += "; labels " + ", ".join(f"{name} {count / total:.1%}" for name, count in counts.items())
    return Source(records, keypoints, weights, settings.repeats), note


def _place(recipe: Recipe, name: str) -> Path:
    """Where a file or folder of the data is."""
    return Path(recipe.data.root).expanduser() / Path(name).expanduser()


def _amended(records: PoseRecords, recipe: Recipe) -> PoseRecords:
    """The records with what the recipe says of their keypoints."""
    settings = recipe.data.skeleton
    if settings is None:
        return records
    given = {key: value for key, value in settings.model_dump().items() if value is not None}
    old = records.skeleton
    given = {key: tuple(map(tuple, value)) if key in ("flip_pairs", "links") else value for key, value in given.items()}
    given = {key: tuple(value) if isinstance(value, list) else value for key, value in given.items()}
    try:
        if settings.keypoints and tuple(settings.keypoints) != old.keypoints:
            records = records.to_skeleton(old.select(settings.keypoints))
        return dataclasses.replace(records, skeleton=dataclasses.replace(records.skeleton, **given))
    except (KeyError, ValueError) as error:
        raise RecipeError(f"data.skeleton: {error.args[0]} ({records.source})") from None


def build_evaluator(recipe: Recipe, spec: PoseSpec | None = None) -> Evaluator | None:
    """What the recipe validates a network of this spec on, or None.

    Raises:
        RecipeError: Detected boxes are given, and the metric compares person by person.
        ValueError: There is nobody to measure on, or the metric cannot be measured on these people and keypoints.
    """
    settings = recipe.data.val
    if settings is None:
        return None
    source, _ = _source(settings, recipe, "val")
    annotations = _place(recipe, settings.annotations) if settings.annotations else None
    if recipe.data.skeleton and recipe.data.skeleton.keypoints:
        annotations = None  # the file has other keypoints than the records
    metric: str = recipe.eval.metric
    if metric == "auto":
        metric = default_metric(source.records, spec.skeleton if spec else None)
    if recipe.data.detections and metric not in AP_METRICS:
        raise RecipeError(f"data.detections: goes with average precision ({', '.join(AP_METRICS)}), not with {metric}")
    evaluator = Evaluator(
        source.records,
        metric,
        annotations=annotations,
        cache=_cache_bytes(recipe) // 4,
        batch_size=recipe.eval.batch_size,
        workers=recipe.data.workers,
        score_mode=recipe.eval.score_mode,
        nms=recipe.eval.nms,
        use_area=recipe.eval.use_area,
    )
    if spec:
        evaluator.check(spec)
    return evaluator


def _cache_bytes(recipe: Recipe) -> int:
    """Of this process, which shares the machine's memory with its neighbours."""
    if recipe.data.cache_gb is not None:
        return int(recipe.data.cache_gb * 1e9 / local_processes())
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // (2 * local_processes())
    except (AttributeError, OSError, ValueError):  # not known on this system
        return 1 << 30


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
        RecipeError: An input size does not suit the network, or the last one is not the model's.
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
        _try_size(model, phase_spec, f"train.phases.{number}.input_size")
        if phase.sigma:
            phase_spec = phase_spec.replace(codec=dataclasses.replace(phase_spec.codec, sigma=phase.sigma))
        try:
            loss = build_loss(model.head, phase_spec, recipe.train.loss)
        except ValueError as error:
            raise RecipeError(f"train.{error}") from None
        batch_size = phase.batch_size or recipe.train.batch_size
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
def _try_size(model: PoseModel, spec: PoseSpec, key: str) -> None:
    """Refuse an input size that the network cannot take, or at which its maps are not of the spec's size."""
    training = model.training
    parameter = next(model.parameters())
    try:
        output, _ = model.eval().predict(
            torch.zeros(1, 3, *spec.input_size, device=parameter.device, dtype=parameter.dtype)
        )
    except RuntimeError as error:
        raise RecipeError(f"{key}: the network cannot take {list(spec.input_size)} ({error})") from None
    model.train(training)
    size = tuple(output.shape[2:])
    if spec.codec.heatmap_size is not None and size != spec.codec.heatmap_size:
        raise RecipeError(
            f"{key}: at {list(spec.input_size)} the network gives maps of {list(size)}, expected "
            f"{list(spec.codec.heatmap_size)}; sides in multiples of 32 suit every network"
        )


def pick_device(name: str) -> torch.device:
    """The device of a recipe; ``auto`` is the GPU if there is one.

    Under ``torchrun`` each process of a machine gets a GPU of its own, in turn, unless one is named by its number.

    Raises:
        RecipeError: There is no such device here.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    local = os.environ.get("LOCAL_RANK")
    if name == "cuda" and local is not None and torch.cuda.is_available():
        name = f"cuda:{int(local) % torch.cuda.device_count()}"
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise RecipeError(f"train.device: {name!r} cannot be used: {str(error).splitlines()[0]}") from None
    return device


def check_core(model: PoseModel, device: torch.device) -> None:
    """Refuse to train on a GPU what only the native core can, where it was built without CUDA.

    Raises:
        RecipeError: The network's loss is on heatmaps.
    """
    if device.type == "cuda" and not C.with_cuda and not isinstance(model.head, RegressionHead):
        raise RecipeError(
            "train.device: a GPU is there, but the native core, which trains heatmaps, was built without CUDA; "
            "reinstall with FASTPOSE_CUDA=on, or set train.device=cpu"
        )


def autocast_context(precision: str, device: torch.device) -> Callable[[], AbstractContextManager[Any]]:
    """Makes the context in which a network of this precision runs."""
    if precision == "float32":
        return nullcontext
    return lambda: torch.autocast(device.type, dtype=getattr(torch, precision))


def choose_precision(recipe: Recipe, model: PoseModel, phases: list[Phase], device: torch.device) -> str:
    """The precision that the recipe names, or what trains this network faster on this machine."""
    settings = recipe.train
    if settings.precision != "auto":
        return settings.precision
    if settings.deterministic:
        return "float32"
    if device.type == "cuda":  # before Ampere, bfloat16 is emulated
        if torch.cuda.get_device_capability(device) >= (8, 0):
            return "bfloat16"
        return "float32" if settings.sharded else "float16"  # whose scaled loss does not go with it
    model = copy.deepcopy(model)
    images = torch.randn(min(phases[-1].batch_size, 16), 3, *phases[-1].spec.input_size, device=device)
    seconds = {name: _time_step(model, images, autocast_context(name, device)) for name in ("float32", "bfloat16")}
    return min(seconds, key=lambda name: seconds[name])


def _time_step(model: PoseModel, images: Tensor, context: Callable[[], AbstractContextManager[Any]]) -> float:
    """Seconds of the faster of two training steps, after one that is not counted."""
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        with context():
            output, _ = model.predict(images)
        output.float().square().mean().backward()
        seconds.append(time.perf_counter() - start)
    return min(seconds[1:])
