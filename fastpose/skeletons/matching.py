"""Which keypoints of two skeletons are the same point of the body.

Names decide, however they are spelled, and a few names that mean the same. The points of faces are numbered, each
scheme in its own way: there a table says which number is which.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain

from .faces import AFLW19, COFW29, LAPA106, W300_68, WFLW98
from .names import canonical_name
from .skeleton import Skeleton

__all__ = ["Match", "match_skeletons"]

Match = str | tuple[str, str]
"""The name of a keypoint, or of two, whose middle is meant."""

# Spelled as `canonical_name` does. The pelvis of MPII and the hip of Halpe are not among them, nor the lower end of
# PoseTrack's head and a neck: networks of mixed data sets are trained without.
_SAME = (
    ("headtop", "tophead", "head"),
    ("neck", "upperneck"),
    *((f"{side}finger", f"{side}forefinger4") for side in ("left", "right")),
    *((f"{side}toe", f"{side}bigtoe") for side in ("left", "right")),
)
_MEANING = {name: names[0] for names in _SAME for name in names}

# The numbered schemes; that of 68 points is also the face of whole bodies, whose points have names of their own.
_SCHEMES = {skeleton.keypoints for skeleton in (W300_68, WFLW98, LAPA106, COFW29, AFLW19)}
_WHOLE_BODY_FACE = tuple(f"face-{number}" for number in range(W300_68.num_keypoints))

Point = int | tuple[int, int]


def _span(first: int, last: int, step: int = 1) -> range:
    """Numbers from one to another, both included."""
    return range(first, last + 1, step)


def _numbered(*points: Iterable[Point]) -> dict[int, Point]:
    """The points of another scheme by number of the points 0, 1, 2, … in this one."""
    return dict(enumerate(chain.from_iterable(points)))


def _inverse(*points: Iterable[int], first: int = 0) -> dict[int, Point]:
    """The points ``first``, ``first + 1``, … of another scheme by number of these points in this one."""
    return {point: number for number, point in enumerate(chain.from_iterable(points), first)}


# Jaw, brows, nose, eyes and lips of the 68 points. LaPa has one point in the middle of each lid, where 68 have two.
_JAW_BROWS = (*_span(0, 32, 2), *_span(33, 37), *_span(42, 46))
_NOSE_LAPA = (*_span(51, 54), *_span(58, 62))
_EYES_OF_68: dict[int, Point] = {
    66: 36, 68: (37, 38), 70: 39, 72: (40, 41), 75: 42, 77: (43, 44), 79: 45, 81: (46, 47),
}  # fmt: skip
_COFW_IN_68: Mapping[int, Point] = (
    {17: 0, 19: 4, 21: 2, 22: 3, 24: 6, 26: 1}  # brows
    | {36: 8, 39: 10, 42: 11, 45: 9}  # corners of the eyes
    | {31: 18, 35: 19, 30: 20, 33: 21}  # nose
    | {48: 22, 54: 23, 51: 24, 62: 25, 66: 26, 57: 27, 8: 28}  # lips, chin
)
_COFW_IN_LAPA: Mapping[int, Point] = (
    {33: 0, 35: 4, 38: 2, 40: 5, 46: 1, 44: 6, 50: 3, 48: 7}
    | {66: 8, 68: 12, 70: 10, 72: 13, 75: 11, 77: 14, 79: 9, 81: 15}  # MMPose has WFLW's numbers of these eight
    | {57: 18, 63: 19, 54: 20, 60: 21}
    | {84: 22, 90: 23, 87: 24, 98: 25, 102: 26, 93: 27, 16: 28}
)
# (points of the source, of the target) → number in the target → number in the source, or two with the point between.
_FACES: Mapping[tuple[int, int], Mapping[int, Point]] = {
    (98, 68): _numbered(_JAW_BROWS, _span(51, 61), *(_span(a, a + 2) for a in (63, 67, 71)), _span(75, 95)),
    (106, 68): _numbered(_JAW_BROWS, _NOSE_LAPA, (66, 67, 69, 70, 71, 73), (75, 76, 78, 79, 80, 82), _span(84, 103)),
    (29, 68): _COFW_IN_68,
    (98, 106): _inverse(_span(0, 54), _span(58, 62), _span(66, 73), _span(75, 82), _span(84, 105)),
    (68, 106): _inverse(_JAW_BROWS, _NOSE_LAPA) | _EYES_OF_68 | _inverse(_span(84, 103), first=48),
    (29, 106): _COFW_IN_LAPA,
}


def match_skeletons(source: Skeleton, target: Skeleton) -> dict[str, Match]:
    """The keypoints of one skeleton that another has, too.

    Args:
        source: The skeleton that there is, e.g. of a data set.
        target: The skeleton that is wanted, e.g. of a network.

    Returns:
        Name in ``target`` → name in ``source``, or two, whose middle it is; in the target's order, without the
        keypoints that the source has not. Names that are mere numbers match only where the whole list is the same.

    Example:
        >>> from fastpose.skeletons import get_skeleton
        >>> match = match_skeletons(get_skeleton("mpii16"), get_skeleton("halpe26"))
        >>> match["head"], match["left_knee"], "nose" in match
        ('head_top', 'left_knee', False)
    """
    if source.keypoints == target.keypoints:
        return {name: name for name in target.keypoints}
    theirs, ours = _face_of(source), _face_of(target)
    if theirs is None or ours is None:
        found = _match_names(source.keypoints, target.keypoints)
    else:
        found = _match_names(
            [name for name in source.keypoints if name not in theirs],
            [name for name in target.keypoints if name not in ours],
        )
        found |= _match_faces(theirs, ours)
    return {name: found[name] for name in target.keypoints if name in found}


def _match_names(source: Sequence[str], target: Sequence[str]) -> dict[str, Match]:
    """By the same name, then by another spelling of it, then by another name of the same point."""
    found: dict[str, Match] = {}
    left, wanted = list(source), list(target)
    for key in (str, canonical_name, _meaning):
        there: dict[str, list[str]] = {}
        for name in left:
            there.setdefault(key(name), []).append(name)
        for name in wanted:
            same = there.get(key(name), [])
            if len(same) == 1:
                found[name] = same.pop()
        taken = set(found.values())
        left = [name for name in left if name not in taken]
        wanted = [name for name in wanted if name not in found]
    return found


def _meaning(name: str) -> str:
    spelled = canonical_name(name)
    return _MEANING.get(spelled, spelled)


def _face_of(skeleton: Skeleton) -> tuple[str, ...] | None:
    """The names of the points of a numbered scheme in order, if the skeleton has one."""
    if skeleton.keypoints in _SCHEMES:
        return skeleton.keypoints
    return _WHOLE_BODY_FACE if set(skeleton.keypoints).issuperset(_WHOLE_BODY_FACE) else None


def _match_faces(source: tuple[str, ...], target: tuple[str, ...]) -> dict[str, Match]:
    if len(source) == len(target):
        return dict(zip(target, source, strict=True))
    numbers = _FACES.get((len(source), len(target)), {})
    return {
        target[ours]: source[point] if isinstance(point, int) else (source[point[0]], source[point[1]])
        for ours, point in numbers.items()
    }
