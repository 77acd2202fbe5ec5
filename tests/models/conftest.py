"""Weights and inputs that are a pure function of their names, as the reference figures were made with."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

# Tests that run over all architectures build these too, and they take gigabytes.
_BIG = {"swin_large", "vitpose_large", "vitpose_huge"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what is run for a big architecture as slow."""
    for item in items:
        callspec = getattr(item, "callspec", None)
        if callspec is not None and callspec.params.get("name") in _BIG:
            item.add_marker(pytest.mark.slow)


def _normal(name: str, shape: tuple[int, ...]) -> np.ndarray:
    generator = np.random.Generator(np.random.PCG64(zlib.crc32(name.encode())))
    return np.asarray(generator.standard_normal(shape, dtype=np.float32))


def _entry(name: str, shape: tuple[int, ...]) -> np.ndarray:
    normal = _normal(name, shape)
    if name.endswith("running_var"):
        return 1 + 0.1 * np.abs(normal)
    if name.endswith(".weight") and len(shape) >= 2:
        return normal * (1.4 / math.prod(shape[1:]) ** 0.5)
    if name.endswith(".weight"):
        gain = 0.4 if ".fuse_layers." in name else 1.0
        if name.endswith((".bn2.weight", ".bn3.weight", ".norm2.weight", ".norm3.weight")):
            gain = 0.3
        return gain * (1 + 0.1 * normal)
    return 0.1 * normal


@pytest.fixture(scope="session")
def fill_by_name() -> Callable[[nn.Module], None]:
    """Give every floating-point entry of a state dict the values that its name and shape determine."""

    def fill(model: nn.Module) -> None:
        for name, tensor in model.state_dict().items():
            if tensor.is_floating_point():
                tensor.copy_(torch.from_numpy(np.asarray(_entry(name, tuple(tensor.shape)), dtype=np.float32)))

    return fill


@pytest.fixture(scope="session")
def input_by_name() -> Callable[[tuple[int, int]], Tensor]:
    """The input [1, 3, h, w] of that size."""
    return lambda size: torch.from_numpy(_normal("input", (1, 3, *size)))
