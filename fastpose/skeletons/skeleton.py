"""What a skeleton is.

A keypoint is known by its *name*. Flip pairs, links and halves of the body are written by name too, and the indices
that the ops need follow from the order of the names, so that they can never disagree with it.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from .names import coco_sigmas, find_flip_pairs, has_side

__all__ = ["DEFAULT_SIGMA", "Skeleton"]

# Where a custom skeleton states no sigmas: about the middle of COCO's, between a wrist (0.062) and a hip (0.107).
DEFAULT_SIGMA = 0.079

# From the pelvis down, for half-body augmentation; everything else counts as upper body.
_LOWER_BODY_PARTS = ("pelvis", "hip", "knee", "ankle", "heel", "toe", "foot")


@dataclass(frozen=True)
class Skeleton:
    """The keypoints of a pose, in order, and what belongs to each.

    Attributes:
        name: Short name, e.g. ``"coco17"``.
        keypoints: K distinct names, in the order of every ``[..., K, 2]`` array.
        flip_pairs: Names that change places when the photo is mirrored. Empty: none do. None: nobody knows; so it is,
            too, where none are given although the names say left or right. What is mirrored is then wrong.
        links: Pairs of names that a drawing connects.
        sigmas: K standard deviations of the OKS, as COCO states them (``sigmas``): half of the deviation over the
            square root of the person's area.
        joint_weights: K weights of the training loss.
        lower_body: Names that half-body augmentation counts as the lower half; the others are the upper half.

    Raises:
        ValueError: A name is doubled or unknown, or a tuple has not one entry a keypoint.
    """

    name: str
    keypoints: tuple[str, ...]
    flip_pairs: tuple[tuple[str, str], ...] | None = ()
    links: tuple[tuple[str, str], ...] = ()
    sigmas: tuple[float, ...] = ()
    joint_weights: tuple[float, ...] = ()
    lower_body: tuple[str, ...] = field(default=())

    def __post_init__(self) -> None:
        # Lists would compare unequal to what comes back from a file, and have no hash.
        for what in ("keypoints", "sigmas", "joint_weights", "lower_body"):
            object.__setattr__(self, what, tuple(getattr(self, what)))
        object.__setattr__(self, "links", tuple((a, b) for a, b in self.links))
        pairs = tuple((a, b) for a, b in self.flip_pairs or ())
        unknown_mirror = self.flip_pairs is None or (not pairs and any(map(has_side, self.keypoints)))
        object.__setattr__(self, "flip_pairs", None if unknown_mirror else pairs)
        count = len(self.keypoints)
        if count == 0:
            raise ValueError(f"skeleton {self.name!r}: keypoints is empty; at least one name is needed")
        doubled = sorted(name for name, times in Counter(self.keypoints).items() if times > 1)
        if doubled:
            raise ValueError(f"skeleton {self.name!r}: keypoints are named twice: {', '.join(doubled)}")
        if not self.sigmas:
            object.__setattr__(self, "sigmas", (DEFAULT_SIGMA,) * count)
        if not self.joint_weights:
            object.__setattr__(self, "joint_weights", (1.0,) * count)
        for what in ("sigmas", "joint_weights"):
            values = getattr(self, what)
            if len(values) != count:
                raise ValueError(f"skeleton {self.name!r}: {what} has {len(values)} entries, expected {count}")
            if not all(math.isfinite(value) and (value > 0 or (value == 0 and what != "sigmas")) for value in values):
                least = "above 0" if what == "sigmas" else "at least 0"
                raise ValueError(f"skeleton {self.name!r}: {what} must be finite and {least}, got {values}")
        used = [name for pair in (*pairs, *self.links) for name in pair] + list(self.lower_body)
        unknown = sorted(set(used) - set(self.keypoints))
        if unknown:
            raise ValueError(f"skeleton {self.name!r}: no keypoint is named {', '.join(unknown)}")
        flipped = [name for pair in pairs for name in pair]
        if len(set(flipped)) != len(flipped):
            raise ValueError(f"skeleton {self.name!r}: a keypoint stands in two flip_pairs: {self.flip_pairs}")

    @classmethod
    def from_names(
        cls,
        name: str,
        keypoints: Sequence[str],
        *,
        links: Iterable[tuple[str, str]] = (),
        sigmas: Sequence[float] = (),
        joint_weights: Sequence[float] = (),
    ) -> Skeleton:
        """A skeleton from names alone.

        Names that differ in nothing but the side are a flip pair, in whatever way it is written: ``left_x``, ``l_x``,
        ``x_right_y``, ``xL``, ``LeftX``, ``X (left)``. Where a side has no counterpart, or the names are mere numbers,
        ``flip_pairs`` is None.

        Args:
            name: Short name.
            keypoints: K names in order.
            links: Pairs of names to draw.
            sigmas: K OKS sigmas. Where not given, COCO's if the keypoints are among COCO's 17, however they are
                spelled; else 0.079 each, and ``sigmas_known`` is false.
            joint_weights: K loss weights; 1 each where not given.

        Returns:
            The skeleton; pelvis, hips, knees, ankles, heels, toes and feet are its lower body.

        Raises:
            ValueError: As :class:`Skeleton`.

        Example:
            >>> Skeleton.from_names("face", ["Nose", "Left Eye", "Right Eye"]).flip_pairs
            (('Left Eye', 'Right Eye'),)
        """
        names = tuple(keypoints)
        lower = tuple(n for n in names if any(part in n.lower() for part in _LOWER_BODY_PARTS))
        values = tuple(sigmas) or coco_sigmas(names) or ()
        pairs = find_flip_pairs(names)
        return cls(name, names, pairs, tuple(links), values, tuple(joint_weights), lower_body=lower)

    def select(self, names: Sequence[str]) -> Skeleton:
        """The skeleton of some of the keypoints, in the order given; pairs and links of others are left out.

        Where one keypoint of a flip pair is left out, ``flip_pairs`` is None: a mirror has no place for the other.

        Raises:
            KeyError: There is no keypoint of a name.
        """
        kept, positions = set(names), self.indices(names)
        pairs = tuple(pair for pair in self.flip_pairs or () if kept.issuperset(pair))
        cut = any(len(kept.intersection(pair)) == 1 for pair in self.flip_pairs or ())
        return Skeleton(
            name=self.name,
            keypoints=tuple(names),
            flip_pairs=None if cut or self.flip_pairs is None else pairs,
            links=tuple(pair for pair in self.links if kept.issuperset(pair)),
            sigmas=tuple(self.sigmas[i] for i in positions),
            joint_weights=tuple(self.joint_weights[i] for i in positions),
            lower_body=tuple(name for name in self.lower_body if name in kept),
        )

    @property
    def num_keypoints(self) -> int:
        """K."""
        return len(self.keypoints)

    @property
    def upper_body(self) -> tuple[str, ...]:
        """Names that are not in ``lower_body``."""
        return tuple(name for name in self.keypoints if name not in self.lower_body)

    @cached_property
    def _position(self) -> dict[str, int]:
        return {name: i for i, name in enumerate(self.keypoints)}

    def index(self, name: str) -> int:
        """The position of a keypoint.

        Raises:
            KeyError: There is no keypoint of that name.
        """
        try:
            return self._position[name]
        except KeyError:
            known = ", ".join(self.keypoints)
            raise KeyError(f"skeleton {self.name!r} has no keypoint {name!r}; it has {known}") from None

    def indices(self, names: Iterable[str]) -> tuple[int, ...]:
        """The positions of several keypoints, in the order given."""
        return tuple(self.index(name) for name in names)

    @property
    def mirror_known(self) -> bool:
        """Whether one knows which keypoints change places in a mirror. If not, nothing may be mirrored."""
        return self.flip_pairs is not None

    @property
    def sigmas_known(self) -> bool:
        """Whether the sigmas are anybody's: false where each is the 0.079 that stands in for unknown ones."""
        return any(sigma != DEFAULT_SIGMA for sigma in self.sigmas)

    @property
    def warnings(self) -> list[str]:
        """What is not known of the keypoints, and what follows from it: a sentence each, for a user to read."""
        sentences = []
        if not self.mirror_known:
            sentences.append(
                "it is not known which keypoints change places in a mirror: no mirroring in training and in tests "
                "(flip_pairs, or flip_idx of a YAML file, would say it)"
            )
        if not self.sigmas_known:
            sentences.append(
                f"no OKS sigmas are known for these keypoints: {DEFAULT_SIGMA} each is made up, and so is an average "
                "precision by it"
            )
        return sentences

    @cached_property
    def flip_index(self) -> tuple[int, ...]:
        """K indices: keypoint i of a mirrored photo is keypoint ``flip_index[i]`` of the photo.

        Each keypoint is its own counterpart where ``mirror_known`` is false: ask that first.
        """
        order = list(range(self.num_keypoints))
        for left, right in self.flip_pair_indices:
            order[left], order[right] = right, left
        return tuple(order)

    @cached_property
    def flip_pair_indices(self) -> tuple[tuple[int, int], ...]:
        """``flip_pairs`` as positions; none where they are not known."""
        return tuple((self.index(a), self.index(b)) for a, b in self.flip_pairs or ())

    @cached_property
    def link_indices(self) -> tuple[tuple[int, int], ...]:
        """``links`` as positions."""
        return tuple((self.index(a), self.index(b)) for a, b in self.links)

    @cached_property
    def upper_body_indices(self) -> tuple[int, ...]:
        """``upper_body`` as positions."""
        return self.indices(self.upper_body)

    @cached_property
    def lower_body_indices(self) -> tuple[int, ...]:
        """``lower_body`` as positions."""
        return self.indices(self.lower_body)

    def to_dict(self) -> dict[str, Any]:
        """Plain data that JSON can hold; :meth:`from_dict` gives the skeleton back."""
        return {
            "name": self.name,
            "keypoints": list(self.keypoints),
            "flip_pairs": None if self.flip_pairs is None else [list(pair) for pair in self.flip_pairs],
            "links": [list(pair) for pair in self.links],
            "sigmas": list(self.sigmas),
            "joint_weights": list(self.joint_weights),
            "lower_body": list(self.lower_body),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Skeleton:
        """The skeleton that :meth:`to_dict` wrote.

        Raises:
            ValueError: A key is missing or unknown, or the values do not make a skeleton.
        """
        expected = {"name", "keypoints", "flip_pairs", "links", "sigmas", "joint_weights", "lower_body"}
        if not isinstance(data, Mapping):
            raise ValueError(f"skeleton: expected an object, got {type(data).__name__}")
        if set(data) != expected:
            missing, unknown = sorted(expected - set(data)), sorted(set(data) - expected)
            raise ValueError(f"skeleton: missing keys {missing}, unknown keys {unknown}")
        pairs = data["flip_pairs"]
        try:
            return cls(
                name=str(data["name"]),
                keypoints=tuple(str(name) for name in data["keypoints"]),
                flip_pairs=None if pairs is None else tuple((str(a), str(b)) for a, b in pairs),
                links=tuple((str(a), str(b)) for a, b in data["links"]),
                sigmas=tuple(float(value) for value in data["sigmas"]),
                joint_weights=tuple(float(value) for value in data["joint_weights"]),
                lower_body=tuple(str(name) for name in data["lower_body"]),
            )
        except TypeError as error:
            raise ValueError(f"skeleton: a value has the wrong type ({error})") from error
