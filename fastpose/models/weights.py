"""Weights: check those of a file against a network, load them, write them safely."""

from __future__ import annotations

import json
import math
import os
import warnings
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import safetensors.torch
import torch
from torch import Tensor

from fastpose.spec import PoseSpec

from ..files import atomic_write, parse_json
from .checkpoint import SCALE, Checkpoint, read_checkpoint, read_with_layout
from .errors import WeightsError
from .experts import EXPERTS, choose_expert, count_experts, find_expert, fold_expert
from .hub import local_file
from .layouts import OWN, Layout, LayoutError
from .pose_model import PoseModel
from .registry import build_model, build_outline

__all__ = [
    "Checkpoint",
    "LoadReport",
    "WeightsError",
    "load_backbone",
    "load_checkpoint",
    "load_model",
    "read_checkpoint",
    "save_model",
    "stored_tensors",
]

_SPEC, _MODEL, _ARCHITECTURE, _ARGUMENTS = (
    "fastpose.spec",
    "fastpose.model",
    "fastpose.architecture",
    "fastpose.arguments",
)
_DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.float64, torch.int8)  # of weights in files
_MAX_PIXELS = 1 << 24  # of the input that a file may ask for: more than any network here can work with
_COUNTER = ".num_batches_tracked"
_NAMES_PER_KIND = 3  # how many missing (unexpected, ...) entries an error lists


class LoadReport(NamedTuple):
    """Names that did not fit; all empty after a strict load."""

    missing: tuple[str, ...]  # in the network, not in the file
    unexpected: tuple[str, ...]  # in the file, not in the network
    mismatched: tuple[str, ...]  # in both, of another shape: "NAME: expected (…), got (…)"


def load_checkpoint(
    model: PoseModel,
    path: str | os.PathLike[str],
    strict: bool = True,
    *,
    keep: Collection[str] = (),
    expert: str | int | None = None,
) -> LoadReport:
    """Load a file of weights into a network, all or nothing.

    Args:
        model: the network; keeps its dtype and device. Untouched where an error is raised.
        path: any file that `read_checkpoint` takes.
        strict: every entry of the network must be in the file, with its shape, and nothing else; otherwise what fits is
            loaded, and the rest is reported.
        keep: names of entries that keep the network's values, whatever the file has under them. With any, the file may
            be for other keypoints.
        expert: of a ViTPose++ file, the data set whose network is wanted: `coco`, `aic`, `mpii`, `ap10k`, `apt36k`,
            `wholebody`, or the number of one; by default that of the network's keypoints. Its layers are folded into
            those of a plain vision transformer (`fastpose.models.experts`).

    Returns:
        What did not fit.

    Raises:
        WeightsError: the file cannot be used (see `read_checkpoint`); strict: the entries differ (the message lists at
            most a dozen lines), or it is for other keypoints; not strict: nothing fits; the keypoints do not tell
            which of several experts is meant, or `expert` names none.
    """
    path = local_file(path)
    return _load(model, path, *_read_for(model, path, expert), strict, keep)


def load_backbone(model: PoseModel, path: str | os.PathLike[str], *, expert: str | int | None = None) -> None:
    """Load a network's backbone alone, from a classifier's weights (ImageNet) or from another pose network's.

    Args:
        model: the network; neck and head keep their values. Untouched where an error is raised.
        path: any file that `read_checkpoint` takes; its entries are the backbone's own, or those under `backbone.`.
            What else it holds (a classifier) is left alone.
        expert: see `load_checkpoint`.

    Raises:
        WeightsError: the file cannot be used, or lacks an entry of the backbone (counters of batches may be missing).
    """
    path = local_file(path)
    tensors = _read_for(model, path, expert)[0].tensors
    inside = {name: tensor for name, tensor in tensors.items() if name.startswith("backbone.")}
    tensors = inside or {f"backbone.{name}": tensor for name, tensor in tensors.items()}
    tensors = _fit_positions(path, model, tensors, None)
    expected = {name: tensor for name, tensor in model.state_dict().items() if name.startswith("backbone.")}
    wrong = [
        name
        for name, tensor in expected.items()
        if not name.endswith("num_batches_tracked") and (name not in tensors or tensors[name].shape != tensor.shape)
    ]
    if wrong:
        more = f" and {len(wrong) - _NAMES_PER_KIND} more" if len(wrong) > _NAMES_PER_KIND else ""
        shown = ", ".join(wrong[:_NAMES_PER_KIND])
        raise WeightsError(
            f"{path}: not the weights of a backbone of {model.name or type(model).__name__}: missing or of another "
            f"shape are {shown}{more}, of {len(expected)}"
        )
    model.load_state_dict({name: tensors[name] for name in expected if name in tensors}, strict=False)


