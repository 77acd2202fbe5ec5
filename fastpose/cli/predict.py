"""``fastpose predict``: keypoints of the people in photos, as pictures and as JSON."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .boxes import parse_boxes
from .options import view_options
from .targets import check_writable, expand_photos, identity, picture_targets, save

if TYPE_CHECKING:
    from ..data.readers import DetectionFile
    from ..predict import Poses, Predictor

__all__ = ["predict"]

# The scene of --demo: four people who stand apart, one with the back turned; far from the seeds that one trains on.
DEMO_SEED, DEMO_SIZE, DEMO_PEOPLE = 2_000_013, (540, 960), 4


@click.command()
@click.argument("photos", nargs=-1, metavar="PHOTO|FOLDER|URL...")
@click.option(
    "--boxes",
    multiple=True,
    metavar="X1,Y1,X2,Y2 | FILE | whole",
    help="Where a person is, in pixels; give it once a person. Or a JSON file: a list of boxes for one photo; an "
    "object of lists by file name; what this command writes; COCO annotations or detections. Or whole: each photo is "
    "one person.  [default: whole]",
)
@click.option("--category", help="Which boxes of the file are taken, by id or name.  [default: people]")
@click.option(
    "--box-threshold",
    type=click.FloatRange(0, 1),
    default=0.3,
    show_default=True,
    help="Boxes of the file with a lower score are left out.",
)
@click.option(
    "--nms-threshold",
    type=click.FloatRange(0, 1),
    default=0.9,
    show_default=True,
    help="Of people from boxes with scores whose OKS is above this, the surest is kept; 1 keeps all.",
)
@click.option("--model", metavar="NAME|FILE", help="A zoo name or a safetensors file.  [default: the carried model]")
@click.option("--out", metavar="PICTURE|FOLDER", help="Draw the poses: into a file for one photo, else into a folder.")
@click.option(
    "--json", "json_file", metavar="FILE", help="Write the keypoints; - is stdout.  [default, without --out: -]"
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["json", "coco"]),
    default="json",
    show_default=True,
    help="json: one object a photo, as poses.schema.json in the package says. coco: COCO results; a photo's id "
    "is that of the box file, else the number in its name, else its place, from 1.",
)
@click.option("--recursive", is_flag=True, help="Take the photos of folders in a FOLDER, too.")
@click.option("--urls", is_flag=True, help="Fetch photos that are given by http addresses.")
@click.option(
    "--demo", is_flag=True, help="Instead of a photo: a rendered scene whose joints are known. Picture: demo.jpg."
)
@click.option("--device", help="cpu, cuda, cuda:1, …  [default: the GPU if there is one]")
@click.option("--dtype", type=click.Choice(["float32", "bfloat16", "float16"]), default="float32", show_default=True)
@click.option(
    "--engine",
    type=click.Choice(["auto", "eager", "compiled", "cuda_graphs"]),
    default="auto",
    show_default=True,
    help="How the network runs.",
)
@click.option("--batch-size", type=click.IntRange(1), help="People in one pass.  [default: 16 on a CPU, 64 on a GPU]")
@click.option(
    "--flip-test/--no-flip-test", default=None, help="Average with the mirrored crop.  [default: as the model says]"
)
@view_options
@click.option(
    "--threshold", type=click.FloatRange(0, 1), default=0.2, show_default=True, help="Lowest score that is drawn."
)
def predict(
    photos: tuple[str, ...],
    boxes: tuple[str, ...],
    category: str | None,
    box_threshold: float,
    nms_threshold: float,
    model: str | None,
    out: str | None,
    json_file: str | None,
    form: str,
    recursive: bool,
    urls: bool,
    demo: bool,
    device: str | None,
    dtype: str,
    engine: str,
    batch_size: int | None,
    flip_test: bool | None,
    scales: list[float],
    rotations: list[float],
    threshold: float,
) -> None:
    """Find the keypoints of the people in photos; a folder stands for those that are in it.

    A photo that cannot be read, or whose boxes cannot be used, is named on stderr; the others are done nevertheless,
    and the exit code is 2. Files are written whole or not at all. Where Ctrl-C or a failure ends the work, --json FILE
    gets what was found until then.
    """
    if demo and (photos or boxes):
        raise click.UsageError("--demo renders its own scene and knows its boxes; give it no photo and no --boxes")
    if not demo and not photos:
        raise click.UsageError("expected a PHOTO or a FOLDER, or --demo")
    if demo and out is None:
        out = "demo.jpg"
    paths = expand_photos(photos, recursive=recursive)
    whole = not boxes or boxes == ("whole",)
    given = None if whole else parse_boxes(boxes, min_score=box_threshold, category=category)
    if isinstance(given, list) and len(paths) > 1:
        raise click.UsageError("--boxes x1,y1,x2,y2 is for one photo; for several give a JSON file that names them")
    targets = picture_targets(out, [Path("demo.jpg")] if demo else paths)
    if json_file is None and out is None:
        json_file = "-"
    folder = Path(out) if out is not None and targets[0] != Path(out) else None
    in_use = {identity(path) for path in paths if isinstance(path, Path)}
    for target in filter(None, targets):
        check_writable(target, in_use, folder)
    if json_file is not None and json_file != "-":
        check_writable(Path(json_file), in_use | {identity(target) for target in targets if target}, None)

    # Imported here: the command line's help must not wait for torch.
    from ..predict import load

    predictor = load(model, device=device, dtype=dtype, engine=engine)
    options = {"flip_test": flip_test, "scales": scales, "rotations": rotations, "batch_size": batch_size}
    ended: BaseException | None = None
    if demo:
        assert targets[0] is not None
        found, problems = [_demo(predictor, targets[0], options, threshold)], 0
    else:
        nms = nms_threshold if nms_threshold < 1 else None
        run = _Run(predictor, paths, given, targets, {**options, "urls": urls, "nms_threshold": nms}, threshold)
        try:
            with _termination_interrupts():
                run.work()
        except (KeyboardInterrupt, Exception) as error:
            ended = error
        found, problems = run.found, run.problems
        if not boxes and found:
            click.echo("Note: no --boxes, so each whole photo was taken for one person's box.", err=True)
    if json_file is not None and found:
        _write_json(json_file, _report(found, form, given))
    if isinstance(ended, KeyboardInterrupt):
        click.echo(f"interrupted{_so_far(found, paths, json_file)}", err=True)
        raise click.exceptions.Exit(130)  # what a shell expects of a command that Ctrl-C ended
    if ended is not None:
        if found and json_file is not None:
            click.echo(f"ended{_so_far(found, paths, json_file)}", err=True)
        raise ended
    if problems:
        raise click.exceptions.Exit(2)


@contextmanager
def _termination_interrupts() -> Iterator[None]:
    """A termination signal raises KeyboardInterrupt, as Ctrl-C does."""
    if threading.current_thread() is not threading.main_thread():  # signals can only be caught there
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _so_far(found: list[tuple[int, Poses]], paths: list[Path | str], json_file: str | None) -> str:
    where = "stdout" if json_file == "-" else json_file
    return f" after {len(found)} of {len(paths)} photos" + (f"; {where} has these" if where and found else "")


class _Run:
    """Photos through the predictor; those that cannot be used are said and left out.

    Attributes:
        found: Position and poses of each photo that could be used, as far as the work went.
        problems: How many photos could not be used, wholly or in part.
    """

    def __init__(
        self,
        predictor: Predictor,
        paths: list[Path | str],
        given: list[list[float]] | DetectionFile | None,
        targets: list[Path | None],
        options: dict[str, Any],
        threshold: float,
    ) -> None:
        self._predictor, self._paths, self._given, self._targets = predictor, paths, given, targets
        self._options, self._threshold = options, threshold
        self.found: list[tuple[int, Poses]] = []
        self.problems = 0

    def work(self) -> None:
        """Find the poses of all photos and write their pictures."""
        faults: dict[int, str] = {}
        pairs = []
        for number, path in enumerate(self._paths):
            try:
                pairs.append((path, self._boxes(path)))
            except ValueError as error:  # the file says nothing about it, or too much
                there = not isinstance(path, Path) or path.exists()
                faults[number] = str(error) if there else f"{path}: no such file"
        drawn = any(target is not None for target in self._targets)
        alone = len(self._paths) == 1  # then its error is that of the command
        stream = self._predictor.stream(
            pairs, on_error="raise" if alone else "skip", keep_images=drawn, **self._options
        )
        for number in range(len(self._paths)):
            if number in faults:
                self._complain(faults[number])
                continue
            poses = next(stream)
            if poses.error is not None:
                self._complain(poses.error)
                continue
            for fault in poses.dropped:
                self._complain(f"{poses.path}: boxes: {fault}")
            self._take(number, poses)

    def _boxes(self, path: Path | str) -> Any:
        """The boxes of a photo as the predictor takes them."""
        from ..data.readers import DetectionFile
        from ..detection import Detections

        if self._given is None:
            return "whole"
        if not isinstance(self._given, DetectionFile):
            return self._given
        found = self._given.find(Path(path), only=len(self._paths) == 1)
        certain = bool((found.scores == 1).all())  # boxes without scores, or such as somebody has drawn
        return Detections(found.boxes, None if certain else found.scores)

    def _complain(self, fault: str) -> None:
        if len(self._paths) == 1:
            raise ValueError(fault)
        click.echo(f"Error: {fault}", err=True)
        self.problems += 1

    def _take(self, number: int, poses: Poses) -> None:
        """Keep what was found in a photo, and draw it."""
        from ..predict.draw import write_image

        self.found.append((number, replace(poses, image=None)))
        target = self._targets[number]
        if target is not None:
            save(target, partial(write_image, target, poses.plot(threshold=self._threshold)))
            click.echo(f"{poses.path}: {_people(len(poses))}, {_spent(poses)} -> {target}")


def _demo(predictor: Predictor, target: Path, options: dict[str, Any], threshold: float) -> tuple[int, Poses]:
    """Predict a rendered scene, draw it, and say how far off the joints are."""
    from ..data.synthetic import render_scene
    from ..metrics.pck import epe, pck, torso_size
    from ..predict.draw import write_image

    image, truth = render_scene(DEMO_SEED, DEMO_SIZE, DEMO_PEOPLE)
    poses = replace(predictor(image, truth.boxes, **options), path=truth.image_paths[0])
    save(target, partial(write_image, target, poses.plot(image, threshold=threshold)))
    shared = [name for name in truth.skeleton.keypoints if name in poses.skeleton.keypoints]
    if not shared:
        raise ValueError(f"--demo: {predictor.name} finds other keypoints than the scene has ({truth.skeleton.name})")
    ours = poses.keypoints[:, list(poses.skeleton.indices(shared))]
    theirs = list(truth.skeleton.indices(shared))
    points, visible = truth.keypoints[:, theirs], truth.visible[:, theirs]
    share = pck(ours, points, visible, torso_size(truth.keypoints, truth.visible, truth.skeleton))
    click.echo(
        f"{_people(len(poses))} in a rendered scene, {int((visible > 0).sum())} joints: mean error "
        f"{epe(ours, points, visible):.1f} px, {share.mean:.0%} within 0.2 torso (PCK@0.2); {_spent(poses)} -> {target}"
    )
    return 0, poses


def _write_json(name: str, report: list[dict[str, Any]]) -> None:
    from ..files import atomic_write

    # One line a photo or result: greppable, and a tenth of the size of an indented one.
    text = "[\n" + ",\n".join(map(_line, report)) + "\n]\n"
    if name == "-":
        click.echo(text, nl=False)
        return
    target = Path(name)
    save(target, partial(atomic_write, target, text.encode()))


def _line(entry: dict[str, Any]) -> str:
    """JSON, readable also where a file's name is not: its bytes are escaped then, and come back with json.loads."""
    line = json.dumps(entry, ensure_ascii=False)
    try:
        line.encode()
    except UnicodeEncodeError:
        return json.dumps(entry)
    return line


def _report(found: list[tuple[int, Poses]], form: str, given: Any) -> list[dict[str, Any]]:
    if form == "json":
        return [poses.to_dict() for _, poses in found]
    return [
        result
        for (_, poses), number in zip(found, _image_ids(found, given), strict=True)
        for result in poses.to_coco(number)
    ]


def _image_ids(found: list[tuple[int, Poses]], given: Any) -> list[int]:
    """A COCO id of each photo: that of the box file, else the number in its name, else its place; no two are equal."""
    from ..data.readers import DetectionFile
    from ..data.readers.detections import photo_number

    wanted: list[int | None] = []
    for _, poses in found:
        path = Path(os.fspath(poses.path or ""))
        stated = given.image_id(path) if isinstance(given, DetectionFile) else None
        wanted.append(photo_number(path) if stated is None else stated)
    ids: list[int] = []
    taken = {number for number in wanted if number is not None}
    used: set[int] = set()
    free = max(taken, default=0)
    for (place, poses), number in zip(found, wanted, strict=True):
        own = number if number is not None else place + 1
        if own in used or (number is None and own in taken):
            free += 1
            if number is not None:
                click.echo(f"{poses.path}: its image_id is {free}, as {own} is that of another photo", err=True)
            own = free
        used.add(own)
        ids.append(own)
        free = max(free, own)
    return ids


def _people(count: int) -> str:
    return "1 person" if count == 1 else f"{count} people"


def _spent(poses: Poses) -> str:
    return f"{sum(poses.milliseconds.values()):.0f} ms"
