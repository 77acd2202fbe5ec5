"""Calls of a reference in torch with what the caller has: arrays in, arrays out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

__all__ = ["in_torch"]


def in_torch(function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    """A function of tensors; where arrays are given, its results are arrays, too."""
    arrays = any(map(_is_array, (*arguments, *options.values())))
    result = function(*map(_to_tensor, arguments), **{name: _to_tensor(value) for name, value in options.items()})
    return _to_array(result) if arrays else result


def _is_array(value: Any) -> bool:
    return isinstance(value, np.ndarray) or (isinstance(value, tuple) and any(map(_is_array, value)))


def _to_tensor(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return torch.from_numpy(value if value.flags.writeable else value.copy())
    return tuple(map(_to_tensor, value)) if isinstance(value, tuple) else value


def _to_array(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.numpy()
    return tuple(map(_to_array, value)) if isinstance(value, tuple) else value