def load_model(path: str | os.PathLike[str]) -> PoseModel:
    """Rebuild a network from a file that `save_model` wrote, from its header alone.

    Args:
        path: the safetensors file.

    Returns:
        The network in float32, on the CPU, in evaluation mode.

    Raises:
        WeightsError: the file cannot be used, was not written by `save_model`, or names an architecture that this
            version does not have.
    """
    path = local_file(path)
    checkpoint = read_checkpoint(path)
    metadata = checkpoint.metadata
    absent = [key for key in (_SPEC, _ARCHITECTURE, _ARGUMENTS) if key not in metadata]
    if absent:
        raise WeightsError(
            f"{path}: no {', '.join(absent)} in its header, so it does not say which network it is for; "
            f"`fastpose convert {path} {path.stem}.safetensors` makes a file that does "
            "(in Python: load_checkpoint(create_model(NAME), FILE))"
        )
    spec = _spec(path, metadata)
    if math.prod(spec.input_size) > _MAX_PIXELS:
        raise WeightsError(f"{path}: input_size: expected at most {_MAX_PIXELS} pixels, got {spec.input_size}")
    try:
        description = metadata[_ARCHITECTURE], spec, parse_json(metadata[_ARGUMENTS], _ARGUMENTS)
        # Whatever the header asks for takes no memory until it is known to be what the file has.
        model = build_outline(*description, most=len(checkpoint.tensors))
        if model is not None:
            _refuse_misfit(model, path, _compare(model.state_dict(), checkpoint.tensors))
        else:
            model = build_model(*description)
    except WeightsError:
        raise
    except Exception as error:  # of many kinds, for numbers that no layer can have
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise WeightsError(f"{path}: its header describes a network that cannot be built: {reason}") from error
    model.name = metadata.get(_MODEL, model.architecture)
    _load(model, path, checkpoint, OWN, strict=True)
    return model.eval()


def save_model(
    model: PoseModel,
    path: str | os.PathLike[str],
    *,
    metadata: Mapping[str, str] | None = None,
    dtype: torch.dtype | None = None,
) -> None:
    """Write a network as safetensors, with all that `load_model` needs in the header; atomically.

    Args:
        model: the network.
        path: file to write; an existing one is replaced once the new one is complete on disk.
        metadata: further text values for the header (keys that begin with `fastpose.` are taken).
        dtype: dtype of the floating-point entries in the file: `torch.float16` (entries with values beyond its range
            stay as they are), another floating-point type, or `torch.int8`, in which every row of every weight has its
            own scale (vectors and tables of a single row stay as they are); the network's own by default. Reading gives
            floats again.

    Raises:
        TypeError: not a PoseModel, metadata that is not text, or another dtype.
        ValueError: a metadata key is taken, or the network was not built by `create_model`.
        OSError: the disk is full, the folder is missing or not writable; nothing is left behind.
    """
    if not isinstance(model, PoseModel):
        raise TypeError(f"model: expected a PoseModel, got {type(model).__name__}")
    if not model.architecture:
        raise ValueError("model: it has no architecture name, so no file could say how to rebuild it; use create_model")
    if dtype is not None and dtype not in _DTYPES:
        raise TypeError(f"dtype: expected one of {', '.join(map(str, _DTYPES))}, got {dtype!r}")
    header = {
        "format": "pt",
        _SPEC: model.spec.to_json(),
        _MODEL: model.name,
        _ARCHITECTURE: model.architecture,
        _ARGUMENTS: json.dumps(dict(model.arguments)),
    }
    for key, value in (metadata or {}).items():
        if not isinstance(key, str) or not isinstance(value, str):
            raise TypeError(f"metadata: expected text, got {key!r}: {type(value).__name__}")
        if key in header or key.startswith("fastpose."):
            raise ValueError(f"metadata: the key {key!r} is taken")
        header[key] = value
    tensors = stored_tensors(model.state_dict(), dtype)
    atomic_write(path, safetensors.torch.save(tensors, header))


