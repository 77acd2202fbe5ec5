"""Which device and dtype a user means: one rule for prediction, evaluation and training."""

from __future__ import annotations

import os
import warnings

import torch

from .ops._native import C

__all__ = ["DTYPES", "pick_device", "pick_dtype"]

DTYPES = ("auto", "float32", "bfloat16", "float16")
"""What `pick_dtype` takes."""

_KINDS = ("cpu", "cuda")  # what the operators run on
_REBUILD = "the native core was built without CUDA; reinstall with FASTPOSE_CUDA=on"


def pick_device(
    name: str | torch.device | None = None, key: str = "device", *, needs_core: bool = True
) -> torch.device:
    """The device that a name stands for.

    ``None`` and ``auto`` are the GPU if there is one that the native core was built for, else the CPU; a GPU that only
    the core cannot use is warned about. A GPU without a number is the current one, or under ``torchrun`` (LOCAL_RANK)
    one for each process of a machine in turn.

    Args:
        name: ``auto``, ``cpu``, ``cuda``, ``cuda:1``, …, or a device of torch's.
        key: What an error calls the option that the user gave.
        needs_core: Refuse a GPU by name where the core was built without CUDA. False leaves that to the caller, who
            knows whether the core is needed.

    Returns:
        The device; a GPU with its number.

    Raises:
        TypeError: No name and no device.
        ValueError: There is no such device here, or the operators do not run on it; the message begins with ``key``.

    Example:
        >>> pick_device("cpu")
        device(type='cpu')
    """
    if not isinstance(name, str | torch.device | None):
        raise TypeError(f"{key}: expected a name such as 'cuda:0' or a torch.device, got {type(name).__name__}")
    if name is None or name == "auto":
        if not torch.cuda.is_available():
            return torch.device("cpu")
        if not C.with_cuda:
            warnings.warn(f"a GPU is there, but the CPU is used: {_REBUILD}, or set {key}=cpu", stacklevel=3)
            return torch.device("cpu")
        name = "cuda"
    try:
        device = torch.device(name)
        if device.type in _KINDS:
            if str(device) == "cuda":
                device = torch.device("cuda", _own_gpu())
            torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"{key}: {str(name)!r} cannot be used here: {str(error).splitlines()[0]}") from None
    if device.type not in _KINDS:
        raise ValueError(f"{key}: {str(name)!r} cannot be used; expected auto, cpu, cuda or cuda:N")
    if device.type == "cuda" and needs_core and not C.with_cuda:
        raise ValueError(f"{key}: {str(name)!r} cannot be used: {_REBUILD}, or set {key}=cpu")
    return device


def pick_dtype(name: str | torch.dtype | None, device: torch.device) -> torch.dtype:
    """What a network shall compute in on a device.

    Args:
        name: One of `DTYPES`, or one of those three dtypes of torch's; None is float32. ``auto`` is bfloat16 on a CPU
            that has units for its products (AMX), where convolutions take a third to a half of the time, else float32.
        device: Where it runs.

    Returns:
        The dtype.

    Raises:
        ValueError: No such dtype.

    Example:
        >>> pick_dtype("bfloat16", torch.device("cpu"))
        torch.bfloat16
    """
    word = "float32" if name is None else str(name).removeprefix("torch.")
    if word not in DTYPES:
        raise ValueError(f"dtype: expected {', '.join(DTYPES)}, got {name!r}")
    if word == "auto":
        word = "bfloat16" if device.type == "cpu" and _has_amx() else "float32"
    dtype: torch.dtype = getattr(torch, word)
    return dtype


def _has_amx() -> bool:
    """Whether the processor multiplies matrices of bfloat16 in units of their own."""
    ask = getattr(torch.cpu, "_is_amx_tile_supported", None)  # came with PyTorch 2.5
    return ask is not None and bool(ask())


def _own_gpu() -> int:
    """Number of the GPU that a process takes where none is named."""
    local = os.environ.get("LOCAL_RANK")
    return torch.cuda.current_device() if local is None else int(local) % max(1, torch.cuda.device_count())
