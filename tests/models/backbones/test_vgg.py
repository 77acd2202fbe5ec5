"""VGG: its maps, and the biases that BatchNorm makes idle."""

from __future__ import annotations

import torch

from fastpose.models.backbones.vgg import VGG


def test_features_are_the_pooled_maps_from_a_quarter_on():
    backbone = VGG((1, 1, 1, 1, 1)).eval()
    x = torch.randn(2, 3, 64, 96)
    maps = backbone.forward_features(x)
    for y, channels, stride in zip(maps, backbone.feature_channels, backbone.feature_strides, strict=True):
        assert y.shape == (2, channels, 64 // stride, 96 // stride)
    assert torch.equal(maps[-1], backbone(x))


def test_convolutions_have_biases_that_start_at_zero():
    first = VGG((2, 2, 3, 3, 3)).features[0]
    assert first.conv.bias is not None
    assert not first.conv.bias.any()
