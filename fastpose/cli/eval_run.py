"""What ``fastpose eval`` does: boxes are found and measured, then poses."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from ..data.readers import read_annotations, read_photos
from ..data.records import PoseRecords
from ..detection import find_detector
from ..devices import pick_device, pick_dtype
from ..evaluate import (
    Evaluator,
    Predictions,
    best_of_photos,
    box_results,
    default_metric,
    detect_people,
    has_annotations,
    read_annotated_boxes,
    read_predictions,
    write_predictions,
)
from ..metrics import COCO_AP, METRICS, BoxTruth, PoseResults, score_boxes
from ..metrics.errors import pose_errors
from ..models import PoseModel, find_model
from ..train.distributed import TrainingError, join_processes
from ..views import build_views
from .eval import EvalOptions
from .eval_report import Figures, print_left_out, write_report

__all__ = [
    "FoundBoxes",
    "build_evaluator",
    "find_boxes",
    "predict_people",
    "processes",
    "progress",
    "run_evaluation",
]

_NOTHING_TO_MEASURE = "there are no annotations, so there is nothing to measure"
# What the report says of how it was made, beside the sigmas, the flip test and the detections.
_SETTINGS = (
    *("scales", "rotations", "score_mode", "nms", "nms_threshold"),
    *("use_area", "max_people", "bootstrap", "seed"),
)
# Those that say nothing where poses come from a file.
_OF_MODEL = (
    *("scales", "rotations", "score_mode", "nms", "nms_threshold", "flip_test"),
    *("detections", "detector", "max_people"),
)


@dataclass
class FoundBoxes:
    """Boxes that were found, by a detector or before.

    Attributes:
        people: The boxes.
        subject: Who found them.
        threshold: From which score on a box is a person's; None where nobody says.
        failed: Photos that could not be read, each with the reason.
        seconds: What finding them took.
    """

    people: PoseRecords
    subject: str
    threshold: float | None
    failed: list[str]
    seconds: float


@dataclass
class _Poses:
    """Poses of a model, or from a file.

    Attributes:
        evaluator: What they are measured by.
        results: The poses.
        subject: Who predicted them.
        flip: Whether the mirrored crops were averaged; None of poses from a file.
        seconds: What predicting or reading them took.
    """

    evaluator: Evaluator
    results: PoseResults
    subject: str
    flip: bool | None
    seconds: float


def run_evaluation(options: EvalOptions) -> None:
    """Find boxes, predict poses, measure both, and say so.

    Raises:
        click.UsageError: The options do not go with the data.
        ValueError: The data, the model or the detector cannot be used.
    """
    with processes() as rank:
        annotated = has_annotations(options.data) if options.detector or options.detections else True
        boxes_only = options.boxes_only or bool(options.detector and not annotated and not options.save_predictions)
        device = pick_device(options.device, "--device")
        network = (
            None
            if boxes_only or options.predictions
            else find_model(options.model).to(device, pick_dtype(options.dtype, device))
        )
        if boxes_only:
            people, metric = _read_boxes(options), None
        else:
            people, metric = _read_people(options, network, annotated)
        boxes = find_boxes(options, people, device, show=rank == 0)
        poses = None
        if metric is not None and (boxes is None or len(boxes.people)):
            poses = _predict_poses(options, network, people, boxes, metric, annotated, show=rank == 0)
        if rank:
            return  # the first process has everybody's predictions
        truth = _read_truth(options, people, needed=boxes_only) if boxes is not None else None
        report = _measure_boxes(options, boxes, truth) if boxes is not None and truth is not None else None
        if poses is not None and options.save_predictions:
            number = int(poses.evaluator.truth.category_ids[0]) if annotated else 1
            write_predictions(
                options.save_predictions, poses.results, poses.evaluator.skeleton, options.data, category_id=number
            )
    _report(options, boxes, report, poses, annotated)


# Reading


def _read_people(options: EvalOptions, network: PoseModel | None, annotated: bool) -> tuple[PoseRecords, str]:
    """The annotated people, or the boxes of --detections; and the metric's name where it was ``auto``."""
    how: dict[str, Any] = {"format": options.data_format, "split": options.split, "category": options.category}
    how["detections"] = options.detections
    metric = options.metric
    if not annotated:
        if options.save_predictions is None:
            raise click.UsageError(
                f"{options.data}: {_NOTHING_TO_MEASURE}; --save-predictions FILE writes what a model predicts"
            )
        # A list of photos names no keypoints either: those of the network are what it is asked for.
        assert network is not None
        metric = COCO_AP.name if metric == "auto" else metric
        how |= {"format": "coco", "skeleton": network.spec.skeleton}
    try:
        if annotated or options.detections is not None:
            people = read_annotations(options.data, options.images, **how)
        else:
            people = read_photos(options.data, options.images, skeleton=how["skeleton"])
    except ValueError:
        if options.detections is None and not has_annotations(options.data):
            raise click.UsageError(
                f"{options.data}: {_NOTHING_TO_MEASURE}; with --detections FILE or --detector NAME, and "
                "--save-predictions FILE, a model's predictions are written"
            ) from None
        raise
    if metric == "auto":
        metric = default_metric(people, None if network is None else network.spec.skeleton)
    if not METRICS[metric].ranks_poses and options.ap_only:
        names = ", ".join(name for name, other in METRICS.items() if other.ranks_poses)
        raise click.UsageError(f"{options.ap_only[0]} goes with average precision ({names}), not with {metric}")
    return people, metric


