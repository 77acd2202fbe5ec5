"""Smoothing of a track that is known as a whole: no lag, gaps filled, sides put right."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .sides import find_exchanged

__all__ = ["FILLED", "smooth_offline"]

Floats = NDArray[np.float64]

FILLED = 0.5
"""Share of its neighbours' lower score that a filled keypoint has: what nobody saw is told from what was seen."""

_REACH = 3.5  # bandwidths to each side that are looked at; there the weight is 0, so that rounding decides nothing
_RIDGE = (0.0, 1e-6, 1e-3)  # keeps slope and bend small where too few frames say anything about them


def smooth_offline(
    times: ArrayLike,
    keypoints: ArrayLike,
    scores: ArrayLike,
    sizes: ArrayLike,
    flip_pairs: Iterable[tuple[int, int]],
    *,
    bandwidth: float = 0.1,
    least: float = 0.2,
    sure: float = 0.5,
    longest_gap: float = 0.3,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Smooth the poses of one track without any lag, from all its frames.

    First left and right are exchanged where that makes their paths straighter. Then each keypoint becomes the value
    of a parabola through its neighbours in time, weighted by a Gaussian of the time between them and by their scores
    (local quadratic regression): uniform motion and acceleration pass unchanged, and what happens in time happens at
    the same time. At 30 frames a second the tremble of a still person falls to 0.4 of itself. The same of the frames
    in reverse order.

    Args:
        times: [T] seconds, rising; frames may be missing.
        keypoints: [T, K, 2] px; what is not finite is missing.
        scores: [T, K]; 0 for what is missing.
        sizes: [T] px, of the person: the square root of the box's area.
        flip_pairs: Indices of the keypoints that change places in a mirror (``Skeleton.flip_pair_indices``); none
            leaves left and right alone.
        bandwidth: Seconds, the Gaussian's standard deviation. Larger: smoother, and fast motion is flattened.
        least: Score below which a keypoint is taken as missing.
        sure: Score from which on it has its full weight.
        longest_gap: Seconds between two frames in which a keypoint was seen. Across a shorter time it is filled in,
            with a score of `FILLED` times its neighbours' lower one; across a longer one nothing is smoothed, and a
            missing keypoint stays as it is given.

    Returns:
        Keypoints float32 [T, K, 2] px and scores float32 [T, K].

    Raises:
        ValueError: Shapes do not agree, times do not rise, or a number is out of its range.

    Example:
        >>> import numpy as np
        >>> times, scores = np.arange(5) / 30, np.ones((5, 1))
        >>> scores[2] = 0
        >>> track = np.array([[[0.0, 9.0]], [[1.0, 9.0]], [[77.0, 0.0]], [[3.0, 9.0]], [[4.0, 9.0]]])
        >>> smooth, scores = smooth_offline(times, track, scores, np.full(5, 50.0), flip_pairs=[])
        >>> smooth[2].round(2).tolist(), scores[2].tolist()
        ([[2.0, 9.0]], [0.5])

    Source: Cleveland and Devlin, "Locally weighted regression", JASA 83 (1988).
    """
    given = np.asarray(times, float), np.array(keypoints, float), np.array(scores, float), np.asarray(sizes, float)
    when, points, marks, extents = given
    _check(when, points, marks, extents)
    for name, number in {"bandwidth": bandwidth, "sure": sure, "longest_gap": longest_gap}.items():
        if not (math.isfinite(number) and number > 0):
            raise ValueError(f"{name}: expected a number above 0, got {number!r}")
    longest_gap *= 1 + 1e-6  # so many frames of 1 / 30 s, however they are rounded
    seen = np.isfinite(points).all(axis=2) & (marks >= max(least, 1e-9))
    for one, other in flip_pairs:
        both = np.flatnonzero(seen[:, one] & seen[:, other])
        swapped = find_exchanged(when[both], points[both, one], points[both, other], extents[both], longest_gap)
        rows = both[swapped]
        points[rows, one], points[rows, other] = points[rows, other], points[rows, one]
        marks[rows, one], marks[rows, other] = marks[rows, other], marks[rows, one]
    weights = np.where(seen, np.clip(marks / sure, 0, 1), 0.0)
    parts, filled = _parts(when, seen, longest_gap)
    smooth = _parabolas(when, np.where(seen[..., None], points, 0.0), weights, parts, bandwidth)
    known = parts >= 0
    points[known] = smooth[known]
    marks[filled] = FILLED * _lower_neighbour(marks, seen)[filled]
    return points.astype(np.float32), marks.astype(np.float32)


def _check(times: Floats, points: Floats, scores: Floats, sizes: Floats) -> None:
    if points.ndim != 3 or points.shape[2] != 2:
        raise ValueError(f"keypoints: expected shape [T, K, 2], got {list(points.shape)}")
    count, joints = points.shape[:2]
    expected = {"times": (times, (count,)), "scores": (scores, (count, joints)), "sizes": (sizes, (count,))}
    for name, (array, shape) in expected.items():
        if array.shape != shape:
            raise ValueError(f"{name}: expected shape {list(shape)}, got {list(array.shape)}")
        if not np.isfinite(array).all():
            raise ValueError(f"{name}: expected finite numbers")
    if np.any(np.diff(times) <= 0):
        raise ValueError("times: expected each to be later than the one before")
    if np.any(sizes <= 0):
        raise ValueError("sizes: expected numbers above 0")


def _parts(times: Floats, seen: NDArray[np.bool_], longest: float) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """What belongs together, and what is to be filled.

    Returns:
        [T, K] number of the stretch without a long gap that a keypoint is in, -1 in none; and [T, K] whether it was
        not seen, in such a stretch.
    """
    before, after = _last_seen(times, seen), -_last_seen(-times[::-1], seen[::-1])[::-1]
    # A new stretch begins where a keypoint is seen after a long gap.
    earlier = np.concatenate([np.full((1, seen.shape[1]), -np.inf), before[:-1]])
    begins = seen & ~(times[:, None] - earlier <= longest)
    bridged = ~seen & (after - before <= longest)
    return np.where(seen | bridged, np.cumsum(begins, axis=0), -1), bridged


def _last_seen(times: Floats, seen: NDArray[np.bool_]) -> Floats:
    """[T, K] when each keypoint was seen last, then or before; -inf if never."""
    return np.asarray(np.maximum.accumulate(np.where(seen, times[:, None], -np.inf), axis=0))


def _lower_neighbour(scores: Floats, seen: NDArray[np.bool_]) -> Floats:
    """[T, K] the lower score of the frames before and after in which the keypoint was seen; 0 where one is missing."""
    rows = np.arange(len(scores))[:, None]
    before = np.maximum.accumulate(np.where(seen, rows, -1), axis=0)
    after = np.minimum.accumulate(np.where(seen, rows, len(scores))[::-1], axis=0)[::-1]
    padded = np.concatenate([scores, np.zeros((1, scores.shape[1]))])  # both -1 and T are the last row
    columns = np.arange(scores.shape[1])
    return np.asarray(np.minimum(padded[before, columns], padded[after, columns]))


def _parabolas(times: Floats, points: Floats, weights: Floats, parts: NDArray[np.int64], bandwidth: float) -> Floats:
    """[T, K, 2] values of the weighted parabolas about each frame."""
    count = len(times)
    moments, sums = np.zeros((5, *weights.shape)), np.zeros((3, *points.shape))
    for step in range(count):
        # Frame i with frame i + step, each a neighbour of the other.
        apart = (times[step:] - times[: count - step]) / bandwidth
        if not np.any(apart <= _REACH):
            break
        kernel = np.maximum(np.exp(-0.5 * apart * apart) - np.exp(-0.5 * _REACH * _REACH), 0.0)[:, None]
        together = (parts[step:] == parts[: count - step]) * kernel
        early, late = slice(0, count - step), slice(step, count)
        for here, there, sign in ((early, late, 1), (late, early, -1))[: 1 if step == 0 else 2]:
            weight = together * weights[there]
            power = np.ones_like(apart)[:, None]
            for order in range(5):
                moments[order, here] += weight * power
                if order < 3:
                    sums[order, here] += (weight * power)[..., None] * points[there]
                power = power * (sign * apart[:, None])
    matrices = np.stack([np.stack([moments[i + j] for j in range(3)], -1) for i in range(3)], -2)
    total = np.where(moments[0] > 0, moments[0], 1.0)
    matrices += np.eye(3) * np.asarray(_RIDGE) * total[..., None, None]
    matrices[moments[0] == 0] = np.eye(3)
    return np.asarray(np.linalg.solve(matrices, np.moveaxis(sums, 0, -2))[..., 0, :])
