"""The skeletons of hands, as data."""

from __future__ import annotations

import itertools
from dataclasses import replace

from .skeleton import Skeleton

__all__ = ["COCO_WHOLEBODY_HAND21", "FINGERS", "FREIHAND21", "HAND_SIGMAS", "ONEHAND10K21", "RHD21", "finger_links"]

_NAMES = ("thumb", "forefinger", "middle_finger", "ring_finger", "pinky_finger")
FINGERS = tuple(f"{finger}{joint}" for finger in _NAMES for joint in (1, 2, 3, 4))
"""Joints of the five fingers, from the palm to the tip."""

HAND_SIGMAS = (
    0.029,
    *(0.022, 0.035, 0.037, 0.047),
    *(0.026, 0.025, 0.024, 0.035),
    *(0.018, 0.024, 0.022, 0.026),
    *(0.017, 0.021, 0.021, 0.032),
    *(0.02, 0.019, 0.022, 0.031),
)
"""OKS sigmas of COCO-WholeBody: of the wrist, then of `FINGERS`."""


def finger_links(root: str, prefix: str = "") -> tuple[tuple[str, str], ...]:
    """Links from the root of a hand along its fingers, whose names begin with ``prefix``."""
    chains = ((root, *(f"{prefix}{finger}{joint}" for joint in (1, 2, 3, 4))) for finger in _NAMES)
    return tuple(link for chain in chains for link in itertools.pairwise(chain))


# Whether it is a left or a right hand is not said: nothing changes places in a mirror.
ONEHAND10K21 = Skeleton.from_names("onehand10k21", ("wrist", *FINGERS), links=finger_links("wrist"))
"""OneHand10K (Wang et al., TCSVT 2018), 21 points."""

FREIHAND21 = replace(ONEHAND10K21, name="freihand21")
"""FreiHAND (Zimmermann et al., ICCV 2019), 21 points: those of OneHand10K."""

COCO_WHOLEBODY_HAND21 = replace(ONEHAND10K21, name="coco_wholebody_hand21", sigmas=HAND_SIGMAS)
"""One hand of COCO-WholeBody (Jin et al., ECCV 2020), 21 points."""

RHD21 = Skeleton.from_names(
    "rhd21",
    ("wrist", *(f"{finger}{joint}" for finger in _NAMES for joint in (4, 3, 2, 1))),
    links=finger_links("wrist"),
)
"""Rendered Hand Pose (Zimmermann and Brox, ICCV 2017), 21 points: each finger from its tip to the palm."""
