"""COCO-WholeBody's way to write 133 keypoints: the body under ``keypoints``, each other part under a key of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fastpose.skeletons.wholebody import COCO_WHOLEBODY133

__all__ = ["WHOLEBODY_PARTS", "join_parts", "split_parts"]

WHOLEBODY_PARTS = {"body": 17, "foot": 6, "face": 68, "left hand": 21, "right hand": 21}
"""How many keypoints each part has, in their order."""

_KEYS = ("keypoints", "foot_kpts", "face_kpts", "lefthand_kpts", "righthand_kpts")


def join_parts(entries: Sequence[Mapping[str, Any]], num_keypoints: int, what: str) -> Sequence[Mapping[str, Any]]:
    """Entries of a file with all of their keypoints under ``keypoints``.

    Args:
        entries: Annotations or results.
        num_keypoints: How many are wanted; parts are joined where these are the 133 of COCO-WholeBody.
        what: What the entries are, for messages.

    Returns:
        The same entries; those without parts as they are.

    Raises:
        ValueError: A part is missing or has another length.
    """
    if num_keypoints != COCO_WHOLEBODY133.num_keypoints:
        return entries
    return [_joined(number, entry, what) if "foot_kpts" in entry else entry for number, entry in enumerate(entries)]


def _joined(number: int, entry: Mapping[str, Any], what: str) -> Mapping[str, Any]:
    values: list[Any] = []
    for key, count in zip(_KEYS, WHOLEBODY_PARTS.values(), strict=True):
        part = entry.get(key)
        if not isinstance(part, list) or len(part) != 3 * count:
            got = len(part) if isinstance(part, list) else type(part).__name__
            raise ValueError(f"{what}: number {number}: {key}: expected {3 * count} numbers, got {got}")
        values += part
    return {**entry, "keypoints": values}


def split_parts(entry: Mapping[str, Any]) -> dict[str, Any]:
    """An entry with 133 keypoints as COCO-WholeBody's own evaluation reads it; see :func:`join_parts`."""
    values, start, parts = entry["keypoints"], 0, {}
    for key, count in zip(_KEYS, WHOLEBODY_PARTS.values(), strict=True):
        parts[key] = values[3 * start : 3 * (start + count)]
        start += count
    return {**entry, **parts}
