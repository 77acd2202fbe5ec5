"""What a run changes in its process, and puts back at its end."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from .memory import keep_memory, release_memory

__all__ = ["process_settings", "random_state", "seed_process", "set_random_state"]


@contextmanager
def process_settings(device: torch.device, *, deterministic: bool) -> Iterator[None]:
    """Settings of the whole process as a run needs them, within the block; afterwards they are what they were.

    These are torch's deterministic mode, its random generators, the filters of warnings, and on a CPU what malloc does
    with memory that is freed (:func:`fastpose.train.memory.keep_memory`).

    Args:
        device: Of the run.
        deterministic: Only algorithms that give the same result every time.
    """
    mode = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    random = random_state(device)
    kept = device.type == "cpu" and keep_memory()
    try:
        torch.use_deterministic_algorithms(deterministic)
        with warnings.catch_warnings():
            yield
    finally:
        if kept:
            release_memory()
        set_random_state(random, device)
        torch.use_deterministic_algorithms(mode[0], warn_only=mode[1])


def seed_process(seed: int, device: torch.device) -> None:
    """Seed the generators that a run on this device draws from: the CPU's, and the GPU's."""
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        with torch.cuda.device(device):
            torch.cuda.manual_seed(seed)


def random_state(device: torch.device) -> list[Tensor]:
    """State of this process's random generators: the CPU's, and that of the GPU that it trains on."""
    return [torch.get_rng_state(), *([torch.cuda.get_rng_state(device)] if device.type == "cuda" else [])]


def set_random_state(state: list[Tensor], device: torch.device) -> None:
    """Put the generators where :func:`random_state` found them."""
    torch.set_rng_state(state[0])
    if device.type == "cuda" and len(state) > 1:
        torch.cuda.set_rng_state(state[1], device)
