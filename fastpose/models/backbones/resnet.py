"""ResNet (He et al., "Deep Residual Learning for Image Recognition", CVPR 2016) and SimpleBaseline networks on it."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor, nn

from fastpose.spec import PoseSpec

from ..baseline import simple_baseline
from ..layers import BasicBlock, Bottleneck
from ..pose_model import PoseModel
from ..registry import register_model


class ResNet(nn.Module):
    """ResNet without its classifier: the last stage's features, at 1/32 of the input unless `strides` says otherwise.

    Args:
        block: residual block of every stage.
        depths: blocks per stage.
        widths: width of each stage's blocks; the output has `block.expansion` times the last one.
        strides: step of each stage's first block; the stem takes 4 before them.
        stem_channels: channels of the 7x7 stem.
    """

    def __init__(
        self,
        block: type[BasicBlock] | type[Bottleneck],
        depths: Sequence[int],
        *,
        widths: Sequence[int] = (64, 128, 256, 512),
        strides: Sequence[int] = (1, 2, 2, 2),
        stem_channels: int = 64,
    ) -> None:
        super().__init__()
        if not len(depths) == len(widths) == len(strides) == 4:
            raise ValueError(f"depths, widths, strides: expected four stages, got {depths}, {widths} and {strides}")
        self.stride = 4 * math.prod(strides)
        self.conv1 = nn.Conv2d(3, stem_channels, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(stem_channels)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        channels = stem_channels
        stages = []
        for depth, width, stride in zip(depths, widths, strides, strict=True):
            stages.append(_stage(block, channels, width, depth, stride))
            channels = width * block.expansion
        self.layer1, self.layer2, self.layer3, self.layer4 = stages
        self.out_channels = channels
        self.init_weights()

    def init_weights(self) -> None:
        """Kaiming for convolutions; residual branches start at zero (Goyal et al. 2017, section 5.1)."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            elif isinstance(module, (BasicBlock, Bottleneck)):
                nn.init.zeros_(module.last_norm.weight)

    def forward(self, x: Tensor) -> Tensor:
        """[B, 3, h, w] → [B, out_channels, h / stride, w / stride]."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        return self.layer4(self.layer3(self.layer2(self.layer1(x))))


def _stage(
    block: type[BasicBlock] | type[Bottleneck], in_channels: int, width: int, depth: int, stride: int
) -> nn.Sequential:
    out_channels = width * block.expansion
    downsample = None
    if stride != 1 or in_channels != out_channels:
        downsample = nn.Sequential(
            nn.Conv2d(in_channels, out_channels, 1, stride, bias=False), nn.BatchNorm2d(out_channels)
        )
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
