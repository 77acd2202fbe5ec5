"""``fastpose eval``: a model's published metric on annotated photos."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from ..models import PoseModel

__all__ = ["evaluate"]


@click.command("eval")
@click.argument("model")
@click.option(
    "--data",
    required=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Annotation file.",
)
@click.option("--format", "data_format", help="What it is: coco, mpii, …  [default: told from the file]")
@click.option("--split", help="Which part, where the file has several: train, val, test.")
@click.option(
    "--images",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder that its file names start from.  [default: the annotation file's]",
)
@click.option(
    "--metric",
    type=click.Choice(["auto", "pck", "coco_ap"]),
    default="auto",
    show_default=True,
    help="pck: PCK@0.2 of the 12 limbs by torso. auto: coco_ap where data and model have the same keypoints.",
)
@click.option(
    "--detections",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="COCO detections to use as boxes instead of the annotated ones (coco_ap).",
)
@click.option(
    "--flip-test/--no-flip-test", default=None, help="Average with the mirrored crop.  [default: as the model says]"
)
@click.option("--batch-size", type=click.IntRange(1), default=64, show_default=True)
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:1, …")
@click.option(
    "--json", "json_file", type=click.Path(dir_okay=False, path_type=Path), help="Also write the figures here."
)
def evaluate(
    model: str,
    data: Path,
    data_format: str | None,
    split: str | None,
    images: Path | None,
    metric: str,
    detections: Path | None,
    flip_test: bool | None,
    batch_size: int,
    device: str,
    json_file: Path | None,
) -> None:
    """Measure MODEL, a zoo name or a safetensors file, on annotated people."""
    # Imported here: the command line's help must not wait for torch.
    import time

    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
    from rich.table import Table

    from ..data.readers import read_annotations
    from ..train.evaluate import Evaluator
    from ..train.setup import pick_device

    network = _load(model).to(pick_device(device)).eval()
    records = read_annotations(data, images, format=data_format, detections=detections, split=split)
    if metric == "auto":
        metric = "coco_ap" if records.skeleton.keypoints == network.spec.skeleton.keypoints else "pck"
    if detections is not None and metric == "pck":
        raise click.UsageError(
            "--detections goes with --metric coco_ap: a detection has no annotated joints to compare"
        )
    evaluator = Evaluator(records, metric, annotations=data, batch_size=batch_size)

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    start = time.perf_counter()
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task("people", total=len(evaluator))
        predictions = evaluator.predict(
            network, flip_test=flip_test, on_batch=lambda count: progress.update(task, advance=count)
        )
    seconds = time.perf_counter() - start
    values = evaluator.measure(predictions, network)

    flip = network.spec.flip_test if flip_test is None else flip_test
    title = f"{model} on {data.name}: {len(evaluator)} people, flip test {'on' if flip else 'off'}, {seconds:.1f} s"
    table = Table("figure", "value")
    for name, value in values.items():
        table.add_row(name, "-" if math.isnan(value) else f"{value:.4f}")
    click.echo(title)
    Console().print(table)
    for photo in evaluator.failed:
        click.echo(f"left out: {photo}", err=True)
    if json_file:
        from ..models.weights import atomic_write

        report = {
            "model": model,
            "data": str(data),
            "metric": metric,
            "flip_test": flip,
            "people": len(evaluator),
            "seconds": round(seconds, 2),
            "figures": {name: None if math.isnan(value) else value for name, value in values.items()},
            "failed_photos": evaluator.failed,
        }
        atomic_write(json_file, (json.dumps(report, indent=1) + "\n").encode())


def _load(name: str) -> PoseModel:
    """A model file, or a zoo entry's weights."""
    from ..models import create_model, load_model

    if Path(name).exists() or name.endswith(".safetensors"):
        return load_model(name)
    return create_model(name, pretrained=True)
