"""``fastpose predict --format jsonl|parquet`` on photos: parts, shared out to the processes of torchrun."""

from __future__ import annotations

import hashlib
import importlib
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from ..data.prefetch import local_processes, processors
from ..data.readers import DetectionFile
from ..detection import CARRIED_DETECTOR, Detections, find_detector
from ..detection.sources import carried_detector_file
from ..devices import pick_device, pick_dtype
from ..files import lock_folder, open_file
from ..models import CARRIED_MODEL, find_model
from ..predict import People, Poses, Predictor, find_people
from ..predict.jobs import Job
from ..predict.parts import PartReader, Parts, begin_parts, weights_digest
from ..skeletons import Skeleton
from ..train.distributed import FirstProcessError, TrainingError, World, join_processes
from .predict_run import count_people, look_at, termination_interrupts
from .targets import each_photo

__all__ = ["predict_many"]

# What results depend on, beside the photos, the weights and the boxes.
_SETTINGS = (
    *("boxes_only", "box_threshold", "category", "detector_layout", "person_class", "detect_threshold", "max_people"),
    *("min_size", "nms_threshold", "flip_test", "scales", "rotations", "urls"),
)
_OF_FINDING = ("detect_threshold", "max_people", "min_size", "urls", "batch_size")
_OF_POSES = (*_OF_FINDING, "flip_test", "scales", "rotations")
_PATIENCE = 24 * 60.0  # minutes that processes wait for the last part; torchrun ends them where one of them dies
_MOST_NAMED = 5  # bad photos that a process names on stderr
_GLANCE = 0.5  # seconds from one look at what the others have done to the next
_SILENCE = 60.0  # seconds without any news from them, after which the bar stands still

Given = DetectionFile | str | None


def predict_many(options: Mapping[str, Any], given: Any) -> None:
    """Find the poses, or the boxes, of people in very many photos.

    Args:
        options: Those of ``fastpose predict``, by the names of its parameters.
        given: Boxes that are given: "whole", or a `DetectionFile`; None where people are to be found.

    Raises:
        click.UsageError: ``--out`` is no folder.
        click.exceptions.Exit: With 2 where a photo could not be used, with 130 where the work was interrupted.
        ValueError: The folder of the parts, the list, the model or the detector cannot be used.
        OSError: A part cannot be written.
    """
    folder = _folder(options)
    looker = _Looker.of(options, given)
    main = True
    try:
        with termination_interrupts(), ExitStack() as stack:
            world = stack.enter_context(join_processes(torch.device("cpu"), _PATIENCE))
            main = world.main
            begin = partial(_begin, stack, folder, options, looker.settings)
            parts, missing = world.from_main(begin)
            started = time.perf_counter()
            show = stack.enter_context(_progress(parts, missing, world))
            tally = _Tally(world, show)
            _do_parts(parts, missing, looker, tally)
            total = tally.of_all()
            seconds = time.perf_counter() - started
    except FirstProcessError:
        raise click.exceptions.Exit(2) from None  # the first process says why
    except TrainingError as error:
        raise click.ClickException(f"{error}; --resume continues with the parts that are missing") from None
    except KeyboardInterrupt:
        if main:
            click.echo(
                "interrupted; the parts that are there are whole, and --resume continues with the others", err=True
            )
        raise click.exceptions.Exit(130) from None  # what a shell expects of a command that Ctrl-C ended
    if main:
        _say(parts, missing, total, seconds)
        if total["bad"]:  # of the others it would be a failure of the process, to torchrun
            raise click.exceptions.Exit(2)


def _folder(options: Mapping[str, Any]) -> Path:
    """The folder of the parts."""
    out, form = options["out"], options["form"]
    if options["boxes_only"] and form != "jsonl":
        raise click.UsageError(f"--boxes-only: goes with --format jsonl, as {form} is a table of keypoints")
    if out is None:
        raise click.UsageError(f"--format {form} needs --out FOLDER, into which the parts are written")
    if form == "parquet" and not _is_installed("pyarrow"):
        raise click.UsageError("--format parquet needs the package pyarrow (pip install pyarrow)")
    folder = Path(out)
    if (folder.suffix == f".{form}" or folder.exists()) and not folder.is_dir():
        raise click.UsageError(f"--out: with --format {form} expected a folder for the parts, got {out!r}")
    return folder


