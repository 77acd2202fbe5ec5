"""ResNeXt: the grouped convolution."""

from __future__ import annotations

from fastpose.models.backbones.resnext import ResNeXtBottleneck


def test_groups_of_four_channels_at_width_64():
    block = ResNeXtBottleneck(256, 64)
    assert block.conv2.weight.shape == (128, 4, 3, 3)
    assert block.conv3.weight.shape == (256, 128, 1, 1)
    assert ResNeXtBottleneck(256, 128).conv2.weight.shape == (256, 8, 3, 3)
