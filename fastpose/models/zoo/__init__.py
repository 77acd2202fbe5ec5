"""The zoo: named configurations of the architectures, as data (`entries/FAMILY.json`, made by `tools/make_zoo.py`).

A name is STEM.DATASET_HEIGHTxWIDTH, timm's way: `resnet50_dark.coco_256x192`. The stem is the architecture and, where
several share one, how the network was trained. The first entry of a stem is what the stem alone stands for; an
architecture that is no stem stands for its first entry.
"""

from __future__ import annotations

import difflib
import fnmatch
import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from importlib import resources
from typing import Any

from fastpose.codecs import Gaussian, build_codec
from fastpose.skeletons import COCO17, get_skeleton
from fastpose.spec import PoseSpec

__all__ = ["TOPICS", "ZooEntry", "default_spec", "find_entry", "list_entries"]

TOPICS = ("body", "wholebody", "hand", "face", "animal", "fashion")
"""What an entry may be about."""


@dataclass(frozen=True)
class ZooEntry:
    """A configuration of an architecture that somebody trained and measured.

    Attributes:
        name: STEM.DATASET_HEIGHTxWIDTH, the stem being the architecture and perhaps a variant.
        alias: name of the official MMPose config, without `.py`; None for this project's own.
        architecture: name of the registered function.
        arguments: its options that differ from the defaults.
        spec: what the network reads and gives.
        dataset: data set that it was trained on and measured with (`coco_aic`: trained on both, measured with COCO).
            `datasets.parts_of` names the parts of a mixture.
        starts_from: what the weights that its training starts from were trained on: `imagenet`, or a pose data set as
            in `dataset`; None where it starts from nothing.
        parameters: weights that training changes.
        gflops: multiplications with additions of one forward pass, in 1e9, as papers count them.
        topic: what it is about, one of `TOPICS`.
        recipe: how it was trained: the parts `augment`, `train` and `eval` of a `fastpose.train` recipe.
        metrics: published figures by name, as fractions; the first one sums up the others.
        weights: "url" and "sha256" (prefix of the hash) of the published checkpoint, without the hash where nobody
            published it (ExLPose's file); or "carried", the name of a file in the package; empty where there are none.
    """

    name: str
    architecture: str
    spec: PoseSpec
    dataset: str
    parameters: int
    gflops: float
    topic: str = "body"
    alias: str | None = None
    starts_from: str | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict)
    recipe: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    weights: Mapping[str, str] = field(default_factory=dict)


def default_spec() -> PoseSpec:
    """The spec of an architecture without an entry: COCO's 17 keypoints, 256x192, Gaussian maps of a quarter of it."""
    return PoseSpec(COCO17, input_size=(256, 192), codec=Gaussian((64, 48), sigma=2.0))


def list_entries(pattern: str = "*") -> list[ZooEntry]:
    """Entries whose name fits a shell-style pattern, in the order of the files."""
    return [entry for entry in _entries().values() if fnmatch.fnmatchcase(entry.name, pattern)]


def find_entry(name: str) -> ZooEntry | None:
    """The entry of that name or alias, the first with that stem, or of that architecture; None where there is none."""
    entries = _entries()
    if name in entries:
        return entries[name]
    by_stem = (entry for entry in entries.values() if name in (entry.alias, entry.name.split(".")[0]))
    return next(by_stem, None) or next((entry for entry in entries.values() if name == entry.architecture), None)


def close_names(name: str, others: list[str]) -> list[str]:
    """Up to three entry or other names that look like a mistyped one."""
    return difflib.get_close_matches(name, [*others, *_entries()], n=3)


@functools.cache
def _entries() -> dict[str, ZooEntry]:
    entries: dict[str, ZooEntry] = {}
    folder = resources.files(__package__) / "entries"
    for file in sorted(folder.iterdir(), key=lambda file: file.name):
        if file.name.endswith(".json"):
            for data in json.loads(file.read_text(encoding="utf-8")):
                entry = _entry(data)
                if entry.name in entries:
                    raise ValueError(f"zoo: two entries are named {entry.name!r}")
                entries[entry.name] = entry
    return entries


def _entry(data: dict[str, Any]) -> ZooEntry:
    unknown = set(data) - {f.name for f in fields(ZooEntry)}
    if unknown:
        raise ValueError(f"zoo entry {data.get('name')!r}: unknown keys {', '.join(sorted(unknown))}")
    values = dict(data["spec"])
    skeleton = get_skeleton(values.pop("skeleton"))
    codec = build_codec(**values.pop("codec"))
    return ZooEntry(**{**data, "spec": PoseSpec(skeleton=skeleton, codec=codec, **values)})
