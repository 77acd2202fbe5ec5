"""Which prediction is which annotated person, for all photos at once, and the precision and recall of that.

Nothing here knows what is compared: a similarity of pairs comes in as a function, the OKS of poses or the IoU of boxes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastpose.metrics.truth import BoxTruth

__all__ = ["AREA_RANGES", "THRESHOLDS", "Candidates", "Matches", "Similarity", "match", "photo_pairs"]

THRESHOLDS = np.linspace(0.5, 0.95, 10)
"""From which similarity on a prediction counts as found: ten times over."""

AREA_RANGES = {"all": (0.0, 1e10), "small": (0.0, 32.0**2), "medium": (32.0**2, 96.0**2), "large": (96.0**2, 1e10)}
"""Square pixels of the people that count, both ends included."""

Similarity = Callable[[NDArray[np.int64], NDArray[np.int64]], NDArray[np.float64]]
"""Of P pairs, positions of predictions [P] and of people [P]: [P] between 0 and 1."""

_RECALLS = np.linspace(0.0, 1.0, 101)
_PAIRS_AT_ONCE = 1 << 11  # keeps what a similarity works on in the cache
_TINY = np.spacing(1)


@dataclass(frozen=True, eq=False)
class Candidates:
    """D predictions, to be matched.

    Attributes:
        image: int64 [D], positions in the truth's ``image_ids``.
        category: int64 [D], positions in its ``category_ids``; -1 for any other category.
        scores: float64 [D].
        areas: float64 [D], square pixels.
    """

    image: NDArray[np.int64]
    category: NDArray[np.int64]
    scores: NDArray[np.float64]
    areas: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Matches:
    """Predictions and the people that they were matched to, under A area ranges and T thresholds.

    Attributes:
        truth: The G people.
        rows: int64 [D], which predictions count: those of the highest scores of each photo and category, by photo and
            falling score.
        image: int64 [D], positions in the truth's ``image_ids``.
        category: int64 [D], positions in its ``category_ids``.
        scores: float64 [D].
        areas: Names of the A area ranges.
        thresholds: float64 [T].
        person: int32 [A, T, D], the person that each was matched to; -1 for none.
        ignored: bool [A, T, D], predictions that count neither as found nor as wrong.
        asked: bool [A, G], people that have to be found.
    """

    truth: BoxTruth
    rows: NDArray[np.int64]
    image: NDArray[np.int64]
    category: NDArray[np.int64]
    scores: NDArray[np.float64]
    areas: tuple[str, ...]
    thresholds: NDArray[np.float64]
    person: NDArray[np.int32]
    ignored: NDArray[np.bool_]
    asked: NDArray[np.bool_]

    def first(self, count: int) -> Matches:
        """The matches of so many predictions of each photo and category: those with the highest scores."""
        if count not in self._first:
            kept = _ranks(self.category * len(self.truth.image_ids) + self.image) < count
            flat = {name: getattr(self, name)[kept] for name in ("rows", "image", "category", "scores")}
            kept_of = {name: getattr(self, name)[..., kept] for name in ("person", "ignored")}
            self._first[count] = replace(self, **flat, **kept_of)
        return self._first[count]

    @cached_property
    def _first(self) -> dict[int, Matches]:
        """What :meth:`first` has made, with what that has computed: it is asked for each sample of a bootstrap."""
        return {}

    @cached_property
    def _by_score(self) -> list[tuple[NDArray[np.int64], NDArray[np.bool_], NDArray[np.bool_]]]:
        """Of each category: its predictions by falling score, and [A, T, n] which are found and which wrong."""
        result = []
        matched = self.person >= 0
        found, wrong = matched & ~self.ignored, ~(matched | self.ignored)
        for category in range(len(self.truth.category_ids)):
            own = np.flatnonzero(self.category == category)
            own = own[np.argsort(-self.scores[own], kind="stable")]
            result.append((own, found[..., own], wrong[..., own]))
        return result

    def curves(self, weights: ArrayLike | None = None) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Precision at 101 recalls, and the recall reached.

        Args:
            weights: [I], how often each photo counts; once where not given.

        Returns:
            [A, T, C, 101] and [A, T, C] float64; -1 where nobody has to be found.
        """
        photos = np.ones(len(self.truth.image_ids)) if weights is None else np.asarray(weights, np.float64)
        shape = (len(self.areas), len(self.thresholds), len(self.truth.category_ids))
        precision, recall = np.full((*shape, len(_RECALLS)), -1.0), np.full(shape, -1.0)
        of_person = photos[self.truth.image]
        for category, (own, found, wrong) in enumerate(self._by_score):
            people = (self.asked * (of_person * (self.truth.category == category))).sum(1)
            times = photos[self.image[own]]
            for area in np.flatnonzero(people > 0):
                for t in range(len(self.thresholds)):
                    hit = np.flatnonzero(found[area, t])
                    # Only where something is found does recall grow and can precision be the best from there on.
                    hits = np.cumsum(times[hit])
                    misses = np.cumsum(wrong[area, t] * times)[hit]
                    best = np.maximum.accumulate((hits / (hits + misses + _TINY))[::-1])[::-1]
                    reached = hits / people[area]
                    recall[area, t, category] = reached[-1] if len(hit) else 0.0
                    place = np.searchsorted(reached, _RECALLS, side="left")
                    inside = place < len(hit)
                    precision[area, t, category] = 0.0
                    precision[area, t, category, inside] = best[place[inside]]
        return precision, recall

    def average(self, weights: ArrayLike | None = None) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Average precision and recall by area range and threshold, over categories in which somebody is asked for.

        Args:
            weights: [I], how often each photo counts; once where not given.

        Returns:
            [A, T] and [A, T] float64; -1 where nobody has to be found.
        """
        precision, recall = self.curves(weights)
        known = recall > -1  # the same for all thresholds
        count = np.maximum(known.sum(-1), 1)
        some = known.any(-1)
        return (
            np.where(some, (precision.mean(-1) * known).sum(-1) / count, -1.0),
            np.where(some, (recall * known).sum(-1) / count, -1.0),
        )


@dataclass(frozen=True, eq=False)
class _Pairs:
    """P pairs of a prediction and somebody on its photo who is similar enough, by prediction.

    Attributes:
        of: int64 [P], position among the predictions that count.
        person: int64 [P].
        close: float64 [P], their similarity.
    """

    of: NDArray[np.int64]
    person: NDArray[np.int64]
    close: NDArray[np.float64]

    def select(self, mask: NDArray[np.bool_]) -> _Pairs:
        return _Pairs(self.of[mask], self.person[mask], self.close[mask])


def match(
    truth: BoxTruth,
    candidates: Candidates,
    similarity: Similarity,
    *,
    per_photo: int,
    areas: Sequence[str],
    thresholds: ArrayLike = THRESHOLDS,
) -> Matches:
    """Give each prediction, by falling score, the most similar person that is still free, as COCO's evaluation does.

    Args:
        truth: The annotated people.
        candidates: The predictions.
        similarity: How similar a prediction and a person are.
        per_photo: How many predictions of a photo and category count: those with the highest scores.
        areas: Names in ``AREA_RANGES``.
        thresholds: [T] similarities from which on a prediction may be matched.

    Returns:
        The matches.
    """
    levels = np.minimum(np.asarray(thresholds, np.float64), 1 - 1e-10)
    ranges = np.array([AREA_RANGES[name] for name in areas])
    rows, rank = _counting(candidates, len(truth.image_ids), per_photo)
    pairs = _near_pairs(truth, candidates, rows, similarity, float(levels.min()))
    ignore = truth.ignore | (truth.areas < ranges[:, :1]) | (truth.areas > ranges[:, 1:])  # [A, G]
    person = np.full((len(ranges), len(levels), len(rows)), -1, np.int32)
    alone = _without_choice(pairs, len(rows), len(truth.ids))
    _match_without_choice(pairs.select(alone), levels, truth.crowd, person)
    _match_in_turn(pairs.select(~alone), levels, truth.crowd, ignore, rank, person)
    size = candidates.areas[rows]
    outside = (size < ranges[:, :1]) | (size > ranges[:, 1:])
    some = np.pad(ignore, ((0, 0), (0, 1)))  # of one more, as there may be nobody to take from
    ignored = np.stack([flags.take(chosen, mode="clip") for flags, chosen in zip(some, person, strict=True)])
    np.copyto(ignored, outside[:, None], where=person < 0)
    return Matches(
        truth=truth,
        rows=rows,
        image=candidates.image[rows],
        category=candidates.category[rows],
        scores=candidates.scores[rows],
        areas=tuple(areas),
        thresholds=levels,
        person=person,
        ignored=ignored,
        asked=~ignore,
    )


def _counting(candidates: Candidates, photos: int, per_photo: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The predictions that count and the rank of each on its photo; equal scores stay in the file's order."""
    group = candidates.category * photos + candidates.image
    order = np.argsort(-candidates.scores, kind="stable")
    order = order[np.argsort(group[order], kind="stable")]
    order = order[candidates.category[order] >= 0]
    rank = _ranks(group[order])
    return order[rank < per_photo], rank[rank < per_photo]


