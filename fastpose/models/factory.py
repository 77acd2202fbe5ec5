"""Models by name: `create_model`, `list_models`."""

from __future__ import annotations

import dataclasses
import fnmatch
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import Any, Literal, overload

import torch

from fastpose.checks import check_size
from fastpose.codecs import change_codec
from fastpose.skeletons import Skeleton, get_skeleton
from fastpose.spec import PoseSpec

from .features import FeatureExtractor
from .hub import fetch
from .pose_model import PoseModel
from .registry import build_model, build_outline, list_architectures
from .weights import WeightsError, load_checkpoint
from .zoo import ZooEntry, close_names, default_spec, find_entry, list_entries

_SPEC_FIELDS = {field.name for field in dataclasses.fields(PoseSpec)}


def list_models(pattern: str = "*") -> list[str]:
    """Names that `create_model` takes, sorted: architectures and zoo entries.

    Args:
        pattern: shell-style, e.g. `"resnet*"` or `"*.coco_256x192"`.
    """
    names = {*list_architectures(), *(entry.name for entry in list_entries())}
    return sorted(name for name in names if fnmatch.fnmatchcase(name, pattern))


@overload
def create_model(
    name: str,
    *,
    num_keypoints: int | None = None,
    skeleton: Skeleton | str | None = None,
    pretrained: bool = False,
    features_only: Literal[False] = False,
    **overrides: Any,
) -> PoseModel: ...


@overload
def create_model(
    name: str,
    *,
    num_keypoints: int | None = None,
    skeleton: Skeleton | str | None = None,
    pretrained: bool = False,
    features_only: Literal[True],
    **overrides: Any,
) -> FeatureExtractor: ...


def create_model(
    name: str,
    *,
    num_keypoints: int | None = None,
    skeleton: Skeleton | str | None = None,
    pretrained: bool = False,
    features_only: bool = False,
    **overrides: Any,
) -> PoseModel | FeatureExtractor:
    """Build a network by name.

    Args:
        name: zoo name (`resnet50.coco_256x192`), the official MMPose config name, or an architecture (`resnet50`),
            which is built as its default entry says.
        num_keypoints: K, where the keypoints have no names (they get numbers, and no flip pairs).
        skeleton: other keypoints than the entry's, as a `Skeleton` or the name of one.
        pretrained: load the entry's weights, which are fetched once (see `fastpose.models.hub`). Given together with
            other keypoints, what depends on those stays fresh.
        features_only: give the backbone alone, as a module that returns its feature maps, finest first.
        overrides: other values for fields of the `PoseSpec` (`input_size=(128, 96)`; the heatmap keeps its ratio to the
            input; `codec` may be a mapping of the fields that change), and options of the architecture
            (`deconv_channels=(128, 128, 128)`).

    Returns:
        The network, in training mode; `.spec` says what goes in and comes out. With `features_only` a
        `FeatureExtractor`.

    Raises:
        ValueError: an unknown name or option, or values that do not fit each other.
        WeightsError: the weights are not there, or not this model's.
    """
    entry = find_entry(name)
    if entry is None and name not in list_architectures():
        close = close_names(name, list_architectures())
        hint = (
            f"; did you mean {' or '.join(close)}?"
            if close
            else "; list_models() lists them, and so does `fastpose models`"
        )
        raise ValueError(f"name: no model is named {name!r}{hint}")
    base = entry.spec if entry else default_spec()
    arguments = dict(entry.arguments) if entry else {}
    arguments.update((key, value) for key, value in overrides.items() if key not in _SPEC_FIELDS)
    changes = {key: value for key, value in overrides.items() if key in _SPEC_FIELDS}
    changes["skeleton"] = _skeleton(base.skeleton, num_keypoints, skeleton)
    if isinstance(changes.get("codec"), Mapping):
        base = base.replace(codec=change_codec(base.codec, **changes.pop("codec")))
    if "input_size" in changes and "codec" not in changes:
        # Rounded: the network refuses a size that it cannot take, or knows the size of its maps better.
        size = check_size("input_size", changes["input_size"])
        changes["codec"] = base.codec.resized(base.input_size, size, exact=False)
    architecture, spec = entry.architecture if entry else name, base.replace(**changes)
    model = None
    if pretrained and spec.skeleton.keypoints == base.skeleton.keypoints:  # the file has everything
        model = build_outline(architecture, spec, arguments)
    if model is None:
        model = build_model(architecture, spec, arguments)
    if entry is not None:
        model.name = entry.name
    if pretrained:
        _load_pretrained(model, name, entry)
    return FeatureExtractor(model) if features_only else model


def _skeleton(default: Skeleton, num_keypoints: int | None, skeleton: Skeleton | str | None) -> Skeleton:
    if isinstance(skeleton, str):
        skeleton = get_skeleton(skeleton)
    if num_keypoints is None:
        return skeleton or default
    if num_keypoints < 1:
        raise ValueError(f"num_keypoints: expected at least 1, got {num_keypoints}")
    if skeleton is not None and skeleton.num_keypoints != num_keypoints:
        raise ValueError(
            f"num_keypoints: {num_keypoints} given, but skeleton {skeleton.name!r} has {skeleton.num_keypoints}"
        )
    if skeleton is not None:
        return skeleton
    return Skeleton.from_names(f"custom{num_keypoints}", [f"keypoint_{index}" for index in range(num_keypoints)])


def _load_pretrained(model: PoseModel, name: str, entry: ZooEntry | None) -> None:
    weights = entry.weights if entry else {}
    if entry is None or not weights:
        raise WeightsError(f"{name}: no weights were published for it")
    same = model.spec.skeleton.keypoints == entry.spec.skeleton.keypoints
    with _weights_file(name, weights) as path:
        if same:
            load_checkpoint(model, path)
        else:
            load_body(model, path)


@contextmanager
def _weights_file(name: str, weights: Mapping[str, str]) -> Iterator[Path]:
    if "carried" not in weights:
        yield fetch(weights["url"], weights.get("sha256"))
        return
    file = resources.files("fastpose.models") / "carried" / weights["carried"]
    if not file.is_file():
        raise WeightsError(f"{name}: the package should hold {weights['carried']}, and does not; reinstall it")
    with resources.as_file(file) as path:
        yield path


def load_body(model: PoseModel, path: str | os.PathLike[str], *, expert: str | int | None = None) -> list[str]:
    """Load the weights of a network for other keypoints: all but the entries that depend on what the keypoints are.

    Args:
        model: the network; entries that depend on its keypoints (the last layers of its heads, for the most part) keep
            their values, also where those of the file would fit by shape. Untouched where an error is raised.
        path: any file that `read_checkpoint` takes, of the same architecture.
        expert: see `load_checkpoint`.

    Returns:
        Names of the entries that keep their values.

    Raises:
        WeightsError: the file cannot be used, or other entries differ.
    """
    names = _keypoint_entries(model)
    load_checkpoint(model, path, keep=names, expert=expert)
    return [name for name in model.state_dict() if name in names]


def _keypoint_entries(model: PoseModel) -> set[str]:
    """Names of the state-dict entries whose shape follows from the number of keypoints."""
    count = model.spec.num_keypoints + 1
    other = Skeleton.from_names(f"any{count}", [f"keypoint_{index}" for index in range(count)])
    with torch.device("meta"):
        twin = build_model(model.architecture, model.spec.replace(skeleton=other), model.arguments)
    shapes = {name: tensor.shape for name, tensor in twin.state_dict().items()}
    return {name for name, tensor in model.state_dict().items() if tensor.shape != shapes[name]}
