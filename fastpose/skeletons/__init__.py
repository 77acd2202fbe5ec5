"""Skeletons: what the K keypoints of a pose are, each fact written once."""

from __future__ import annotations

from collections.abc import Sequence

from .animals import (
    ANIMALKINGDOM23,
    ANIMALPOSE20,
    AP10K17,
    ATRW15,
    FLY32,
    HORSE22,
    LOCUST35,
    MACAQUE17,
    ZEBRA9,
)
from .datasets import (
    AIC14,
    COCO17,
    COCO_AIC19,
    CROWDPOSE14,
    EXLPOSE14,
    HUMANART17,
    JHMDB15,
    LSP14,
    MPII16,
    MPII_TRB40,
    POSETRACK18_17,
)
from .faces import AFLW19, COCO_WHOLEBODY_FACE68, COFW29, LAPA106, W300_68, W300LP68, WFLW98
from .fashion import DEEPFASHION2_294, DEEPFASHION_FULL8, DEEPFASHION_LOWER4, DEEPFASHION_UPPER6
from .hands import COCO_WHOLEBODY_HAND21, FREIHAND21, ONEHAND10K21, RHD21
from .matching import match_skeletons
from .names import canonical_name
from .skeleton import Skeleton
from .wholebody import COCO_WHOLEBODY133, HALPE26, HALPE136, HUMANART21, MHP16, OCHUMAN17

__all__ = [
    "AIC14",
    "COCO17",
    "COCO_AIC19",
    "CROWDPOSE14",
    "EXLPOSE14",
    "HUMANART17",
    "JHMDB15",
    "LSP14",
    "MPII16",
    "MPII_TRB40",
    "POSETRACK18_17",
    "Skeleton",
    "find_skeleton",
    "get_skeleton",
    "list_skeletons",
    "match_skeletons",
]

_SKELETONS = {
    skeleton.name: skeleton
    for skeleton in (
        *(AIC14, COCO17, COCO_AIC19, CROWDPOSE14, EXLPOSE14, HUMANART17, JHMDB15, LSP14, MPII16, MPII_TRB40),
        *(POSETRACK18_17, OCHUMAN17, MHP16, HUMANART21, HALPE26, HALPE136, COCO_WHOLEBODY133),
        *(COCO_WHOLEBODY_HAND21, ONEHAND10K21, FREIHAND21, RHD21),
        *(COCO_WHOLEBODY_FACE68, W300_68, W300LP68, AFLW19, COFW29, WFLW98, LAPA106),
        *(AP10K17, ANIMALPOSE20, ANIMALKINGDOM23, ATRW15, FLY32, HORSE22, LOCUST35, MACAQUE17, ZEBRA9),
        *(DEEPFASHION_FULL8, DEEPFASHION_UPPER6, DEEPFASHION_LOWER4, DEEPFASHION2_294),
    )
}


def list_skeletons() -> list[str]:
    """The names that :func:`get_skeleton` knows."""
    return sorted(_SKELETONS)


def get_skeleton(name: str) -> Skeleton:
    """The skeleton of that name.

    Raises:
        ValueError: There is none; the message lists them.
    """
    if name not in _SKELETONS:
        raise ValueError(f"skeleton: no skeleton is named {name!r}; there are {', '.join(list_skeletons())}")
    return _SKELETONS[name]


def find_skeleton(keypoints: Sequence[str]) -> Skeleton | None:
    """The known skeleton of exactly these keypoints in this order, however their names are spelled.

    Args:
        keypoints: K names, compared without case and without what stands between their words (``Left Eye``, ``l_eye``
            and ``eyeL`` are ``left_eye``).

    Returns:
        The skeleton, with its own spelling of the names; None where there is none.
    """
    return _BY_NAMES.get(_canonical(keypoints))


def _canonical(keypoints: Sequence[str]) -> tuple[str, ...]:
    return tuple(map(canonical_name, keypoints))


# The first of those that have the same keypoints: COCO, not Human-Art.
_BY_NAMES = {_canonical(skeleton.keypoints): skeleton for skeleton in reversed(_SKELETONS.values())}
