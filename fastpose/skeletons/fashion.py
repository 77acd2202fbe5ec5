"""The skeletons of clothes, as data."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

from .skeleton import Skeleton

__all__ = ["DEEPFASHION2_294", "DEEPFASHION_FULL8", "DEEPFASHION_LOWER4", "DEEPFASHION_UPPER6"]

_SIDES = ("left", "right")


def _deepfashion(name: str, *parts: str) -> Skeleton:
    return Skeleton.from_names(name, tuple(f"{side} {part}" for part in parts for side in _SIDES))


DEEPFASHION_FULL8 = _deepfashion("deepfashion_full8", "collar", "sleeve", "waistline", "hem")
"""DeepFashion's landmarks (Liu et al., CVPR 2016) of clothes for the whole body, 8 points."""

DEEPFASHION_UPPER6 = _deepfashion("deepfashion_upper6", "collar", "sleeve", "hem")
"""Those of clothes for the upper body, 6 points."""

DEEPFASHION_LOWER4 = _deepfashion("deepfashion_lower4", "waistline", "hem")
"""Those of clothes for the lower body, 4 points."""


@dataclass(frozen=True)
class _Garment:
    """A category of DeepFashion2, whose points are numbered: from 0 here, from 1 in their names.

    Attributes:
        name: What their names begin with.
        count: How many they are.
        pairs: Those that change places in a mirror.
        lines: Those that are linked one after another.
    """

    name: str
    count: int
    pairs: tuple[tuple[int, int], ...]
    lines: tuple[tuple[int, ...], ...]

    def names(self, points: tuple[int, ...]) -> tuple[str, ...]:
        """Names of points."""
        return tuple(f"{self.name}_kpt{point + 1}" for point in points)

    def links(self) -> Iterator[tuple[str, str]]:
        """Pairs of names."""
        for line in map(self.names, self.lines):
            yield from itertools.pairwise(line)


_COLLAR = (0, 1, 2, 3, 4, 5, 0)


def _run(first: int, last: int) -> tuple[int, ...]:
    """The numbers from one to another, up or down."""
    return tuple(range(first, last + 1) if first <= last else range(first, last - 1, -1))


def _facing(first: int, last: int) -> tuple[tuple[int, int], ...]:
    """Points of a symmetrical outline that face each other."""
    return tuple((first + i, last - i) for i in range((last - first + 1) // 2))


def _closed(name: str, count: int) -> _Garment:
    """With a collar of six points, and the outline from one end of it to the other."""
    return _Garment(
        name, count, ((1, 5), (2, 4), *_facing(6, count - 1)), (_COLLAR, (1, *_run(6, count - 1), 5))
    )  # fmt: skip


def _strapped(name: str, count: int) -> _Garment:
    """With a collar, straps, and the outline below them."""
    lines = (_COLLAR, (1, *_run(7, count - 2), 5), (1, 6), (5, count - 1))
    return _Garment(name, count, ((1, 5), (2, 4), *_facing(6, count - 1)), lines)


def _waisted(name: str, count: int) -> _Garment:
    """With three points along the waist, and the outline from one end of it to the other."""
    return _Garment(name, count, ((0, 2), *_facing(3, count - 1)), ((0, *_run(3, count - 1), 2, 1, 0),))


_GARMENTS = (
    _closed("sss", 25),
    _closed("lss", 33),
    _Garment(  # open in front, as the next: either half has an outline of its own
        "sso",
        31,
        ((1, 25), (2, 4), (3, 5), *zip(_run(6, 14), _run(24, 16), strict=True), (15, 28), (26, 29), (27, 30)),
        ((0, 3, *_run(6, 15), 30, 29, 1, 2, 3), (0, 5, *_run(24, 16), 28, 27, 26, 25, 4, 5)),
    ),
    _Garment(
        "lso",
        39,
        ((1, 5), (2, 4), (3, 33), *zip(_run(6, 18), _run(32, 20), strict=True), (19, 36), (34, 37), (35, 38)),
        ((0, 1, *_run(6, 19), 38, 37, 3, 2, 1), (0, 5, *_run(32, 20), 36, 35, 34, 33, 4, 5)),
    ),
    _closed("vest", 15),
    _strapped("sling", 15),
    _waisted("shorts", 10),
    _waisted("trousers", 14),
    _waisted("skirt", 8),
    _closed("ssd", 29),
    _closed("lsd", 37),
    _closed("vd", 19),
    _strapped("sd", 19),
)

DEEPFASHION2_294 = Skeleton(
    "deepfashion2_294",
    tuple(name for garment in _GARMENTS for name in garment.names(_run(0, garment.count - 1))),
    flip_pairs=tuple((a, b) for garment in _GARMENTS for a, b in map(garment.names, garment.pairs)),
    links=tuple(link for garment in _GARMENTS for link in garment.links()),
)
"""DeepFashion2 (Ge et al., CVPR 2019), 294 points of 13 categories of clothes."""
