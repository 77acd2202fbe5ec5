"""The skeletons of bodies with feet, faces or hands: what they have in common with others stands there."""

from __future__ import annotations

from dataclasses import replace

from .datasets import COCO17, MPII16
from .faces import FACE_PAIRS, FACE_SIGMAS
from .hands import FINGERS, HAND_SIGMAS, finger_links
from .names import COCO_SIGMAS
from .skeleton import Skeleton

__all__ = ["COCO_WHOLEBODY133", "HALPE26", "HALPE136", "HUMANART21", "MHP16", "OCHUMAN17"]

Link = tuple[str, str]

_SIDES = ("left", "right")
_TOES = ("big_toe", "small_toe", "heel")
_FACE = tuple(f"face-{number}" for number in range(len(FACE_SIGMAS)))
_FACE_PAIRS = tuple((_FACE[a], _FACE[b]) for a, b in FACE_PAIRS)
_HANDS = tuple(f"{side}_{name}" for side in _SIDES for name in ("hand_root", *FINGERS))
# Links between the ankles and the points of the feet.
_FOOT_LINKS = tuple((f"{side}_ankle", f"{side}_{toe}") for side in _SIDES for toe in _TOES)
_HEAD_LINKS = COCO17.links[12:]  # from eye to eye, and down to the shoulders

OCHUMAN17 = replace(COCO17, name="ochuman17")
"""OCHuman, people who hide each other (Zhang et al., CVPR 2019), 17 points: COCO's."""

MHP16 = replace(MPII16, name="mhp16")
"""Multi-Human Parsing (Zhao et al., ACM MM 2018), 16 points: MPII's."""

HUMANART21 = Skeleton.from_names(
    "humanart21",
    (*COCO17.keypoints, *(f"{side}_{end}" for end in ("finger", "toe") for side in _SIDES)),
    links=(
        *COCO17.links,
        *((f"{side}_ankle", f"{side}_toe") for side in _SIDES),
        *((f"{side}_wrist", f"{side}_finger") for side in _SIDES),
    ),
    sigmas=(*COCO17.sigmas, *(COCO_SIGMAS["ankle"],) * 4),
    joint_weights=(*COCO17.joint_weights, *(1.0,) * 4),
)
HUMANART21 = replace(HUMANART21, lower_body=(*HUMANART21.keypoints[11:],))  # fingers, too, as published
"""Human-Art with fingers and toes (Ju et al., CVPR 2023), 21 points."""


def _whole(name: str, body: Skeleton, roots: tuple[str, str], sigmas: tuple[float, ...]) -> Skeleton:
    """A body with a face and two hands, whose fingers are linked to their roots."""
    fingers = (link for side, root in zip(_SIDES, roots, strict=True) for link in finger_links(root, f"{side}_"))
    found = Skeleton.from_names(name, (*body.keypoints, *_HANDS))
    return Skeleton(
        name,
        (*body.keypoints, *_FACE, *_HANDS),
        flip_pairs=(*(found.flip_pairs or ()), *_FACE_PAIRS),
        links=(*body.links, *fingers),
        lower_body=body.lower_body,
        sigmas=sigmas,
    )


COCO_WHOLEBODY133 = _whole(
    "coco_wholebody133",
    Skeleton.from_names(
        "",
        (*COCO17.keypoints, *(f"{side}_{toe}" for side in _SIDES for toe in _TOES)),
        links=(*COCO17.links, *_FOOT_LINKS),
    ),
    ("left_hand_root", "right_hand_root"),
    sigmas=(*COCO17.sigmas, *(0.068, 0.066, 0.066, 0.092, 0.094, 0.094), *FACE_SIGMAS, *HAND_SIGMAS * 2),
)
"""COCO-WholeBody (Jin et al., ECCV 2020): body 17, feet 6, face 68, hands 2 x 21: 133 points."""

HALPE26 = Skeleton.from_names(
    "halpe26",
    (*COCO17.keypoints, "head", "neck", "hip", *(f"{side}_{toe}" for toe in _TOES for side in _SIDES)),
    links=(
        *(link for side in _SIDES for link in (
            (f"{side}_ankle", f"{side}_knee"), (f"{side}_knee", f"{side}_hip"), (f"{side}_hip", "hip"))),
        *(("head", "neck"), ("neck", "hip")),
        *(link for side in _SIDES for link in (
            ("neck", f"{side}_shoulder"), (f"{side}_shoulder", f"{side}_elbow"), (f"{side}_elbow", f"{side}_wrist"))),
        *_HEAD_LINKS,
        *_FOOT_LINKS,
    ),
    sigmas=(*COCO17.sigmas, 0.026, 0.026, 0.066, *(0.079,) * 6),
    joint_weights=(*COCO17.joint_weights, 1.0, 1.0, 1.2, *(1.5,) * 6),
)  # fmt: skip
"""Halpe's body and feet (Fang et al., TPAMI 2022), 26 points: what networks of the body8 mixture give."""

HALPE136 = _whole(
    "halpe136",
    HALPE26,
    ("left_wrist", "right_wrist"),
    sigmas=(*COCO17.sigmas, *(0.08,) * 3, *(COCO_SIGMAS["ankle"],) * 6, *(0.015,) * 110),
)
"""Halpe full body (Fang et al., TPAMI 2022), 136 points."""
