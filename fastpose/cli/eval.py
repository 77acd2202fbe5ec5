"""``fastpose eval``: the published metric of a model, or of existing results, on annotated photos."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .options import Numbers, annotation_options, given_options, view_options

if TYPE_CHECKING:
    from ..codecs import ViewAverage
    from ..models import PoseModel
    from ..train.evaluate import Evaluator, Predictions
    from ..train.measures import Scores

__all__ = ["evaluate"]

# What makes results of a model; results that exist are taken as they are.
_OF_MODEL = (
    *("detections", "score_mode", "nms", "nms_threshold"),
    *("flip_test", "scales", "rotations", "batch_size", "device"),
)
_OF_AP = ("detections", "errors", "nms", "nms_threshold", "sigmas", "use_area")
# Written out here, so that --help need not import numpy; a test holds them against fastpose.train.measures.
_METRICS = ("coco_ap", "crowdpose_ap", "posetrack_ap", "mpii_pckh", "trb_accuracy", "jhmdb_pck", "pck")
_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_ANYTHING = click.Path(exists=True, path_type=Path)
_NEW_FILE = click.Path(dir_okay=False, path_type=Path)


@click.command("eval")
@click.argument("model", required=False)
@click.option("--data", required=True, type=_ANYTHING, help="Annotation file, or the folder of them.")
@annotation_options
@click.option(
    "--metric",
    type=click.Choice(["auto", *_METRICS]),
    default="auto",
    show_default=True,
    help="auto: the data set's own, or pck (PCK@0.2 of the 12 limbs by torso) where the model lacks keypoints for it.",
)
@click.option("--detections", type=_FILE, help="COCO detections to use as boxes instead of the annotated ones.")
@click.option(
    "--predictions", type=_ANYTHING, help="Score these results instead of a model's: COCO's list, PoseTrack's folder."
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
    """Measure MODEL, a zoo name or a safetensors file, on annotated people.

    Under torchrun the people are shared out to its processes; the figures are the same.
    """
    if (model is None) == (predictions is None):
        raise click.UsageError("expected either MODEL or --predictions")
    if model is None and (given := given_options(ctx, _OF_MODEL)):
        raise click.UsageError(f"{given[0]} goes with MODEL: existing results are scored as they are")
    # Imported here: the command line's help must not wait for torch.
    import time

    from ..codecs import build_views
    from ..data.readers import read_annotations
    from ..devices import pick_device
    from ..models import find_model
    from ..train.evaluate import Evaluator
    from ..train.measures import AP_METRICS, default_metric, read_predictions, write_predictions

    with _processes() as rank:
        network = None if model is None else find_model(model).to(pick_device(device, "--device"))
        records = read_annotations(data, images, format=data_format, detections=detections, split=split)
        if metric == "auto":
            metric = default_metric(records, None if network is None else network.spec.skeleton)
        if metric not in AP_METRICS and (given := given_options(ctx, _OF_AP)):
            names = ", ".join(AP_METRICS)
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
        )
        start = time.perf_counter()
        if network is None:
            assert predictions is not None
            results = read_predictions(predictions)
            flip = None
        else:
            views = build_views(network.spec, scales, rotations)
            found = _predict(network, evaluator, flip_test, views, show=rank == 0)
            if rank:
                return  # the first process has everybody's predictions
            flip = network.spec.flip_test if flip_test is None else flip_test
            results = list(evaluator.results(found, network.spec))
        seconds = time.perf_counter() - start
        if save_predictions:
            write_predictions(save_predictions, results, evaluator.content if metric == "posetrack_ap" else None)
        scores = evaluator.score(results)
        figures = scores.figures(None)
        intervals = _intervals(scores, bootstrap, seed)
        shares = None
        if metric in AP_METRICS:
            shares = _errors(evaluator, results, errors, str(model or predictions))

    subject = str(model if model is not None else predictions)
    flipped = "" if flip is None else f", flip test {'on' if flip else 'off'}"
    if flip is not None and len(scales) * len(rotations) > 1:
        flipped += f", {len(scales) * len(rotations)} crops each"
    click.echo(f"{subject} on {data.name}: {metric}, {len(evaluator)} people{flipped}, {seconds:.1f} s")
    _print_table(figures, intervals)
    left_out = {**evaluator.skipped, "no result": scores.unpredicted}
    for reason, count in left_out.items():
        if count:
            click.echo(
                f"left out: {reason}: {count}" if reason != "no result" else f"wrong, no result: {count}", err=True
            )
    for photo in evaluator.failed:
        click.echo(f"left out: {photo}", err=True)
    if json_file:
        from ..files import atomic_write

        settings = {
            "flip_test": flip,
            "scales": scales,
            "rotations": rotations,
            "score_mode": score_mode,
            "nms": nms,
            "nms_threshold": nms_threshold,
            "sigmas": evaluator.sigmas.tolist(),
            "use_area": use_area,
            "detections": None if detections is None else str(detections),
            "bootstrap": bootstrap,
            "seed": seed,
        }
        if model is None:
            settings |= dict.fromkeys(settings.keys() & set(_OF_MODEL))
        report = {
            "model": model,
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
            "left_out": {reason: count for reason, count in left_out.items() if count},
            "failed_photos": evaluator.failed,
        }
        atomic_write(json_file, (json.dumps(report, indent=1) + "\n").encode())


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


def _errors(evaluator: Evaluator, results: list[Any], path: Path | None, title: str) -> dict[str, dict[str, float]]:
    """Shares of the kinds of errors; drawn, too, if a path is given."""
    from dataclasses import replace

    from ..metrics.errors import pose_errors

    skeleton = replace(evaluator.records.skeleton, sigmas=tuple(evaluator.sigmas.tolist()))
    found = pose_errors(evaluator.content, results, skeleton, use_area=evaluator.use_area)
    if path:
        from ..metrics.plots import plot_errors

        plot_errors(found, path, title=title)
    return found.shares()


def _print_table(figures: dict[str, float], intervals: dict[str, tuple[float, float]]) -> None:
    from rich.console import Console
    from rich.table import Table

    def text(value: float) -> str:
        return "-" if _known(value) is None else f"{value:.4f}"

    table = Table("figure", "value", *(("95 % interval",) if intervals else ()))
    for name, value in figures.items():
        ends = (" to ".join(map(text, intervals[name])),) if intervals else ()
        table.add_row(name, text(value), *ends)
    Console().print(table)


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
