"""Models by name: `create_model`, `list_models`."""

from __future__ import annotations

import dataclasses
import fnmatch
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from fastpose.skeletons import Skeleton, get_skeleton
from fastpose.spec import CodecSpec, PoseSpec

from .pose_model import PoseModel
from .registry import build_model, list_architectures
from .weights import WeightsError, load_checkpoint
from .zoo import ZooEntry, close_names, default_spec, find_entry, list_entries

_LAST_LAYER = "head.final_layer."
_SPEC_FIELDS = {field.name for field in dataclasses.fields(PoseSpec)}


def list_models(pattern: str = "*") -> list[str]:
    """Names that `create_model` takes, sorted: architectures and zoo entries.

    Args:
        pattern: shell-style, e.g. `"resnet*"` or `"*.coco_256x192"`.
    """
    names = {*list_architectures(), *(entry.name for entry in list_entries())}
    return sorted(name for name in names if fnmatch.fnmatchcase(name, pattern))


def create_model(
    name: str,
    *,
    num_keypoints: int | None = None,
    skeleton: Skeleton | str | None = None,
    pretrained: bool = False,
    **overrides: Any,
) -> PoseModel:
    """Build a network by name.

    Args:
        name: zoo name (`resnet50.coco_256x192`), the official MMPose config name, or an architecture (`resnet50`),
            which is built as its default entry says.
        num_keypoints: K, where the keypoints have no names (they get numbers, and no flip pairs).
        skeleton: other keypoints than the entry's, as a `Skeleton` or the name of one.
        pretrained: load the entry's weights. Given together with other keypoints, the last layer stays fresh.
        overrides: other values for fields of the `PoseSpec` (`input_size=(128, 96)`; the heatmap keeps its ratio to the
            input; `codec` may be a mapping of the fields that change), and options of the architecture
            (`deconv_channels=(128, 128, 128)`).

    Returns:
        The network, in training mode; `.spec` says what goes in and comes out.

    Raises:
        ValueError: an unknown name or option, or values that do not fit each other.
        WeightsError: the weights are not there, or not this model's.
    """
    entry = find_entry(name)
    if entry is None and name not in list_architectures():
        close = close_names(name, list_architectures())
        hint = f"; did you mean {' or '.join(close)}?" if close else "; list_models() lists them"
        raise ValueError(f"name: no model is named {name!r}{hint}")
    base = entry.spec if entry else default_spec()
    arguments = dict(entry.arguments) if entry else {}
    arguments.update((key, value) for key, value in overrides.items() if key not in _SPEC_FIELDS)
    changes = {key: value for key, value in overrides.items() if key in _SPEC_FIELDS}
    changes["skeleton"] = _skeleton(base.skeleton, num_keypoints, skeleton)
    if isinstance(changes.get("codec"), Mapping):
        base = base.replace(codec=_codec(base.codec, changes.pop("codec")))
    model = build_model(entry.architecture if entry else name, base.replace(**changes), arguments)
    if entry is not None:
        model.name = entry.name
    if pretrained:
        _load_pretrained(model, name, entry)
    return model


def _codec(default: CodecSpec, changes: Mapping[str, Any]) -> CodecSpec:
    unknown = sorted(set(changes) - {field.name for field in dataclasses.fields(CodecSpec)})
    if unknown:
        raise ValueError(f"codec: unknown keys {', '.join(unknown)}")
    no_maps: dict[str, Any] = {"heatmap_size": None} if changes.get("kind") == "regression" else {}
    return dataclasses.replace(default, **no_maps, **changes)


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
    if skeleton is not None or num_keypoints == default.num_keypoints:
        return skeleton or default
    return Skeleton.from_names(f"custom{num_keypoints}", [f"keypoint_{index}" for index in range(num_keypoints)])


def _load_pretrained(model: PoseModel, name: str, entry: ZooEntry | None) -> None:
    weights = entry.weights if entry else {}
    if entry is not None and "carried" in weights:
        file = resources.files("fastpose.models") / "carried" / weights["carried"]
        if not file.is_file():
            raise WeightsError(f"{name}: the package should hold {weights['carried']}, and does not; reinstall it")
        with resources.as_file(file) as path:
            _load(model, path, new_head=model.spec.skeleton.keypoints != entry.spec.skeleton.keypoints)
    elif "url" in weights:
        raise WeightsError(
            f"{name}: the weights are not in the package. Fetch {weights['url']} and load the file with "
            f"load_checkpoint(create_model({name!r}), FILE)"
        )
    else:
        raise WeightsError(f"{name}: no weights were published for it")


def _load(model: PoseModel, path: Path, *, new_head: bool) -> None:
    if not new_head:
        load_checkpoint(model, path)
        return
    # Other keypoints: the last layer stays as initialised, everything before it must fit. With as many keypoints as
    # before the last layer's weights would fit by shape and mean something else, so they are put back.
    fresh = {name: tensor.clone() for name, tensor in model.state_dict().items() if name.startswith(_LAST_LAYER)}
    report = load_checkpoint(model, path, strict=False)
    foreign = [name for names in report for name in names if not name.startswith(_LAST_LAYER)]
    if foreign:
        raise WeightsError(f"{path}: does not fit {model.name}: {', '.join(foreign[:3])}")
    model.load_state_dict(fresh, strict=False)
