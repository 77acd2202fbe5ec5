"""``fastpose eval``: the published metric of a model, or of existing results, on annotated photos."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import click

from .options import (
    Numbers,
    annotation_options,
    category_option,
    detector_options,
    dtype_option,
    given_options,
    tracking_options,
    view_options,
)

__all__ = ["EvalOptions", "evaluate"]

# What makes boxes or results of a model; results that exist are taken as they are.
_OF_MODEL = (
    *("detections", "detector", "detect_threshold", "detector_layout", "person_class", "max_people", "boxes_only"),
    *("score_mode", "nms", "nms_threshold"),
    *("flip_test", "scales", "rotations", "batch_size", "device", "dtype", "fps", "keypoint_threshold"),
)
_OF_POSES = (
    *("metric", "max_people", "save_predictions", "score_mode", "nms", "nms_threshold", "sigmas", "use_area", "errors"),
    *("flip_test", "scales", "rotations", "batch_size"),
)
# What has no meaning for tracks, and what has none without them.
_NOT_OF_TRACKS = (
    *("metric", "category", "split", "boxes_only", "score_mode", "sigmas", "use_area"),
    *("bootstrap", "seed", "errors", "detect_threshold"),
)
_OF_TRACKER = ("fps", "keypoint_threshold")
_OF_DETECTOR = ("detector_layout", "person_class", "max_people")
_OF_AP = ("detections", "detector", "errors", "nms", "nms_threshold", "sigmas", "use_area")
_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_ANYTHING = click.Path(exists=True, path_type=Path)
_NEW_FILE = click.Path(dir_okay=False, path_type=Path)


@dataclass(frozen=True)
class EvalOptions:
    """What the command line says; the help of the options says what they are."""

    model: str | None
    data: Path
    data_format: str | None
    split: str | None
    images: Path | None
    category: str | None
    metric: str
    detections: Path | None
    detector: str | None
    detect_threshold: float | None
    detector_layout: str | None
    person_class: int | None
    max_people: int
    boxes_only: bool
    predictions: Path | None
    save_predictions: Path | None
    score_mode: Literal["bbox", "keypoint", "bbox_keypoint", "bbox_rle"]
    nms: Literal["none", "oks_nms", "soft_oks_nms"]
    nms_threshold: float
    sigmas: list[float] | None
    use_area: bool
    bootstrap: int
    seed: int
    errors: Path | None
    flip_test: bool | None
    scales: Sequence[float]
    rotations: Sequence[float]
    batch_size: int
    device: str
    dtype: str
    json_file: Path | None
    tracking: bool
    fps: float
    keypoint_threshold: float
    ap_only: Sequence[str]  # those that were given and go with average precision only


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
@detector_options
@click.option(
    "--max-people",
    type=click.IntRange(1),
    default=30,
    show_default=True,
    help="Keypoints are predicted in so many boxes of a photo that --detector finds, those with the highest scores.",
)
@click.option("--boxes-only", is_flag=True, help="Measure the boxes of --detector or --detections, and no keypoints.")
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
@tracking_options
@click.option(
    "--flip-test/--no-flip-test", default=None, help="Average with the mirrored crop.  [default: as the model says]"
)
@view_options
@click.option("--batch-size", type=click.IntRange(1), default=64, show_default=True)
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:1, …")
@dtype_option("float32")
@click.option("--json", "json_file", type=_NEW_FILE, help="Also write figures, settings and versions here.")
@click.pass_context
def evaluate(ctx: click.Context, /, **given: Any) -> None:
    """Measure MODEL, a zoo name or a safetensors file, on annotated people; by default the model of the package.

    With --detector it is measured on the people who are found, and so are their boxes: average precision of all down to
    a score of 0.01, and how many are false on photos without anybody from --detect-threshold on.

    With --track the photos are frames of PoseTrack18's sequences, and it is measured who stays who: MOTA, MOTP,
    precision, recall and AP by joint as PoseTrack's own code gives them, IDF1, switches and fragmentations.

    Under torchrun the people are shared out to its processes; the figures are the same.
    """
    options = EvalOptions(**given, ap_only=given_options(ctx, _OF_AP))
    _check(ctx, options)
    if options.tracking:
        from .eval_tracking import run_tracking  # here: the command line's help must not wait for torch

        run_tracking(options)
    else:
        from .eval_run import run_evaluation

        run_evaluation(options)


def _check(ctx: click.Context, options: EvalOptions) -> None:
    """Refuse options that do not go together."""
    boxes = options.detector is not None or options.detections is not None
    if options.model is not None and options.predictions is not None:
        raise click.UsageError("expected either MODEL or --predictions")
    if options.predictions is not None and (given := given_options(ctx, _OF_MODEL)):
        raise click.UsageError(f"{given[0]} goes with MODEL: existing results are scored as they are")
    if options.detector is not None and options.detections is not None:
        raise click.UsageError("expected either --detector or --detections")
    for name in ("boxes_only", "detect_threshold"):
        if not boxes and (given := given_options(ctx, [name])):
            raise click.UsageError(f"{given[0]} goes with --detector or --detections")
    if options.detector is None and (given := given_options(ctx, _OF_DETECTOR)):
        raise click.UsageError(f"{given[0]} goes with --detector")
    if options.boxes_only and options.model is not None:
        raise click.UsageError("expected either MODEL or --boxes-only")
    if options.boxes_only and (given := given_options(ctx, _OF_POSES)):
        raise click.UsageError(f"{given[0]} is about keypoints, which --boxes-only leaves out")
    if options.tracking and (given := given_options(ctx, _NOT_OF_TRACKS)):
        raise click.UsageError(f"{given[0]} does not go with --track")
    if not options.tracking and (given := given_options(ctx, _OF_TRACKER)):
        raise click.UsageError(f"{given[0]} goes with --track")
    if options.category == "all":
        raise click.UsageError("--category: one is measured at a time; expected a name or an id, got all")
