"""CLEAR MOT: which of the found is which of the true ones, frame by frame, and what that counts.

Nothing here knows what is compared: distances come in, of joints or of whole people.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastpose.ops.assign import assign

__all__ = ["ClearCounts", "ClearMatcher", "most_pairs", "ratio"]

_WHOLE = ("truth", "found", "matched", "switches", "fragmentations")


def ratio(part: Any, whole: Any) -> NDArray[np.float64]:
    """``part / whole``, NaN where the whole is 0."""
    whole = np.asarray(whole, np.float64)
    return np.divide(part, whole, out=np.full(whole.shape, np.nan), where=whole > 0)


def most_pairs(costs: NDArray[np.float64]) -> NDArray[np.int64]:
    """Pairs of rows and columns: as many as there can be, and of these the ones of the least sum.

    Args:
        costs: [N, M], 0 or above; infinite where the two are no pair.

    Returns:
        int64 [P, 2], exact.
    """
    dearest = costs.max(initial=0.0, where=np.isfinite(costs))
    return assign(costs, dearest * (min(costs.shape) + 1) + 1.0)  # to leave one alone costs more than all pairs


@dataclass(frozen=True, eq=False)
class ClearCounts:
    """What is counted of J kinds of things (joints, or whole people as the only kind); each array is [J].

    Attributes:
        truth: int64, appearances that are annotated: each thing once a frame.
        found: int64, appearances that are predicted.
        matched: int64, pairs of the two.
        switches: int64, matches of a true thing to another track than at its last match.
        fragmentations: int64, times that a true thing is matched again after it was there and was not.
        distance: float64, sum of the distances of the matches.
        logged: float64, sum of all distances that py-motmetrics (1.2 and later) logs: of every pair that could be
            matched, of every match, and once more for each change of identity that it names.
    """

    truth: NDArray[np.int64]
    found: NDArray[np.int64]
    matched: NDArray[np.int64]
    switches: NDArray[np.int64]
    fragmentations: NDArray[np.int64]
    distance: NDArray[np.float64]
    logged: NDArray[np.float64]

    @classmethod
    def zeros(cls, kinds: int) -> ClearCounts:
        """Nothing counted yet."""
        whole = {name: np.zeros(kinds, np.int64) for name in _WHOLE}
        return cls(**whole, distance=np.zeros(kinds), logged=np.zeros(kinds))

    def __add__(self, other: ClearCounts) -> ClearCounts:
        return ClearCounts(*(getattr(self, field.name) + getattr(other, field.name) for field in fields(self)))

    @property
    def misses(self) -> NDArray[np.int64]:
        """[J] true things that nothing was matched to."""
        return self.truth - self.matched

    @property
    def false(self) -> NDArray[np.int64]:
        """[J] found things that were matched to nothing."""
        return self.found - self.matched

    @property
    def mota(self) -> NDArray[np.float64]:
        """[J] accuracy, 1 - (misses + false + switches) / truth: at most 1, below 0 if more is wrong than there is."""
        return 1.0 - ratio(self.misses + self.false + self.switches, self.truth)

    @property
    def motp(self) -> NDArray[np.float64]:
        """[J] precision of place, 1 - the mean distance of the matches."""
        return 1.0 - ratio(self.distance, self.matched)

    @property
    def precision(self) -> NDArray[np.float64]:
        """[J] share of the found that is matched."""
        return ratio(self.matched, self.found)

    @property
    def recall(self) -> NDArray[np.float64]:
        """[J] share of the truth that is matched."""
        return ratio(self.matched, self.truth)


class ClearMatcher:
    """Matches the frames of one sequence in their order (Bernardin and Stiefelhagen, 2008), J kinds side by side.

    A true thing stays with the track that it was last matched to, however long ago, wherever that is near enough. Of
    what is left as many as possible are matched, with the least sum of distances.

    Args:
        kinds: J.
        truth: Number T of true tracks.
        found: Number F of found tracks.

    Attributes:
        counts: Of the frames so far.
    """

    def __init__(self, kinds: int, truth: int, found: int) -> None:
        self.counts = ClearCounts.zeros(kinds)
        self._track = np.full((kinds, truth), -1)  # that a true thing was last matched to
        self._thing = np.full((kinds, found), -1)  # that a track was last matched to anew
        self._lost = np.zeros((kinds, truth), bool)  # there and not matched since its last match
        self._found_before = np.zeros((kinds, found), bool)

    def update(
        self,
        truth: NDArray[np.int64],
        found: NDArray[np.int64],
        distance: NDArray[np.float64],
        there: NDArray[np.bool_],
        said: NDArray[np.bool_],
    ) -> None:
        """Match the next frame.

        Args:
            truth: [G] which true tracks are on it, 0 to T - 1, each once.
            found: [D] which found tracks are, 0 to F - 1, each once.
            distance: [J, G, D]; infinite where the two must not be matched, as where one of them is not there.
            there: [J, G] whether this kind of the true one is annotated.
            said: [J, D] whether this kind of the found one is predicted.
        """
        near = np.nonzero(np.isfinite(distance))
        away = distance[near]
        kept = self._kept(truth, found, near)
        free = _free(kept, near, distance.shape)
        anew = np.flatnonzero(free)[_closest(away[free], *(part[free] for part in near))]
        kind, one, other = (part[anew] for part in near)
        switched, changes = self._identities(kind, truth[one], found[other])
        kinds = len(there)
        logged = _sums(near[0], away, kinds) + _sums(kind, changes * away[anew], kinds)
        switches = np.bincount(kind[switched], minlength=kinds)

        matches = np.concatenate([kept, anew])
        kind, one, other = (part[matches] for part in near)
        self._track[kind, truth[one]] = found[other]
        self._found_before[kind, found[other]] = True
        of_matches = _sums(kind, away[matches], kinds)
        matched = np.zeros(there.shape, bool)
        matched[kind, one] = True
        lost = self._lost[:, truth]
        fragments = (lost & matched).sum(1)
        self._lost[:, truth] = ~matched & (lost | (there & (self._track[:, truth] >= 0)))
        whole = (there.sum(1), said.sum(1), matched.sum(1), switches, fragments)
        counts = dict(zip(_WHOLE, whole, strict=True))
        self.counts = self.counts + ClearCounts(**counts, distance=of_matches, logged=logged + of_matches)

    def _kept(self, truth: NDArray[np.int64], found: NDArray[np.int64], near: _Pairs) -> NDArray[np.int64]:
        """Which pairs stay together. Two may have the same track (one has lost it); then the first keeps it."""
        kind, one, other = near
        still = np.flatnonzero(self._track[kind, truth[one]] == found[other])
        _, first = np.unique(kind[still] * len(found) + other[still], return_index=True)
        return still[first]

    def _identities(
        self, kind: NDArray[np.int64], thing: NDArray[np.int64], track: NDArray[np.int64]
    ) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
        """Of new matches [P] whether they are switches, and how many more changes of identity py-motmetrics logs.

        These are: a switch to a track that was never matched before, a track that was another thing's, and such a track
        going to a thing that was never matched before.
        """
        last, owner = self._track[kind, thing], self._thing[kind, track]
        switched = (last >= 0) & (last != track)
        transferred = (owner >= 0) & (owner != thing)
        changes = (switched & ~self._found_before[kind, track]) + transferred.astype(np.int64)
        changes += transferred & (last < 0)
        self._thing[kind, track] = thing
        return switched, changes


_Pairs = tuple[NDArray[np.int64], ...]  # kind, true one, found one: [P] each


def _sums(kind: NDArray[np.int64], values: NDArray[np.float64], kinds: int) -> NDArray[np.float64]:
    """[J] sum of the values of each kind."""
    return np.asarray(np.bincount(kind, values, kinds), np.float64)


def _free(kept: NDArray[np.int64], pairs: _Pairs, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """[P] the pairs of which neither is matched yet."""
    kinds, truth, found = shape
    kind, one, other = pairs
    taken, taken_other = np.zeros((kinds, truth), bool), np.zeros((kinds, found), bool)
    taken[kind[kept], one[kept]] = True
    taken_other[kind[kept], other[kept]] = True
    return ~(taken[kind, one] | taken_other[kind, other])


def _closest(
    distance: NDArray[np.float64], kind: NDArray[np.int64], one: NDArray[np.int64], other: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Which of the pairs [P] are matched."""
    if not len(kind):
        return kind
    several = np.zeros(len(kind), bool)
    for thing in (one, other):
        key = kind * (int(thing.max()) + 1) + thing
        several |= np.bincount(key)[key] > 1
    parts = [np.flatnonzero(~np.isin(kind, kind[several]))]
    for chosen in np.unique(kind[several]).tolist():
        own = np.flatnonzero(kind == chosen)
        (rows, row), (columns, column) = (np.unique(thing[own], return_inverse=True) for thing in (one, other))
        costs, place = np.full((len(rows), len(columns)), np.inf), np.zeros((len(rows), len(columns)), np.int64)
        costs[row, column], place[row, column] = distance[own], own
        pairs = most_pairs(costs)
        parts.append(place[pairs[:, 0], pairs[:, 1]])
    return np.concatenate(parts)
