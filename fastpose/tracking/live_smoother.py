"""Smoothing while frames come in: the One-Euro filter in units of the person's size."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .arguments import check_time, take_people

__all__ = ["LiveSmoother"]

Floats = NDArray[np.float64]

_SIZE_MEMORY = 0.5  # seconds over which a person's size is averaged


class LiveSmoother:
    """Takes the tremble off keypoints as frames come in, each track for itself.

    The One-Euro filter (Casiez, Roussel and Vogel, CHI 2012): a low-pass whose cutoff grows with the keypoint's speed,
    so that what is still does not tremble and what moves does not lag. Speeds are in sizes of the person a second (the
    square root of the box's area, itself averaged), so that near and far people are smoothed alike. A keypoint of a
    low score pulls less on where it was before.

    Args:
        min_cutoff: Hz, of a keypoint that is still. Lower: less tremble, more lag.
        speed_cutoff: Hz for each size a second of speed (the paper's beta). Higher: less lag.
        derivative_cutoff: Hz, of the low-pass of the speed.
        sure: Score from which on a keypoint pulls with its full weight.
        patience: Seconds without a sight after which a track begins anew.

    Raises:
        ValueError: A number is out of its range.

    Example:
        >>> import numpy as np
        >>> smoother = LiveSmoother()
        >>> pose, scores, box = np.array([[[100.0, 50.0]]]), np.ones((1, 1)), np.array([[50.0, 0.0, 150.0, 100.0]])
        >>> for frame in range(9):
        ...     smooth = smoother([7], pose + (-1) ** frame, scores, box, time=frame / 30)
        >>> bool(abs(smooth - pose).max() < 0.5)
        True
    """

    def __init__(
        self,
        *,
        min_cutoff: float = 1.0,
        speed_cutoff: float = 8.0,
        derivative_cutoff: float = 1.0,
        sure: float = 0.5,
        patience: float = 0.5,
    ) -> None:
        numbers = {
            "min_cutoff": min_cutoff,
            "derivative_cutoff": derivative_cutoff,
            "sure": sure,
            "patience": patience,
        }
        for name, value in numbers.items():
            if not (math.isfinite(value) and value > 0):
                raise ValueError(f"{name}: expected a number above 0, got {value!r}")
        if not (math.isfinite(speed_cutoff) and speed_cutoff >= 0):
            raise ValueError(f"speed_cutoff: expected a number of at least 0, got {speed_cutoff!r}")
        self._min_cutoff, self._speed_cutoff, self._derivative_cutoff = min_cutoff, speed_cutoff, derivative_cutoff
        self._sure, self._patience = sure, patience
        self.reset()

    def reset(self) -> None:
        """Forget everybody."""
        self._state: _State | None = None
        self._time = -math.inf

    def __call__(
        self, track_ids: ArrayLike, keypoints: ArrayLike, scores: ArrayLike, boxes: ArrayLike, time: float
    ) -> NDArray[np.float32]:
        """Smooth the people of the next frame.

        Args:
            track_ids: [N] int, each number once; a negative one is nobody's: who has it is given back as is.
            keypoints: [N, K, 2] px.
            scores: [N, K].
            boxes: [N, 4] xyxy px.
            time: Seconds, not before the last frame's.

        Returns:
            float32 [N, K, 2] px.

        Raises:
            ValueError: Shapes do not agree, a value is not finite, a number stands twice, or time went back.
        """
        ids, points, weights, sizes = self._read(track_ids, keypoints, scores, boxes)
        self._time = check_time(time, self._time)
        mine = ids >= 0
        if len(np.unique(ids[mine])) < mine.sum():
            raise ValueError(f"track_ids: expected each number once, got {ids.tolist()}")
        points = points[mine]
        times = np.full(len(points), self._time)
        new = _State(ids[mine], points, points.copy(), np.zeros_like(points), sizes[mine], times)
        old = self._state if self._state is not None else new.pick(np.zeros(len(new.ids), bool))
        old = old.pick(time - old.times <= self._patience)
        same = new.ids[:, None] == old.ids
        known = same.any(axis=1)
        if known.any():
            self._filter(new, known, old.pick(same.argmax(axis=1)[known]), weights[mine][known])
        self._state = new.join(old.pick(~same.any(axis=0)))
        smooth = np.array(keypoints, np.float32)
        smooth[mine] = new.smooth
        return smooth

    def _filter(self, new: _State, known: NDArray[np.bool_], old: _State, weights: Floats) -> None:
        """Where `new` was seen before, as `old`, let it follow what is measured."""
        elapsed = (new.times[known] - old.times)[:, None, None]
        sizes = old.sizes - np.expm1(-elapsed[:, 0, 0] / _SIZE_MEMORY) * (new.sizes[known] - old.sizes)
        measured = new.last[known]
        speeds = (measured - old.last) / np.maximum(elapsed, 1e-6) / sizes[:, None, None]
        pull = weights[..., None]
        velocities = old.velocities + pull * _share(elapsed, self._derivative_cutoff) * (speeds - old.velocities)
        cutoff = self._min_cutoff + self._speed_cutoff * np.linalg.norm(velocities, axis=-1, keepdims=True)
        new.smooth[known] = old.smooth + pull * _share(elapsed, cutoff) * (measured - old.smooth)
        new.last[known] = old.last + pull * (measured - old.last)
        new.velocities[known], new.sizes[known] = velocities, sizes

    def _read(
        self, track_ids: ArrayLike, keypoints: ArrayLike, scores: ArrayLike, boxes: ArrayLike
    ) -> tuple[NDArray[np.int64], Floats, Floats, Floats]:
        """Numbers, keypoints, weights between 0 and 1, and sizes."""
        ids, shape = np.asarray(track_ids), np.shape(keypoints)
        if ids.ndim != 1 or ids.dtype.kind not in "iu":
            raise ValueError(f"track_ids: expected whole numbers [N], got {ids.dtype} of shape {list(ids.shape)}")
        joints = shape[1] if len(shape) == 3 else 0
        if self._state is not None and joints != self._state.last.shape[1]:
            raise ValueError(f"keypoints: expected {self._state.last.shape[1]} a person, as before, got {joints}")
        given = {"keypoints": keypoints, "scores": scores, "boxes": boxes, "track_ids": ids}
        shapes = {"keypoints": (joints, 2), "scores": (joints,), "boxes": (4,), "track_ids": ()}
        points, weights, extents, _ = (array.astype(float) for array in take_people(given, shapes))
        sides = np.maximum(extents[:, 2:] - extents[:, :2], 1.0)
        return ids.astype(np.int64), points, np.clip(weights / self._sure, 0, 1), np.sqrt(sides[:, 0] * sides[:, 1])


@dataclass
class _State:
    """What is known of M tracks: [M, K, 2] but where it says otherwise.

    Attributes:
        ids: [M] int64.
        last: px, where each keypoint was measured last, less so by a lower score.
        smooth: px.
        velocities: Sizes a second.
        sizes: [M] px.
        times: [M] seconds.
    """

    ids: NDArray[np.int64]
    last: Floats
    smooth: Floats
    velocities: Floats
    sizes: Floats
    times: Floats

    def pick(self, rows: NDArray[Any]) -> _State:
        """Some of the tracks, by mask or index."""
        return _State(*(getattr(self, field.name)[rows] for field in fields(self)))

    def join(self, other: _State) -> _State:
        """These tracks and those."""
        pairs = ((getattr(self, field.name), getattr(other, field.name)) for field in fields(self))
        return _State(*map(np.concatenate, pairs))


def _share(elapsed: Floats, cutoff: Floats | float) -> Floats:
    """How far a low-pass of a cutoff in Hz follows a step in a time."""
    return np.asarray(elapsed / (elapsed + 1 / (2 * math.pi * cutoff)))
