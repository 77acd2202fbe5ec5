"""Reading files of weights: safetensors and what `torch.save` wrote, as data alone, in this package's names."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import safetensors
import torch
from torch import Tensor

from ..files import open_file
from .errors import WeightsError
from .hub import local_file
from .layouts import STATE_DICTS, Layout, LayoutError, find_layout, rename, strip_wrappers
from .restricted_pickle import RefusedPickleError
from .torch_files import load_pickled

__all__ = ["MAX_HEADER", "SCALE", "Checkpoint", "read_checkpoint", "read_with_layout"]

# An int8 entry NAME stands for itself times the float32 entry NAME:scale, which has one value a row.
SCALE = ":scale"
MAX_HEADER = 1 << 24  # bytes: a hundred times that of any network here
_MAX_BYTES = 1 << 36  # of a file of weights


class Checkpoint(NamedTuple):
    """What a file of weights holds.

    Attributes:
        tensors: By state-dict name, in this package's names.
        metadata: The header's text values.
    """

    tensors: dict[str, Tensor]
    metadata: dict[str, str]


def read_checkpoint(path: str | os.PathLike[str]) -> Checkpoint:
    """Read a file of weights without running any code in it, and give its entries this project's names.

    Takes safetensors, and what `torch.save` wrote: a state dict, or one inside of what a training program saves
    (`state_dict`, `model`, `ema_model`, …, in each other; averaged weights are preferred). The kind is told from the
    content, not from the file's name. Names of wrappers (`module.`, `_orig_mod.`, …) are taken off in any order, with
    their counters, and the layouts of other programs are known by their names: MMPose 1.x and 0.x, ViTPose's
    repository, Hugging Face's ViTPose, HRNet's and Simple Baselines' repositories (`fastpose.models.layouts`). The
    experts of ViTPose++ stay side by side; `load_checkpoint` takes one.

    Args:
        path: the file, or an address that `fastpose.models.hub.fetch` takes (`hf:owner/name`).

    Returns:
        Tensors on the CPU, and the header (empty for pickled files).

    Raises:
        WeightsError: missing, truncated, not weights, or a pickle that could run code.
    """
    return read_with_layout(path)[0]


def read_with_layout(path: str | os.PathLike[str]) -> tuple[Checkpoint, Layout]:
    """What `read_checkpoint` gives, and whose names the file has."""
    path = local_file(path)
    try:
        with open_file(path, limit=_MAX_BYTES) as file:
            start = file.read(16)
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read ({error.strerror}); expected a file of weights") from error
    # Safetensors first: they begin with the header's length in eight bytes, the lowest of which may be anything, also
    # what a pickle (0x80) or an archive (PK) begins with.
    if start[4:9] == b"\0\0\0\0{":
        if (length := int.from_bytes(start[:8], "little")) > MAX_HEADER:
            raise WeightsError(f"{path}: damaged; expected a header of at most {MAX_HEADER} bytes, got {length}")
        return _in_own_names(path, *_read_safetensors(path))
    if start[:2] == b"PK" or start[:1] == b"\x80":
        return _in_own_names(path, _read_pickled(path), {})
    raise WeightsError(f"{path}: expected safetensors or a file that torch.save wrote; it begins with {start[:8]!r}")


def _in_own_names(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> tuple[Checkpoint, Layout]:
    try:
        tensors = strip_wrappers(tensors)
        layout = find_layout(tensors)
        tensors = rename(layout, tensors)
    except LayoutError as error:
        raise WeightsError(f"{path}: {error}") from None
    if not tensors:
        raise WeightsError(f"{path}: holds no weights")
    return Checkpoint(tensors, metadata), layout


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is no mapping)
            metadata = dict(file.metadata() or {})
    except Exception as error:  # its own, and torch's where a type is unknown
        raise WeightsError(f"{path}: damaged or cut short; expected safetensors ({error})") from error
    return _dequantised(path, tensors), metadata


def _dequantised(path: Path, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The floats that quantised entries stand for, and all other entries."""
    floats = {name: tensor for name, tensor in tensors.items() if not name.endswith(SCALE)}
    for name in tensors.keys() - floats.keys():
        weight, scale = floats.get(name.removesuffix(SCALE)), tensors[name]
        if weight is None or weight.dtype is not torch.int8 or scale.shape != weight.shape[:1]:
            raise WeightsError(f"{path}: damaged; expected an int8 weight with as many rows as {name} has values")
        floats[name.removesuffix(SCALE)] = weight * scale.view(-1, *[1] * (weight.ndim - 1))
    return floats


def _read_pickled(path: Path) -> dict[str, Tensor]:
    try:
        with open_file(path, limit=_MAX_BYTES) as file:
            content = load_pickled(file)
    except RefusedPickleError as error:
        raise WeightsError(f"{path}: refused: {error}; expected tensors only") from error
    except Exception as error:  # a dozen kinds, of this library and others
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise WeightsError(f"{path}: damaged or cut short; expected a file that torch.save wrote ({reason})") from error
    content = _innermost(content)
    if not isinstance(content, Mapping) or not content:
        raise WeightsError(f"{path}: expected a state dict, got {type(content).__name__}")
    for name, value in content.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise WeightsError(f"{path}: expected a state dict of tensors, got {name!r:.80}: {type(value).__name__}")
    return dict(content)


def _innermost(content: Any) -> Any:
    """The state dict inside of what a training program saved; a dictionary inside of itself ends the search."""
    seen: set[int] = set()
    while isinstance(content, Mapping) and id(content) not in seen:
        seen.add(id(content))
        inner = (content[key] for key in STATE_DICTS if isinstance(content.get(key), Mapping))
        content = next(inner, content)
    return content
