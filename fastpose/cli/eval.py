"""``fastpose eval``: the published metric of a model, or of existing results, on annotated photos."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .options import Numbers, annotation_options, category_option, given_options, view_options

if TYPE_CHECKING:
    from ..data.records import PoseRecords
    from ..evaluate import Evaluator, Predictions
    from ..metrics import PoseResults, Scores
    from ..models import PoseModel
    from ..views import ViewAverage

__all__ = ["evaluate"]

# What makes results of a model; results that exist are taken as they are.
_OF_MODEL = (
    *("detections", "score_mode", "nms", "nms_threshold"),
    *("flip_test", "scales", "rotations", "batch_size", "device"),
)
# What the report says of how it was made, beside the sigmas, the flip test and the detections.
_SETTINGS = (
    *("scales", "rotations", "score_mode", "nms", "nms_threshold"),
    *("use_area", "bootstrap", "seed"),
)
_OF_AP = ("detections", "errors", "nms", "nms_threshold", "sigmas", "use_area")
_NOTHING_TO_MEASURE = "there are no annotations, so there is nothing to measure"
_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_ANYTHING = click.Path(exists=True, path_type=Path)
_NEW_FILE = click.Path(dir_okay=False, path_type=Path)


class _MetricName(click.ParamType):
    """A metric by name; they are looked up when one is wanted, so that other verbs need not import NumPy."""

    name = "metric"

    def get_metavar(self, param: click.Parameter, ctx: click.Context | None = None) -> str:  # 8.1 passes no ctx
        """What the help shows."""
        return f"[{'|'.join(self._names())}]"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The name, if there is such a metric."""
        if value not in self._names():
            self.fail(f"expected one of {', '.join(self._names())}, got {value!r}", param, ctx)
        return str(value)

    @staticmethod
    def _names() -> list[str]:
        from ..metrics import METRICS

        return ["auto", *METRICS]


