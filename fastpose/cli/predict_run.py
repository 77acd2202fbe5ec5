"""The work of ``fastpose predict``: photos in, pictures out, and what is said of them."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .targets import save

if TYPE_CHECKING:
    from ..data.readers import DetectionFile
    from ..predict import People, Poses

__all__ = ["Run", "count_people", "look_at", "spent_time", "termination_interrupts"]

_MOST_NAMES = 3  # of the photos without anybody


class Run:
    """Photos, each looked at; those that cannot be used are said and left out.

    Args:
        look: Takes (photo, boxes) pairs, and ``on_error`` and ``keep_images`` as a `Predictor` does; gives what was
            found in each, in order.
        paths: The photos.
        given: Boxes of the only photo, a file of those of all, or "whole"; None where people are to be found.
        targets: The picture to write for each photo.
        drawing: Options of the results' ``plot``.

    Attributes:
        found: Position and results of each photo that could be used, as far as the work went.
        problems: How many photos could not be used, wholly or in part.
    """

    def __init__(
        self,
        look: Callable[..., Iterator[Poses | People]],
        paths: list[Path | str],
        given: list[list[float]] | DetectionFile | str | None,
        targets: list[Path | None],
        drawing: dict[str, Any],
    ) -> None:
        self._look, self._paths, self._given, self._targets = look, paths, given, targets
        self._drawing = drawing
        self.found: list[tuple[int, Poses | People]] = []
        self.problems = 0

    def work(self) -> None:
        """Look at all photos and write their pictures."""
        drawn = any(target is not None for target in self._targets)
        alone = len(self._paths) == 1  # then its error is that of the command
        results = look_at(
            self._look, self._paths, self._given, on_error="raise" if alone else "skip", keep_images=drawn
        )
        for number, result in enumerate(results):
            if isinstance(result, str) or result.error is not None:
                self._complain(result if isinstance(result, str) else str(result.error))
                continue
            self._say_dropped(result)
            self._take(number, result)

    def say_nobody(self) -> None:
        """Say once of all photos in which people were looked for where there is none."""
        empty = [str(result.path) for _, result in self.found if self._given is None and not len(result)]
        if not empty:
            return
        names = ", ".join(empty[:_MOST_NAMES]) + (", …" if len(empty) > _MOST_NAMES else "")
        where = names if len(self.found) == 1 else f"{len(empty)} of {len(self.found)} photos ({names})"
        click.echo(f"Note: nobody was found in {where}", err=True)

    def so_far(self, json_file: str | None) -> str:
        """How far the work went, and where the results are."""
        where = "stdout" if json_file == "-" else json_file
        done = f" after {len(self.found)} of {len(self._paths)} photos"
        return done + (f"; {where} has these" if where and self.found else "")

    def _say_dropped(self, result: Poses | People) -> None:
        """Boxes that were left out: of those that were given each is a fault, a detector may err."""
        if self._given is not None:
            for fault in result.dropped:
                self._complain(f"{result.path}: boxes: {fault}")
        elif result.dropped:
            count = "1 box" if len(result.dropped) == 1 else f"{len(result.dropped)} boxes"
            click.echo(f"Note: {result.path}: {count} of the detector left out: {result.dropped[0]}", err=True)

    def _complain(self, fault: str) -> None:
        if len(self._paths) == 1:
            raise ValueError(fault)
        click.echo(f"Error: {fault}", err=True)
        self.problems += 1

    def _take(self, number: int, result: Poses | People) -> None:
        """Keep what was found in a photo, and draw it."""
        from ..predict.draw import write_image

        self.found.append((number, replace(result, image=None)))
        target = self._targets[number]
        if target is not None:
            save(target, partial(write_image, target, result.plot(**self._drawing)))
            click.echo(f"{result.path}: {count_people(len(result))}, {spent_time(result)} -> {target}")


def look_at(
    look: Callable[..., Iterator[Poses | People]],
    paths: Sequence[Path | str],
    given: list[list[float]] | DetectionFile | str | None,
    **options: Any,
) -> Iterator[Poses | People | str]:
    """What is found in photos, in order; or what is wrong with the boxes of one.

    Args:
        look: As for `Run`, as are the next two.
        paths: The photos.
        given: Their boxes.
        options: For `look`.
    """
    faults: dict[int, str] = {}
    pairs = []
    for number, path in enumerate(paths):
        try:
            pairs.append((path, _boxes_of(path, given, only=len(paths) == 1)))
        except ValueError as error:  # the file says nothing about it, or too much
            there = not isinstance(path, Path) or path.exists()
            faults[number] = str(error) if there else f"{path}: no such file"
    results = look(pairs, **options)
    for number in range(len(paths)):
        yield faults[number] if number in faults else next(results)


def _boxes_of(path: Path | str, given: Any, *, only: bool) -> Any:
    """The boxes of a photo as the predictor takes them."""
    from ..data.readers import DetectionFile
    from ..detection import Detections

    if not isinstance(given, DetectionFile):
        return given
    found = given.find(Path(path), only=only)
    certain = bool((found.scores == 1).all())  # boxes without scores, or such as somebody has drawn
    return Detections(found.boxes, None if certain else found.scores)


@contextmanager
def termination_interrupts() -> Iterator[None]:
    """A termination signal raises KeyboardInterrupt, as Ctrl-C does."""
    if threading.current_thread() is not threading.main_thread():  # signals can only be caught there
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def count_people(count: int) -> str:
    """The number in words."""
    return "1 person" if count == 1 else f"{count} people"


def spent_time(result: Poses | People) -> str:
    """The time that a photo took."""
    return f"{sum(result.milliseconds.values()):.0f} ms"
