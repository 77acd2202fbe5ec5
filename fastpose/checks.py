"""Checks of single values that come from a file or a user; the message names the value and what was expected."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

__all__ = ["Size", "check_bool", "check_choice", "check_keys", "check_number", "check_odd", "check_size"]

Size = tuple[int, int]
"""(height, width), pixels."""


def check_size(name: str, value: Any) -> Size:
    """(height, width) in whole pixels, at least 1 each.

    Raises:
        ValueError: It is something else.
    """
    whole = isinstance(value, tuple | list) and all(
        isinstance(side, int) and not isinstance(side, bool) for side in value
    )
    if not whole or len(value) != 2:
        raise ValueError(f"{name}: expected (height, width) in whole pixels, got {value!r}")
    height, width = value
    if height < 1 or width < 1:
        raise ValueError(f"{name}: expected (height, width) of at least 1 pixel, got {value!r}")
    return height, width


def check_number(name: str, value: Any, *, above: float | None = None) -> float:
    """A finite number, larger than ``above`` where that is given.

    Raises:
        ValueError: It is something else.
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{name}: expected a number, got {value!r}")
    if not math.isfinite(value) or (above is not None and not value > above):
        least = "" if above is None else f" above {above:g}"
        raise ValueError(f"{name}: expected a number{least} that is finite, got {value!r}")
    return float(value)


def check_choice(name: str, value: Any, choices: tuple[str, ...]) -> None:
    """One of some words.

    Raises:
        ValueError: It is something else.
    """
    if not isinstance(value, str) or value not in choices:
        raise ValueError(f"{name}: expected one of {', '.join(choices)}, got {value!r}")


def check_bool(name: str, value: Any) -> None:
    """True or false.

    Raises:
        ValueError: It is something else.
    """
    if not isinstance(value, bool):
        raise ValueError(f"{name}: expected true or false, got {value!r}")


def check_odd(name: str, value: Any) -> None:
    """An odd whole number of at least 1.

    Raises:
        ValueError: It is something else.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < 1 or value % 2 == 0:
        raise ValueError(f"{name}: expected an odd whole number, got {value!r}")


def check_keys(name: str, data: Any, cls: type) -> dict[str, Any]:
    """An object whose keys are fields of a dataclass, all those without a default among them.

    Raises:
        ValueError: It is no object, or a key is unknown or missing.
    """
    if not isinstance(data, dict):
        raise ValueError(f"{name}: expected an object, got {type(data).__name__}")
    fields = dataclasses.fields(cls)
    unknown = sorted(set(data) - {field.name for field in fields})
    if unknown:
        raise ValueError(f"{name}: unknown keys {', '.join(unknown)}")
    missing = [
        field.name
        for field in fields
        if field.name not in data
        and field.default is dataclasses.MISSING
        and field.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise ValueError(f"{name}: missing keys {', '.join(missing)}")
    return data