@click.command("eval")
@click.argument("model", required=False)
@click.option("--data", required=True, type=_ANYTHING, help="Annotation file, or the folder of them.")
@annotation_options
@category_option
@click.option(
    "--metric",
    type=_MetricName(),
    default="auto",
    show_default=True,
    help="auto: the data set's own, or pck (PCK@0.2 of the 12 limbs by torso) where the model lacks keypoints for it.",
)
@click.option("--detections", type=_FILE, help="COCO detections to use as boxes instead of the annotated ones.")
@click.option(
    "--predictions",
    type=_ANYTHING,
    help="Score these results instead of a model's: COCO's list, MPII's preds (.mat), PoseTrack's folder.",
)
@click.option(
    "--save-predictions",
    type=click.Path(path_type=Path),
    help="Write the results: COCO's list; MPII's preds (.mat); PoseTrack's folder (no suffix).",
)
@click.option(
    "--score-mode",
    type=click.Choice(["bbox", "keypoint", "bbox_keypoint", "bbox_rle"]),
    default="bbox_keypoint",
    show_default=True,
    help="What a pose's score is made of.",
)
@click.option(
    "--nms",
    type=click.Choice(["none", "oks_nms", "soft_oks_nms"]),
    default="oks_nms",
    show_default=True,
    help="How doubles are suppressed.",
)
@click.option("--nms-threshold", type=click.FloatRange(0, 1), default=0.9, show_default=True)
@click.option("--sigmas", type=Numbers(), help="Of the OKS, one a keypoint: 0.026,0.025,…  [default: the data set's]")
@click.option("--area/--no-area", "use_area", default=True, help="Annotated areas for the OKS, or 0.53 of the box.")
@click.option("--bootstrap", type=click.IntRange(0), default=0, help="Samples of photos for 95 % intervals, e.g. 1000.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of the samples.")
@click.option("--errors", type=_NEW_FILE, help="Draw what is wrong with the keypoints (.png, .svg, .pdf).")
@click.option(
    "--flip-test/--no-flip-test", default=None, help="Average with the mirrored crop.  [default: as the model says]"
)
@view_options
@click.option("--batch-size", type=click.IntRange(1), default=64, show_default=True)
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:1, …")
@click.option("--json", "json_file", type=_NEW_FILE, help="Also write figures, settings and versions here.")
@click.pass_context
def evaluate(
    ctx: click.Context,
    model: str | None,
    data: Path,
    data_format: str | None,
    split: str | None,
    images: Path | None,
    category: str | None,
    metric: str,
    detections: Path | None,
    predictions: Path | None,
    save_predictions: Path | None,
    score_mode: Any,
    nms: Any,
    nms_threshold: float,
    sigmas: list[float] | None,
    use_area: bool,
    bootstrap: int,
    seed: int,
    errors: Path | None,
    flip_test: bool | None,
    scales: list[float],
    rotations: list[float],
    batch_size: int,
    device: str,
    json_file: Path | None,
) -> None:
    """Measure MODEL, a zoo name or a safetensors file, on annotated people; by default the model of the package.

    Under torchrun the people are shared out to its processes; the figures are the same.
    """
    if model is not None and predictions is not None:
        raise click.UsageError("expected either MODEL or --predictions")
    if predictions is not None and (given := given_options(ctx, _OF_MODEL)):
        raise click.UsageError(f"{given[0]} goes with MODEL: existing results are scored as they are")
    if category == "all":
        raise click.UsageError("--category: one is measured at a time; expected a name or an id, got all")
    # Imported here: the command line's help must not wait for torch.
    from ..devices import pick_device
    from ..evaluate import Evaluator, read_predictions, write_predictions
    from ..files import atomic_write
    from ..metrics import METRICS
    from ..models import find_model
    from ..views import build_views

    with _processes() as rank:
        network = None if predictions is not None else find_model(model).to(pick_device(device, "--device"))
        options = {"format": data_format, "detections": detections, "split": split, "category": category}
        records, metric, annotated = _read_people(data, images, options, metric, network)
        if not annotated and save_predictions is None:
            raise click.UsageError(
                f"{data}: {_NOTHING_TO_MEASURE}; --save-predictions FILE writes what a model predicts"
            )
        if not METRICS[metric].ranks_poses and (given := given_options(ctx, _OF_AP)):
            names = ", ".join(name for name, other in METRICS.items() if other.ranks_poses)
            raise click.UsageError(f"{given[0]} goes with average precision ({names}), not with {metric}")
        evaluator = Evaluator(
            records,
            metric,
            annotations=data,
            batch_size=batch_size,
            score_mode=score_mode,
            nms=nms,
            nms_threshold=nms_threshold,
            sigmas=sigmas,
            use_area=use_area,
            category=category,
        )
        start = time.perf_counter()
        if network is None:
            assert predictions is not None
            results = read_predictions(predictions, evaluator.truth, with_ids=not evaluator.metric.ranks_poses)
            flip = None
        else:
            views = build_views(network.spec, scales, rotations)
            found = _predict(network, evaluator, flip_test, views, show=rank == 0)
            if rank:
                return  # the first process has everybody's predictions
            flip = network.spec.flip_test if flip_test is None else flip_test
            results = evaluator.results(found, network.spec)
        seconds = time.perf_counter() - start
        if save_predictions:
            number = int(evaluator.truth.category_ids[0]) if annotated else 1
            write_predictions(save_predictions, results, evaluator.skeleton, data, category_id=number)

    subject = str(predictions or (network.name if network is not None and model is None else model))
    crops = len(scales) * len(rotations)
    flipped = "" if flip is None else f", flip test {'on' if flip else 'off'}"
    flipped += f", {crops} crops each" if flip is not None and crops > 1 else ""
    title = f"{subject} on {data.name}: {_described(evaluator)}, {len(evaluator)} people{flipped}, {seconds:.1f} s"
    if not annotated:
        click.echo(f"{len(results)} poses of {len(evaluator)} boxes -> {save_predictions}")
        click.echo(f"{data}: {_NOTHING_TO_MEASURE}", err=True)
        _print_left_out(evaluator, 0)
        return
    scores = evaluator.score(results)
    figures, intervals = scores.figures(None), _intervals(scores, bootstrap, seed)
    shares = _errors(evaluator, results, errors, subject) if evaluator.metric.ranks_poses else None
    _print_table(title, figures, intervals)
    _print_left_out(evaluator, scores.unpredicted)
    if json_file:
        settings: dict[str, Any] = {name: ctx.params[name] for name in _SETTINGS}
        settings |= {"sigmas": list(evaluator.skeleton.sigmas), "sigmas_known": evaluator.sigmas_known}
        settings |= {"flip_test": flip, "detections": None if detections is None else str(detections)}
        if network is None:
            settings |= dict.fromkeys(settings.keys() & set(_OF_MODEL))
        report = {
            "model": None if network is None else subject,
            "predictions": None if predictions is None else str(predictions),
            "data": str(data),
            "metric": metric,
            "people": len(evaluator),
            "results": len(results),
            "seconds": round(seconds, 2),
            "figures": {name: _known(value) for name, value in figures.items()},
            "intervals": {name: [_known(end) for end in ends] for name, ends in intervals.items()},
            "errors": shares,
            "settings": settings,
            "versions": _versions(),
            "left_out": {reason: count for reason, count in _left_out(evaluator, scores.unpredicted).items() if count},
            "failed_photos": evaluator.failed,
        }
        atomic_write(json_file, (json.dumps(report, indent=1) + "\n").encode())