def _is_installed(package: str) -> bool:
    try:
        importlib.import_module(package)
    except ImportError:
        return False
    return True


def _begin(
    stack: ExitStack, folder: Path, options: Mapping[str, Any], settings: Mapping[str, Any]
) -> tuple[Parts, list[int]]:
    """The parts, and which are missing; the folder is ours until the stack ends. In the first process alone."""
    folder.mkdir(parents=True, exist_ok=True)
    stack.enter_context(lock_folder(folder))
    parts = begin_parts(
        folder,
        each_photo(options["photos"], recursive=options["recursive"]),
        form=options["form"],
        size=options["part_size"],
        settings=settings,
        resume=options["resume"],
    )
    missing = parts.missing()
    if len(missing) < len(parts):
        click.echo(f"{len(parts) - len(missing)} of {len(parts)} parts are there already", err=True)
    return parts, missing


@dataclass(frozen=True)
class _Looker:
    """Who looks at photos, and all that the results depend on.

    Attributes:
        look: As `look_at` takes it.
        given: Boxes that are given.
        skeleton: Of the poses; None where boxes alone are looked for.
        settings: Plain data that is another where results may be.
    """

    look: Callable[..., Iterator[Poses | People]]
    given: Given
    skeleton: Skeleton | None
    settings: dict[str, Any]

    @classmethod
    def of(cls, options: Mapping[str, Any], given: Given) -> _Looker:
        """The model and the detector that the options name."""
        device, detector = pick_device(options["device"]), None
        dtype = pick_dtype(options["dtype"], device)
        settings = {name: options[name] for name in _SETTINGS} | {"dtype": str(dtype).removeprefix("torch.")}
        settings["boxes"] = given.path.name if isinstance(given, DetectionFile) else given
        if isinstance(given, DetectionFile):
            settings["boxes_sha256"] = _file_digest(given.path)
        else:
            name = settings["detector"] = options["detector"] or CARRIED_DETECTOR
            detector = find_detector(
                name,
                device=device,
                dtype=dtype,
                layout=options["detector_layout"],
                person_class=options["person_class"],
            )
            file = carried_detector_file() if name == CARRIED_DETECTOR else Path(name)
            settings["detector_sha256"] = _file_digest(file) if file.is_file() else None
        if options["boxes_only"]:
            named = {name: options[name] for name in _OF_FINDING if options[name] is not None}
            return cls(partial(_find_boxes, detector, named), given, None, settings)
        network = find_model(options["model"])
        settings |= {"model": options["model"] or CARRIED_MODEL, "model_sha256": weights_digest(network)}
        predictor = Predictor(network, device=device, dtype=dtype, engine=options["engine"], detector=detector)
        nms = options["nms_threshold"] if options["nms_threshold"] < 1 else None
        look = partial(predictor.stream, nms_threshold=nms, **{name: options[name] for name in _OF_POSES})
        return cls(look, given, predictor.spec.skeleton, settings)

    def __call__(self, photos: Sequence[Path | str]) -> Iterator[Poses | People]:
        """What is found in each photo; of one that cannot be used an empty result that says why."""
        results = look_at(self.look, photos, self.given, on_error="skip")
        for photo, result in zip(photos, results, strict=True):
            yield self._nobody(photo, result) if isinstance(result, str) else result

    def _nobody(self, photo: Path | str, fault: str) -> Poses:
        assert self.skeleton is not None  # boxes are given, so poses are asked for
        nobody = Detections(np.empty((0, 4), np.float32))
        return Job.of(
            People(nobody, None, (0, 0), photo, str(photo), error=fault), self.skeleton, tells_visibility=False
        ).poses


def _find_boxes(
    detector: Any, named: Mapping[str, Any], pairs: Sequence[tuple[Path | str, Any]], **kept: Any
) -> Iterator[People]:
    return find_people([photo for photo, _ in pairs], detector, **named, **kept)


def _file_digest(file: Path) -> str:
    with open_file(file, limit=1 << 40) as content:
        digest = hashlib.sha256()
        while piece := content.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


def _do_parts(parts: Parts, missing: Sequence[int], looker: _Looker, tally: _Tally) -> None:
    """Do one missing part after the other, as long as there is one that no other process has begun."""
    with PartReader(parts) as photos_of:
        while (place := tally.world.count("begun", 1) - 1) < len(missing):
            photos = photos_of(missing[place])
            parts.write(missing[place], tally.counted(looker(photos), looker.given is not None), looker.skeleton)


