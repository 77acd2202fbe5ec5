"""Swin (Liu et al., "Swin Transformer: Hierarchical Vision Transformer using Shifted Windows", ICCV 2021)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fastpose.spec import PoseSpec

from ..baseline import simple_baseline
from ..layers import (
    DropPath,
    FeedForward,
    PatchEmbed,
    WindowAttention,
    linear_rates,
    run_checkpointed,
    window_padding,
)
from ..pose_model import PoseModel
from ..registry import register_model


class SwinTransformer(nn.Module):
    """Swin Transformer without its classifier: four stages, at 1/4, 1/8, 1/16 and 1/32 of the input.

    Args:
        channels: of the first stage; every further one has twice as many.
        depths: blocks of each stage; every second one shifts its windows.
        heads: attention heads of each stage.
        window_size: side of the windows, in tokens.
        drop_path: chance of a residual branch being dropped while training, in the last block; from 0 in the first it
            grows linearly.

    Attributes:
        grad_checkpointing: recompute the blocks' insides for the gradients instead of keeping them.
    """

    stride = 32
    feature_strides = (4, 8, 16, 32)

    def __init__(
        self, channels: int, depths: Sequence[int], heads: Sequence[int], *, window_size: int, drop_path: float
    ) -> None:
        super().__init__()
        if len(depths) != 4 or len(heads) != 4:
            raise ValueError(f"depths, heads: expected four stages, got {tuple(depths)} and {tuple(heads)}")
        if window_size < 2:
            raise ValueError(f"window_size: expected at least 2, got {window_size}")
        self.feature_channels = tuple(channels << index for index in range(4))
        self.out_channels = self.feature_channels[-1]
        self.grad_checkpointing = False
        self.patch_embed = PatchEmbed(3, channels, 4, 4, norm_eps=1e-5)
        rates = linear_rates(drop_path, sum(depths))
        self.stages = nn.ModuleList()
        for index, (depth, width) in enumerate(zip(depths, self.feature_channels, strict=True)):
            first = sum(depths[:index])
            downsample = PatchMerging(width) if index < 3 else None
            self.stages.append(Stage(width, heads[index], window_size, rates[first : first + depth], downsample))
        self.norm3 = nn.LayerNorm(self.out_channels)
        self.init_weights()

    def init_weights(self) -> None:
        """Truncated normal (0.02) for linear layers; bias tables have drawn theirs."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, x: Tensor) -> Tensor:
        """[B, 3, h, w] → [B, out_channels, h / 32, w / 32]."""
        return self.forward_features(x)[-1]

    def forward_features(self, x: Tensor) -> list[Tensor]:
        """[B, 3, h, w] → the stages' maps [B, feature_channels[i], h / feature_strides[i], w / feature_strides[i]].

        The last one is normalised, the others are as the next stage takes them.
        """
        x = self.patch_embed(x)
        maps = []
        for stage in self.stages:
            x, features = stage(x, recompute=self.grad_checkpointing and self.training)
            maps.append(features)
        maps[-1] = self.norm3(maps[-1])
        return [features.permute(0, 3, 1, 2) for features in maps]