def _ranks(group: NDArray[np.int64]) -> NDArray[np.int64]:
    """Of each of ascending values, how many equal ones stand before it."""
    return np.arange(len(group)) - np.searchsorted(group, group)


def _near_pairs(
    truth: BoxTruth, candidates: Candidates, rows: NDArray[np.int64], similarity: Similarity, least: float
) -> _Pairs:
    """Pairs of one photo and category whose similarity is not below the least that counts."""
    of, person = photo_pairs(truth, candidates, rows)
    close = np.empty(len(of))
    for start in range(0, len(of), _PAIRS_AT_ONCE):
        part = slice(start, start + _PAIRS_AT_ONCE)
        close[part] = similarity(rows[of[part]], person[part])
    return _Pairs(of, person, close).select(close >= least)


def photo_pairs(
    truth: BoxTruth, candidates: Candidates, rows: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pairs of a prediction and everybody of its photo and category.

    Args:
        truth: The annotated people.
        candidates: The predictions.
        rows: [R] which of them count.

    Returns:
        int64 [P] ascending positions in ``rows``, and int64 [P] people.
    """
    photos = len(truth.image_ids)
    group, person_group = (side.category * photos + side.image for side in (candidates, truth))
    by_group = np.argsort(person_group, kind="stable")
    ordered = person_group[by_group]
    low = np.searchsorted(ordered, group[rows], side="left")
    count = np.searchsorted(ordered, group[rows], side="right") - low
    first = np.cumsum(count) - count
    of = np.repeat(np.arange(len(rows)), count)
    return of, by_group[np.arange(len(of)) + np.repeat(low - first, count)]


def _without_choice(pairs: _Pairs, predictions: int, people: int) -> NDArray[np.bool_]:
    """[P] whether nobody who wants this person could have another one."""
    single = np.bincount(pairs.of, minlength=predictions)[pairs.of] == 1
    torn = np.zeros(people, bool)
    torn[pairs.person[~single]] = True
    return single & ~torn[pairs.person]


def _match_without_choice(
    pairs: _Pairs, levels: NDArray[np.float64], crowd: NDArray[np.bool_], person: NDArray[np.int32]
) -> None:
    """Fill in [A, T, D]: a person goes to the first who is similar enough; a crowd to all of them."""
    order = np.argsort(pairs.person, kind="stable")  # by person, and by falling score as before
    who, close = pairs.person[order], pairs.close[order]
    turn = _ranks(who)
    before = np.full(len(who), -1.0)  # the most similar one that came first
    for place in range(1, int(turn.max(initial=0)) + 1):
        now = np.flatnonzero(turn == place)
        before[now] = np.maximum(before[now - 1], close[now - 1])
    before[crowd[who]] = -1.0
    taken = (close >= levels[:, None]) & (before < levels[:, None])
    person[..., pairs.of[order]] = np.where(taken, who, -1)


def _match_in_turn(
    pairs: _Pairs,
    levels: NDArray[np.float64],
    crowd: NDArray[np.bool_],
    ignore: NDArray[np.bool_],
    rank: NDArray[np.int64],
    person: NDArray[np.int32],
) -> None:
    """Fill in [A, T, D], rank by rank: predictions of one rank are on different photos and do not compete."""
    if not len(pairs.of):
        return
    people, who = np.unique(pairs.person, return_inverse=True)  # few: those that are wanted by somebody who may choose
    free = np.ones((*person.shape[:2], len(people)), bool)
    liked = 2.0 * ~ignore[:, people]  # who has to be found is preferred to anybody who has not, however similar
    turn = rank[pairs.of]
    for place in range(int(turn.max()) + 1):
        now = np.flatnonzero(turn == place)
        if not len(now):
            continue
        someone, close, of = who[now], pairs.close[now], pairs.of[now]
        begin = np.flatnonzero(np.diff(of, prepend=-1))
        possible = free[..., someone] & (close >= levels[:, None])
        key = np.where(possible, close + liked[:, None, someone], -1.0)
        top = np.maximum.reduceat(key, begin, axis=-1)
        length = np.diff(begin, append=len(of))
        last = np.where(key == np.repeat(top, length, axis=-1), np.arange(len(of)), -1)
        chosen = np.where(top >= 0, someone[np.maximum.reduceat(last, begin, axis=-1)], -1)  # the last of equals
        person[..., of[begin]] = np.where(chosen >= 0, people[chosen], -1)
        a, t, d = np.nonzero(chosen >= 0)
        free[a, t, chosen[a, t, d]] = crowd[people[chosen[a, t, d]]]
