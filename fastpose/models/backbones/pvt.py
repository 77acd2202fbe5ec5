"""PVT (Wang et al., "Pyramid Vision Transformer", ICCV 2021) and PVTv2 (Wang et al., CVM 2022)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fastpose.spec import PoseSpec

from ..baseline import simple_baseline
from ..layers import DropPath, PatchEmbed, linear_rates, resize_positions, run_checkpointed
from ..pose_model import PoseModel
from ..registry import register_model

_CHANNELS = (64, 128, 320, 512)
_HEADS = (1, 2, 5, 8)
_REDUCTIONS = (8, 4, 2, 1)  # keys and values of a stage lie on a grid so many times coarser
_EXPANSIONS = (8, 8, 4, 4)  # of the feed-forward layers
_PRETRAINED_SIDE = 224  # of the crops that PVT's positions are for
_EPS = 1e-6


class PyramidVisionTransformer(nn.Module):
    """PVT or PVTv2 without its classifier: four stages, at 1/4, 1/8, 1/16 and 1/32 of the input.

    Args:
        depths: blocks of each stage.
        v2: overlapping patches, a depthwise convolution in the feed-forward layers and a normalisation after every
            stage, instead of learned positions.
        drop_path: chance of a residual branch being dropped while training, in the last block; from 0 in the first it
            grows linearly.

    Attributes:
        grad_checkpointing: recompute the blocks' insides for the gradients instead of keeping them.
    """

    stride = 32
    out_channels = _CHANNELS[-1]
    feature_channels = _CHANNELS
    feature_strides = (4, 8, 16, 32)

    def __init__(self, depths: Sequence[int], *, v2: bool, drop_path: float) -> None:
        super().__init__()
        if len(depths) != 4:
            raise ValueError(f"depths: expected four stages, got {tuple(depths)}")
        self.grad_checkpointing = False
        rates = linear_rates(drop_path, sum(depths))
        self.layers = nn.ModuleList()
        for index, (depth, channels) in enumerate(zip(depths, _CHANNELS, strict=True)):
            step = 4 if index == 0 else 2
            kernel, padding = (2 * step - 1, step - 1) if v2 else (step, 0)
            in_channels = _CHANNELS[index - 1] if index else 3
            patches = PatchEmbed(in_channels, channels, kernel, step, padding=padding, norm_eps=_EPS)
            first = sum(depths[:index])
            blocks: list[nn.Module] = [
                Block(
                    channels,
                    _HEADS[index],
                    reduction=_REDUCTIONS[index],
                    hidden=_EXPANSIONS[index] * channels,
                    depthwise=v2,
                    drop_path=rate,
                )
                for rate in rates[first : first + depth]
            ]
            if not v2:
                blocks.insert(0, Positions(_PRETRAINED_SIDE // self.feature_strides[index], channels))
            norm = nn.LayerNorm(channels, eps=_EPS) if v2 else nn.Identity()
            self.layers.append(nn.ModuleList([patches, nn.ModuleList(blocks), norm]))
        self.init_weights()

    def init_weights(self) -> None:
        """Truncated normal (0.02) for positions and linear layers, Kaiming for convolutions."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)

    def forward(self, x: Tensor) -> Tensor:
        """[B, 3, h, w] → [B, 512, h / 32, w / 32]."""
        return self.forward_features(x)[-1]

    def forward_features(self, x: Tensor) -> list[Tensor]:
        """[B, 3, h, w] → the stages' maps [B, feature_channels[i], h / feature_strides[i], w / feature_strides[i]]."""
        recompute = self.grad_checkpointing and self.training
        maps = []
        for patches, blocks, norm in cast(Iterable[tuple[nn.Module, nn.ModuleList, nn.Module]], self.layers):
            x = patches(x)
            for block in blocks:
                x = run_checkpointed(block, x) if recompute else block(x)
            x = norm(x).permute(0, 3, 1, 2)
            maps.append(x)
        return maps


