"""Oracle of `fastpose.ops.batch_norm_act`."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def batch_norm_act(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    running_mean: Tensor,
    running_var: Tensor,
    *,
    momentum: float,
    eps: float,
    relu: bool = False,
    residual: Tensor | None = None,
) -> Tensor:
    """What :func:`fastpose.ops.batch_norm_act` documents, for a map of any dtype, layout and device."""
    y = F.batch_norm(x, running_mean, running_var, weight, bias, True, momentum, eps)
    if residual is not None:
        y = y + residual
    return torch.relu(y) if relu else y