def _read_boxes(options: EvalOptions) -> PoseRecords:
    """Photos for --boxes-only: with the boxes of --detections, or with the annotated people if there are any."""
    if options.data.suffix.lower() == ".json" and options.data_format in (None, "coco"):
        return read_photos(options.data, options.images, detections=options.detections, category=options.category)
    how: dict[str, Any] = {"format": options.data_format, "split": options.split, "category": options.category}
    return read_annotations(options.data, options.images, detections=options.detections, **how)


def _read_truth(options: EvalOptions, people: PoseRecords, *, needed: bool) -> BoxTruth | None:
    """The annotated boxes; where keypoints are measured there need not be any."""
    try:
        return read_annotated_boxes(options.data, people, options.category)
    except ValueError as error:
        if needed:
            raise
        click.echo(f"boxes are not measured: {error}", err=True)
        return None


# Boxes


def find_boxes(options: EvalOptions, people: PoseRecords, device: torch.device, *, show: bool) -> FoundBoxes | None:
    """Those of --detector or --detections."""
    if options.detections is not None:
        return FoundBoxes(people, str(options.detections), options.detect_threshold, [], 0.0)
    if options.detector is None:
        return None
    detector = find_detector(
        options.detector,
        device=device,
        dtype=pick_dtype(options.dtype, device),
        layout=options.detector_layout,
        person_class=options.person_class,
    )
    threshold = options.detect_threshold
    if threshold is None:
        threshold = getattr(detector, "threshold", 0.0)  # any box of a detector that has none is a person to it
    start = time.perf_counter()
    with progress("photos", len(people.image_paths), show=show) as advance:
        found = detect_people(detector, people, on_photos=advance)
    return FoundBoxes(found.records, options.detector, threshold, found.failed, time.perf_counter() - start)


def _measure_boxes(options: EvalOptions, boxes: FoundBoxes, truth: BoxTruth) -> tuple[Figures, dict[str, Any]]:
    """The figures of boxes, and what the report says of them."""
    scores = score_boxes(truth, box_results(boxes.people), boxes.threshold)
    figures = Figures.of(scores, boxes.people.skipped, samples=options.bootstrap, seed=options.seed)
    photos = len(truth.image_ids)
    report = {
        "photos": photos,
        "photos_without_people": photos - len(set(truth.image.tolist())),
        "people": int((~truth.ignore).sum()),
        "found": len(boxes.people),
        "threshold": boxes.threshold,
        "seconds": round(boxes.seconds, 2),
    }
    return figures, report | figures.report()


# Poses


def _predict_poses(
    options: EvalOptions,
    network: PoseModel | None,
    people: PoseRecords,
    boxes: FoundBoxes | None,
    metric: str,
    annotated: bool,
    *,
    show: bool,
) -> _Poses:
    """The poses of the people, of the boxes where there are any, or those of --predictions."""
    evaluator = build_evaluator(options, people, boxes, metric)
    start = time.perf_counter()
    if network is None:
        assert options.predictions is not None
        file = options.predictions
        results = read_predictions(file, evaluator.truth, with_ids=not evaluator.metric.ranks_poses)
        return _Poses(evaluator, results, str(file), None, time.perf_counter() - start)
    found, flip = predict_people(options, network, evaluator, show=show)
    results = evaluator.results(found, network.spec)
    subject = network.name if options.model is None else options.model
    return _Poses(evaluator, results, str(subject), flip, time.perf_counter() - start)


def build_evaluator(options: EvalOptions, people: PoseRecords, boxes: FoundBoxes | None, metric: str) -> Evaluator:
    """Of the people, or of the boxes where there are any."""
    cropped = people if boxes is None else boxes.people
    if options.detector is not None:
        cropped = best_of_photos(cropped, options.max_people)
    return Evaluator(
        cropped,
        metric,
        annotations=options.data,
        batch_size=options.batch_size,
        score_mode=options.score_mode,
        nms=options.nms,
        nms_threshold=options.nms_threshold,
        sigmas=options.sigmas,
        use_area=options.use_area,
        category=options.category,
        people=people,
    )


def predict_people(
    options: EvalOptions, network: PoseModel, evaluator: Evaluator, *, show: bool
) -> tuple[Predictions, bool]:
    """What the network says of everybody, and whether mirrored crops were averaged."""
    views = build_views(network.spec, options.scales, options.rotations)
    with progress("people", len(evaluator.own), show=show) as advance:
        found = evaluator.predict(network, flip_test=options.flip_test, views=views, on_batch=advance)
    return found, network.spec.flip_test if options.flip_test is None else options.flip_test


# What is said


