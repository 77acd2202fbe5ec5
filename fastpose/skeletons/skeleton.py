"""What a skeleton is.

A keypoint is known by its *name*. Flip pairs, links and halves of the body are written by name too, and the indices
that the ops need follow from the order of the names, so that they can never disagree with it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

__all__ = ["DEFAULT_SIGMA", "Skeleton"]

# Where a custom skeleton states no sigmas: about the middle of COCO's, between a wrist (0.062) and a hip (0.107).
DEFAULT_SIGMA = 0.079

# From the pelvis down, for half-body augmentation; everything else counts as upper body.
_LOWER_BODY_PARTS = ("pelvis", "hip", "knee", "ankle", "heel", "toe", "foot")

# Words of a name that say a side, and their opposites.
_OPPOSITES = (("left", "right"), ("Left", "Right"), ("l", "r"), ("L", "R"))


@dataclass(frozen=True)
class Skeleton:
    """The keypoints of a pose, in order, and what belongs to each.

    Attributes:
        name: Short name, e.g. ``"coco17"``.
        keypoints: K distinct names, in the order of every ``[..., K, 2]`` array.
        flip_pairs: Names that change places when the photo is mirrored.
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
    flip_pairs: tuple[tuple[str, str], ...] = ()
    links: tuple[tuple[str, str], ...] = ()
    sigmas: tuple[float, ...] = ()
    joint_weights: tuple[float, ...] = ()
    lower_body: tuple[str, ...] = field(default=())

    def __post_init__(self) -> None:
        # Lists would compare unequal to what comes back from a file, and have no hash.
        for what in ("keypoints", "sigmas", "joint_weights", "lower_body"):
            object.__setattr__(self, what, tuple(getattr(self, what)))
        for what in ("flip_pairs", "links"):
            object.__setattr__(self, what, tuple((a, b) for a, b in getattr(self, what)))
        count = len(self.keypoints)
        if count == 0:
            raise ValueError(f"skeleton {self.name!r}: keypoints is empty; at least one name is needed")
        doubled = sorted({name for name in self.keypoints if self.keypoints.count(name) > 1})
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
        used = [name for pair in (*self.flip_pairs, *self.links) for name in pair] + list(self.lower_body)
        unknown = sorted(set(used) - set(self.keypoints))
        if unknown:
            raise ValueError(f"skeleton {self.name!r}: no keypoint is named {', '.join(unknown)}")
        flipped = [name for pair in self.flip_pairs for name in pair]
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

        ``left_x`` pairs with ``right_x``, and so do ``l_x`` and ``r_x``, ``x_left`` and ``x_right``, ``x_left_y`` and
        ``x_right_y``.

        Args:
            name: Short name.
            keypoints: K names in order.
            links: Pairs of names to draw.
            sigmas: K OKS sigmas; 0.079 each where not given.
            joint_weights: K loss weights; 1 each where not given.

        Returns:
            The skeleton; pelvis, hips, knees, ankles, heels, toes and feet are its lower body.

        Raises:
            ValueError: As :class:`Skeleton`.
        """
        names = set(keypoints)
        pairs = []
        for left in keypoints:
            right = next((other for other in _mirrored(left) if other in names), None)
            if right is not None:
                pairs.append((left, right))
        lower = tuple(n for n in keypoints if any(part in n.lower() for part in _LOWER_BODY_PARTS))
        return cls(
            name, tuple(keypoints), tuple(pairs), tuple(links), tuple(sigmas), tuple(joint_weights), lower_body=lower
        )

    def select(self, names: Sequence[str]) -> Skeleton:
        """The skeleton of some of the keypoints, in the order given; pairs and links of others are left out.

        Raises:
            KeyError: There is no keypoint of a name.
        """
        kept, positions = set(names), self.indices(names)
        return Skeleton(
            name=self.name,
            keypoints=tuple(names),
            flip_pairs=tuple(pair for pair in self.flip_pairs if kept.issuperset(pair)),
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

    @cached_property
    def flip_index(self) -> tuple[int, ...]:
        """K indices: keypoint i of a mirrored photo is keypoint ``flip_index[i]`` of the photo."""
        order = list(range(self.num_keypoints))
        for left, right in self.flip_pair_indices:
            order[left], order[right] = right, left
        return tuple(order)

    @cached_property
    def flip_pair_indices(self) -> tuple[tuple[int, int], ...]:
        """``flip_pairs`` as positions."""
        return tuple((self.index(a), self.index(b)) for a, b in self.flip_pairs)

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
            "flip_pairs": [list(pair) for pair in self.flip_pairs],
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
        try:
            return cls(
                name=str(data["name"]),
                keypoints=tuple(str(name) for name in data["keypoints"]),
                flip_pairs=tuple((str(a), str(b)) for a, b in data["flip_pairs"]),
                links=tuple((str(a), str(b)) for a, b in data["links"]),
                sigmas=tuple(float(value) for value in data["sigmas"]),
                joint_weights=tuple(float(value) for value in data["joint_weights"]),
                lower_body=tuple(str(name) for name in data["lower_body"]),
            )
        except TypeError as error:
            raise ValueError(f"skeleton: a value has the wrong type ({error})") from error


def _mirrored(name: str) -> Iterator[str]:
    """What the right-hand partner of a left-hand keypoint may be called."""
    words = name.split("_")
    for left, right in _OPPOSITES:
        for i, word in enumerate(words):
            if word == left:
                yield "_".join([*words[:i], right, *words[i + 1 :]])
        if len(left) > 1 and name.startswith(left):  # leftEar, without an underscore
            yield right + name[len(left) :]
