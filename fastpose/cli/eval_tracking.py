"""What ``fastpose eval --track`` does: poses get tracks, or have them, and both are measured sequence by sequence."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from ..data.readers import read_annotations
from ..devices import pick_device, pick_dtype
from ..evaluate import (
    PredictedTracks,
    Tracker,
    TrueSequence,
    follow_people,
    read_sequences,
    read_tracks,
    score_sequences,
    write_predictions,
)
from ..evaluate.tracks import absent_joints, joined
from ..metrics import PoseTrackScores
from ..metrics.posetrack import POSETRACK_AP, POSETRACK_JOINTS
from ..models import find_model
from ..skeletons import POSETRACK18_17, Skeleton
from .eval import EvalOptions
from .eval_report import print_left_out, write_report
from .eval_run import build_evaluator, find_boxes, predict_people, processes

__all__ = ["new_tracker", "run_tracking"]

_WIDTH = 100  # of a table, also where the output is no terminal: a figure must not be cut
_COLUMNS = {"MOTA": "MOTA", "MOTP": "MOTP", "precision": "Prec", "recall": "Rec", "AP": "AP"}
_COUNTS = {"switches": "IDSW", "fragmentations": "Frag"}
_SETTINGS = ("scales", "rotations", "nms", "nms_threshold", "max_people", "fps", "keypoint_threshold")


@dataclass(frozen=True)
class _Followed:
    """Tracks, and where they come from.

    Attributes:
        tracks: The poses.
        subject: Who predicted them.
        boxes: Whose boxes were cropped; None of poses from a file.
        flip: Whether the mirrored crops were averaged; None where nothing was cropped.
        left_out: Boxes that could not be cropped, by reason.
        failed: Photos that could not be read, each with the reason.
    """

    tracks: PredictedTracks
    subject: str
    boxes: str | None
    flip: bool | None
    left_out: Mapping[str, int]
    failed: list[str]


def new_tracker(skeleton: Skeleton, sure_box: float | None = None) -> Callable[[], Tracker]:
    """What makes the tracker of a sequence, as `Predictor.video` does.

    Args:
        skeleton: What the keypoints are.
        sure_box: The detector's threshold; None where nobody says.
    """
    from ..tracking import PoseTracker

    if sure_box is None:
        return lambda: PoseTracker(skeleton.sigmas)
    return lambda: PoseTracker(skeleton.sigmas, sure_box=sure_box)


def run_tracking(options: EvalOptions) -> None:
    """Track people through sequences, or read their tracks; measure, and say so.

    Raises:
        click.UsageError: The options do not go with the data.
        ValueError: The data, the predictions or the model cannot be used.
    """
    if options.data_format not in (None, "posetrack18"):
        raise click.UsageError(f"--track measures sequences of PoseTrack18, got --format {options.data_format}")
    if options.save_predictions is not None and options.save_predictions.suffix:
        raise click.UsageError("--save-predictions: tracks are written to PoseTrack's folder; expected no suffix")
    start = time.perf_counter()
    sequences = read_sequences(options.data)
    if options.predictions is not None:
        tracks = read_tracks(options.predictions, sequences)
        followed = _Followed(tracks, str(options.predictions), None, None, {}, [])
    else:
        found = _follow(options, sequences)
        if found is None:
            return  # the first process has everybody's predictions
        followed = found
    seconds = time.perf_counter() - start
    if options.save_predictions is not None:
        write_predictions(options.save_predictions, joined(followed.tracks.poses), POSETRACK18_17, options.data)
    _report(options, sequences, followed, seconds)


def _follow(options: EvalOptions, sequences: list[TrueSequence]) -> _Followed | None:
    """The tracks of MODEL; None in processes that do not measure."""
    with processes() as rank:
        device = pick_device(options.device, "--device")
        network = find_model(options.model).to(device, pick_dtype(options.dtype, device))
        people = read_annotations(options.data, options.images, format="posetrack18", detections=options.detections)
        boxes = find_boxes(options, people, device, show=rank == 0)
        subject = network.name if options.model is None else options.model
        source = "annotated boxes" if boxes is None else f"boxes of {boxes.subject}"
        failed = boxes.failed if boxes else []
        if boxes is not None and not len(boxes.people):
            nobody = PredictedTracks([joined([]) for _ in sequences], absent_joints(network.spec.skeleton.keypoints))
            return None if rank else _Followed(nobody, str(subject), source, None, boxes.people.skipped, failed)
        evaluator = build_evaluator(options, people, boxes, POSETRACK_AP.name)
        predictions, flip = predict_people(options, network, evaluator, show=rank == 0)
    if rank:
        return None
    tracks = follow_people(
        evaluator,
        predictions,
        network.spec,
        sequences,
        new_tracker(network.spec.skeleton, boxes.threshold if boxes else None),
        fps=options.fps,
        every_frame=boxes is not None,
        keypoint_threshold=options.keypoint_threshold,
    )
    failed = list(dict.fromkeys([*failed, *evaluator.failed]))
    return _Followed(tracks, str(subject), source, flip, evaluator.skipped, failed)


# What is said


def _report(options: EvalOptions, sequences: list[TrueSequence], followed: _Followed, seconds: float) -> None:
    """Print the figures, and write them for --json."""
    scores = score_sequences(sequences, followed.tracks)
    total = PoseTrackScores.join(scores.values())
    absent = followed.tracks.absent
    present = [joint for joint in POSETRACK_JOINTS if joint not in absent]
    labelled = sum(int(sequence.labelled.sum()) for sequence in sequences)
    people = total.people.figures()
    source = "" if followed.boxes is None else f", in {followed.boxes}"
    source += "" if followed.flip is None else f", flip test {'on' if followed.flip else 'off'}"
    click.echo(
        f"{followed.subject} on {options.data.name}: tracks of {len(sequences)} sequences{source}, {labelled} labelled "
        f"frames, {people['people']} people, {seconds:.1f} s"
    )
    _print(_joint_table(total, present))
    click.echo(f"people: IDF1 {_text(people['IDF1'])}, IDP {_text(people['IDP'])}, IDR {_text(people['IDR'])}")
    if len(sequences) > 1:
        _print(_sequence_table({**scores, "all": total}))
    if absent:
        click.echo(
            f"the keypoints lack {', '.join(absent)}: these count as not predicted; the mean of the other "
            f"{len(present)} joints stands in the row 'of {len(present)}'",
            err=True,
        )
    if followed.tracks.unscored:
        click.echo(
            f"{followed.tracks.unscored} poses state no scores of their keypoints: their AP means little", err=True
        )
    left_out = {**followed.left_out, **followed.tracks.left_out}
    print_left_out(left_out, followed.failed)
    if options.json_file:
        settings = {name: getattr(options, name) for name in _SETTINGS} if followed.boxes else {}
        report = {
            "model": followed.subject if followed.boxes else None,
            "predictions": None if followed.boxes else followed.subject,
            "data": str(options.data),
            "metric": "posetrack_tracking",
            "boxes": followed.boxes,
            "flip_test": followed.flip,
            "labelled_frames": labelled,
            **_figures(total),
            "sequences": {name: _figures(of) for name, of in scores.items()},
            "absent_joints": list(absent),
            "left_out": {reason: count for reason, count in left_out.items() if count},
            "failed_photos": followed.failed,
            "seconds": round(seconds, 2),
            "settings": settings,
        }
        write_report(options.json_file, report)


def _joint_table(scores: PoseTrackScores, present: list[str]) -> Table:
    """A row a joint, before them all together, after them whole people."""
    table = Table("joint", *_COLUMNS.values(), *_COUNTS.values())
    rows = scores.by_joint()
    if len(present) < len(POSETRACK_JOINTS):
        some = {f"of {len(present)}": scores.by_joint(present)["total"]}
        rows = {"total": rows["total"]} | some | rows
    for name, row in (rows | {"people": scores.people.figures()}).items():
        figures = [_text(row.get(figure, math.nan)) for figure in _COLUMNS]
        table.add_row(name, *figures, *(str(row[count]) for count in _COUNTS))
    return table


def _sequence_table(scores: Mapping[str, PoseTrackScores]) -> Table:
    """A row a sequence: the joints' total, then what is of people."""
    table = Table("sequence", *_COLUMNS.values(), "IDF1", *_COUNTS.values())
    for name, of in scores.items():
        total, people = of.by_joint()["total"], of.people.figures()
        figures = [*(total[figure] for figure in _COLUMNS), people["IDF1"]]
        table.add_row(name, *map(_text, figures), *(str(people[count]) for count in _COUNTS))
    return table


def _figures(scores: PoseTrackScores) -> dict[str, Any]:
    """What the report says of some sequences."""
    joints = {name: _known(row) for name, row in scores.by_joint().items()}
    people = _known(scores.people.figures())
    return {"figures": joints.pop("total") | {"IDF1": people["IDF1"]}, "joints": joints, "people": people}


def _known(figures: Mapping[str, float]) -> dict[str, float | None]:
    """JSON has no NaN."""
    return {name: None if math.isnan(value) else value for name, value in figures.items()}


def _text(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.4f}"


def _print(table: Table) -> None:
    Console(width=max(Console().width, _WIDTH)).print(table)
