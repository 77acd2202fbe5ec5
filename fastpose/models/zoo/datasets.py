"""The data sets that the zoo's networks were trained on."""

from __future__ import annotations

import re
from collections.abc import Mapping

__all__ = ["MIXTURES", "parts_of"]

_BODIES = ("aic", "crowdpose", "mpii", "jhmdb", "halpe", "posetrack18")

MIXTURES: Mapping[str, tuple[str, ...]] = {
    "body8": ("coco", *_BODIES),
    "cocktail14": (
        *("coco_wholebody", "halpe", "ubody", "aic", "crowdpose", "mpii", "jhmdb", "posetrack18", "humanart"),
        *("wflw", "300w", "cofw", "lapa", "interhand2.6m"),
    ),
    "coco_aic": ("coco", "aic"),
    "coco_ubody": ("coco_wholebody", "ubody"),
    "face6": ("lapa", "coco_wholebody_face", "wflw", "300w", "cofw", "halpe"),
    "halpe26": ("coco_wholebody", *_BODIES),
    "hand5": ("coco_wholebody_hand", "onehand10k", "freihand", "rhd2d", "halpe"),
}
"""What stands together under one name, as the official configurations list it."""


def parts_of(dataset: str) -> tuple[str, ...]:
    """The data sets that an entry's ``dataset`` stands for: ``jhmdb_sub1`` is of ``jhmdb``, ``coco_aic`` is two."""
    whole = re.sub(r"^(jhmdb)_sub\d$|^(animalkingdom|deepfashion2)_\w+$|^(freihand)2d$", r"\1\2\3", dataset)
    return MIXTURES.get(whole, (whole,))
