"""ResNet (He et al., "Deep Residual Learning for Image Recognition", CVPR 2016) and SimpleBaseline networks on it."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Protocol

from torch import Tensor, nn

from fastpose.spec import PoseSpec

from ..baseline import simple_baseline
from ..layers import BasicBlock, Bottleneck, ConvUnit, NormSequential, ResidualBlock, init_kaiming, norm_act
from ..pose_model import PoseModel
from ..registry import register_model


class BlockClass(Protocol):
    """A residual block's class, as `ResNet` uses it."""

    @property
    def expansion(self) -> int:
        """Output channels per width."""

    def __call__(
        self, in_channels: int, width: int, stride: int = 1, downsample: nn.Module | None = None
    ) -> ResidualBlock:
        """Build a block."""


class ResNet(nn.Module):
    """Stem and four stages of residual blocks, without a classifier; the frame of the whole family.

    The maps are at 1/4, 1/8, 1/16 and 1/32 of the input unless `strides` says otherwise.

    Args:
        block: residual block of every stage.
        depths: blocks per stage.
        widths: width of each stage's blocks; its map has `block.expansion` times as many channels.
        strides: step of each stage's first block; the stem takes 4 before them.
        stem_channels: channels of the stem.
        deep_stem: three 3x3 convolutions instead of the 7x7 (He et al., "Bag of Tricks for Image Classification with
            Convolutional Neural Networks", CVPR 2019, ResNet-C).
        average_downsample: shortcuts that shrink do so by averaging, not by skipping (the same, ResNet-D).
    """

    def __init__(
        self,
        block: BlockClass,
        depths: Sequence[int],
        *,
        widths: Sequence[int] = (64, 128, 256, 512),
        strides: Sequence[int] = (1, 2, 2, 2),
        stem_channels: int = 64,
        deep_stem: bool = False,
        average_downsample: bool = False,
    ) -> None:
        super().__init__()
        if not len(depths) == len(widths) == len(strides) == 4:
            raise ValueError(f"depths, widths, strides: expected four stages, got {depths}, {widths} and {strides}")
        self.stem: nn.Module | None
        if deep_stem:
            self.stem = _deep_stem(stem_channels)
        else:
            self.stem = None
            self.conv1 = nn.Conv2d(3, stem_channels, 7, stride=2, padding=3, bias=False)
            self.bn1 = nn.BatchNorm2d(stem_channels)
            self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        self.feature_channels = tuple(width * block.expansion for width in widths)
        self.feature_strides = tuple(4 * step for step in itertools.accumulate(strides, lambda a, b: a * b))
        self.out_channels = self.feature_channels[-1]
        self.stride = self.feature_strides[-1]
        inputs = (stem_channels, *self.feature_channels[:-1])
        self.layer1, self.layer2, self.layer3, self.layer4 = (
            residual_stage(block, in_channels, width, depth, stride, average_downsample)
            for in_channels, width, depth, stride in zip(inputs, widths, depths, strides, strict=True)
        )
        self.init_weights()

    def init_weights(self) -> None:
        """Kaiming for convolutions; residual branches start at zero (Goyal et al. 2017, section 5.1)."""
        init_kaiming(self)
        for module in self.modules():
            if isinstance(module, ResidualBlock):
                nn.init.zeros_(module.last_norm.weight)

    def forward_features(self, x: Tensor) -> list[Tensor]:
        """[B, 3, h, w] → every stage's map [B, feature_channels[i], h / feature_strides[i], w / feature_strides[i]]."""
        x = self._forward_stem(x)
        maps = []
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = stage(x)
            maps.append(x)
        return maps

    def forward(self, x: Tensor) -> Tensor:
        """[B, 3, h, w] → the last stage's map [B, out_channels, h / stride, w / stride]."""
        return self.layer4(self.layer3(self.layer2(self.layer1(self._forward_stem(x)))))

    def _forward_stem(self, x: Tensor) -> Tensor:
        x = norm_act(self.bn1, self.conv1(x), self.relu) if self.stem is None else self.stem(x)
        return self.maxpool(x)


