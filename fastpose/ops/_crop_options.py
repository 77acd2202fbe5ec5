"""The options of affine_crop in numbers."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor

from ._arguments import flag_argument, needs_grad
from ._native import C, is_compiling

__all__ = ["Options", "Plan", "native_options", "plan", "warn_of_fractions"]

Options = tuple[Any, ...]
"""(size, mean, std, swap_rb, border, border_value, antialias, layout) as the caller gave them."""


class Plan(NamedTuple):
    """What the options say.

    Attributes:
        size: (height, width) of a crop.
        values: scale, shift and border, three numbers each; whether to swap channels, replicate the edge, antialias.
        nhwc: whether the channels shall lie last.
        native: the same as the native core takes it; None while a tracer looks on.
    """

    size: tuple[int, int]
    values: tuple[Any, ...]
    nhwc: bool
    native: Any = None


_PLANS: dict[Options, Plan] = {}


def plan(options: Options) -> Plan:
    """What the options say, remembered by their values: callers give the same few again and again.

    Raises:
        TypeError: A switch is none, or a gradient with respect to a number is wanted.
        ValueError: An option is wrong.
    """
    if is_compiling():
        return _read(*options)
    try:
        return _PLANS[options]
    except (KeyError, TypeError):  # new, or with lists or arrays in it
        found = _read(*options)
    found = found._replace(native=native_options(*found[:3]))
    if all(map(_is_value, options)):
        if len(_PLANS) >= 256:
            _PLANS.clear()
        _PLANS[options] = found
    return found


@lru_cache(maxsize=256)
def native_options(size: tuple[int, int], values: tuple[Any, ...], nhwc: bool) -> Any:
    """What the native core takes, of a plan."""
    return C.CropOptions(*size, *values, nhwc)


def _is_value(option: Any) -> bool:
    """Whether it is equal to another only if it says the same, now and later: a tensor's hash is its identity."""
    if isinstance(option, tuple):
        return all(map(_is_value, option))
    return option is None or isinstance(option, (int, float, str, np.number, np.bool_))


def _read(
    size: Any, mean: Any, std: Any, swap_rb: Any, border: Any, border_value: Any, antialias: Any, layout: Any
) -> Plan:
    means, stds, edge = _triple("mean", mean, 0.0), _triple("std", std, 1.0), _triple("border_value", border_value, 0.0)
    if not all(s > 0 for s in stds):
        raise ValueError(f"std: expected numbers above 0, got {std!r}")
    if not isinstance(border, str) or border not in ("constant", "replicate"):
        raise ValueError(f"border: expected 'constant' or 'replicate', got {border!r}")
    if not isinstance(layout, str) or layout not in ("nchw", "nhwc"):
        raise ValueError(f"layout: expected 'nchw' or 'nhwc', got {layout!r}")
    scale = tuple(1.0 / s for s in stds)  # (sample - mean) / std is sample * scale + shift
    shift = tuple(-m / s for m, s in zip(means, stds, strict=True))
    swap, smooth = flag_argument("swap_rb", swap_rb), flag_argument("antialias", antialias)
    inside = edge[::-1] if swap else edge  # the core wants it in the photo's order
    return Plan(_sides(size), (scale, shift, inside, swap, border == "replicate", smooth), layout == "nhwc")


def _sides(size: Any) -> tuple[int, int]:
    try:
        height, width = size
        sides = int(height), int(width)
        good = not isinstance(size, str) and sides == (height, width)
    except (TypeError, ValueError, OverflowError):
        good = False
    if not good or sides[0] < 1 or sides[1] < 1:
        raise ValueError(f"size: expected (height, width) of at least 1, got {size!r}")
    return sides


def _triple(name: str, value: Any, default: float) -> tuple[float, float, float]:
    if value is None:
        return (default, default, default)
    if needs_grad(value):
        raise TypeError(f"{name}: affine_crop has no gradient with respect to it; detach it")
    try:
        if isinstance(value, (int, float, np.number)) or getattr(value, "ndim", None) == 0:
            return (float(value),) * 3
        if isinstance(value, str):
            raise ValueError
        first, second, third = (float(x) for x in value)
    except (TypeError, ValueError):
        raise ValueError(f"{name}: expected a number or three, got {value!r}") from None
    return (first, second, third)


def warn_of_fractions(photos: Sequence[Any], options: Sequence[Any]) -> None:
    """Warns where float photos hold nothing but fractions from 0 to 1, while mean and std are of 0..255.

    Looks at memory on the CPU only, and at all of a photo only if all of a sample is like that. The core's gate does
    the same (`look_like_fractions` in csrc/bindings/affine_crop.cpp), so that a call which is right costs a few reads.
    """
    scale, shift = options[:2]
    if not any(k < 1 or -b > k for k, b in zip(scale, shift, strict=True)):
        return
    if not any(map(_are_fractions, photos)):
        return
    mean, std = (tuple(round(float(x), 3) for x in xs) for xs in _as_given(scale, shift))
    warnings.warn(
        f"images: expected float values from 0 to 255, as mean={mean} and std={std} are; got values between 0 and 1: "
        "multiply the images by 255, or divide mean, std and border_value by 255",
        stacklevel=4,
    )


def _as_given(scale: Sequence[float], shift: Sequence[float]) -> tuple[list[float], list[float]]:
    return [-b / k for k, b in zip(scale, shift, strict=True)], [1 / k for k in scale]


def _are_fractions(photos: Any) -> bool:
    """Whether all values of one photo are from 0 to 1, and one is no whole number (a black photo says nothing)."""
    if isinstance(photos, Tensor):
        if photos.device.type != "cpu" or not photos.dtype.is_floating_point:
            return False
        photos = photos.detach().numpy()
    if photos.dtype.kind != "f" or photos.ndim < 3 or photos.size == 0:
        return False
    if photos.ndim > 3:
        return any(map(_are_fractions, photos))
    down, right = 1 + photos.shape[0] // 32, 1 + photos.shape[1] // 32
    for values in (photos[::down, ::right], photos):
        if not (values.min() >= 0 and values.max() <= 1):
            return False
    return bool((photos % 1 != 0).any())