def _read_people(
    data: Path, images: Path | None, options: dict[str, Any], metric: str, network: PoseModel | None
) -> tuple[PoseRecords, str, bool]:
    """The people, the metric's name where it was ``auto``, and whether anybody is annotated."""
    from ..data.readers import read_annotations
    from ..evaluate import default_metric, has_annotations
    from ..metrics import COCO_AP

    detections = options["detections"]
    # Of annotated people the file is not read a second time to see whether there are any.
    annotated = detections is None or has_annotations(data)
    if not annotated and network is not None:
        # A list of photos names no keypoints either: those of the network are what it is asked for.
        options = {**options, "format": "coco", "skeleton": network.spec.skeleton}
        metric = COCO_AP.name if metric == "auto" else metric
    try:
        records = read_annotations(data, images, **options)
    except ValueError:
        if detections is None and not has_annotations(data):
            raise click.UsageError(
                f"{data}: {_NOTHING_TO_MEASURE}; with --detections FILE and --save-predictions FILE a model's "
                "predictions are written"
            ) from None
        raise
    if metric == "auto":
        metric = default_metric(records, None if network is None else network.spec.skeleton)
    return records, metric, annotated


@contextmanager
def _processes() -> Iterator[int]:
    """Meets the other processes of torchrun, if it started this one; the rank among them."""
    import torch

    from ..train.distributed import TrainingError, join_processes

    try:
        with join_processes(torch.device("cpu")) as world:  # they exchange predictions only
            yield world.rank
    except TrainingError as error:
        raise click.ClickException(str(error)) from None


def _predict(
    network: PoseModel, evaluator: Evaluator, flip_test: bool | None, views: ViewAverage | None, *, show: bool
) -> Predictions:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not (show and console.is_terminal)) as progress:
        task = progress.add_task("people", total=len(evaluator.own))
        return evaluator.predict(
            network, flip_test=flip_test, views=views, on_batch=lambda count: progress.update(task, advance=count)
        )


def _intervals(scores: Scores, samples: int, seed: int) -> dict[str, tuple[float, float]]:
    if not samples:
        return {}
    from ..metrics.bootstrap import bootstrap_intervals

    return bootstrap_intervals(scores.figures, scores.photos, samples=samples, seed=seed)


def _errors(evaluator: Evaluator, results: PoseResults, path: Path | None, title: str) -> dict[str, dict[str, float]]:
    """Shares of the kinds of errors; drawn, too, if a path is given."""
    from ..metrics.errors import pose_errors

    found = pose_errors(evaluator.truth, results)
    if path:
        from ..metrics.plots import plot_errors

        plot_errors(found, path, title=title)
    return found.shares()


def _described(evaluator: Evaluator) -> str:
    """The metric, and what one must know to believe it."""
    name = evaluator.metric.name
    if evaluator.metric.similarity and not evaluator.sigmas_known:
        return f"{name} by made-up sigmas ({evaluator.skeleton.sigmas[0]} each; none are known for these keypoints)"
    return name


def _print_table(title: str, figures: dict[str, float], intervals: dict[str, tuple[float, float]]) -> None:
    from rich.console import Console
    from rich.table import Table

    def text(value: float) -> str:
        return "-" if _known(value) is None else f"{value:.4f}"

    table = Table("figure", "value", *(("95 % interval",) if intervals else ()))
    for name, value in figures.items():
        ends = (" to ".join(map(text, intervals[name])),) if intervals else ()
        table.add_row(name, text(value), *ends)
    click.echo(title)  # not the table's own, which would be wrapped to its width
    Console().print(table)


def _left_out(evaluator: Evaluator, unpredicted: int) -> dict[str, int]:
    return {**evaluator.skipped, "no result": unpredicted}


def _print_left_out(evaluator: Evaluator, unpredicted: int) -> None:
    for reason, count in _left_out(evaluator, unpredicted).items():
        if count:
            click.echo(
                f"left out: {reason}: {count}" if reason != "no result" else f"wrong, no result: {count}", err=True
            )
    for photo in evaluator.failed:
        click.echo(f"left out: {photo}", err=True)


def _known(value: float) -> float | None:
    """None where there is nothing to measure: NaN, or -1 in average precision."""
    return value if value >= 0 else None


def _versions() -> dict[str, str]:
    import platform

    import numpy as np
    import torch

    from .._version import __version__

    return {
        "fastpose": __version__,
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "numpy": np.__version__,
    }
