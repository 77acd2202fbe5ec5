"""HRFormer (Yuan et al., "HRFormer: High-Resolution Transformer for Dense Prediction", NeurIPS 2021)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fastpose.spec import PoseSpec

from ..layers import (
    DropPath,
    WindowAttention,
    join_windows,
    linear_rates,
    norm_act,
    separable_halving,
    split_windows,
    window_padding,
)
from ..pose_model import PoseModel
from ..registry import register_model
from .hrnet import HRNet, with_heatmap_head

_MODULES = (1, 4, 2)  # exchanges in the stages of two, three and four branches
_BLOCKS = 2  # blocks of each branch before an exchange
_WINDOW = 7
_MLP_RATIO = 4


class HRFormer(HRNet):
    """HRNet whose branches attend within windows instead of convolving; features at 1/4 of the input.

    Args:
        widths: channels of the four branches, from 1/4 to 1/32 of the input.
        heads: attention heads of each.
        drop_path: probability that the last block's residual branches are dropped in training; it grows from zero.
    """

    def __init__(self, widths: Sequence[int], heads: Sequence[int], *, drop_path: float) -> None:
        rates = linear_rates(drop_path, sum(_MODULES) * _BLOCKS)
        super().__init__(
            widths,
            modules=_MODULES,
            blocks=_BLOCKS,
            stem_blocks=2,
            block=lambda branch, number: HRFormerBlock(widths[branch], heads[branch], rates[number]),
            halving=separable_halving,
            interpolation="bilinear",
        )


class HRFormerBlock(nn.Module):
    """Window attention, then a convolutional MLP that carries features across the windows' borders.

    Args:
        channels: in and out.
        heads: attention heads.
        drop_path: probability that a residual branch is dropped in training.
    """

    def __init__(self, channels: int, heads: int, drop_path: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(channels, eps=1e-6)
        self.attn = LocalAttention(channels, heads)
        self.norm2 = nn.LayerNorm(channels, eps=1e-6)
        self.ffn = ConvMlp(channels, _MLP_RATIO * channels)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        """[B, channels, h, w] → the same shape, with the channels last in memory."""
        # Nearly everything here wants the channels last; so laid out, no step between has to move anything.
        x = x.contiguous(memory_format=torch.channels_last).permute(0, 2, 3, 1)
        x = x + self.drop_path(self.attn(self.norm1(x)))
        x = x + self.drop_path(self.ffn(self.norm2(x)))
        return x.permute(0, 3, 1, 2)


class LocalAttention(nn.Module):
    """Attention within windows that lie centred over the map; what they cover beyond it are zeros.

    Args:
        channels: in and out.
        heads: attention heads.
    """

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.attn = WindowAttention(channels, heads, _WINDOW)

    def forward(self, x: Tensor) -> Tensor:
        """[B, h, w, channels] → the same shape."""
        _, height, width, _ = x.shape
        rows, columns = window_padding(height, width, _WINDOW)
        top, left = rows // 2, columns // 2
        x = F.pad(x, (0, 0, left, columns - left, top, rows - top))
        x = self.attn(split_windows(x, _WINDOW))
        return join_windows(x, height + rows, width + columns, _WINDOW)[:, top : top + height, left : left + width]


class PointwiseConv(nn.Conv2d):
    """A 1x1 convolution as the matrix product that it is.

    Args:
        in_channels: in.
        out_channels: out.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """[B, h, w, in] → [B, out, h, w], channels last in memory."""
        return F.linear(x, self.weight.flatten(1), self.bias).permute(0, 3, 1, 2)


class ConvMlp(nn.Module):
    """1x1, depthwise 3x3 and 1x1 convolution, each with BatchNorm and GELU.

    Args:
        channels: in and out.
        hidden: channels between the 1x1 convolutions.
    """

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = PointwiseConv(channels, hidden)
        self.norm1 = nn.BatchNorm2d(hidden)
        self.dw3x3 = nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden)
        self.norm2 = nn.BatchNorm2d(hidden)
        self.fc2 = PointwiseConv(hidden, channels)
        self.norm3 = nn.BatchNorm2d(channels)
        # Contiguous either way, but the CPU's kernel spares itself a copy where it need not wonder about the layout.
        self.dw3x3.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, x: Tensor) -> Tensor:
        """[B, h, w, channels] → the same shape."""
        x = norm_act(self.norm1, self.fc1(x), F.gelu)
        x = norm_act(self.norm2, self.dw3x3(x), F.gelu)
        return norm_act(self.norm3, self.fc2(x.permute(0, 2, 3, 1)), F.gelu).permute(0, 2, 3, 1)


@register_model
def hrformer_small(spec: PoseSpec, *, deconv_channels: Sequence[int] = (), drop_path: float = 0.1) -> PoseModel:
    """HRFormer-Small."""
    return with_heatmap_head(spec, HRFormer((32, 64, 128, 256), (1, 2, 4, 8), drop_path=drop_path), deconv_channels)


@register_model
def hrformer_base(spec: PoseSpec, *, deconv_channels: Sequence[int] = (), drop_path: float = 0.2) -> PoseModel:
    """HRFormer-Base."""
    return with_heatmap_head(spec, HRFormer((78, 156, 312, 624), (2, 4, 8, 16), drop_path=drop_path), deconv_channels)