def stored_tensors(state: Mapping[str, Tensor], dtype: torch.dtype | None) -> dict[str, Tensor]:
    """What stands in a file for a network's entries, whatever network it is; `read_checkpoint` gives floats again.

    Args:
        state: the entries by name.
        dtype: see `save_model`.
    """
    tensors: dict[str, Tensor] = {}
    for name, tensor in state.items():
        tensor = tensor.detach().cpu()
        if tensor.is_floating_point() and dtype is torch.int8:
            # In a table of positions, which is one row, the largest value of all would set the step of every one.
            tensors |= _quantised(name, tensor) if tensor.ndim > 1 and len(tensor) > 1 else {name: tensor}
        elif tensor.is_floating_point() and dtype is not None:
            converted = tensor.to(dtype)
            tensors[name] = converted if torch.equal(converted.isfinite(), tensor.isfinite()) else tensor
        else:
            tensors[name] = tensor
    return {name: tensor.contiguous() for name, tensor in tensors.items()}


def _quantised(name: str, weight: Tensor) -> dict[str, Tensor]:
    """The nearest of 255 values from minus to plus each row's largest."""
    rows = weight.float().flatten(1)
    scale = rows.abs().amax(1).clamp(min=torch.finfo(torch.float32).tiny) / 127
    return {name: (rows / scale[:, None]).round().to(torch.int8).view(weight.shape), name + SCALE: scale}


def _read_for(model: PoseModel, path: Path, expert: str | int | None) -> tuple[Checkpoint, Layout]:
    """Read a file for a network; of several data sets' networks the one that is wanted."""
    checkpoint, layout = read_with_layout(path)
    trained_with = dict(layout.spec)
    count = count_experts(checkpoint.tensors)
    if count:
        try:
            if expert is None:
                number = choose_expert(checkpoint.tensors, model.spec.skeleton)
            else:
                number = find_expert(expert, count)
            checkpoint = checkpoint._replace(tensors=fold_expert(checkpoint.tensors, number))
        except LayoutError as error:
            raise WeightsError(f"{path}: {error}") from None
        if count == len(EXPERTS):
            trained_with.update(EXPERTS[number].spec)
    elif expert is not None:
        raise WeightsError(f"{path}: expert: {expert!r} is asked for, and the file holds one network")
    for field in ("channel_order", "udp"):
        if trained_with.get(field, ours := getattr(model.spec, field)) != ours:
            warnings.warn(
                f"{path}: published files of this kind were trained with {field}={trained_with[field]!r}, and the "
                f"network has {ours!r}; create_model takes {field}, and `fastpose convert` sets it",
                stacklevel=3,
            )
    return checkpoint, layout


