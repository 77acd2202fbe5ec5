"""Skeletons: what the K keypoints of a pose are, each fact written once."""

from __future__ import annotations

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
from .skeleton import Skeleton

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
    "get_skeleton",
    "list_skeletons",
]

_SKELETONS = {
    skeleton.name: skeleton
    for skeleton in (
        *(AIC14, COCO17, COCO_AIC19, CROWDPOSE14, EXLPOSE14, HUMANART17, JHMDB15, LSP14, MPII16, MPII_TRB40),
        POSETRACK18_17,
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
