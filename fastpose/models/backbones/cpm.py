"""Convolutional pose machines (Wei et al., "Convolutional Pose Machines", CVPR 2016)."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn

from fastpose.spec import PoseSpec

from ..heads import MapsHead
from ..layers import ConvUnit
from ..pose_model import PoseModel, check_sizes
from ..registry import register_model


class CPM(nn.Module):
    """Maps at an eighth of the input, drawn once from the image and then again and again from the maps before.

    Args:
        out_channels: maps of every stage.
        stages: how many stages, at least 2.
        width: channels of the stages' features.
        image_channels: channels of the image's features that each stage is given beside the maps.

    Attributes:
        stride: the input's sides must be divisible by it; maps are so many times smaller.
        out_channels: maps of every stage.
        feature_channels: channels of `forward_features`' map.
        feature_strides: input pixels per pixel of it.
    """

    def __init__(self, out_channels: int, *, stages: int = 6, width: int = 128, image_channels: int = 32) -> None:
        super().__init__()
        if stages < 2:
            raise ValueError(f"stages: expected at least 2, got {stages}")
        self.stride = 8
        self.out_channels = out_channels
        self.feature_channels = (width,)
        self.feature_strides = (self.stride,)
        later = range(stages - 1)
        self.stem = nn.Sequential(
            *_image_layers(),
            _unit(128, 32, 5),
            _unit(32, 512, 9),
            _unit(512, 512, 1),
            ConvUnit(512, out_channels, norm=False),
        )
        self.middle = nn.Sequential(*_image_layers())
        self.cpm_stages = nn.ModuleList(
            nn.Sequential(
                OrderedDict(
                    model=nn.Sequential(
                        _unit(image_channels + out_channels, width, 11),
                        _unit(width, width, 11),
                        _unit(width, width, 11),
                    )
                )
            )
            for _ in later
        )
        self.middle_conv = nn.ModuleList(nn.Sequential(_unit(128, image_channels, 5)) for _ in later)
        self.out_convs = nn.ModuleList(
            nn.Sequential(_unit(width, width, 1), ConvUnit(width, out_channels, norm=False)) for _ in later
        )
        self.init_weights()

    def init_weights(self) -> None:
        """Draw every convolution from N(0, 0.001): the maps start near zero, as almost all of every target is."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, std=0.001)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, x: Tensor) -> list[Tensor]:
        """[B, 3, h, w] → every stage's maps [B, out_channels, h / stride, w / stride]."""
        return self._stages(x)[0]

    def forward_features(self, x: Tensor) -> list[Tensor]:
        """[B, 3, h, w] → the last stage's features [B, width, h / stride, w / stride], in a list."""
        return [self._stages(x)[1]]

    def _stages(self, x: Tensor) -> tuple[list[Tensor], Tensor]:
        maps = [self.stem(x)]
        features = image = self.middle(x)
        for stage, of_image, out_conv in zip(self.cpm_stages, self.middle_conv, self.out_convs, strict=True):
            features = stage(torch.cat([maps[-1], of_image(image)], dim=1))
            maps.append(out_conv(features))
        return maps, features


def _unit(in_channels: int, out_channels: int, kernel: int) -> ConvUnit:
    return ConvUnit(in_channels, out_channels, kernel, activation=nn.ReLU(inplace=True))


def _image_layers() -> list[nn.Module]:
    """Three 9x9 convolutions, each followed by a halving: [B, 3, h, w] → [B, 128, h / 8, w / 8]."""
    layers: list[nn.Module] = []
    for in_channels in (3, 128, 128):
        # The ReLU commutes with the pooling, which leaves it a quarter of the map.
        pool = nn.Sequential(nn.MaxPool2d(3, stride=2, padding=1), nn.ReLU(inplace=True))
        layers += [ConvUnit(in_channels, 128, 9), pool]
    return layers


@register_model
def cpm(spec: PoseSpec, *, stages: int = 6) -> PoseModel:
    """Convolutional pose machine; one map a stage, at an eighth of the input."""
    backbone = CPM(spec.output_channels, stages=stages)
    check_sizes(spec, backbone_stride=backbone.stride, output_stride=backbone.stride)
    return PoseModel(backbone, MapsHead(stages), spec)
