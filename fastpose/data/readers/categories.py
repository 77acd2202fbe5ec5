"""What the categories of a file in COCO's format say, and which of its annotations are counted."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from fastpose.data.readers.files import entries, integer
from fastpose.data.records import DataError

__all__ = ["category_number", "category_with_keypoints", "is_counted", "is_crowd", "keypoint_names"]


def category_with_keypoints(
    path: Path, content: Mapping[str, Any], wanted: int | str | None = None
) -> dict[str, Any] | None:
    """The category to read.

    Args:
        path: The file, for the error.
        content: What it holds.
        wanted: Name or id of the category, or "all" of those with keypoints; by default the one that has keypoints
            ("person" among several).

    Returns:
        Its entry, without an id where it stands for all; None where the file describes none, or, of all, no keypoints.

    Raises:
        DataError: There is no such category; several have keypoints and none is "person"; or all are wanted and they
            have not the same keypoints.
    """
    categories = _categories(path, content)
    with_keypoints = [entry for entry in categories if entry.get("keypoints")]
    if wanted == "all" and not any(entry.get("name") == "all" for entry in categories):
        if not with_keypoints:
            return None
        if any(entry["keypoints"] != with_keypoints[0]["keypoints"] for entry in with_keypoints):
            raise DataError(f"{path}: category: not all have the same keypoints; choose one of {_listed(categories)}")
        return {key: value for key, value in with_keypoints[0].items() if key != "id"} | {"name": "all"}
    if wanted is not None:
        return _chosen(path, categories, wanted)
    if len(with_keypoints) > 1:
        people = [entry for entry in with_keypoints if entry.get("name") == "person"]
        if len(people) != 1:
            raise DataError(
                f"{path}: several categories have keypoints; choose one (or all) with category: {_listed(categories)}"
            )
        return people[0]
    if with_keypoints:
        return with_keypoints[0]
    return categories[0] if len(categories) == 1 else None


def category_number(path: Path, content: Mapping[str, Any], wanted: int | str | None = None) -> int | None:
    """The id of the category of people, of whom no keypoints are needed.

    Args:
        path: The file, for the error.
        content: What it holds.
        wanted: Name or id of the category; by default "person", else the one that has keypoints, else the only one.

    Returns:
        The id; None where the file describes no category.

    Raises:
        DataError: There is no such category, or several and nothing says which.
    """
    categories = _categories(path, content)
    people = [entry for entry in categories if entry.get("name") == "person"]
    if wanted is None and len(people) == 1:
        chosen: dict[str, Any] | None = people[0]
    else:
        chosen = category_with_keypoints(path, content, wanted)
    if chosen is None and categories:
        raise DataError(
            f"{path}: none of several categories is 'person'; choose one with category: {_listed(categories)}"
        )
    return None if chosen is None else integer(lambda: f"{path}: categories", chosen, "id")


def _categories(path: Path, content: Mapping[str, Any]) -> list[dict[str, Any]]:
    return list(entries(path, content, "categories")) if content.get("categories") else []


def _chosen(path: Path, categories: list[dict[str, Any]], wanted: int | str) -> dict[str, Any]:
    """By name, else by id, which a command line writes as text."""
    for entry in categories:
        if entry.get("name") == wanted:
            return entry
    for entry in categories:
        if str(entry.get("id")) == str(wanted):
            return entry
    raise DataError(f"{path}: no category is named {wanted!r}, or has that id; there are {_listed(categories)}")


def _listed(categories: list[dict[str, Any]]) -> str:
    return ", ".join(f"{entry.get('name')!r} ({entry.get('id')})" for entry in categories) or "none"


def keypoint_names(path: Path, category: Mapping[str, Any] | None) -> tuple[str, ...]:
    """The names of a category's keypoints; none where it does not say.

    Raises:
        DataError: They are not a list of strings.
    """
    names = (category or {}).get("keypoints") or []
    if isinstance(names, array) or not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise DataError(f"{path}: categories: keypoints: expected a list of names, got {names!r:.80}")
    return tuple(names)


def is_crowd(where: Callable[[], str], entry: Mapping[str, Any]) -> bool:
    """Whether an annotation outlines a crowd.

    Raises:
        DataError: ``iscrowd`` is neither 0 nor 1.
    """
    value = entry.get("iscrowd")
    if value not in (None, 0, 1):  # "0" would be taken for true
        raise DataError(f"{where()}: iscrowd: expected 0 or 1, got {value!r:.80}")
    return bool(value)


def is_counted(where: Callable[[], str], entry: Mapping[str, Any]) -> bool:
    """Whether ``num_keypoints`` does not say that there are none.

    Raises:
        DataError: It is no number.
    """
    value = entry.get("num_keypoints")
    if not isinstance(value, int | float | None):  # "0" would be taken for some
        raise DataError(f"{where()}: num_keypoints: expected a number, got {value!r:.80}")
    return value != 0
