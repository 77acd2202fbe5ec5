"""CLEAR MOT: which of the found is which of the true ones, frame by frame, and what that counts.

Nothing here knows what is compared: distances come in, of joints or of whole people.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastpose.metrics._assign import assign

__all__ = ["ClearCounts", "ClearMatcher", "most_pairs", "ratio"]


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
        whole = ("truth", "found", "matched", "switches", "fragmentations")
        return cls(*(np.zeros(kinds, np.int64) for _ in whole), distance=np.zeros(kinds), logged=np.zeros(kinds))

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
        near = np.isfinite(distance)
        matches = self._kept(truth, found, near)
        kind, one, other = matches
        free = near.copy()
        free[kind, one] = False
        free[kind, :, other] = False
        anew = _closest(distance, free)
        switched, changes = self._identities(anew[0], truth[anew[1]], found[anew[2]])
        kind, one, other = (np.concatenate(part) for part in zip(matches, anew, strict=True))
        self._track[kind, truth[one]] = found[other]
        self._found_before[kind, found[other]] = True

        matched = np.zeros(there.shape, bool)
        matched[kind, one] = True
        lost = self._lost[:, truth]
        fragments = (lost & matched).sum(1)
        self._lost[:, truth] = ~matched & (lost | (there & (self._track[:, truth] >= 0)))

        kinds, away = len(there), distance[kind, one, other]
        of_matches = np.bincount(kind, away, kinds)
        logged = of_matches + np.where(near, distance, 0.0).sum((1, 2))
        logged += np.bincount(anew[0], changes * distance[anew], kinds)
        switches = np.bincount(anew[0][switched], minlength=kinds)
        sums = (there.sum(1), said.sum(1), matched.sum(1), switches, fragments, of_matches, logged)
        self.counts = self.counts + ClearCounts(*sums)

    def _kept(self, truth: NDArray[np.int64], found: NDArray[np.int64], near: NDArray[np.bool_]) -> _Pairs:
        """Those that stay together. Two may have the same track (one has lost it); then the first keeps it."""
        place = np.full(self._thing.shape[1] + 1, -1)
        place[found] = np.arange(len(found))
        own = place[self._track[:, truth]]  # -1, of none, is the last place
        kind, one = np.nonzero(own >= 0)
        other = own[kind, one]
        still = near[kind, one, other]
        kind, one, other = kind[still], one[still], other[still]
        _, first = np.unique(kind * len(found) + other, return_index=True)
        return kind[first], one[first], other[first]

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


_Pairs = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]


def _closest(distance: NDArray[np.float64], free: NDArray[np.bool_]) -> _Pairs:
    """Kind, true and found one of the pairs [P] that are matched out of those which are free ([J, G, D])."""
    choices = np.concatenate([free.sum(1), free.sum(2)], 1)
    several = (choices > 1).any(1)
    parts = [np.nonzero(free & ~several[:, None, None])]
    for kind in np.flatnonzero(several).tolist():
        rows, columns = np.flatnonzero(free[kind].any(1)), np.flatnonzero(free[kind].any(0))
        part = np.ix_(rows, columns)
        pairs = most_pairs(np.where(free[kind][part], distance[kind][part], np.inf))
        parts.append((np.full(len(pairs), kind), rows[pairs[:, 0]], columns[pairs[:, 1]]))
    kinds, ones, others = (np.concatenate(part) for part in zip(*parts, strict=True))
    return kinds, ones, others
