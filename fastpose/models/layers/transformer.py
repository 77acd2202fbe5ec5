"""Parts that the transformer families share."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F


class PatchEmbed(nn.Module):
    """A strided convolution that turns a map into a grid of tokens, normalised if wanted.

    Args:
        in_channels: channels of the map.
        channels: channels of the tokens.
        kernel: side of the kernel; larger than the stride, patches overlap.
        stride: distance between patches.
        padding: zeros around the map.
        norm_eps: epsilon of the LayerNorm that follows; None for no LayerNorm.
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        kernel: int,
        stride: int,
        *,
        padding: int = 0,
        norm_eps: float | None = None,
    ) -> None:
        super().__init__()
        self.projection = nn.Conv2d(in_channels, channels, kernel, stride, padding)
        self.norm = None if norm_eps is None else nn.LayerNorm(channels, eps=norm_eps)

    def forward(self, x: Tensor) -> Tensor:
        """[B, in_channels, h, w] → [B, h / stride, w / stride, channels]."""
        x = self.projection(x).permute(0, 2, 3, 1)
        return x if self.norm is None else self.norm(x)


class FeedForward(nn.Module):
    """Two linear layers with GELU between them.

    Args:
        channels: of input and output.
        hidden: between the two.
    """

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Sequential(nn.Linear(channels, hidden), nn.GELU()),
            nn.Linear(hidden, channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        """[..., channels] → the same shape."""
        return self.layers(x)


def linear_rates(last: float, count: int) -> list[float]:
    """Stochastic depth's rates of `count` blocks: from 0 in the first to `last` in the last one."""
    return [last * index / max(count - 1, 1) for index in range(count)]


def resize_positions(positions: Tensor, grid: tuple[int, int], size: tuple[int, int], mode: str) -> Tensor:
    """Interpolate learned positions from one grid of tokens to another.

    Args:
        positions: [1, h * w, channels], row by row, any floating dtype.
        grid: (h, w) that they were learned for.
        size: (height, width) of the wanted grid.
        mode: of `torch.nn.functional.interpolate`.

    Returns:
        [1, height * width, channels], of the same dtype; `positions` itself where the grids are equal.
    """
    if grid == size:
        return positions
    plane = positions.float().unflatten(1, grid).permute(0, 3, 1, 2)
    return F.interpolate(plane, size=size, mode=mode).flatten(2).transpose(1, 2).to(positions.dtype)
