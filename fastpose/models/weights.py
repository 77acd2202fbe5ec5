"""Weights: read every official layout, check them against a network, write them safely."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import safetensors.torch
import torch
from torch import Tensor

from fastpose.spec import PoseSpec

from ..files import atomic_write, open_file, parse_json
from .pose_model import PoseModel
from .registry import build_model, build_outline
from .restricted_pickle import RefusedPickleError
from .torch_files import load_pickled

_SPEC, _MODEL, _ARCHITECTURE, _ARGUMENTS = (
    "fastpose.spec",
    "fastpose.model",
    "fastpose.architecture",
    "fastpose.arguments",
)
# Where training programs put the weights in what they save; averaged ones first. MMEngine's `ema_state_dict` is not
# among them: its `state_dict` holds the average, and that the other weights.
_WRAPPERS = ("state_dict_ema", "model_ema", "ema", "state_dict", "model")
# An int8 entry NAME stands for itself times the float32 entry NAME:scale, which has one value a row.
_SCALE = ":scale"
_DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.float64, torch.int8)  # of weights in files
_MAX_BYTES = 1 << 36  # of a file of weights
_MAX_HEADER = 1 << 24  # bytes: a hundred times that of any network here
_MAX_PIXELS = 1 << 24  # of the input that a file may ask for: more than any network here can work with
_NAMES_PER_KIND = 3  # how many missing (unexpected, ...) entries an error lists


class WeightsError(ValueError):
    """A file of weights that is not there, is damaged, would run code, or belongs to another network."""


class Checkpoint(NamedTuple):
    """What a file of weights holds: tensors by state-dict name, and the header's text values."""

    tensors: dict[str, Tensor]
    metadata: dict[str, str]


class LoadReport(NamedTuple):
    """Names that did not fit; all empty after a strict load."""

    missing: tuple[str, ...]  # in the network, not in the file
    unexpected: tuple[str, ...]  # in the file, not in the network
    mismatched: tuple[str, ...]  # in both, of another shape: "NAME: expected (…), got (…)"


def read_checkpoint(path: str | os.PathLike[str]) -> Checkpoint:
    """Read a file of weights without running any code in it, and give its entries this project's names.

    Takes safetensors, and what `torch.save` wrote: a plain state dict, or one under `state_dict`, `model` or `ema`
    (averaged weights are preferred), as in MMPose 1.x and 0.x. The kind is told from the content, not from the file's
    name. `module.` prefixes are taken off, the data preprocessor's buffers left out, `keypoint_head.` becomes `head.`.

    Args:
        path: the file.

    Returns:
        Tensors on the CPU, and the header (empty for pickled files).

    Raises:
        WeightsError: missing, truncated, not weights, or a pickle that could run code.
    """
    path = Path(path)
    try:
        with open_file(path, limit=_MAX_BYTES) as file:
            start = file.read(16)
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read ({error.strerror}); expected a file of weights") from error
    # Safetensors first: they begin with the header's length in eight bytes, the lowest of which may be anything, also
    # what a pickle (0x80) or an archive (PK) begins with.
    if start[4:9] == b"\0\0\0\0{":
        if (length := int.from_bytes(start[:8], "little")) > _MAX_HEADER:
            raise WeightsError(f"{path}: damaged; expected a header of at most {_MAX_HEADER} bytes, got {length}")
        tensors, metadata = _read_safetensors(path)
        return Checkpoint(_official_names(path, tensors), metadata)
    if start[:2] == b"PK" or start[:1] == b"\x80":
        return Checkpoint(_official_names(path, _read_pickled(path)), {})
    raise WeightsError(f"{path}: expected safetensors or a file that torch.save wrote; it begins with {start[:8]!r}")


def load_checkpoint(
    model: PoseModel, path: str | os.PathLike[str], strict: bool = True, *, keep: Collection[str] = ()
) -> LoadReport:
    """Load a file of weights into a network, all or nothing.

    Args:
        model: the network; keeps its dtype and device. Untouched where an error is raised.
        path: any file that `read_checkpoint` takes.
        strict: every entry of the network must be in the file, with its shape, and nothing else; otherwise what fits is
            loaded, and the rest is reported.
        keep: names of entries that keep the network's values, whatever the file has under them. With any, the file may
            be for other keypoints.

    Returns:
        What did not fit.

    Raises:
        WeightsError: the file cannot be used (see `read_checkpoint`); strict: the entries differ (the message lists at
            most a dozen lines), or it is for other keypoints; not strict: nothing fits.
    """
    return _load(model, Path(path), read_checkpoint(path), strict, keep)


def load_backbone(model: PoseModel, path: str | os.PathLike[str]) -> None:
    """Load a network's backbone alone, from a classifier's weights (ImageNet) or from another pose network's.

    Args:
        model: the network; neck and head keep their values. Untouched where an error is raised.
        path: any file that `read_checkpoint` takes; its entries are the backbone's own, or those under `backbone.`.
            What else it holds (a classifier) is left alone.

    Raises:
        WeightsError: the file cannot be used, or lacks an entry of the backbone (counters of batches may be missing).
    """
    tensors = read_checkpoint(path).tensors
    inside = {name: tensor for name, tensor in tensors.items() if name.startswith("backbone.")}
    tensors = inside or {f"backbone.{name}": tensor for name, tensor in tensors.items()}
    tensors = _fit_positions(Path(path), model, tensors, None)
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
    path = Path(path)
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
    _load(model, path, checkpoint, strict=True)
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
    return {name: (rows / scale[:, None]).round().to(torch.int8).view(weight.shape), name + _SCALE: scale}


