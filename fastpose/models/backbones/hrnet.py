"""HRNet (Sun et al., "Deep High-Resolution Representation Learning for Human Pose Estimation", CVPR 2019)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, cast

from torch import Tensor, nn
from torch.nn import functional as F

from fastpose.spec import PoseSpec

from ..heads import HeatmapHead
from ..layers import (
    BasicBlock,
    Bottleneck,
    Halving,
    MultiResolutionModule,
    NormSequential,
    conv_halving,
    conv_step,
    init_normal,
    new_branch,
    norm_act,
)
from ..necks import ConcatMaps
from ..pose_model import PoseModel, check_sizes
from ..registry import register_model

_STEM_WIDTH = 64
# (branch, number of the block, counted from the first stage with branches on) → a block that keeps channels and size.
BlockFactory = Callable[[int, int], nn.Module]


class HRNet(nn.Module):
    """High-resolution network: one branch more in every stage, at half the resolution; features at 1/4 of the input.

    Args:
        widths: channels of the four branches, from 1/4 to 1/32 of the input.
        modules: how often the branches exchange what they know, in the stages of two, three and four branches.
        blocks: blocks of each branch before an exchange.
        stem_blocks: bottlenecks of the first stage.
        block: makes the blocks of the branches; HRNet's residual blocks if not given.
        halving: makes each step to a lower resolution within an exchange.
        interpolation: how an exchange enlarges lower resolutions.
        all_branches: fuse the last stage into all four resolutions, and give the four maps.
    """

    stride = 32
    feature_strides = (4, 8, 16, 32)

    def __init__(
        self,
        widths: Sequence[int],
        *,
        modules: Sequence[int] = (1, 4, 3),
        blocks: int = 4,
        stem_blocks: int = 4,
        block: BlockFactory | None = None,
        halving: Halving = conv_halving,
        interpolation: Literal["nearest", "bilinear"] = "nearest",
        all_branches: bool = False,
    ) -> None:
        super().__init__()
        self.all_branches = all_branches
        if len(widths) != 4 or len(modules) != 3:
            raise ValueError(f"widths, modules: expected four branches and three stages, got {widths} and {modules}")
        self.out_channels = widths[0]
        self.feature_channels = tuple(widths)
        make_block = block or (lambda branch, number: BasicBlock(widths[branch], widths[branch]))

        def module(branches: int, index: int, fused: int) -> MultiResolutionModule:
            numbers = range(index * blocks, (index + 1) * blocks)
            return MultiResolutionModule(
                [nn.Sequential(*(make_block(branch, number) for number in numbers)) for branch in range(branches)],
                widths[:branches],
                halving=halving,
                interpolation=interpolation,
                fused=fused,
            )

        self.conv1 = nn.Conv2d(3, _STEM_WIDTH, 3, 2, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(_STEM_WIDTH)
        self.conv2 = nn.Conv2d(_STEM_WIDTH, _STEM_WIDTH, 3, 2, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(_STEM_WIDTH)
        self.layer1 = _bottlenecks(stem_blocks)
        stem_width = _STEM_WIDTH * Bottleneck.expansion
        self.transition1 = nn.ModuleList(
            [
                conv_step(stem_width, widths[0], stride=1, relu=True),
                nn.Sequential(conv_halving(stem_width, widths[1], relu=True)),
            ]
        )
        two, three, four = modules
        self.stage2 = nn.Sequential(*(module(2, index, fused=2) for index in range(two)))
        self.transition2 = new_branch(widths[1], widths[2], 2, conv_halving)
        self.stage3 = nn.Sequential(*(module(3, two + index, fused=3) for index in range(three)))
        self.transition3 = new_branch(widths[2], widths[3], 3, conv_halving)
        # Where only the highest resolution is asked for in the end, the published networks fuse no other.
        last = 4 if all_branches else 1
        self.stage4 = nn.Sequential(
            *(module(4, two + three + index, fused=4 if index < four - 1 else last) for index in range(four))
        )
        init_normal(self)

    @property
    def grad_checkpointing(self) -> bool:
        """While training, keep only what enters the branches' blocks, and compute the rest again in backward."""
        return any(cast(MultiResolutionModule, module).grad_checkpointing for module in self.stage4)

    @grad_checkpointing.setter
    def grad_checkpointing(self, enable: bool) -> None:
        for module in (*self.stage2, *self.stage3, *self.stage4):
            module.grad_checkpointing = enable

    def forward_features(self, x: Tensor) -> list[Tensor]:
        """[B, 3, h, w] → the four branches [B, widths[i], h / 4 / 2**i, w / 4 / 2**i].

        The first is the sum of all; so are the others with ``all_branches``, else they leave the last stage as its
        blocks made them.
        """
        x = norm_act(self.bn1, self.conv1(x), F.relu_)
        x = norm_act(self.bn2, self.conv2(x), F.relu_)
        x = self.layer1(x)
        maps = self.stage2([transition(x) for transition in self.transition1])
        maps = self.stage3([*maps, self.transition2[-1](maps[-1])])
        return self.stage4([*maps, self.transition3[-1](maps[-1])])

    def forward(self, x: Tensor) -> Tensor | list[Tensor]:
        """[B, 3, h, w] → [B, widths[0], h / 4, w / 4], or the four branches."""
        maps = self.forward_features(x)
        return maps if self.all_branches else maps[0]


def _bottlenecks(count: int) -> nn.Sequential:
    """The first stage: bottlenecks that quadruple the stem's channels."""
    channels = _STEM_WIDTH * Bottleneck.expansion
    projection = NormSequential(nn.Conv2d(_STEM_WIDTH, channels, 1, bias=False), nn.BatchNorm2d(channels))
    others = [Bottleneck(channels, _STEM_WIDTH) for _ in range(count - 1)]
    return nn.Sequential(Bottleneck(_STEM_WIDTH, _STEM_WIDTH, downsample=projection), *others)


def with_heatmap_head(spec: PoseSpec, backbone: HRNet, deconv_channels: Sequence[int]) -> PoseModel:
    """HRNet's head: one 1x1 convolution on the highest resolution, after deconvolutions if there are any.

    Raises:
        ValueError: the spec's sizes do not fit.
    """
    check_sizes(
        spec, backbone_stride=backbone.stride, output_stride=backbone.feature_strides[0] >> len(deconv_channels)
    )
    head = HeatmapHead(backbone.out_channels, spec.output_channels, deconv_channels=deconv_channels)
    return PoseModel(backbone, head, spec)


@register_model
def hrnet_w32(spec: PoseSpec, *, deconv_channels: Sequence[int] = ()) -> PoseModel:
    """HRNet-W32."""
    return with_heatmap_head(spec, HRNet((32, 64, 128, 256)), deconv_channels)


@register_model
def hrnetv2_w18(spec: PoseSpec) -> PoseModel:
    """HRNetV2-W18: the four resolutions side by side, and a 1x1 convolution on them before the last one."""
    backbone = HRNet((18, 36, 72, 144), interpolation="bilinear", all_branches=True)
    check_sizes(spec, backbone_stride=backbone.stride, output_stride=backbone.feature_strides[0])
    width = sum(backbone.feature_channels)
    head = HeatmapHead(width, spec.output_channels, deconv_channels=(), conv_channels=(width,))
    return PoseModel(backbone, head, spec, neck=ConcatMaps())


@register_model
def hrnet_w48(spec: PoseSpec, *, deconv_channels: Sequence[int] = ()) -> PoseModel:
    """HRNet-W48."""
    return with_heatmap_head(spec, HRNet((48, 96, 192, 384)), deconv_channels)
