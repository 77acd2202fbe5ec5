"""The gated attention unit (Hua et al., "Transformer Quality in Linear Time", ICML 2022), as RTMPose has it."""

from __future__ import annotations

import math
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class ScaleNorm(nn.Module):
    """Vectors divided by their root mean square, times one learned factor (Nguyen and Salazar, 2019).

    Args:
        width: numbers in a vector.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.scale = width**-0.5
        self.g = nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        """[..., width] → the same shape."""
        norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True) * self.scale
        return x / norm.clamp(min=1e-5) * self.g


class GatedAttention(nn.Module):
    """Self-attention with the squared ReLU for weights, whose result gates the tokens; beside a scaled shortcut.

    Args:
        width: numbers in a token.
        expansion: factor on them within the gate.
        attention_width: numbers in a query and a key.
    """

    def __init__(self, width: int, *, expansion: int = 2, attention_width: int = 128) -> None:
        super().__init__()
        self.hidden, self.attention_width = width * expansion, attention_width
        self.o = nn.Linear(self.hidden, width, bias=False)
        self.uv = nn.Linear(width, 2 * self.hidden + attention_width, bias=False)
        self.gamma = nn.Parameter(torch.rand(2, attention_width))
        self.beta = nn.Parameter(torch.rand(2, attention_width))
        self.ln = ScaleNorm(width)
        self.res_scale = _Scale(width)

    def forward(self, x: Tensor) -> Tensor:
        """[B, tokens, width] → the same shape."""
        mixed = F.silu(self.uv(self.ln(x)))
        gate, values, shared = mixed.split((self.hidden, self.hidden, self.attention_width), dim=2)
        query, key = (shared * self.gamma[i] + self.beta[i] for i in (0, 1))
        weights = F.relu(query @ key.transpose(1, 2) / math.sqrt(self.attention_width)).square()
        return cast(Tensor, self.res_scale(x)) + self.o(gate * (weights @ values))


class _Scale(nn.Module):
    """A factor for each number of a token."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale
