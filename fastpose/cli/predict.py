"""``fastpose predict``: keypoints of the people in photos, as pictures and as JSON."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .boxes import parse_boxes
from .options import view_options

if TYPE_CHECKING:
    from ..data.readers import DetectionFile
    from ..predict import Poses, Predictor

__all__ = ["predict"]

# The scene of --demo: four people who stand apart, one with the back turned; far from the seeds that one trains on.
DEMO_SEED, DEMO_SIZE, DEMO_PEOPLE = 2_000_013, (540, 960), 4

_PICTURES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")


@click.command()
@click.argument("photos", nargs=-1, metavar="PHOTO|FOLDER...")
@click.option(
    "--boxes",
    multiple=True,
    metavar="X1,Y1,X2,Y2 | FILE",
    help="Where a person is, in pixels; give it once a person. Or a JSON file: a list of boxes for one photo; an "
    "object of lists by file name; what this command writes; COCO annotations or detections.  "
    "[default: the whole photo]",
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
    help="json: one object a photo, with file and people. coco: COCO keypoint results; a photo's id is that of the box "
    "file, else the number in its name, else its place, from 1.",
)
@click.option(
    "--demo", is_flag=True, help="Instead of a photo: a rendered scene whose joints are known. Picture: demo.jpg."
)
@click.option("--device", help="cpu, cuda, cuda:1, …  [default: the GPU if there is one]")
@click.option("--dtype", type=click.Choice(["float32", "bfloat16", "float16"]), default="float32", show_default=True)
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
    model: str | None,
    out: str | None,
    json_file: str | None,
    form: str,
    demo: bool,
    device: str | None,
    dtype: str,
    batch_size: int | None,
    flip_test: bool | None,
    scales: list[float],
    rotations: list[float],
    threshold: float,
) -> None:
    """Find the keypoints of the people in photos; a folder stands for those that are directly in it.

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
    paths = _photos(photos)
    given = parse_boxes(boxes)
    if isinstance(given, list) and len(paths) > 1:
        raise click.UsageError("--boxes x1,y1,x2,y2 is for one photo; for several give a JSON file that names them")
    targets = _targets(out, [Path("demo.jpg")] if demo else paths)
    if json_file is None and out is None:
        json_file = "-"
    folder = Path(out) if out is not None and targets[0] != Path(out) else None
    in_use = {_identity(path) for path in paths}
    for target in filter(None, targets):
        _check_writable(target, in_use, folder)
    if json_file is not None and json_file != "-":
        _check_writable(Path(json_file), in_use | {_identity(target) for target in targets if target}, None)

    # Imported here: the command line's help must not wait for torch.
    from ..predict import load

    predictor = load(model, device=device, dtype=dtype)
    options = {"flip_test": flip_test, "scales": scales, "rotations": rotations, "batch_size": batch_size}
    ended: BaseException | None = None
    if demo:
        assert targets[0] is not None
        found, problems = [_demo(predictor, targets[0], options, threshold)], 0
    else:
        run = _Run(predictor, paths, given, targets, options, threshold)
        try:
            with _termination_interrupts():
                run.work()
        except (KeyboardInterrupt, Exception) as error:
            ended = error
        found, problems = run.found, run.problems
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


def _so_far(found: list[tuple[int, Poses]], paths: list[Path], json_file: str | None) -> str:
    where = "stdout" if json_file == "-" else json_file
    return f" after {len(found)} of {len(paths)} photos" + (f"; {where} has these" if where and found else "")


class _Run:
    """Photos through the predictor; those that cannot be used are said and left out.

    Attributes:
        found: Position and poses of each photo that could be used, as far as the work went.
        problems: How many photos could not be used.
    """

    def __init__(
        self,
        predictor: Predictor,
        paths: list[Path],
        given: list[list[float]] | DetectionFile | None,
        targets: list[Path | None],
        options: dict[str, Any],
        threshold: float,
    ) -> None:
        self._predictor, self._paths, self._given, self._targets = predictor, paths, given, targets
        self._options, self._threshold = options, threshold
        self._under_way: deque[tuple[int, Any]] = deque()
        self.found: list[tuple[int, Poses]] = []
        self.problems = 0

    def work(self) -> None:
        """Find the poses of all photos and write their pictures."""
        from ..data.images import read_image
        from ..data.prefetch import Prefetch
        from ..predict.draw import write_image

        with Prefetch(read_image, self._paths) as pictures:
            for poses in self._predictor.stream(self._pairs(pictures), **self._options):
                number, picture = self._under_way.popleft()
                poses = replace(poses, path=self._paths[number])
                self.found.append((number, poses))
                target = self._targets[number]
                if target is not None:
                    _save(target, partial(write_image, target, poses.plot(picture, threshold=self._threshold)))
                    click.echo(f"{poses.path}: {_people(len(poses))}, {_spent(poses)} -> {target}")
        if self._given is None and self.found:
            click.echo("Note: no --boxes, so each whole photo was taken for one person's box.", err=True)

    def _pairs(self, pictures: Iterator[Any]) -> Iterator[tuple[Any, Any]]:
        from ..data.readers import DetectionFile
        from ..predict.inputs import check_boxes

        only = len(self._paths) == 1
        for number, path in enumerate(self._paths):
            try:
                picture = next(pictures)
                height, width = picture.shape[:2]
                boxes: Any = self._given
                if isinstance(boxes, DetectionFile):
                    boxes = boxes.find(path, only=only).boxes
                elif boxes is None:
                    boxes = [[0, 0, width, height]]
                checked = check_boxes(boxes, (height, width), str(path))
            except ValueError as error:  # ImageError is one
                if only:
                    raise
                click.echo(f"Error: {error}", err=True)
                self.problems += 1
                continue
            self._under_way.append((number, picture))
            yield picture, checked


def _demo(predictor: Predictor, target: Path, options: dict[str, Any], threshold: float) -> tuple[int, Poses]:
    """Predict a rendered scene, draw it, and say how far off the joints are."""
    from ..data.synthetic import render_scene
    from ..metrics.pck import epe, pck, torso_size
    from ..predict.draw import write_image

    image, truth = render_scene(DEMO_SEED, DEMO_SIZE, DEMO_PEOPLE)
    poses = replace(predictor(image, truth.boxes, **options), path=truth.image_paths[0])
    _save(target, partial(write_image, target, poses.plot(image, threshold=threshold)))
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


def _photos(names: tuple[str, ...]) -> list[Path]:
    """The files that are meant: of a folder the pictures in it, by name."""
    paths: list[Path] = []
    for path in map(Path, names):
        if path.is_dir():
            try:
                inside = sorted(path.iterdir())
            except OSError as error:
                raise click.ClickException(f"{path}: cannot be read ({error.strerror})") from None
            pictures = [file for file in inside if file.suffix.lower() in _PICTURES and file.name[0] != "."]
            if not pictures:
                raise click.UsageError(f"{path}: there is no picture in this folder ({', '.join(_PICTURES)})")
            paths += pictures
        else:
            paths.append(path)
    return paths


def _targets(out: str | None, paths: list[Path]) -> list[Path | None]:
    """The picture to write for each photo."""
    if out is None:
        return [None] * len(paths)
    folder = Path(out)
    if folder.suffix and len(paths) == 1 and not folder.is_dir() and not out.endswith(("/", os.sep)):
        if folder.suffix.lower() not in _PICTURES:
            raise click.UsageError(f"--out: a picture's name ends in {', '.join(_PICTURES)}, got {out!r}")
        return [folder]
    if folder.exists() and not folder.is_dir():
        raise click.UsageError(
            f"--out: {out} is a file; expected a folder, or the name of a picture for a single photo"
        )
    taken: set[str] = set()
    targets: list[Path | None] = []
    for path in paths:
        suffix = path.suffix if path.suffix.lower() in _PICTURES else ".jpg"
        name, copy = f"{path.stem}_poses{suffix}", 1
        while name in taken:  # photos of the same name from two folders
            copy += 1
            name = f"{path.stem}_poses_{copy}{suffix}"
        taken.add(name)
        targets.append(folder / name)
    return targets


def _identity(path: Path) -> tuple[int, int] | Path:
    """The same for two names of one file."""
    try:
        status = path.stat()
    except OSError:  # there is none yet
        return path.absolute()
    return status.st_dev, status.st_ino


def _check_writable(target: Path, in_use: set[tuple[int, int] | Path], made: Path | None) -> None:
    """Say before the work what would fail after it; the folder `made` need not be there yet."""
    if _identity(target) in in_use:
        raise click.ClickException(f"{target}: is read or written already; expected a file of its own")
    if target.is_dir():
        raise click.ClickException(f"{target}: is a folder, expected a file name")
    folder = target.parent
    while folder == made and not folder.exists() and folder.parent != folder:
        made = folder = folder.parent
    if not folder.is_dir():
        raise click.ClickException(f"{target}: there is no folder {folder}")
    if not os.access(folder, os.W_OK):
        raise click.ClickException(f"{target}: folder {folder} is not writable")


def _save(target: Path, write: Callable[[], None]) -> None:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        write()
    except OSError as error:  # its own file name is that of the temporary file
        raise click.ClickException(f"{target}: cannot be written ({error.strerror or error})") from error


def _write_json(name: str, report: list[dict[str, Any]]) -> None:
    from ..files import atomic_write

    # One line a photo or result: greppable, and a tenth of the size of an indented one.
    text = "[\n" + ",\n".join(json.dumps(entry, ensure_ascii=False) for entry in report) + "\n]\n"
    if name == "-":
        click.echo(text, nl=False)
        return
    target = Path(name)
    _save(target, partial(atomic_write, target, text.encode("utf-8", "surrogateescape")))


def _report(found: list[tuple[int, Poses]], form: str, given: Any) -> list[dict[str, Any]]:
    if form == "json":
        return [poses.to_dict() for _, poses in found]
    from ..data.readers.detections import DetectionFile, photo_number

    results = []
    for number, poses in found:
        path = poses.path or Path()
        number_in_file = given.image_id(path) if isinstance(given, DetectionFile) else None
        named = photo_number(path) if number_in_file is None else number_in_file
        results += poses.to_coco(number + 1 if named is None else named)
    return results


def _people(count: int) -> str:
    return "1 person" if count == 1 else f"{count} people"


def _spent(poses: Poses) -> str:
    return f"{sum(poses.milliseconds.values()):.0f} ms"
