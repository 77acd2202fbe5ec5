"""Poses that were written as JSON, checked and read back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..skeletons import Skeleton, get_skeleton, list_skeletons
from .results import JSON_VERSION
from .urls import url_scheme

__all__ = ["poses_fields"]


def poses_fields(entry: Any, name: str) -> dict[str, Any]:
    """The fields of `Poses` from what `Poses.to_dict` gave; see `Poses.from_dict`.

    Args:
        entry: Plain data.
        name: What errors call it.
    """
    if not isinstance(entry, Mapping):
        raise ValueError(f"{name}: expected an object, got {type(entry).__name__}")
    if entry.get("version") != JSON_VERSION:
        raise ValueError(f"{name}: expected version {JSON_VERSION}, got {entry.get('version')!r}")
    if "keypoint_names" not in entry:
        raise ValueError(f"{name}: has no keypoint_names; boxes alone are no poses")
    skeleton = _skeleton(entry, name)
    people = entry.get("people")
    if not isinstance(people, Sequence) or not all(isinstance(person, Mapping) for person in people):
        raise ValueError(f"{name}: people: expected a list of objects, got {_kind(people)}")
    joints = len(skeleton.keypoints)
    points = _numbers(people, "keypoints", (joints, 3), name)
    file, time, frame = entry.get("file"), entry.get("time"), entry.get("frame")
    if not (file is None or isinstance(file, str)):
        raise ValueError(f"{name}: file: expected a name or null, got {file!r}")
    if not (frame is None or _is_whole(frame)):
        raise ValueError(f"{name}: frame: expected a whole number from 0, got {frame!r}")
    if not (time is None or (isinstance(time, int | float) and np.isfinite(time))):
        raise ValueError(f"{name}: time: expected seconds, got {time!r}")
    error = entry.get("error")
    if not (error is None or isinstance(error, str)):
        raise ValueError(f"{name}: error: expected a text, got {error!r}")
    tracked, visible = _all_have(people, "track_id", name), _all_have(people, "visibility", name)
    return {
        "keypoints": np.ascontiguousarray(points[..., :2]),
        "scores": np.ascontiguousarray(points[..., 2]),
        "boxes": _numbers(people, "box", (4,), name),
        "box_scores": _numbers(people, "box_score", (), name),
        "image_size": _image_size(entry.get("image_size"), name),
        "skeleton": skeleton,
        "track_ids": _numbers(people, "track_id", (), name, np.int64) if tracked else None,
        "path": file if file is None or url_scheme(file) else Path(file),
        "visibility": _numbers(people, "visibility", (joints,), name) if visible else None,
        "dropped": tuple(_texts(entry.get("dropped", []), f"{name}: dropped")),
        "error": error,
        "frame": frame,
        "time": None if time is None else float(time),
    }


def _skeleton(entry: Mapping[str, Any], name: str) -> Skeleton:
    names, skeleton = _texts(entry["keypoint_names"], f"{name}: keypoint_names"), entry.get("skeleton")
    if not isinstance(skeleton, str):
        raise ValueError(f"{name}: skeleton: expected a name, got {skeleton!r}")
    try:
        return _made_skeleton(skeleton, tuple(names))
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None


@lru_cache(maxsize=64)  # every line of a file names the same one
def _made_skeleton(name: str, keypoints: tuple[str, ...]) -> Skeleton:
    known = get_skeleton(name) if name in list_skeletons() else None
    return known if known and known.keypoints == keypoints else Skeleton.from_names(name, keypoints)


def _all_have(people: Sequence[Mapping[str, Any]], key: str, name: str) -> bool:
    having = sum(key in person for person in people)
    if having not in (0, len(people)):
        raise ValueError(f"{name}: {key}: expected of everybody or of nobody, got {having} of {len(people)}")
    return having > 0


def _numbers(
    people: Sequence[Mapping[str, Any]],
    key: str,
    shape: tuple[int, ...],
    name: str,
    dtype: npt.DTypeLike = np.float32,
) -> npt.NDArray[Any]:
    """[N, *shape] of all people's values."""
    kinds = "i" if dtype is np.int64 else "iuf"
    values = np.empty((len(people), *shape), dtype)
    for number, person in enumerate(people):
        try:
            value = np.asarray(person.get(key))
        except ValueError:  # lists of several lengths
            value = np.asarray(None)
        if value.dtype.kind in kinds and value.shape == shape:
            with np.errstate(over="ignore"):
                values[number] = value
            if np.isfinite(values[number]).all():
                continue
        expected = f"{' x '.join(map(str, shape))} finite numbers" if shape else "a number"
        raise ValueError(f"{name}: people[{number}]: {key}: expected {expected}, got {_kind(person.get(key))}")
    return values


def _image_size(value: Any, name: str) -> tuple[int, int]:
    if not isinstance(value, Sequence) or len(value) != 2 or not all(map(_is_whole, value)):
        raise ValueError(f"{name}: image_size: expected [height, width] in pixels, got {value!r}")
    return value[0], value[1]


def _texts(value: Any, name: str) -> Sequence[str]:
    if isinstance(value, str) or not isinstance(value, Sequence) or not all(isinstance(text, str) for text in value):
        raise ValueError(f"{name}: expected a list of texts, got {_kind(value)}")
    return value


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _kind(value: Any) -> str:
    """A value in a message: short ones as they are."""
    text = repr(value)
    return text if len(text) < 60 else f"{text[:57]}..."
