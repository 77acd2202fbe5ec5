"""The people of a recipe: sources to train on, and what is validated."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path

from ..data.dataset import PoseDataset, Source
from ..data.labels import clean_labels, read_teacher
from ..data.prefetch import local_processes
from ..data.readers import read_annotations
from ..data.records import PoseRecords
from ..data.synthetic import synthetic_records
from ..evaluate import Evaluator, default_metric
from ..metrics import METRICS
from ..skeletons import Skeleton, match_skeletons
from ..spec import PoseSpec
from .recipe import Recipe, RecipeError
from .settings import SourceSettings

__all__ = ["build_data", "build_evaluator", "data_skeleton"]


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
    labelled: set[str] = set()
    left: dict[str, None] = {}
    for source in sources:
        match = match_skeletons(source.records.skeleton, spec.skeleton)
        labelled.update(match)
        used = {name for origin in match.values() for name in ([origin] if isinstance(origin, str) else origin)}
        left |= dict.fromkeys(name for name in source.records.skeleton.keypoints if name not in used)
    unlabelled = [name for name in spec.skeleton.keypoints if name not in labelled]
    hint = "model.skeleton=data trains the keypoints of the data"
    if unlabelled or left:
        parts = [
            f"{_listed(names)} {what}"
            for names, what in ((unlabelled, "without labels"), (list(left), "left out"))
            if names
        ]
        say(f"keypoints: {'; '.join(parts)} ({hint})")
    try:
        return PoseDataset(sources, spec.skeleton, cache=_cache_bytes(recipe))
    except ValueError as error:
        why = f" ({hint})" if left else ""
        raise RecipeError(f"data: {str(error).removeprefix('data: ')}{why}") from None


def _listed(names: list[str]) -> str:
    """Names in one line: whole bodies have more than anybody reads."""
    shown = names if len(names) <= 12 else names[:8]
    return ", ".join(shown) + (f" and {len(names) - len(shown)} others" if len(names) > len(shown) else "")


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
        split=settings.split or (part if whole else None),
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
    if recipe.data.detections and not METRICS[metric].ranks_poses:
        ranking = ", ".join(name for name, other in METRICS.items() if other.ranks_poses)
        raise RecipeError(f"data.detections: goes with average precision ({ranking}), not with {metric}")
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


def data_skeleton(recipe: Recipe) -> Skeleton:
    """The keypoints of the first source, with what ``data.skeleton`` says of them."""
    source, _ = _source(recipe.data.train[0], recipe, "train")
    return source.records.skeleton
