"""Annotation files: opened with one clear error each, their values checked in bulk.

A file of COCO's size holds a quarter of a million people. Checks therefore run on whole columns, and only a column that
fails is walked entry by entry, to name the one that is wrong.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastpose.data.records import DataError
from fastpose.files import open_file, parse_json, read_file, unreadable

__all__ = [
    "JsonFile",
    "Where",
    "check_split",
    "entries",
    "integer",
    "kind",
    "matlab_numbers",
    "numbers",
    "open_json",
    "read_bytes",
    "read_json",
    "read_lines",
    "read_mat",
    "usable",
]

Where = Callable[[int], str]
"""Says where entry i of a column stands in its file, for an error."""

# Lists of keypoints: COCO's own, those that COCO-WholeBody has beside it, and Human-Art's.
_KEYPOINTS = ("keypoints", "foot_kpts", "face_kpts", "lefthand_kpts", "righthand_kpts", "keypoints_21")
# No coordinate, side or area in pixels is larger; what is would overflow single precision further on.
_LARGEST = 1e12


@dataclass(frozen=True, eq=False)
class JsonFile:
    """A JSON file that has been read.

    Attributes:
        path: The file.
        content: What it holds; lists of keypoints of annotations are ``array("d")`` where they are plain numbers.
    """

    path: Path
    content: Any


def open_json(source: str | Path | JsonFile) -> JsonFile:
    """Read an annotation file, or hand on one that has been read already.

    Raises:
        DataError: As :func:`read_json`.
    """
    return source if isinstance(source, JsonFile) else JsonFile(Path(source), read_json(source))


def read_json(path: str | Path) -> Any:
    """Read a JSON file of annotations.

    Args:
        path: The file.

    Returns:
        What it holds, without the outlines (``segmentation``), and with lists of keypoints packed, of which a hundred
        thousand as lists of number objects would fill a gigabyte while the file is read.

    Raises:
        DataError: It is missing, not readable, cut short, not JSON, or nested more than a hundred deep.
    """
    try:
        return parse_json(read_bytes(path), path, object_hook=_pack)
    except DataError:
        raise
    except ValueError as error:
        raise DataError(str(error)) from None


def read_bytes(path: str | Path) -> bytes:
    """The content of a file.

    Raises:
        DataError: It is missing, not readable, no regular file, or larger than a gigabyte.
    """
    try:
        return read_file(path)
    except OSError as error:
        raise DataError(f"{path}: {unreadable(error)}") from None


def read_lines(path: str | Path) -> list[str]:
    """The lines of a text file in UTF-8.

    Raises:
        DataError: As :func:`read_bytes`, or it is no text.
    """
    try:
        return read_bytes(path).decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not a text file ({error.reason} at byte {error.start})") from None


def _pack(entry: dict[str, Any]) -> dict[str, Any]:
    if "image_id" in entry and entry.get("keypoints") is not None:
        entry.pop("segmentation", None)
        for key in _KEYPOINTS:
            with suppress(KeyError, OverflowError, TypeError):  # not plain numbers: kept for the error that names them
                entry[key] = array("d", _flat(entry[key]))
    return entry


def _flat(points: Iterable[Any]) -> Iterable[Any]:
    """Keypoints as numbers, where they may be triples of them."""
    return chain.from_iterable(points) if all(type(point) is list and len(point) == 3 for point in points) else points


def read_mat(path: str | Path) -> dict[str, Any]:
    """Read a MATLAB file.

    Args:
        path: The file.

    Returns:
        Its variables; structures as objects with attributes, single values without their array around them.

    Raises:
        DataError: It is missing or no such file, or SciPy is not installed.
    """
    try:
        from scipy.io import loadmat
    except ImportError:
        raise DataError(f"{path}: reading MATLAB files needs SciPy: pip install scipy") from None
    try:
        with open_file(path) as file:
            variables = loadmat(file, struct_as_record=False, squeeze_me=True)
    except OSError as error:
        raise DataError(f"{path}: {unreadable(error)}") from None
    except Exception as error:  # a damaged file makes SciPy raise whatever it comes upon
        raise DataError(f"{path}: not a MATLAB file of version 5 to 7.2 ({error})") from None
    return {name: value for name, value in variables.items() if not name.startswith("__")}


def matlab_numbers(path: str | Path, name: str, value: Any) -> NDArray[np.float64]:
    """A variable of a MATLAB file as numbers of any shape.

    Raises:
        DataError: It is missing, or nothing that can be an array of numbers.
    """
    try:
        return np.asarray([] if value is None else value, np.float64)
    except (OverflowError, TypeError, ValueError):
        raise DataError(f"{path}: {name}: expected an array of numbers, got {type(value).__name__}") from None


def usable(values: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which numbers are finite and small enough to be pixels: at most 1e12."""
    return np.asarray(np.abs(values) <= _LARGEST)


