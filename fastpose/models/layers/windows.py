"""Self-attention within windows (Liu et al., "Swin Transformer", ICCV 2021, section 3.2)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def window_padding(height: int, width: int, window: int) -> tuple[int, int]:
    """Rows and columns by which a map must grow to be cut into whole windows.

    Args:
        height: rows of the map.
        width: columns of the map.
        window: side of the windows.
    """
    return -height % window, -width % window


def split_windows(x: Tensor, window: int) -> Tensor:
    """Cut maps into windows, row by row.

    Args:
        x: maps [B, h, w, c] whose sides are multiples of `window`.
        window: side of the windows.

    Returns:
        Tokens [B * windows, window * window, c].
    """
    batch, height, width, channels = x.shape
    x = x.view(batch, height // window, window, width // window, window, channels)
    return x.transpose(2, 3).reshape(-1, window * window, channels)


def join_windows(tokens: Tensor, height: int, width: int, window: int) -> Tensor:
    """Undo `split_windows`.

    Args:
        tokens: [B * windows, window * window, c].
        height: rows of the map, a multiple of `window`.
        width: columns of the map, a multiple of `window`.
        window: side of the windows.

    Returns:
        Maps [B, height, width, c].
    """
    rows, columns = height // window, width // window
    x = tokens.view(-1, rows, columns, window, window, tokens.shape[-1])
    return x.transpose(2, 3).reshape(-1, height, width, tokens.shape[-1])


class WindowAttention(nn.Module):
    """Multi-head self-attention of the tokens of one window, with a learned bias for every relative position.

    Args:
        channels: of every token, in and out; a multiple of `heads`.
        heads: number of attention heads.
        window: side of the windows.
    """

    relative_position_index: Tensor

    def __init__(self, channels: int, heads: int, window: int) -> None:
        super().__init__()
        if channels % heads:
            raise ValueError(f"heads: expected a divisor of {channels} channels, got {heads}")
        self.heads = heads
        self.window = window
        self.relative_position_bias_table = nn.Parameter(torch.zeros((2 * window - 1) ** 2, heads))
        self.register_buffer("relative_position_index", _relative_positions(window))
        self.qkv = nn.Linear(channels, 3 * channels)
        self.proj = nn.Linear(channels, channels)
        nn.init.trunc_normal_(self.relative_position_bias_table, std=0.02)

    def resize_weights(self, tensors: dict[str, Tensor], prefix: str, input_size: tuple[int, int] | None) -> None:
        """Take no positions from a file (see `fastpose.models.weights`): they follow from the window's side."""
        name = f"{prefix}relative_position_index"
        if name in tensors:
            tensors[name] = _relative_positions(self.window, device="cpu")

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens [windows, window * window, channels] → the same shape."""
        windows, length, channels = tokens.shape
        heads = self.qkv(tokens).view(windows, length, 3, self.heads, channels // self.heads)
        query, key, value = heads.permute(2, 0, 3, 1, 4).unbind()
        x = F.scaled_dot_product_attention(query, key, value, attn_mask=self.position_bias())
        return self.proj(x.transpose(1, 2).reshape(windows, length, channels))

    def position_bias(self) -> Tensor:
        """What is added to the attention of each query (row) to each key (column): [1, heads, length, length]."""
        return F.embedding(self.relative_position_index, self.relative_position_bias_table).permute(2, 0, 1)[None]


def _relative_positions(window: int, device: str | None = None) -> Tensor:
    """Rows of the table of biases for every pair of tokens: int64 [window², window²]."""
    side = torch.arange(window, device=device)
    rows, columns = (part.flatten() for part in torch.meshgrid(side, side, indexing="ij"))
    down, right = (part[:, None] - part[None, :] + window - 1 for part in (rows, columns))
    return down * (2 * window - 1) + right