class _Tally:
    """What was found: by this process, and now and then by all.

    Args:
        world: The processes.
        show: Called with the numbers of all, in the first process.
    """

    def __init__(self, world: World, show: Callable[[Counter[str]], None]) -> None:
        self.world = world
        self._show = show
        self._own: Counter[str] = Counter()
        self._told: Counter[str] = Counter()
        self._looked = 0.0

    def counted(self, results: Iterator[Poses | People], given: bool) -> Iterator[Poses | People]:
        """The results as they come, counted; bad photos are named, the first few of them."""
        for result in results:
            faults = [f"{result.path}: boxes: {fault}" for fault in result.dropped] if given else []
            faults += [result.error] if result.error is not None else []
            for fault in faults[: _MOST_NAMED - self._own["bad"]]:
                click.echo(f"Error: {fault}", err=True)
            self._own += Counter(photos=1, people=len(result), bad=bool(faults))
            if time.perf_counter() - self._looked >= _GLANCE:
                self._look()
            yield result

    def _look(self) -> Counter[str]:
        """Tell the others what is new, and show what they have told."""
        told: Counter[str] = Counter()
        for name in ("photos", "people", "bad"):
            told[name] = self.world.count(name, self._own[name] - self._told[name])
        self._told, self._looked = self._own.copy(), time.perf_counter()
        self._show(told)
        return told

    def of_all(self) -> Counter[str]:
        """The numbers of all processes, when they have finished; waits for them."""
        told = self._look()
        finished = self.world.count("finished", 1)
        news = time.perf_counter()
        while self.world.main and finished < self.world.size and time.perf_counter() - news < _SILENCE:
            time.sleep(_GLANCE)
            before, told, finished = told, self._look(), self.world.count("finished")
            news = news if told == before else time.perf_counter()
        names = ("photos", "people", "bad")
        return Counter(dict(zip(names, map(int, self.world.sum(*(self._own[name] for name in names))), strict=True)))


@contextmanager
def _progress(parts: Parts, missing: Sequence[int], world: World) -> Iterator[Callable[[Counter[str]], None]]:
    """A bar on the first process's terminal; what is called with the numbers so far."""
    _say_threads(world)
    console = Console(stderr=True)
    columns = (
        *(TextColumn("photos"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]}")),
        TimeRemainingColumn(),
    )
    done = parts.photos - sum(map(parts.photos_in, missing))
    started = time.perf_counter()
    with Progress(*columns, console=console, disable=not (world.main and console.is_terminal)) as progress:
        task = progress.add_task("photos", total=parts.photos, completed=done, rate="")

        def show(counts: Counter[str]) -> None:
            rate = _rate(counts, time.perf_counter() - started)
            progress.update(task, completed=done + counts["photos"], rate=rate)

        yield show


def _rate(counts: Counter[str], seconds: float) -> str:
    return f"{counts['photos'] / seconds:.1f} photos/s, {counts['people'] / seconds:.1f} people/s"


def _say_threads(world: World) -> None:
    """Torchrun gives each of several processes one thread, unless it is told otherwise."""
    local, used = local_processes(), torch.get_num_threads() * local_processes()
    if world.main and local > 1 and used < processors() and not torch.cuda.is_available():
        click.echo(
            f"Note: {local} processes with {torch.get_num_threads()} threads each leave processors unused; "
            f"OMP_NUM_THREADS={processors() // local} would give each its share of {processors()}",
            err=True,
        )


def _say(parts: Parts, missing: Sequence[int], total: Counter[str], seconds: float) -> None:
    """What was done, in one line."""
    if not missing:
        click.echo(f"nothing is left to do: all {len(parts)} parts are in {parts.folder}")
        return
    bad = f", {_photos(total['bad'])} could not be used (their error says why)" if total["bad"] else ""
    click.echo(
        f"{_photos(total['photos'])}, {count_people(total['people'])}{bad}, {_rate(total, seconds)} -> {parts.folder} "
        f"({len(parts)} parts)"
    )


def _photos(count: int) -> str:
    return "1 photo" if count == 1 else f"{count} photos"