def entries(path: Path, content: Mapping[str, Any], key: str) -> Iterator[dict[str, Any]]:
    """The objects of a list.

    Args:
        path: The file, for the error.
        content: Holds the list.
        key: Its name there.

    Yields:
        One object after the other.

    Raises:
        DataError: It is no list, or something in it is no object.
    """
    values = content.get(key)
    if not isinstance(values, list):
        raise DataError(f"{path}: {key}: expected a list, got {kind(values)}")
    for index, entry in enumerate(values):
        if not isinstance(entry, dict):
            raise DataError(f"{path}: {key}: number {index}: expected an object, got {kind(entry)}")
        yield entry


def integer(where: Callable[[], str], entry: Mapping[str, Any], key: str) -> int:
    """An id of an entry.

    Args:
        where: Says where the entry stands, for the error.
        entry: The entry.
        key: The id's name.

    Returns:
        The id.

    Raises:
        DataError: It is no integer of 64 bits.
    """
    value = entry.get(key)
    if type(value) is not int or not -(2**63) <= value < 2**63:
        raise DataError(f"{where()}: {key}: expected an integer, got {kind(value) if value is None else repr(value)}")
    return value


def numbers(where: Where, key: str, values: Sequence[Any], count: int) -> NDArray[np.float64]:
    """One value of every entry, each a list of so many numbers.

    Args:
        where: Says where entry i stands, for the error.
        key: The value's name there.
        values: N lists.
        count: Length of each.

    Returns:
        [N, count].

    Raises:
        DataError: A list has another length, or something in it is no finite number of at most 1e12.
    """
    table: Any = None
    try:
        if values and all(type(value) is array for value in values):
            if all(len(value) == count for value in values):
                table = np.frombuffer(b"".join(values), np.float64).reshape(len(values), count)
        elif all(isinstance(value, list) for value in values):
            table = np.array(values, np.float64).reshape(len(values), -1 if values else count)
    except (OverflowError, TypeError, ValueError):
        table = None
    if table is not None and table.shape == (len(values), count) and usable(table).all():
        return np.asarray(table, np.float64)
    rows = [_row(where, index, key, value, count) for index, value in enumerate(values)]
    return np.array(rows, np.float64).reshape(len(values), count)


def _row(where: Where, index: int, key: str, value: Any, count: int) -> NDArray[np.float64]:
    if not isinstance(value, (list, array)) or len(value) != count:
        got = f"{len(value)}" if isinstance(value, (list, array)) else kind(value)
        raise DataError(f"{where(index)}: {key}: expected {count} numbers, got {got}")
    shown = value.tolist() if isinstance(value, array) else value
    try:
        row = np.array(shown, np.float64)
    except (OverflowError, TypeError, ValueError):
        raise DataError(f"{where(index)}: {key}: expected numbers, got {shown!r:.80}") from None
    if row.shape != (count,) or not usable(row).all():
        raise DataError(f"{where(index)}: {key}: expected finite numbers, got {shown!r:.80}")
    return row


def kind(value: Any) -> str:
    """What something is, in the words of JSON."""
    return {dict: "an object", list: "a list", type(None): "nothing"}.get(type(value), type(value).__name__)


def check_split(path: str | Path, split: str | None, known: Sequence[str]) -> None:
    """Refuse a part of a data set that this file does not have.

    Raises:
        DataError: ``split`` is given and not among ``known``.
    """
    if split is not None and split not in known:
        there_are = f"there are {', '.join(known)}" if known else "the file is not divided"
        raise DataError(f"{path}: split: no part is named {split!r}; {there_are}")
