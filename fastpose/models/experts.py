"""ViTPose++ (Xu et al., "ViTPose++: Vision Transformer for Generic Body Pose Estimation", TPAMI 2024), made plain.

Its feed-forward layers end in two parts: rows that all data sets share, and below them those of an expert, one for each
data set, which has its own head, too. Which expert a crop takes is known before the network runs, so the shared rows
and the expert's together are the layer of a plain vision transformer: nothing of this is left at inference.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
from torch import Tensor

from fastpose.skeletons import Skeleton, get_skeleton

from .layouts import LayoutError

__all__ = ["EXPERTS", "Expert", "choose_expert", "count_experts", "find_expert", "fold_expert"]

_PLAIN = MappingProxyType({"udp": False, "codec": MappingProxyType({"kind": "gaussian"})})
_EXPERT = re.compile(r"(backbone\.layers\.\d{1,4}\.ffn)\.experts\.(\d{1,4})\.(weight|bias)")
_HEAD = re.compile(r"associate_heads\.(\d{1,4})\.(.*)")
_FINAL = ("head.final_layer.weight", "head.final_layer.bias")


class Expert(NamedTuple):
    """One data set of the published ViTPose++ networks.

    Attributes:
        name: What users know it by.
        skeleton: Its keypoints, by name.
        spec: Fields of a `PoseSpec` that differ from those of the zoo's ViTPose: which data sets were learnt without
            UDP's crops and targets.
    """

    name: str
    skeleton: str
    spec: Mapping[str, Any] = MappingProxyType({})


EXPERTS = (
    Expert("coco", "coco17"),
    Expert("aic", "aic14", _PLAIN),
    Expert("mpii", "mpii16"),
    Expert("ap10k", "ap10k17", _PLAIN),
    Expert("apt36k", "ap10k17", _PLAIN),
    Expert("wholebody", "coco_wholebody133", _PLAIN),
)
"""The data sets in the order of the published files."""


def count_experts(tensors: Mapping[str, Tensor]) -> int:
    """How many data sets' networks are in a file, by this package's names; 0 for one like any other."""
    experts = {int(match[2]) for name in tensors if (match := _EXPERT.fullmatch(name))}
    heads = {int(match[1]) + 1 for name in tensors if (match := _HEAD.fullmatch(name))}
    return 1 + max(experts | heads) if experts or heads else 0


def find_expert(name: str | int, count: int) -> int:
    """The number of an expert.

    Args:
        name: One of `EXPERTS`' names, or the number itself, counted from 0 (also as text).
        count: How many a file has; names are for the published files, which have six.

    Raises:
        LayoutError: There is none of that name or number.
    """
    names = [expert.name for expert in EXPERTS] if count == len(EXPERTS) else []
    number = names.index(name) if name in names else int(name) if re.fullmatch(r"\d{1,4}", str(name)) else -1
    if not 0 <= number < count:
        known = f"one of {', '.join(names)}, or " if names else ""
        raise LayoutError(f"expert: expected {known}a number from 0 to {count - 1}, got {name!r}")
    return number


def choose_expert(tensors: Mapping[str, Tensor], skeleton: Skeleton) -> int:
    """The expert for given keypoints; of two for the same ones the first (AP-10K, not APT-36K).

    Args:
        tensors: By this package's names, with experts (see `count_experts`).
        skeleton: Keypoints of the network that the weights are for.

    Raises:
        LayoutError: None has these keypoints, or it is not COCO's and the file has one head for all, which is COCO's.
    """
    count = count_experts(tensors)
    names = [expert.name for expert in EXPERTS if get_skeleton(expert.skeleton).keypoints == skeleton.keypoints]
    if not names or count != len(EXPERTS):
        known = ", ".join(expert.name for expert in EXPERTS) if count == len(EXPERTS) else f"0 to {count - 1}"
        raise LayoutError(
            f"it holds networks for {count} data sets, and the keypoints of {skeleton.name!r} do not tell which is "
            f"meant; expert (--expert) says it: {known}"
        )
    number = find_expert(names[0], count)
    if number and not any(_HEAD.fullmatch(name) for name in tensors):
        raise LayoutError(
            f"it has one head, which is COCO's as Hugging Face publishes it, and the network has the keypoints of "
            f"{skeleton.name!r}; expert={names[0]!r} takes the head all the same"
        )
    return number


def fold_expert(tensors: Mapping[str, Tensor], number: int) -> dict[str, Tensor]:
    """The weights of a plain vision transformer: one expert's, with its head.

    Args:
        tensors: By this package's names, with experts.
        number: Which one, as `find_expert` gives it.

    Returns:
        Without experts and other heads. The one head of a file that has no others stays.

    Raises:
        LayoutError: A layer lacks that expert, or its tensors do not fit each other.
    """
    result = {name: t for name, t in tensors.items() if not _EXPERT.fullmatch(name) and not _HEAD.fullmatch(name)}
    layers = {(match[1], match[3]) for name in tensors if (match := _EXPERT.fullmatch(name))}
    for layer, parameter in sorted(layers):
        shared, own = f"{layer}.layers.1.{parameter}", f"{layer}.experts.{number}.{parameter}"
        if shared not in tensors or own not in tensors:
            raise LayoutError(f"{layer}: expected {parameter} of layers.1 and of experts.{number}")
        parts = [tensors[shared], tensors[own]]
        if not all(part.ndim for part in parts) or parts[0].shape[1:] != parts[1].shape[1:]:
            shapes = " and ".join(str(tuple(part.shape)) for part in parts)
            raise LayoutError(f"{layer}: expected {parameter} with as many columns in both parts, got {shapes}")
        result[shared] = torch.cat(parts)
    heads = {match[1] for name in tensors if (match := _HEAD.fullmatch(name))}
    if not number or not heads:
        return result
    if str(number - 1) not in heads:
        raise LayoutError(f"associate_heads: expected number {number - 1}, of expert {number}")
    result = {name: tensor for name, tensor in result.items() if not name.startswith("head.")}
    for name, tensor in tensors.items():
        match = _HEAD.fullmatch(name)
        if match and int(match[1]) == number - 1:
            result[f"head.{match[2]}"] = tensor
    if count_experts(tensors) == len(EXPERTS):
        # As the authors' own tool does: a head may have more maps than its data set has keypoints.
        maps = get_skeleton(EXPERTS[number].skeleton).num_keypoints
        result.update({name: result[name][:maps] for name in _FINAL if name in result and result[name].ndim})
    return result
