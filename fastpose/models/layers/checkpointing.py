"""Activation checkpointing (Chen et al., "Training Deep Nets with Sublinear Memory Cost", 2016)."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint


def run_checkpointed(block: nn.Module, *inputs: Tensor) -> Tensor:
    """Apply a block so that backward computes it again instead of keeping what it made.

    BatchNorm's running statistics take the batch in once, as without checkpointing.

    Args:
        block: what to apply.
        inputs: its inputs.

    Returns:
        block(*inputs).
    """
    if torch.compiler.is_compiling():  # the compiler derives the second pass itself, without its side effects
        return checkpoint(block, *inputs, use_reentrant=False)
    return checkpoint(
        block, *inputs, use_reentrant=False, context_fn=lambda: (contextlib.nullcontext(), _frozen_statistics(block))
    )


@contextlib.contextmanager
def _frozen_statistics(block: nn.Module) -> Iterator[None]:
    """While it lasts, BatchNorm in training mode leaves its running statistics as they are."""
    norms = [module for module in block.modules() if isinstance(module, _BatchNorm)]
    before = [(norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm in norms:
        norm.momentum, norm.num_batches_tracked = 0.0, None
    try:
        yield
    finally:
        for norm, (momentum, batches) in zip(norms, before, strict=True):
            norm.momentum, norm.num_batches_tracked = momentum, batches
