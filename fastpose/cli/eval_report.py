"""What ``fastpose eval`` says: tables, what was left out, and the report for ``--json``."""

from __future__ import annotations

import json
import platform
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from .._version import __version__
from ..files import atomic_write
from ..metrics import Scores
from ..metrics.bootstrap import bootstrap_intervals

__all__ = ["Figures", "print_left_out", "write_report"]

_UNPREDICTED = "no result"


@dataclass(frozen=True)
class Figures:
    """The figures of a metric, and how far they would move on other photos.

    Attributes:
        values: By name.
        intervals: Ends of the 95 % intervals by name; empty where none were asked for.
        left_out: How many entries were not measured, by reason.
    """

    values: dict[str, float]
    intervals: dict[str, tuple[float, float]]
    left_out: dict[str, int]

    @classmethod
    def of(cls, scores: Scores, left_out: Mapping[str, int], *, samples: int, seed: int) -> Figures:
        """The figures of all photos, with intervals where there are samples."""
        intervals = bootstrap_intervals(scores.figures, scores.photos, samples=samples, seed=seed) if samples else {}
        reasons = {**left_out, _UNPREDICTED: scores.unpredicted}
        return cls(scores.figures(None), intervals, {reason: count for reason, count in reasons.items() if count})

    def print(self, title: str) -> None:
        """A table of them."""
        table = Table("figure", "value", *(("95 % interval",) if self.intervals else ()))
        for name, value in self.values.items():
            ends = (" to ".join(map(_text, self.intervals[name])),) if self.intervals else ()
            table.add_row(name, _text(value), *ends)
        click.echo(title)  # not the table's own, which would be wrapped to its width
        Console().print(table)

    def report(self) -> dict[str, Any]:
        """What JSON takes."""
        return {
            "figures": {name: _known(value) for name, value in self.values.items()},
            "intervals": {name: [_known(end) for end in ends] for name, ends in self.intervals.items()},
        }


def _text(value: float) -> str:
    return "-" if _known(value) is None else f"{value:.4f}"


def _known(value: float) -> float | None:
    """None where there is nothing to measure: NaN, or -1 in average precision."""
    return value if value >= 0 else None


def print_left_out(left_out: Mapping[str, int], photos: Iterable[str]) -> None:
    """Say what was not measured, and which photos cannot be read."""
    for reason, count in left_out.items():
        if count:
            wrong = reason == _UNPREDICTED
            click.echo(f"wrong, {reason}: {count}" if wrong else f"left out: {reason}: {count}", err=True)
    for photo in dict.fromkeys(photos):
        click.echo(f"left out: {photo}", err=True)


def write_report(file: Path, report: Mapping[str, Any]) -> None:
    """Write a report with the versions that made it."""
    versions = {
        "fastpose": __version__,
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "numpy": np.__version__,
    }
    atomic_write(file, (json.dumps({**report, "versions": versions}, indent=1) + "\n").encode())