def _load(
    model: PoseModel,
    path: Path,
    checkpoint: Checkpoint,
    layout: Layout,
    strict: bool,
    keep: Collection[str] = (),
) -> LoadReport:
    expected = {name: tensor for name, tensor in model.state_dict().items() if name not in keep}
    source = _spec(path, checkpoint.metadata) if _SPEC in checkpoint.metadata else None
    tensors = _fit_positions(path, model, checkpoint.tensors, source)
    tensors = {name: tensor for name, tensor in tensors.items() if name not in keep}
    tensors |= _counters(expected, tensors)
    report = _compare(expected, tensors)
    fitting = {name: t for name, t in tensors.items() if name in expected and t.shape == expected[name].shape}
    if strict or not fitting:
        _refuse_misfit(model, path, report, keep, layout)
    if strict and source is not None and not keep:
        theirs, ours = source.skeleton, model.spec.skeleton
        if theirs.keypoints != ours.keypoints:
            raise WeightsError(
                f"{path}: expected the keypoints of {ours.name!r} ({', '.join(ours.keypoints)}), "
                f"got those of {theirs.name!r} ({', '.join(theirs.keypoints)})"
            )
    if len(fitting) == len(expected) and not keep and all(tensor.is_meta for tensor in expected.values()):
        model.to_empty(device=torch.get_default_device())
    model.load_state_dict(fitting, strict=False)
    return report


def _counters(expected: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Counters of batches, which files of before torch 0.4.1 lack beside the statistics; no prediction reads them."""
    if any(name.endswith(_COUNTER) for name in tensors):
        return {}
    counted = {name.removesuffix("running_mean") for name in tensors if name.endswith(".running_mean")}
    zero = torch.zeros((), dtype=torch.int64)
    return {name: zero for name in expected if name.endswith(_COUNTER) and name.removesuffix(_COUNTER[1:]) in counted}


def _compare(expected: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> LoadReport:
    return LoadReport(
        missing=tuple(name for name in expected if name not in tensors),
        unexpected=tuple(name for name in tensors if name not in expected),
        mismatched=tuple(
            f"{name}: expected {tuple(tensor.shape)}, got {tuple(tensors[name].shape)}"
            for name, tensor in expected.items()
            if name in tensors and tensors[name].shape != tensor.shape
        ),
    )


def _refuse_misfit(
    model: PoseModel, path: Path, report: LoadReport, keep: Collection[str] = (), layout: Layout = OWN
) -> None:
    """Raise where anything does not fit, with a message of at most a dozen lines."""
    if not any(report):
        return
    total = sum(name not in keep for name in model.state_dict())
    fitting = total - len(report.missing) - len(report.mismatched)
    keypoints = "for other keypoints" if keep else f"with {model.spec.num_keypoints} keypoints"
    network = f"{model.name or type(model).__name__} {keypoints}"
    known = f"; its names are those of {layout.name}" if layout.name else ""
    lines = [f"{path}: not the weights of {network} ({fitting} of {total} entries fit{known})"]
    for kind, names in zip(("missing", "unexpected", "of another shape"), report, strict=True):
        for shown, entry in enumerate(names[:_NAMES_PER_KIND], start=1):
            more = len(names) - shown if shown == _NAMES_PER_KIND else 0
            lines.append(f"  {kind}: {entry:.200}" + (f" … and {more} more" if more else ""))
    raise WeightsError("\n".join(lines))


def _fit_positions(
    path: Path, model: PoseModel, tensors: Mapping[str, Tensor], source: PoseSpec | None
) -> dict[str, Tensor]:
    """Let the modules that learn one value per position fit a checkpoint of another input size or window to theirs.

    Such a module has `resize_weights(tensors, prefix, input_size)`, which replaces its entries of the state dict;
    `input_size` is the checkpoint's, None where the file does not say.
    """
    fitted = dict(tensors)
    for name, module in model.named_modules():
        if hasattr(module, "resize_weights"):
            try:
                module.resize_weights(fitted, f"{name}." if name else "", source.input_size if source else None)
            except RuntimeError as error:  # of entries without values, above all
                raise WeightsError(f"{path}: the entries of {name} cannot be resized ({error})") from error
    return fitted


def _spec(path: Path, metadata: Mapping[str, Any]) -> PoseSpec:
    try:
        return PoseSpec.from_json(metadata[_SPEC])
    except ValueError as error:
        raise WeightsError(f"{path}: its PoseSpec is damaged or of another version: {error}") from error
