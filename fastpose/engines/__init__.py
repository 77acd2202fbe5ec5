"""Where a network runs, behind one small interface: `Engine`. A file each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from ..checks import check_choice
from ..models import PoseModel, fuse_batchnorm
from .compiled import Compiled
from .cuda_graphs import CudaGraphs
from .eager import Eager
from .engine import Engine
from .transfer import Clock, Transfer, make_transfer

__all__ = ["ENGINES", "Clock", "Compiled", "CudaGraphs", "Eager", "Engine", "Transfer", "build_engine", "make_transfer"]

ENGINES: Mapping[str, Any] = {engine.name: engine for engine in (Eager, Compiled, CudaGraphs)}
"""The engines by name."""


def build_engine(
    model: PoseModel, engine: str = "auto", *, device: torch.device, dtype: torch.dtype = torch.float32
) -> Engine:
    """An engine for a copy of a network, its BatchNorms folded in and the channels last in memory.

    Args:
        model: The network; not changed, and later changes of it do not reach the engine.
        engine: A name of `ENGINES`, or ``auto``: `cuda_graphs` on CUDA, else `eager`.
        device: Where, with its index on CUDA.
        dtype: In what it computes.

    Returns:
        The engine.

    Raises:
        ValueError: There is no such engine, or it does not run on that device.
    """
    check_choice("engine", engine, ("auto", *ENGINES))
    if engine == "auto":
        engine = CudaGraphs.name if device.type == "cuda" else Eager.name
    if engine == CudaGraphs.name and device.type != "cuda":
        raise ValueError(f"engine: {engine!r} runs on CUDA, not on {device}")
    network = fuse_batchnorm(model).to(device=device, dtype=dtype)
    network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    built: Engine = ENGINES[engine](network, device, dtype)
    return built