def _report(
    options: EvalOptions,
    boxes: FoundBoxes | None,
    measured: tuple[Figures, dict[str, Any]] | None,
    poses: _Poses | None,
    annotated: bool,
) -> None:
    """Print the figures, and write them for --json."""
    left_out: dict[str, int] = {}
    scored, shares = None, None
    if boxes is not None and measured is not None:
        measured[0].print(_box_title(options, boxes))
        left_out = measured[0].left_out
    if poses is not None and annotated:
        scored, shares = _measure_poses(options, poses), _errors(poses, options.errors)
        scored.print(_title(options, poses))
        left_out = scored.left_out
    elif poses is not None:
        click.echo(f"{len(poses.results)} poses of {len(poses.evaluator)} boxes -> {options.save_predictions}")
        click.echo(f"{options.data}: {_NOTHING_TO_MEASURE}", err=True)
        left_out = poses.evaluator.skipped
    elif not options.boxes_only:
        why = "no box was found" if annotated else f"{options.data}: nobody is annotated"
        click.echo(f"{why}, so no keypoints are measured", err=True)
    failed = [*(boxes.failed if boxes else ()), *(poses.evaluator.failed if poses else ())]
    print_left_out(left_out, failed)
    if options.json_file and (scored is not None or measured is not None):
        report = _pose_report(options, poses, scored) | {"boxes": None if measured is None else measured[1]}
        report |= {"errors": shares, "left_out": left_out, "failed_photos": list(dict.fromkeys(failed))}
        write_report(options.json_file, report)


def _box_title(options: EvalOptions, boxes: FoundBoxes) -> str:
    """Whose boxes, on which photos, and which count as false."""
    what = f"{len(boxes.people)} on {len(boxes.people.image_paths)} photos"
    what += "" if boxes.threshold is None else f", false ones from a score of {boxes.threshold:g} on"
    what += f", {boxes.seconds:.1f} s" if boxes.seconds else ""
    return f"{boxes.subject} on {options.data.name}: boxes, {what}"


def _measure_poses(options: EvalOptions, poses: _Poses) -> Figures:
    scores = poses.evaluator.score(poses.results)
    return Figures.of(scores, poses.evaluator.skipped, samples=options.bootstrap, seed=options.seed)


def _title(options: EvalOptions, poses: _Poses) -> str:
    """What was measured, on whom, and how."""
    crops = len(options.scales) * len(options.rotations)
    flipped = "" if poses.flip is None else f", flip test {'on' if poses.flip else 'off'}"
    flipped += f", {crops} crops each" if poses.flip is not None and crops > 1 else ""
    people = f"{len(poses.evaluator)} people{flipped}, {poses.seconds:.1f} s"
    return f"{poses.subject} on {options.data.name}: {_described(poses.evaluator)}, {people}"


def _described(evaluator: Evaluator) -> str:
    """The metric, and what one must know to believe it."""
    name = evaluator.metric.name
    if evaluator.metric.similarity and not evaluator.sigmas_known:
        return f"{name} by made-up sigmas ({evaluator.skeleton.sigmas[0]} each; none are known for these keypoints)"
    return name


def _pose_report(options: EvalOptions, poses: _Poses | None, figures: Figures | None) -> dict[str, Any]:
    """What the report says of poses, and how all of it was made."""
    evaluator = None if poses is None else poses.evaluator
    settings: dict[str, Any] = {name: getattr(options, name) for name in _SETTINGS}
    settings |= {"detections": _text(options.detections), "detector": options.detector}
    settings["flip_test"] = None if poses is None else poses.flip
    if evaluator is not None:
        settings |= {"sigmas": list(evaluator.skeleton.sigmas), "sigmas_known": evaluator.sigmas_known}
    if options.predictions:
        settings |= dict.fromkeys(_OF_MODEL)
    return {
        "model": None if poses is None or options.predictions else poses.subject,
        "predictions": _text(options.predictions),
        "data": str(options.data),
        "metric": None if evaluator is None else evaluator.metric.name,
        "people": None if evaluator is None else len(evaluator),
        "results": None if poses is None else len(poses.results),
        "seconds": None if poses is None else round(poses.seconds, 2),
        **(figures.report() if figures is not None else {"figures": {}, "intervals": {}}),
        "settings": settings,
    }


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)


def _errors(poses: _Poses, path: Path | None) -> dict[str, dict[str, float]] | None:
    """Shares of the kinds of errors; drawn, too, if a path is given."""
    if not poses.evaluator.metric.ranks_poses:
        return None
    found = pose_errors(poses.evaluator.truth, poses.results)
    if path:
        from ..metrics.plots import plot_errors

        plot_errors(found, path, title=poses.subject)
    return found.shares()


# Processes and progress


@contextmanager
def processes() -> Iterator[int]:
    """Meets the other processes of torchrun, if it started this one; the rank among them."""
    try:
        with join_processes(torch.device("cpu")) as world:  # they exchange predictions only
            yield world.rank
    except TrainingError as error:
        raise click.ClickException(str(error)) from None


@contextmanager
def progress(what: str, total: int, *, show: bool) -> Iterator[Callable[[int], None]]:
    """A bar on a terminal; what is called with the number that was done."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not (show and console.is_terminal)) as bar:
        task = bar.add_task(what, total=total)
        yield lambda count: bar.update(task, advance=count)