class Stage(nn.Module):
    """Blocks of one resolution, then the step to the next.

    Args:
        channels: of the tokens.
        heads: attention heads of each block.
        window: side of the windows.
        drop_path: of each block; as many as there are blocks.
        downsample: halves the resolution; None after the last stage.
    """

    def __init__(
        self, channels: int, heads: int, window: int, drop_path: Sequence[float], downsample: nn.Module | None
    ) -> None:
        super().__init__()
        self.window = window
        self.blocks = nn.ModuleList(
            [
                Block(channels, heads, window, window // 2 if index % 2 else 0, rate)
                for index, rate in enumerate(drop_path)
            ]
        )
        self.downsample = downsample

    def forward(self, x: Tensor, *, recompute: bool) -> tuple[Tensor, Tensor]:
        """Run the blocks.

        Args:
            x: tokens [B, h, w, channels].
            recompute: the blocks' insides for the gradients (see `run_checkpointed`).

        Returns:
            The next stage's tokens [B, h / 2, w / 2, 2 * channels] (after the last stage: this one's), and this
            stage's [B, h, w, channels].
        """
        height, width = x.shape[1:3]
        below, right = window_padding(height, width, self.window)
        mask = shifted_window_mask(height + below, width + right, self.window, self.window // 2, x.device)
        for block in self.blocks:
            x = run_checkpointed(block, x, mask) if recompute else block(x, mask)
        return (x if self.downsample is None else self.downsample(x)), x


class Block(nn.Module):
    """Attention inside windows and feed-forward layer, each normalised before and added to what came in.

    Args:
        channels: of the tokens.
        heads: attention heads.
        window: side of the windows.
        shift: rows and columns by which the windows lie off the map's corner.
        drop_path: chance of each branch being dropped while training.
    """

    def __init__(self, channels: int, heads: int, window: int, shift: int, drop_path: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(channels)
        self.attn = ShiftedWindowAttention(channels, heads, window, shift)
        self.norm2 = nn.LayerNorm(channels)
        self.ffn = FeedForward(channels, 4 * channels)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Tokens [B, h, w, channels] and the mask of shifted windows → [B, h, w, channels]."""
        x = x + self.drop_path(self.attn(self.norm1(x), mask))
        return x + self.drop_path(self.ffn(self.norm2(x)))


class ShiftedWindowAttention(nn.Module):
    """Attention inside windows that may lie off the map's corner.

    Where windows reach beyond the map there are zeros, and they take part as keys. All that a linear layer makes of
    them is its bias, so the linear layers run on the map alone.

    Args:
        channels: of the tokens.
        heads: attention heads.
        window: side of the windows.
        shift: rows and columns by which the windows lie off; 0 for none.
    """

    def __init__(self, channels: int, heads: int, window: int, shift: int) -> None:
        super().__init__()
        self.heads = heads
        self.window = window
        self.shift = shift
        self.w_msa = WindowAttention(channels, heads, window)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Attend.

        Args:
            x: tokens [B, h, w, channels].
            mask: of `shifted_window_mask`; not looked at where shift is 0.

        Returns:
            [B, h, w, channels].
        """
        batch, height, width, channels = x.shape
        heads, window, size = self.heads, self.window, channels // self.heads
        below, right = window_padding(height, width, window)
        qkv = self.w_msa.qkv(x)
        qkv = _pad_and_roll(qkv, self.w_msa.qkv.bias, 1, height + below, self.shift)
        qkv = _pad_and_roll(qkv, self.w_msa.qkv.bias, 2, width + right, self.shift)
        rows, columns = (height + below) // window, (width + right) // window
        qkv = qkv.view(batch, rows, window, columns, window, 3, heads, size).permute(5, 0, 1, 3, 6, 2, 4, 7)
        bias = self.w_msa.position_bias()
        if self.shift:  # a bias per window and head: with the windows among the heads it is the same for every crop
            bias = (bias + mask.to(bias.dtype)[:, None]).flatten(0, 1)[None]
            qkv = qkv.reshape(3, batch, rows * columns * heads, window**2, size)
        else:
            qkv = qkv.reshape(3, batch * rows * columns, heads, window**2, size)
        query, key, value = qkv.unbind(0)
        x = F.scaled_dot_product_attention(query, key, value, bias)
        x = x.reshape(batch, rows, columns, heads, window, window, size).permute(0, 1, 4, 2, 5, 3, 6)
        x = x.reshape(batch, height + below, width + right, channels)
        x = _unroll_and_crop(_unroll_and_crop(x, 1, height, self.shift), 2, width, self.shift)
        return self.w_msa.proj(x)

    def resize_weights(self, tensors: dict[str, Tensor], prefix: str, input_size: tuple[int, int] | None) -> None:
        """Fit the bias table of a checkpoint with another window to this one (see `fastpose.models.weights`)."""
        name = f"{prefix}w_msa.relative_position_bias_table"
        if name not in tensors or tensors[name].shape[1:] != self.w_msa.relative_position_bias_table.shape[1:]:
            return
        table = tensors[name]
        side, wanted = math.isqrt(table.shape[0]), 2 * self.window - 1
        if side**2 == table.shape[0] and side != wanted:
            plane = table.float().T.unflatten(1, (side, side))[None]
            plane = F.interpolate(plane, size=(wanted, wanted), mode="bicubic")
            tensors[name] = plane[0].flatten(1).T.to(table.dtype)


class PatchMerging(nn.Module):
    """Two by two tokens become one of twice the channels.

    Args:
        channels: of the tokens that come in.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4 * channels)
        self.reduction = nn.Linear(4 * channels, 2 * channels, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """[B, h, w, channels] → [B, h / 2, w / 2, 2 * channels]."""
        x = x.unflatten(1, (-1, 2)).unflatten(3, (-1, 2))  # [B, h / 2, 2, w / 2, 2, channels]
        return self.reduction(self.norm(x.permute(0, 1, 3, 5, 2, 4).flatten(3)))


def shifted_window_mask(height: int, width: int, window: int, shift: int, device: torch.device) -> Tensor:
    """Keep apart what only the roll brought into one window.

    Args:
        height: of the map, padding included.
        width: of the map, padding included.
        window: side of the windows.
        shift: rows and columns by which the map was rolled.
        device: of the mask.

    Returns:
        [windows, window², window²] float32: 0 between tokens that may see each other, -100 else.
    """

    def regions(length: int) -> Tensor:
        position = torch.arange(length, device=device)
        return (position >= length - window).long() + (position >= length - shift).long()

    region = 3 * regions(height)[:, None] + regions(width)
    region = region.unflatten(0, (-1, window)).unflatten(2, (-1, window)).transpose(1, 2).reshape(-1, window**2)
    return (region[:, :, None] != region[:, None, :]).float() * -100.0


def _pad_and_roll(x: Tensor, padding: Tensor, dim: int, length: int, roll: int) -> Tensor:
    """Lengthen dimension 1 or 2 of [B, h, w, c] with rows of `padding` [c], then move the first `roll` to the end."""
    size = x.shape[dim]
    if size == length and not roll:
        return x
    head, tail = x.narrow(dim, 0, min(roll, size)), x.narrow(dim, min(roll, size), max(size - roll, 0))
    after_head = max(roll - size, 0)
    shape = list(x.shape)

    def fill(count: int) -> Tensor:
        shape[dim] = count
        return padding.to(x.dtype).expand(shape)

    return torch.cat([tail, fill(length - size - after_head), head, fill(after_head)], dim)


def _unroll_and_crop(x: Tensor, dim: int, size: int, roll: int) -> Tensor:
    """Undo `_pad_and_roll`: [B, h, w, c] with `size` rows (columns)."""
    if not roll:
        return x.narrow(dim, 0, size)
    head, tail = min(roll, size), max(size - roll, 0)
    return torch.cat([x.narrow(dim, x.shape[dim] - roll, head), x.narrow(dim, 0, tail)], dim)


@register_model
def swin_tiny(
    spec: PoseSpec,
    *,
    window_size: int = 7,
    drop_path: float = 0.2,
    deconv_channels: Sequence[int] = (256, 256, 256),
) -> PoseModel:
    """SimpleBaseline on Swin-T."""
    backbone = SwinTransformer(96, (2, 2, 6, 2), (3, 6, 12, 24), window_size=window_size, drop_path=drop_path)
    return simple_baseline(spec, backbone, deconv_channels=deconv_channels)


@register_model
def swin_base(
    spec: PoseSpec,
    *,
    window_size: int = 7,
    drop_path: float = 0.3,
    deconv_channels: Sequence[int] = (256, 256, 256),
) -> PoseModel:
    """SimpleBaseline on Swin-B."""
    backbone = SwinTransformer(128, (2, 2, 18, 2), (4, 8, 16, 32), window_size=window_size, drop_path=drop_path)
    return simple_baseline(spec, backbone, deconv_channels=deconv_channels)


@register_model
def swin_large(
    spec: PoseSpec,
    *,
    window_size: int = 7,
    drop_path: float = 0.5,
    deconv_channels: Sequence[int] = (256, 256, 256),
) -> PoseModel:
    """SimpleBaseline on Swin-L."""
    backbone = SwinTransformer(192, (2, 2, 18, 2), (6, 12, 24, 48), window_size=window_size, drop_path=drop_path)
    return simple_baseline(spec, backbone, deconv_channels=deconv_channels)
