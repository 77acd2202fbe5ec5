"""``fastpose predict``: keypoints of the people in photos, as pictures and as JSON."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .boxes import parse_boxes
from .options import detector_options, dtype_option, given_options, video_options, view_options
from .predict_demo import run_demo
from .predict_report import make_report, write_json
from .predict_run import Run, termination_interrupts
from .predict_video import one_video, predict_video
from .targets import check_writable, expand_photos, identity, picture_targets

if TYPE_CHECKING:
    from ..data.readers import DetectionFile
    from ..predict import People

__all__ = ["predict"]

# What is of no use with some other option, and would be ignored.
_OF_DETECTOR = ("detector", "detector_layout", "person_class", "detect_threshold")
_OF_FILE = ("category", "box_threshold")
_OF_BOXES = ("batch_size", "detect_threshold", "max_people", "min_size", "urls")
_OF_DRAWING = ("json_file", "threshold", "demo")
_OF_PARTS = ("part_size", "resume")
_OF_VIDEOS = ("csv", "openpose", "posetrack18", "trc")  # formats of videos alone
_OF_FRAMES = ("fps", "live", "timeout", "reconnect", "detect_every", "smooth", "flow", "track")
_PARTS = ("jsonl", "parquet")  # formats in which many photos are written in parts
_OF_KEYPOINTS = (
    *("model", "engine", "flip_test", "scales", "rotations", "nms_threshold", "threshold"),
    *("boxes", "demo"),
)


@click.command()
@click.argument("photos", nargs=-1, metavar="PHOTO|FOLDER|VIDEO|URL|LIST.txt...")
@click.option(
    "--boxes",
    multiple=True,
    metavar="X1,Y1,X2,Y2 | FILE | whole",
    help="Where a person is, in pixels; give it once a person. Or a JSON file: a list of boxes for one photo; an "
    "object of lists by file name; what this command writes; COCO annotations or detections. Or whole: each photo is "
    "one person.  [default: the detector finds people]",
)
@click.option("--category", help="Which boxes of the file are taken, by id or name.  [default: people]")
@click.option(
    "--box-threshold",
    type=click.FloatRange(0, 1),
    default=0.3,
    show_default=True,
    help="Boxes of the file with a lower score are left out.",
)
@detector_options
@click.option(
    "--max-people", type=click.IntRange(1), help="Of more people in a photo the surest are taken.  [default: all]"
)
@click.option(
    "--min-size",
    type=click.FloatRange(0),
    default=0.0,
    help="Boxes whose longer side has fewer pixels are left out.",
)
@click.option("--boxes-only", is_flag=True, help="Write and draw the boxes that the detector finds, and no keypoints.")
@click.option(
    "--nms-threshold",
    type=click.FloatRange(0, 1),
    default=0.9,
    show_default=True,
    help="Of people from boxes with scores whose OKS is above this, the surest is kept; 1 keeps all.",
)
@click.option("--model", metavar="NAME|FILE", help="A zoo name or a safetensors file.  [default: the carried model]")
@click.option(
    "--out",
    metavar="PICTURE|FOLDER",
    help="Draw the poses: into a file for one photo or a video, else into a folder. Of photos with --format jsonl or "
    "parquet: the folder of the parts.",
)
@click.option(
    *("--json", "--save", "json_file"),
    metavar="FILE",
    help="Write what was found; - is stdout.  [default, without --out: -]",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["json", "coco", *_PARTS, *_OF_VIDEOS]),
    default="json",
    show_default="json; of a video what the name of FILE tells",
    help="json: one object a photo, as poses.schema.json (or boxes.schema.json) in the package says. coco: COCO "
    "results; a photo's id is that of the box file, else the number in its name, else its place, from 1. jsonl, "
    "parquet: for very many photos, in parts, by one process or by those of torchrun. A video: all but json and coco.",
)
@click.option(
    "--part-size",
    type=click.IntRange(1),
    default=1000,
    show_default=True,
    help="Photos in a part, with --format jsonl or parquet.",
)
@click.option("--resume", is_flag=True, help="Do the parts that are not there yet in the --out of a run that ended.")
@click.option("--recursive", is_flag=True, help="Take the photos of folders in a FOLDER, too.")
@click.option("--urls", is_flag=True, help="Fetch photos that are given by http addresses.")
@click.option(
    "--demo", is_flag=True, help="Instead of a photo: a rendered scene whose joints are known. Picture: demo.jpg."
)
@click.option("--device", help="cpu, cuda, cuda:1, …  [default: the GPU if there is one]")
@dtype_option("auto")
@click.option(
    "--engine",
    type=click.Choice(["auto", "eager", "compiled", "cuda_graphs"]),
    default="auto",
    show_default=True,
    help="How the network runs.",
)
@click.option(
    "--batch-size",
    type=click.IntRange(1),
    help="People, or photos, in one pass.  [default: 16 on a CPU, 64 on a GPU]",
)
@click.option(
    "--flip-test/--no-flip-test", default=None, help="Average with the mirrored crop.  [default: as the model says]"
)
@view_options
@click.option(
    "--threshold", type=click.FloatRange(0, 1), default=0.2, show_default=True, help="Lowest score that is drawn."
)
@video_options
@click.pass_context
def predict(
    ctx: click.Context,
    /,
    photos: tuple[str, ...],
    boxes: tuple[str, ...],
    category: str | None,
    box_threshold: float,
    detector: str | None,
    detector_layout: str | None,
    person_class: int | None,
    boxes_only: bool,
    nms_threshold: float,
    model: str | None,
    out: str | None,
    json_file: str | None,
    form: str,
    part_size: int,
    resume: bool,
    recursive: bool,
    demo: bool,
    device: str | None,
    dtype: str,
    engine: str,
    threshold: float,
    **options: Any,
) -> None:
    """Find the keypoints of the people in photos, or in a video; a folder stands for the photos in it.

    People are found by the detector that the package carries, or by another one; or --boxes says where they are.

    A photo that cannot be read, or whose boxes cannot be used, is named on stderr; the others are done nevertheless,
    and the exit code is 2. Files are written whole or not at all. Where Ctrl-C or a failure ends the work, --json FILE
    gets what was found until then.

    A million photos: --format jsonl or parquet writes them in parts, which the processes of torchrun share out, and
    --resume does those that are missing. A LIST.txt, or - for stdin, names the photos, one a line.

    A video: a file, a FOLDER of numbered frames with --fps, camera:0, or a stream (rtsp://…). People are followed;
    --out draws a video, --save writes a line a frame, or another format by its name: .csv, .trc, .parquet, ….
    """
    video = one_video(photos, options["fps"])
    if video is not None:
        predict_video(ctx, video)
        return
    for name in _OF_FRAMES:
        del options[name]
    _check_usage(ctx, photos, boxes, form, boxes_only=boxes_only, demo=demo)
    if form in _PARTS:
        from .predict_many import predict_many

        predict_many(ctx.params, _given_boxes(ctx, boxes, box_threshold, category, several=True))
        return
    if demo and out is None:
        out = "demo.jpg"
    files = _Files.plan(expand_photos(photos, recursive=recursive), "boxes" if boxes_only else "poses", out, json_file)
    given = _given_boxes(ctx, boxes, box_threshold, category, several=len(files.paths) > 1)

    # Imported here: the command line's help must not wait for torch.
    from ..detection import CARRIED_DETECTOR, find_detector
    from ..devices import pick_device, pick_dtype
    from ..predict import find_people, load

    where, asked = pick_device(device), None
    kind = pick_dtype(dtype, where)
    if given is None:
        asked = find_detector(
            detector or CARRIED_DETECTOR,
            device=where,
            dtype=kind,
            layout=detector_layout,
            person_class=person_class,
        )
    if boxes_only:
        assert asked is not None
        named = {name: options[name] for name in _OF_BOXES if options[name] is not None}

        def look_for_boxes(pairs: list[tuple[Path | str, Any]], **kept: Any) -> Iterator[People]:
            return find_people([photo for photo, _ in pairs], asked, **named, **kept)

        _run(Run(look_for_boxes, files.paths, None, files.targets, {}), files.json_file, form, None)
        return
    predictor = load(model, device=where, dtype=kind, engine=engine, detector=asked)
    options["nms_threshold"] = nms_threshold if nms_threshold < 1 else None
    if demo:
        assert files.targets[0] is not None
        poses = run_demo(predictor, files.targets[0], options, threshold)
        if files.json_file is not None:
            write_json(files.json_file, make_report([(0, poses)], form, None))
        return
    look = partial(predictor.stream, **options)
    _run(Run(look, files.paths, given, files.targets, {"threshold": threshold}), files.json_file, form, given)


def _run(run: Run, json_file: str | None, form: str, given: Any) -> None:
    """Do the work, and write what was found, also where it ends early."""
    ended: BaseException | None = None
    try:
        with termination_interrupts():
            run.work()
    except (KeyboardInterrupt, Exception) as error:
        ended = error
    run.say_nobody()
    if json_file is not None and run.found:
        write_json(json_file, make_report(run.found, form, given))
    if isinstance(ended, KeyboardInterrupt):
        click.echo(f"interrupted{run.so_far(json_file)}", err=True)
        raise click.exceptions.Exit(130)  # what a shell expects of a command that Ctrl-C ended
    if ended is not None:
        if run.found and json_file is not None:
            click.echo(f"ended{run.so_far(json_file)}", err=True)
        raise ended
    if run.problems:
        raise click.exceptions.Exit(2)


def _check_usage(
    ctx: click.Context, photos: tuple[str, ...], boxes: tuple[str, ...], form: str, *, boxes_only: bool, demo: bool
) -> None:
    """Refuse what contradicts itself, or would be ignored."""
    if demo and (photos or boxes):
        raise click.UsageError("--demo renders its own scene and finds its people; give it no photo and no --boxes")
    if form in _OF_VIDEOS:
        others = f"json, coco, {', '.join(_PARTS)}"
        raise click.UsageError(f"--format {form} is for a video (a folder of frames has --fps); photos have {others}")
    if form not in _PARTS and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise click.UsageError(f"--format {form} is of one process; several share out --format jsonl or parquet")
    if not demo and not photos:
        raise click.UsageError("expected a PHOTO or a FOLDER, or --demo")
    for unused, reason in (
        (_OF_KEYPOINTS if boxes_only else (), "of no use with --boxes-only, which finds boxes and no keypoints"),
        (_OF_DETECTOR if boxes else (), "of no use with --boxes, which says where people are"),
        (() if boxes else _OF_FILE, "for the boxes of a --boxes FILE"),
        (() if form in _PARTS else _OF_PARTS, "for --format jsonl or parquet, which write parts"),
        (_OF_FRAMES, "for a video"),
        (_OF_DRAWING if form in _PARTS else (), f"of no use with --format {form}, which writes parts into --out"),
    ):
        useless = given_options(ctx, unused)
        if useless:
            raise click.UsageError(f"{useless[0]} is {reason}")


def _given_boxes(
    ctx: click.Context, boxes: tuple[str, ...], box_threshold: float, category: str | None, *, several: bool
) -> list[list[float]] | DetectionFile | str | None:
    """Boxes of the only photo, a file of those of all, or "whole"; None where people are to be found."""
    if not boxes:
        return None
    given = "whole" if boxes == ("whole",) else parse_boxes(boxes, min_score=box_threshold, category=category)
    if isinstance(given, list) and several:
        raise click.UsageError("--boxes x1,y1,x2,y2 is for one photo; for several give a JSON file that names them")
    useless = given_options(ctx, _OF_FILE) if isinstance(given, list | str) else []
    if useless:
        raise click.UsageError(f"{useless[0]} is for the boxes of a --boxes FILE")
    return given


@dataclass(frozen=True)
class _Files:
    """What is read and written.

    Attributes:
        paths: The photos.
        targets: The picture to write for each, or None.
        json_file: Where the report goes; ``-`` is stdout, None nowhere.
    """

    paths: list[Path | str]
    targets: list[Path | None]
    json_file: str | None

    @classmethod
    def plan(cls, paths: list[Path | str], shown: str, out: str | None, json_file: str | None) -> _Files:
        """Say before the work what would fail after it."""
        targets = picture_targets(out, paths or [Path("demo.jpg")], shown)  # a demo has no photos
        if json_file is None and out is None:
            json_file = "-"
        folder = Path(out) if out is not None and targets[0] != Path(out) else None
        in_use = {identity(path) for path in paths if isinstance(path, Path)}
        for target in filter(None, targets):
            check_writable(target, in_use, folder)
        if json_file is not None and json_file != "-":
            check_writable(Path(json_file), in_use | {identity(target) for target in targets if target}, None)
        return cls(paths, targets, json_file)
