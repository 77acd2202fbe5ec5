"""Options that several verbs have."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

__all__ = ["Numbers", "view_options"]


class Numbers(click.ParamType):
    """Numbers with commas between them."""

    name = "numbers"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> list[float]:
        """The numbers."""
        if isinstance(value, list):
            return value
        try:
            return [float(part) for part in str(value).split(",")]
        except ValueError:
            self.fail(f"expected numbers with commas between them, got {value!r}", param, ctx)


def view_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """``--scales`` and ``--rotations``: several crops of a person."""
    for name, default, text in (
        ("--rotations", "0", "Turn each of these crops by each of these angles: -10,0,10 degrees."),
        ("--scales", "1", "Average the heatmaps of crops of these sizes: 0.9,1,1.1 times the model's."),
    ):
        command = click.option(name, type=Numbers(), default=default, show_default=True, help=text)(command)
    return command