def _deep_stem(channels: int) -> nn.Sequential:
    half = channels // 2
    return nn.Sequential(
        ConvUnit(3, half, 3, stride=2, activation=nn.ReLU(inplace=True)),
        ConvUnit(half, half, 3, activation=nn.ReLU(inplace=True)),
        ConvUnit(half, channels, 3, activation=nn.ReLU(inplace=True)),
    )


def residual_stage(
    block: BlockClass, in_channels: int, width: int, depth: int, stride: int, average_downsample: bool = False
) -> nn.Sequential:
    """Residual blocks one after another; the first one takes the stride and has the projection if it needs one."""
    out_channels = width * block.expansion
    downsample = None
    if stride != 1 or in_channels != out_channels:
        layers: list[nn.Module] = []
        if average_downsample and stride != 1:
            # Odd sides are rounded up, as the branch's convolution of that stride does.
            layers.append(nn.AvgPool2d(stride, stride, ceil_mode=True, count_include_pad=False))
            stride_of_projection = 1
        else:
            stride_of_projection = stride
        layers.append(nn.Conv2d(in_channels, out_channels, 1, stride_of_projection, bias=False))
        downsample = NormSequential(*layers, nn.BatchNorm2d(out_channels))
    blocks = [block(in_channels, width, stride, downsample)]
    blocks += [block(out_channels, width) for _ in range(depth - 1)]
    return nn.Sequential(*blocks)


@register_model
def resnet18(spec: PoseSpec, *, deconv_channels: Sequence[int] = (256, 256, 256)) -> PoseModel:
    """SimpleBaseline on ResNet-18."""
    return simple_baseline(spec, ResNet(BasicBlock, (2, 2, 2, 2)), deconv_channels=deconv_channels)


@register_model
def resnet18_slim(spec: PoseSpec, *, deconv_channels: Sequence[int] = (96, 96)) -> PoseModel:
    """SimpleBaseline on a ResNet-18 of half to three eighths the width, for CPUs and small files.

    The last stage does not shrink the map any further: small inputs would leave it a handful of cells.
    """
    backbone = ResNet(BasicBlock, (2, 2, 2, 2), widths=(32, 64, 128, 192), strides=(1, 2, 2, 1), stem_channels=32)
    return simple_baseline(spec, backbone, deconv_channels=deconv_channels)


@register_model
def resnet34(spec: PoseSpec, *, deconv_channels: Sequence[int] = (256, 256, 256)) -> PoseModel:
    """SimpleBaseline on ResNet-34."""
    return simple_baseline(spec, ResNet(BasicBlock, (3, 4, 6, 3)), deconv_channels=deconv_channels)


@register_model
def resnet50(spec: PoseSpec, *, deconv_channels: Sequence[int] = (256, 256, 256), head: str = "heatmap") -> PoseModel:
    """SimpleBaseline on ResNet-50."""
    return simple_baseline(spec, ResNet(Bottleneck, (3, 4, 6, 3)), deconv_channels=deconv_channels, head=head)


@register_model
def resnet101(spec: PoseSpec, *, deconv_channels: Sequence[int] = (256, 256, 256), head: str = "heatmap") -> PoseModel:
    """SimpleBaseline on ResNet-101."""
    return simple_baseline(spec, ResNet(Bottleneck, (3, 4, 23, 3)), deconv_channels=deconv_channels, head=head)


@register_model
def resnet152(spec: PoseSpec, *, deconv_channels: Sequence[int] = (256, 256, 256), head: str = "heatmap") -> PoseModel:
    """SimpleBaseline on ResNet-152."""
    return simple_baseline(spec, ResNet(Bottleneck, (3, 8, 36, 3)), deconv_channels=deconv_channels, head=head)