def _dequantised(path: Path, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The floats that quantised entries stand for, and all other entries."""
    floats = {name: tensor for name, tensor in tensors.items() if not name.endswith(_SCALE)}
    for name in tensors.keys() - floats.keys():
        weight, scale = floats.get(name.removesuffix(_SCALE)), tensors[name]
        if weight is None or weight.dtype is not torch.int8 or scale.shape != weight.shape[:1]:
            raise WeightsError(f"{path}: damaged; expected an int8 weight with as many rows as {name} has values")
        floats[name.removesuffix(_SCALE)] = weight * scale.view(-1, *[1] * (weight.ndim - 1))
    return floats


def _load(model: PoseModel, path: Path, checkpoint: Checkpoint, strict: bool, keep: Collection[str] = ()) -> LoadReport:
    expected = {name: tensor for name, tensor in model.state_dict().items() if name not in keep}
    source = _spec(path, checkpoint.metadata) if _SPEC in checkpoint.metadata else None
    tensors = _fit_positions(path, model, checkpoint.tensors, source)
    tensors = {name: tensor for name, tensor in tensors.items() if name not in keep}
    report = _compare(expected, tensors)
    fitting = {name: t for name, t in tensors.items() if name in expected and t.shape == expected[name].shape}
    if strict or not fitting:
        _refuse_misfit(model, path, report, keep)
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


def _refuse_misfit(model: PoseModel, path: Path, report: LoadReport, keep: Collection[str] = ()) -> None:
    """Raise where anything does not fit, with a message of at most a dozen lines."""
    if not any(report):
        return
    total = sum(name not in keep for name in model.state_dict())
    fitting = total - len(report.missing) - len(report.mismatched)
    keypoints = "for other keypoints" if keep else f"with {model.spec.num_keypoints} keypoints"
    network = f"{model.name or type(model).__name__} {keypoints}"
    lines = [f"{path}: not the weights of {network} ({fitting} of {total} entries fit)"]
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


def _read_safetensors(path: Path) -> Checkpoint:
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is no mapping)
            metadata = dict(file.metadata() or {})
    except Exception as error:  # its own, and torch's where a type is unknown
        raise WeightsError(f"{path}: damaged or cut short; expected safetensors ({error})") from error
    return Checkpoint(_dequantised(path, tensors), metadata)


def _read_pickled(path: Path) -> dict[str, Tensor]:
    try:
        with open_file(path, limit=_MAX_BYTES) as file:
            content = load_pickled(file)
    except RefusedPickleError as error:
        raise WeightsError(f"{path}: refused: {error}; expected tensors only") from error
    except Exception as error:  # a dozen kinds, of this library and others
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise WeightsError(f"{path}: damaged or cut short; expected a file that torch.save wrote ({reason})") from error
    for wrapper in _WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
            break
    if not isinstance(content, Mapping) or not content:
        raise WeightsError(f"{path}: expected a state dict, got {type(content).__name__}")
    for name, value in content.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise WeightsError(f"{path}: expected a state dict of tensors, got {name!r:.80}: {type(value).__name__}")
    return dict(content)


def _official_names(path: Path, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename the entries of MMPose's older layouts, and leave out what is no weight."""
    for prefix in ("module.", "_orig_mod.", "module."):  # DataParallel, torch.compile, in either order
        if all(name.startswith(prefix) for name in tensors):
            tensors = {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
    renamed = {}
    for name, tensor in tensors.items():
        if not name.startswith("data_preprocessor."):
            name = re.sub(r"^keypoint_head\.", "head.", name)
            renamed[re.sub(r"^head\.loss\.", "head.loss_module.", name)] = tensor
    # Where a head had convolutions before the last one, 0.x held all of them as final_layer.N; the last N is the last
    # layer.
    old = re.compile(r"^head\.final_layer\.(\d{1,4})\.(\w+)$")
    numbers = [int(match[1]) for name in renamed if (match := old.match(name))]
    if numbers:
        last = max(numbers)
        renamed = {
            old.sub(lambda m: _old_final_layer(int(m[1]), m[2], last), name): tensor for name, tensor in renamed.items()
        }
    if not renamed:
        raise WeightsError(f"{path}: holds no weights")
    return renamed


def _old_final_layer(number: int, parameter: str, last: int) -> str:
    return f"head.final_layer.{parameter}" if number == last else f"head.conv_layers.{number}.{parameter}"


def _spec(path: Path, metadata: Mapping[str, Any]) -> PoseSpec:
    try:
        return PoseSpec.from_json(metadata[_SPEC])
    except ValueError as error:
        raise WeightsError(f"{path}: its PoseSpec is damaged or of another version: {error}") from error