class Positions(nn.Module):
    """Learned positions, interpolated to the grid that comes.

    Args:
        side: of the square grid that they are for.
        channels: of the tokens.
    """

    def __init__(self, side: int, channels: int) -> None:
        super().__init__()
        self.side = side
        self.pos_embed = nn.Parameter(torch.zeros(1, side**2, channels))
        nn.init.trunc_normal_(self.pos_embed, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        """[B, h, w, channels] → the same shape."""
        size = (x.shape[1], x.shape[2])
        return x + resize_positions(self.pos_embed, (self.side, self.side), size, "bilinear").unflatten(1, size)


class Block(nn.Module):
    """Attention to a coarser grid and feed-forward layer, each normalised before and added to what came in.

    Args:
        channels: of the tokens.
        heads: attention heads.
        reduction: keys and values lie on a grid so many times coarser.
        hidden: channels inside the feed-forward layer.
        depthwise: whether that has a depthwise convolution.
        drop_path: chance of each branch being dropped while training.
    """

    def __init__(
        self, channels: int, heads: int, *, reduction: int, hidden: int, depthwise: bool, drop_path: float
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(channels, eps=_EPS)
        self.attn = SpatialReductionAttention(channels, heads, reduction)
        self.norm2 = nn.LayerNorm(channels, eps=_EPS)
        self.ffn = MixFeedForward(channels, hidden, depthwise=depthwise)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        """[B, h, w, channels] → the same shape."""
        x = x + self.drop_path(self.attn(self.norm1(x)))
        return x + self.drop_path(self.ffn(self.norm2(x)))


class SpatialReductionAttention(nn.Module):
    """Multi-head attention of all tokens to a grid that a strided convolution made coarser.

    Args:
        channels: of the tokens.
        heads: attention heads.
        reduction: stride of that convolution; 1 for none.
    """

    def __init__(self, channels: int, heads: int, reduction: int) -> None:
        super().__init__()
        self.reduction = reduction
        self.attn = CrossAttention(channels, heads)
        if reduction > 1:
            self.sr = nn.Conv2d(channels, channels, reduction, reduction)
            self.norm = nn.LayerNorm(channels, eps=_EPS)

    def forward(self, x: Tensor) -> Tensor:
        """[B, h, w, channels] → the same shape."""
        coarse = x
        if self.reduction > 1:
            coarse = self.norm(self.sr(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1))
        return self.attn(x.flatten(1, 2), coarse.flatten(1, 2)).view(x.shape)


class CrossAttention(nn.Module):
    """Multi-head attention of one set of tokens to another, with the parameters of `torch.nn.MultiheadAttention`.

    Args:
        channels: of all tokens.
        heads: attention heads.
    """

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.in_proj_weight = nn.Parameter(torch.empty(3 * channels, channels))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * channels))
        self.out_proj = nn.Linear(channels, channels)
        nn.init.trunc_normal_(self.in_proj_weight, std=0.02)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        """[B, N, channels] attends to [B, M, channels] → [B, N, channels]."""
        channels = x.shape[2]
        weights, biases = (part.split([channels, 2 * channels]) for part in (self.in_proj_weight, self.in_proj_bias))
        query = F.linear(x, weights[0], biases[0]).unflatten(2, (self.heads, -1)).transpose(1, 2)
        keys_values = F.linear(context, weights[1], biases[1]).unflatten(2, (2, self.heads, -1))
        key, value = keys_values.permute(2, 0, 3, 1, 4).unbind(0)
        x = F.scaled_dot_product_attention(query, key, value)
        return self.out_proj(x.transpose(1, 2).flatten(2))


class MixFeedForward(nn.Module):
    """Two 1x1 convolutions with GELU between them, and before it a depthwise 3x3 convolution if wanted.

    Args:
        channels: of input and output.
        hidden: between the two.
        depthwise: whether there is a depthwise convolution; its zero padding is all that PVTv2 knows of positions.
    """

    def __init__(self, channels: int, hidden: int, *, depthwise: bool) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(channels, hidden, 1)]
        if depthwise:
            layers.append(nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden))
        # The numbers of official checkpoints count a dropout that is never used.
        layers += [nn.GELU(), nn.Identity(), nn.Conv2d(hidden, channels, 1)]
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """[B, h, w, channels] → the same shape."""
        return self.layers(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


@register_model
def pvt_small(spec: PoseSpec, *, drop_path: float = 0.1, deconv_channels: Sequence[int] = (256, 256, 256)) -> PoseModel:
    """SimpleBaseline on PVT-Small."""
    backbone = PyramidVisionTransformer((3, 4, 6, 3), v2=False, drop_path=drop_path)
    return simple_baseline(spec, backbone, deconv_channels=deconv_channels)


@register_model
def pvtv2_b2(spec: PoseSpec, *, drop_path: float = 0.1, deconv_channels: Sequence[int] = (256, 256, 256)) -> PoseModel:
    """SimpleBaseline on PVTv2-B2."""
    backbone = PyramidVisionTransformer((3, 4, 6, 3), v2=True, drop_path=drop_path)
    return simple_baseline(spec, backbone, deconv_channels=deconv_channels)
