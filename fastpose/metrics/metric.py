"""What a metric is: its name, the figure that decides, what it needs, and how it scores arrays."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fastpose.metrics.results import PoseResults
from fastpose.metrics.truth import Truth
from fastpose.skeletons import Skeleton

__all__ = ["Metric", "Scores", "Times", "by_person", "predicted_people"]

Times = NDArray[np.int64] | None
"""How often each photo ([I]) or person ([G]) counts; None is once for all."""

_WORDS = {"head_sizes": "head boxes", "crowd_index": "crowd index (crowdIndex of the photos)"}


@dataclass(frozen=True)
class Scores:
    """A metric of some results.

    Attributes:
        figures: Called with [I] how often each photo counts, or None for once; returns the figures by name: shares
            between 0 and 1, errors of 0 or more; NaN or -1 where there is nothing to measure.
        photos: I.
        unpredicted: People of whom the results say nothing. That counts as wrong, except in a mean error, which is of
            the others only; average precision says it by its recall, and counts nobody here.
    """

    figures: Callable[[Times], dict[str, float]]
    photos: int
    unpredicted: int = 0


@dataclass(frozen=True)
class Metric:
    """A published metric.

    Attributes:
        name: What a user types.
        figure: Key of the deciding figure.
        compare: What :meth:`score` calls when the truth has what the metric needs.
        ranks_poses: Whether it is an average precision: poses compete by their scores, so boxes may come from a
            detector and doubles are suppressed. The others compare each person with the one pose that is of it.
        similarity: Whether poses are compared by their similarity (OKS), which is made with the skeleton's sigmas.
        skeletons: Keypoints of the data sets that publish it; none where it is for any.
        needs: The optional arrays of :class:`Truth` without which it cannot be measured.
        uses: Those that it takes into account where there are any.
        keypoints: Names that a network must know; None asks for all of the data's.
        error: Whether the figure is an error, so that less is better.
    """

    name: str
    figure: str
    compare: Callable[[Truth, PoseResults], Scores]
    ranks_poses: bool = False
    similarity: bool = False
    skeletons: tuple[Skeleton, ...] = ()
    needs: tuple[str, ...] = ()
    uses: tuple[str, ...] = ()
    keypoints: tuple[str, ...] | None = None
    error: bool = False

    def better(self, figure: float, than: float) -> bool:
        """Whether one value of the deciding figure is better than another."""
        return figure < than if self.error else figure > than

    @property
    def optional(self) -> tuple[str, ...]:
        """All of the optional arrays of :class:`Truth` that matter."""
        return (*self.needs, *self.uses)

    def score(self, truth: Truth, results: PoseResults) -> Scores:
        """Measure results.

        Args:
            truth: The annotated people; where poses are compared by similarity, with its sigmas and areas.
            results: The poses: scored, or with the id of the person that each is of.

        Returns:
            The scores.

        Raises:
            ValueError: There are no results, one is not what the metric asks for, or the truth lacks what it needs.
        """
        for name in self.needs:
            values = getattr(truth, name)
            if values is None or (isinstance(values, np.ndarray) and not np.isfinite(values).any()):
                raise ValueError(f"{self.name}: the annotations have no {_WORDS[name]} ({truth.source})")
        return self.compare(truth, results)


def by_person(
    figures: Callable[[Truth, NDArray[np.float64], Times], Mapping[str, float]],
) -> Callable[[Truth, PoseResults], Scores]:
    """The comparison of a metric that takes people one by one.

    Args:
        figures: Called with the truth, the predicted keypoints [G, K, 2] in the order of its people (NaN where nobody
            was predicted) and how often each person counts.

    Returns:
        What :attr:`Metric.compare` is.
    """

    def compare(truth: Truth, results: PoseResults) -> Scores:
        points, unpredicted = _of_people(truth, results)
        return Scores(lambda times: dict(figures(truth, points, truth.times(times))), len(truth.image_ids), unpredicted)

    return compare


def predicted_people(points: NDArray[np.float64], times: Times) -> NDArray[np.int64]:
    """How often each person counts in a mean error: those of whom nothing was predicted have no distance.

    Args:
        points: [G, K, 2], NaN where nobody was predicted.
        times: How often each would count.

    Returns:
        int64 [G].
    """
    there = np.asarray(~np.isnan(points).all((1, 2)), np.int64)
    return there if times is None else times * there


def _of_people(truth: Truth, results: PoseResults) -> tuple[NDArray[np.float64], int]:
    """[G, K, 2] predicted keypoints of each person, NaN without any, and how many are without.

    A pose is of the person whose id it has, else of the only person on its photo.
    """
    image = results.photos(truth)
    if results.ids is not None:
        keys, wanted, own = truth.ids, results.ids, np.arange(len(truth.ids))
    else:
        counts = np.bincount(truth.image, minlength=len(truth.image_ids))
        own = np.flatnonzero(counts[truth.image] == 1)
        keys, wanted = truth.image[own], image
    order = np.argsort(keys, kind="stable")
    place = np.searchsorted(keys[order], wanted)
    known = place < len(order)
    known[known] = keys[order[place[known]]] == wanted[known]
    if not known.all():
        row = int(np.argmin(known))
        said = f"image_id {results.image_ids[row]} and no id" if results.ids is None else f"id {results.ids[row]}"
        raise ValueError(f"results: number {row} has {said}, which is not one annotated person")
    person = own[order[place]]
    _, first = np.unique(person, return_index=True)
    if len(first) < len(person):
        row = int(np.setdiff1d(np.arange(len(person)), first)[0])
        raise ValueError(
            f"results: number {row} is of annotation {truth.ids[person[row]]}, of which there is one already"
        )
    points = np.full(truth.keypoints.shape, np.nan)
    points[person] = results.keypoints
    return points, len(truth.ids) - len(person)
