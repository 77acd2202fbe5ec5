"""Weights and inputs that are a pure function of their names, and the figures that a reference implementation gave on
them (tests/data/model_figures.json, made by tools/make_model_figures.py; tools/check_zoo.py uses this file too).
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import math
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import Tensor, nn

from fastpose.models import Output, ZooEntry, list_entries

TOLERANCE = 1e-4  # relative to the largest magnitude
# Weights by name make ResNeSt-269 amplify rounding: computed in float64, its outputs are 2.6e-4 (256x192) and 2.0e-4
# (384x288) away from the figures, which are float32's. Twice that is what another order of additions may cost.
TOLERANCES = {
    "td-hm_resnest269_8xb32-210e_coco-256x192": 5e-4,
    "td-hm_resnest269_8xb16-210e_coco-384x288": 5e-4,
}
# Zoo entries without figures of their own, and the entry whose network theirs is but for the last layer's keypoints.
SIBLINGS = {
    "hrnet_w32_combine.coco_aic_256x192": "hrnet_w32.coco_256x192",
    "vitpose_large.humanart_256x192": "vitpose_large.coco_256x192",
    "vitpose_huge.humanart_256x192": "vitpose_huge.coco_256x192",
}


@functools.cache
def model_figures() -> dict[str, dict[str, Any]]:
    """Figures by the name of an official configuration."""
    file = Path(__file__).parents[1] / "data" / "model_figures.json"
    return json.loads(file.read_text(encoding="utf-8"))


def figures_of(alias: str | None) -> dict[str, Any] | None:
    """The figures of the network of an official configuration, which may be those of another one that shares it."""
    return next((f for f in model_figures().values() if alias in f["same_architecture"]), None)


def twin_of(entry: ZooEntry) -> ZooEntry:
    """The entry itself, or where it has no figures one of the very same network that has: distilled ones have none."""
    if entry.alias is None or entry.name in SIBLINGS or figures_of(entry.alias) is not None:
        return entry
    same = (other for other in list_entries() if figures_of(other.alias) is not None and other.spec == entry.spec)
    return next(x for x in same if (x.architecture, x.arguments) == (entry.architecture, entry.arguments))


def tolerance(name: str) -> float:
    """Largest relative error that the outputs of an official configuration's network may have."""
    return TOLERANCES.get(name, TOLERANCE)


def normal(name: str, shape: tuple[int, ...]) -> np.ndarray:
    generator = np.random.Generator(np.random.PCG64(zlib.crc32(name.encode())))
    return np.asarray(generator.standard_normal(shape, dtype=np.float32))


def value_by_name(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """A floating-point entry of a state dict."""
    values = normal(name, shape)
    if name.endswith("running_var"):
        return 1 + 0.1 * np.abs(values)
    if name.endswith(".weight") and len(shape) >= 2:
        return values * (1.4 / math.prod(shape[1:]) ** 0.5)
    if name.endswith(".weight"):
        gain = 0.4 if ".fuse_layers." in name else 1.0
        if name.endswith((".bn2.weight", ".bn3.weight", ".norm2.weight", ".norm3.weight")):
            gain = 0.3
        return gain * (1 + 0.1 * values)
    return 0.1 * values


def fill(model: nn.Module) -> None:
    """Give every floating-point entry of a state dict the values that its name and shape determine."""
    for name, tensor in model.state_dict().items():
        if tensor.is_floating_point():
            tensor.copy_(torch.from_numpy(np.asarray(value_by_name(name, tuple(tensor.shape)), dtype=np.float32)))


def input_by_name(size: tuple[int, int]) -> Tensor:
    """The input [1, 3, h, w] of that size."""
    return torch.from_numpy(normal("input", (1, 3, *size)))


@contextlib.contextmanager
def without_initialisation() -> Iterator[None]:
    """Networks that are built here have no initial weights: for those that are filled anyway."""
    names = [name for name in dir(nn.init) if name.endswith("_") and not name.startswith("_")]
    with contextlib.ExitStack() as stack:
        for name in names:
            stack.enter_context(mock.patch.object(nn.init, name, lambda tensor, *_, **__: tensor))
        yield


def state_entries(model: nn.Module) -> list[list[Any]]:
    """Names, shapes and dtypes of a state dict, in order."""
    return [[key, list(t.shape), str(t.dtype).removeprefix("torch.")] for key, t in model.state_dict().items()]


def same_state_dict(model: nn.Module, figures: dict[str, Any]) -> bool:
    """Whether a state dict has the names, shapes, dtypes and order of the figures."""
    entries = state_entries(model)
    digest = hashlib.sha256(json.dumps(entries).encode()).hexdigest()
    return len(entries) == figures["state_dict"] and digest == figures["state_dict_sha256"]


def all_outputs(model: nn.Module, x: Tensor) -> list[np.ndarray]:
    """What a network in evaluation mode returns, one array an output."""
    with torch.inference_mode():
        output: Output = model.eval()(x)
    return [tensor.numpy() for tensor in output.tensors()]


def largest_error(outputs: list[np.ndarray], figures: dict[str, Any]) -> float:
    """Largest relative difference between outputs and figures: of the samples, and of either norm.

    Raises:
        ValueError: the number of outputs, or a shape, differs.
    """
    shapes = [list(output.shape) for output in outputs]
    if shapes != [expected["shape"] for expected in figures["outputs"]]:
        raise ValueError(f"outputs: expected {[e['shape'] for e in figures['outputs']]}, got {shapes}")
    error = 0.0
    for output, expected in zip(outputs, figures["outputs"], strict=True):
        stored = output[tuple(slice(None, None, step) for step in expected["steps"])].astype(np.float64)
        samples = stored.ravel()[np.linspace(0, stored.size - 1, len(expected["samples"])).astype(int)]
        norms = {"l1": np.abs(stored).sum(), "l2": np.sqrt(np.square(stored).sum())}
        errors = [np.abs(samples - expected["samples"]).max() / expected["largest"]]
        errors += [abs(value - expected[norm]) / expected[norm] for norm, value in norms.items()]
        error = max(error, *map(float, errors)) if np.isfinite(errors).all() else math.inf
    return error
