"""Arithmetic between a map and a smaller one that stands for its nearest-neighbour enlargement."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F


def with_enlarged(operation: Callable[[Tensor, Tensor], Tensor], x: Tensor, small: Tensor) -> Tensor:
    """Apply an elementwise operation to a map and the enlargement of another, which is never written out.

    Equals `operation(x, F.interpolate(small, size=x.shape[-2:]))`, which on a CPU takes several times as long: its
    nearest-neighbour kernel costs far more than the arithmetic. Here only the columns are repeated; one row then serves
    all the rows that it stands for. With the channels last in memory that kernel copies whole positions and is the
    faster way, most of all for the gradient.

    Args:
        operation: of two tensors that broadcast, such as `torch.mul`, or in place on the first.
        x: [B, c, h, w].
        small: [B, c, h', w'].

    Returns:
        [B, c, h, w].
    """
    height, width = x.shape[-2:]
    rows, columns = small.shape[-2:]
    uneven = height % rows or width % columns  # some rows stand for more than others
    if uneven or (x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()):
        return operation(x, F.interpolate(small, size=(height, width)))
    small = small.unsqueeze(-1).expand(-1, -1, -1, -1, width // columns).flatten(3).unsqueeze(3)
    return operation(x.unflatten(2, (rows, height // rows)), small).flatten(2, 3)
