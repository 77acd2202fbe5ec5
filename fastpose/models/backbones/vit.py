"""ViTPose (Xu et al., "ViTPose: Simple Vision Transformer Baselines for Human Pose Estimation", NeurIPS 2022)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fastpose.spec import PoseSpec

from ..baseline import simple_baseline
from ..heads import HeatmapHead
from ..layers import DropPath, FeedForward, PatchEmbed, linear_rates, resize_positions, run_checkpointed
from ..necks import FeatureMapProcessor
from ..pose_model import PoseModel, check_sizes
from ..registry import register_model

_PATCH = 16


class VisionTransformer(nn.Module):
    """Plain vision transformer without a class token: features at 1/16 of the input.

    Args:
        input_size: (height, width) of the crops that the positions are for; others get them interpolated.
        channels: of the tokens.
        depth: blocks.
        heads: attention heads of each block.
        drop_path: chance of a residual branch being dropped while training, in the last block; from 0 in the first it
            grows linearly.

    Attributes:
        grad_checkpointing: recompute the blocks' insides for the gradients instead of keeping them.
    """

    stride = _PATCH
    feature_strides = (_PATCH,)

    def __init__(
        self, input_size: tuple[int, int], *, channels: int, depth: int, heads: int, drop_path: float = 0.0
    ) -> None:
        super().__init__()
        self.out_channels = channels
        self.feature_channels = (channels,)
        self.depth = depth
        self.grad_checkpointing = False
        self.grid = (input_size[0] // _PATCH, input_size[1] // _PATCH)
        self.pos_embed = nn.Parameter(torch.zeros(1, math.prod(self.grid), channels))
        # The official weights know a grid of patches that begins 2 px outside the crop.
        self.patch_embed = PatchEmbed(3, channels, _PATCH, _PATCH, padding=2)
        self.layers = nn.ModuleList([Block(channels, heads, rate) for rate in linear_rates(drop_path, depth)])
        self.ln1 = nn.LayerNorm(channels, eps=1e-6)
        self.init_weights()

    def init_weights(self) -> None:
        """Truncated normal (0.02) for positions and linear layers, Xavier for the patches, as in MAE."""
        nn.init.trunc_normal_(self.pos_embed, std=0.02)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)
        nn.init.xavier_uniform_(self.patch_embed.projection.weight.flatten(1))

    def forward(self, x: Tensor) -> Tensor:
        """[B, 3, h, w] → [B, channels, h / 16, w / 16]."""
        x = self.patch_embed(x)
        height, width = x.shape[1:3]
        x = x.flatten(1, 2) + resize_positions(self.pos_embed, self.grid, (height, width), "bicubic")
        recompute = self.grad_checkpointing and self.training
        for block in self.layers:
            x = run_checkpointed(block, x) if recompute else block(x)
        return self.ln1(x).unflatten(1, (height, width)).permute(0, 3, 1, 2)

    def forward_features(self, x: Tensor) -> list[Tensor]:
        """The one map, as `forward` gives it."""
        return [self(x)]

    def layer_of(self, name: str) -> int:
        """Depth of a parameter, for a learning rate that decays from the output to the input.

        Fine-tuning changes early layers less: the rate of a parameter is that of the head times
        `decay ** (depth + 1 - layer_of(name))` (Bao et al., "BEiT", ICLR 2022).

        Args:
            name: as in `named_parameters()` of this module.

        Returns:
            0 for patches and positions, i + 1 for block i, depth + 1 for what follows the blocks.
        """
        if name.startswith(("pos_embed", "patch_embed.")):
            return 0
        if name.startswith("layers."):
            return int(name.split(".")[1]) + 1
        return self.depth + 1

    def resize_weights(self, tensors: dict[str, Tensor], prefix: str, input_size: tuple[int, int] | None) -> None:
        """Fit a checkpoint's positions to this network's input size (see `fastpose.models.weights`).

        A file that does not say its input size is taken to have this network's aspect, else to be square.
        """
        name = f"{prefix}pos_embed"
        if name not in tensors or tensors[name].ndim != 3 or tensors[name].shape[::2] != self.pos_embed.shape[::2]:
            return
        grid = _source_grid(tensors[name].shape[1], self.grid, input_size)
        if grid is not None:
            tensors[name] = resize_positions(tensors[name], grid, self.grid, "bicubic")


class Block(nn.Module):
    """Attention and feed-forward layer, each normalised before and added to what came in.

    Args:
        channels: of the tokens.
        heads: attention heads.
        drop_path: chance of each branch being dropped while training.
    """

    def __init__(self, channels: int, heads: int, drop_path: float) -> None:
        super().__init__()
        self.ln1 = nn.LayerNorm(channels, eps=1e-6)
        self.attn = SelfAttention(channels, heads)
        self.ln2 = nn.LayerNorm(channels, eps=1e-6)
        self.ffn = FeedForward(channels, 4 * channels)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        """[B, N, channels] → the same shape."""
        x = x + self.drop_path(self.attn(self.ln1(x)))
        return x + self.drop_path(self.ffn(self.ln2(x)))


class SelfAttention(nn.Module):
    """Multi-head attention among all tokens.

    Args:
        channels: of the tokens.
        heads: attention heads.
    """

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(channels, 3 * channels)
        self.proj = nn.Linear(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """[B, N, channels] → the same shape."""
        query, key, value = self.qkv(x).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        x = F.scaled_dot_product_attention(query, key, value)
        return self.proj(x.transpose(1, 2).flatten(2))


def _source_grid(length: int, target: tuple[int, int], input_size: tuple[int, int] | None) -> tuple[int, int] | None:
    """Grid (h, w) of a checkpoint's `length` tokens; None where it cannot be told."""
    scale = math.sqrt(length / math.prod(target))
    candidates = [(round(target[0] * scale), round(target[1] * scale)), (math.isqrt(length), math.isqrt(length))]
    if input_size is not None:
        candidates = [(input_size[0] // _PATCH, input_size[1] // _PATCH)]
    return next((grid for grid in candidates if math.prod(grid) == length), None)


def _vitpose(spec: PoseSpec, *, channels: int, depth: int, heads: int, simple: bool, drop_path: float) -> PoseModel:
    check_sizes(spec, backbone_stride=_PATCH, output_stride=4)
    backbone = VisionTransformer(spec.input_size, channels=channels, depth=depth, heads=heads, drop_path=drop_path)
    if not simple:
        return simple_baseline(spec, backbone, deconv_channels=(256, 256))
    head = HeatmapHead(channels, spec.output_channels, deconv_channels=(), final_kernel=3)
    return PoseModel(backbone, head, spec, neck=FeatureMapProcessor(scale=4, relu=True))


@register_model
def vitpose_small(spec: PoseSpec, *, simple: bool = False, drop_path: float = 0.1) -> PoseModel:
    """ViTPose-S; `simple`: upsampling and one convolution instead of two deconvolutions."""
    return _vitpose(spec, channels=384, depth=12, heads=12, simple=simple, drop_path=drop_path)


@register_model
def vitpose_base(spec: PoseSpec, *, simple: bool = False, drop_path: float = 0.3) -> PoseModel:
    """ViTPose-B; `simple`: upsampling and one convolution instead of two deconvolutions."""
    return _vitpose(spec, channels=768, depth=12, heads=12, simple=simple, drop_path=drop_path)


@register_model
def vitpose_large(spec: PoseSpec, *, simple: bool = False, drop_path: float = 0.5) -> PoseModel:
    """ViTPose-L; `simple`: upsampling and one convolution instead of two deconvolutions."""
    return _vitpose(spec, channels=1024, depth=24, heads=16, simple=simple, drop_path=drop_path)


@register_model
def vitpose_huge(spec: PoseSpec, *, simple: bool = False, drop_path: float = 0.55) -> PoseModel:
    """ViTPose-H; `simple`: upsampling and one convolution instead of two deconvolutions."""
    return _vitpose(spec, channels=1280, depth=32, heads=16, simple=simple, drop_path=drop_path)
