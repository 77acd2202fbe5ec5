"""What ``fastpose predict`` writes as JSON."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .targets import save

if TYPE_CHECKING:
    from ..predict import People, Poses

__all__ = ["make_report", "write_json"]


def write_json(name: str, report: list[dict[str, Any]]) -> None:
    """Write a report.

    Args:
        name: The file; ``-`` is stdout.
        report: As `make_report` gives it.
    """
    from ..files import atomic_write
    from ..predict.results import json_line

    # One line a photo or result: greppable, and a tenth of the size of an indented one.
    text = "[\n" + ",\n".join(map(json_line, report)) + "\n]\n"
    if name == "-":
        click.echo(text, nl=False)
        return
    target = Path(name)
    save(target, partial(atomic_write, target, text.encode()))


def make_report(found: Sequence[tuple[int, Poses | People]], form: str, given: Any) -> list[dict[str, Any]]:
    """What was found in photos, as plain data.

    Args:
        found: Position and results of each photo.
        form: json or coco.
        given: The boxes that were given; a file of them may state the photos' ids.
    """
    if form == "json":
        return [result.to_dict() for _, result in found]
    return [
        entry
        for (_, result), number in zip(found, _image_ids(found, given), strict=True)
        for entry in result.to_coco(number)
    ]


def _image_ids(found: Sequence[tuple[int, Poses | People]], given: Any) -> list[int]:
    """A COCO id of each photo: that of the box file, else the number in its name, else its place; no two are equal."""
    from ..data.readers import DetectionFile
    from ..data.readers.detections import photo_number

    wanted: list[int | None] = []
    for _, result in found:
        path = Path(os.fspath(result.path or ""))
        stated = given.image_id(path) if isinstance(given, DetectionFile) else None
        wanted.append(photo_number(path) if stated is None else stated)
    ids: list[int] = []
    taken = {number for number in wanted if number is not None}
    used: set[int] = set()
    free = max(taken, default=0)
    for (place, result), number in zip(found, wanted, strict=True):
        own = number if number is not None else place + 1
        if own in used or (number is None and own in taken):
            free += 1
            if number is not None:
                click.echo(f"{result.path}: its image_id is {free}, as {own} is that of another photo", err=True)
            own = free
        used.add(own)
        ids.append(own)
        free = max(free, own)
    return ids
