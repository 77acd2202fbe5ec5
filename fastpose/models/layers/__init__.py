"""Blocks that several families share, each written once."""

from .attention import SqueezeExcitation
from .checkpointing import run_checkpointed
from .conv import ConvUnit, SeparableConvUnit, channel_shuffle, halve, interleave
from .depthwise import DepthwiseConv
from .drop_path import DropPath
from .enlarge import with_enlarged
from .gated_attention import GatedAttention, ScaleNorm
from .init import init_kaiming, init_normal, init_shufflenet
from .multi_resolution import (
    Halving,
    MultiResolutionModule,
    conv_halving,
    conv_step,
    fusion_path,
    new_branch,
    separable_conv,
    separable_halving,
)
from .norm import NormSequential, norm_act
from .pooling import MaxPool
from .real_nvp import RealNVP
from .residual import BasicBlock, Bottleneck, ResidualBlock
from .transformer import FeedForward, PatchEmbed, linear_rates, resize_positions
from .windows import WindowAttention, join_windows, split_windows, window_padding

__all__ = [
    "BasicBlock",
    "Bottleneck",
    "ConvUnit",
    "DepthwiseConv",
    "DropPath",
    "FeedForward",
    "GatedAttention",
    "Halving",
    "MaxPool",
    "MultiResolutionModule",
    "NormSequential",
    "PatchEmbed",
    "RealNVP",
    "ResidualBlock",
    "ScaleNorm",
    "SeparableConvUnit",
    "SqueezeExcitation",
    "WindowAttention",
    "channel_shuffle",
    "conv_halving",
    "conv_step",
    "fusion_path",
    "halve",
    "init_kaiming",
    "init_normal",
    "init_shufflenet",
    "interleave",
    "join_windows",
    "linear_rates",
    "new_branch",
    "norm_act",
    "resize_positions",
    "run_checkpointed",
    "separable_conv",
    "separable_halving",
    "split_windows",
    "window_padding",
    "with_enlarged",
]
