"""What the names of keypoints say: which words they are made of, which side they are on, which two change places.

People write one name in many ways: ``left_eye``, ``Left Eye``, ``l_eye``, ``eyeL``, ``LEye``, ``Eye (left)``. A name is
therefore read as words, without case and without what stands between them.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence

__all__ = ["COCO_SIGMAS", "canonical_name", "coco_sigmas", "find_flip_pairs", "has_side"]

COCO_SIGMAS: Mapping[str, float] = {
    "nose": 0.026,
    "eye": 0.025,
    "ear": 0.035,
    "shoulder": 0.079,
    "elbow": 0.072,
    "wrist": 0.062,
    "hip": 0.107,
    "knee": 0.087,
    "ankle": 0.089,
}
"""OKS sigmas of COCO's keypoints by part (Ronchi and Perona, ICCV 2017)."""

# Runs of capitals (without the one that begins the next word), words, numbers, letters without case.
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+|[^\W\d_A-Za-z]+")
_OPPOSITE = {"left": "right", "right": "left", "l": "r", "r": "l"}
_SIDE = {"left": "left", "right": "right", "l": "left", "r": "right"}
# A letter that is joined to one of these can only be a side: lknee, RHIP.
_PARTS = frozenset((*COCO_SIGMAS, "arm", "leg", "foot", "hand", "heel", "toe", "thumb", "paw", "thigh", "shin", "hoof"))
_NUMBER = re.compile(r"\d+")


def _words(name: str) -> tuple[str, ...]:
    """The words of a name in lower case; a side that is joined to a word is a word of its own."""
    words: list[str] = []
    for word in map(str.lower, _WORD.findall(name)):
        side = next((side for side in ("left", "right") if word.startswith(side)), word[0])
        rest = word[len(side) :]
        words += (side, rest) if rest and side in _SIDE and (len(side) > 1 or rest in _PARTS) else (word,)
    return tuple(words)


def has_side(name: str) -> bool:
    """Whether a keypoint's name says left or right, in whatever way it is written, or has the word within another."""
    return any(word in _SIDE or "left" in word or "right" in word for word in _words(name))


def canonical_name(name: str) -> str:
    """What is the same for every spelling of a name: ``lefteye`` for "Left Eye", ``eye_l`` and ``LEye``."""
    words = _words(name)
    sides = (_SIDE[word] for word in words if word in _SIDE)
    return "".join((*sides, *(word for word in words if word not in _SIDE))) or name


def find_flip_pairs(names: Sequence[str]) -> tuple[tuple[str, str], ...] | None:
    """The names that change places in a mirror.

    Args:
        names: K distinct names.

    Returns:
        Pairs of names that differ in nothing but the side, the left one first; none where no name says a side. None
        where it cannot be known: a name says a side, or seems to (``eyel`` beside ``eyer``), and has no counterpart, or
        several; or the names are mere numbers.
    """
    by_words: dict[tuple[str, ...], list[str]] = {}
    for name in names:
        by_words.setdefault(_words(name), []).append(name)
    pairs: list[tuple[str, str]] = []
    for name in names:
        words = _words(name)
        side = next((word for word in words if word in _SIDE), None)
        if side is None:
            if has_side(name):
                return None
            continue
        others = by_words.get(tuple(_OPPOSITE.get(word, word) for word in words), [])
        if len(others) != 1 or len(by_words[words]) != 1:
            return None
        if _SIDE[side] == "left":
            pairs.append((name, others[0]))
    if not pairs and (_are_numbers(names) or _seem_sided(names)):
        return None
    return tuple(pairs)


def _are_numbers(names: Sequence[str]) -> bool:
    return len(names) > 1 and len({_NUMBER.sub("", name) for name in names}) == 1


def _seem_sided(names: Sequence[str]) -> bool:
    """Whether two names differ in an l and an r at their start or end alone."""
    lower = {name.lower() for name in names}
    return any(
        (name[:1] == "l" and "r" + name[1:] in lower) or (name[-1:] == "l" and name[:-1] + "r" in lower)
        for name in lower
    )


def coco_sigmas(names: Sequence[str]) -> tuple[float, ...] | None:
    """The OKS sigmas of keypoints that are all COCO's, however their names are written.

    Args:
        names: K names.

    Returns:
        K sigmas; None where a name is none of COCO's 17, or one of them is there twice.
    """
    spelled = [canonical_name(name) for name in names]
    parts = [name.removeprefix("left").removeprefix("right") for name in spelled]
    sided = [name != part for name, part in zip(spelled, parts, strict=True)]
    fit = all(part in COCO_SIGMAS and side == (part != "nose") for part, side in zip(parts, sided, strict=True))
    if not fit or max(Counter(spelled).values(), default=0) > 1:
        return None
    return tuple(COCO_SIGMAS[part] for part in parts)
