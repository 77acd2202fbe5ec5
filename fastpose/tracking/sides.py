"""Exchanged left and right, put right where the frames before and after agree."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["find_exchanged"]

Floats = NDArray[np.float64]

# What holding a frame's left and right for exchanged costs, in sizes: a track has to be that much straighter for it.
_DOUBT = 0.02
_TRIPLES = np.array([(a, b, c) for a in (0, 1) for b in (0, 1) for c in (0, 1)])


def find_exchanged(times: Floats, one: Floats, other: Floats, sizes: Floats, longest: float) -> NDArray[np.bool_]:
    """In which frames the two keypoints of a flip pair have changed places.

    Of all ways to exchange them the one that gives the straightest paths (Viterbi over pairs of frames): the
    distances of each point from the line between the one before and the one after, in sizes, with a small charge for
    every exchanged frame, are least in sum. So where limbs cross, they cross.

    Args:
        times: [T] seconds, rising.
        one: [T, 2] px.
        other: [T, 2] px.
        sizes: [T] px.
        longest: Seconds; a longer time between two frames divides them.

    Returns:
        [T] bool.
    """
    exchanged = np.zeros(len(times), bool)
    for part in np.split(np.arange(len(times)), np.flatnonzero(np.diff(times) > longest) + 1):
        if len(part) > 2:
            exchanged[part] = _straightest(_bends(times[part], one[part], other[part], sizes[part]))
    return exchanged


def _bends(times: Floats, one: Floats, other: Floats, sizes: Floats) -> Floats:
    """[T - 2, 8] sizes that both paths bend by in each three frames, by which of these are exchanged."""
    both = np.stack([np.stack([one, other], 1), np.stack([other, one], 1)])  # [2, T, 2, 2]
    share = ((times[1:-1] - times[:-2]) / (times[2:] - times[:-2]))[:, None, None]
    bends = []
    for a, b, c in _TRIPLES:
        between = both[a, :-2] * (1 - share) + both[c, 2:] * share
        bends.append(np.linalg.norm(both[b, 1:-1] - between, axis=-1).sum(axis=1) / sizes[1:-1])
    return np.stack(bends, axis=1)


def _straightest(bends: Floats) -> list[bool]:
    """Which frames to exchange, so that bends and charges are least in sum."""
    # cost[2 a + b]: of the best way in which frame t - 1 has a, and frame t has b.
    cost = [0.0, _DOUBT, _DOUBT, 2 * _DOUBT]
    steps: list[list[int]] = []
    for bend in bends.tolist():
        new, step = [], []
        for b, c in ((0, 0), (0, 1), (1, 0), (1, 1)):
            ways = [cost[2 * a + b] + bend[4 * a + 2 * b + c] for a in (0, 1)]
            best = int(ways[1] < ways[0])
            new.append(ways[best] + _DOUBT * c)
            step.append(best)
        steps.append(step)
        cost = new
    state = min(range(4), key=cost.__getitem__)
    path = [state & 1, state >> 1]
    for step in reversed(steps):
        before = step[state]
        state = 2 * before + (state >> 1)
        path.append(before)
    return [bool(exchanged) for exchanged in reversed(path)]
