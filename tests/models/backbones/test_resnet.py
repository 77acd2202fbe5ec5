"""The frame of the ResNets: stems, shortcuts, features, what training starts from."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from fastpose.codecs import build_codec
from fastpose.models import create_model
from fastpose.models.backbones.resnest import ResNeStBottleneck
from fastpose.models.backbones.resnet import ResNet
from fastpose.models.backbones.resnext import ResNeXtBottleneck
from fastpose.models.backbones.scnet import SCBottleneck
from fastpose.models.backbones.seresnet import SEBottleneck
from fastpose.models.layers import BasicBlock, Bottleneck

BLOCKS = [BasicBlock, Bottleneck, ResNeXtBottleneck, SEBottleneck, SCBottleneck, ResNeStBottleneck]


def _tiny(block, **options):
    torch.manual_seed(0)
    widths = (32, 32, 64, 64) if block is ResNeXtBottleneck else (4, 6, 8, 10)
    return ResNet(block, (1, 2, 1, 1), widths=widths, stem_channels=8, **options)


@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("modern", [False, True])
@pytest.mark.parametrize("strides", [(1, 2, 2, 2), (1, 2, 2, 1)])
def test_features_are_the_stages_maps(block, modern, strides):
    backbone = _tiny(block, strides=strides, deep_stem=modern, average_downsample=modern).eval()
    x = torch.randn(2, 3, 64, 96)
    with torch.inference_mode():
        features = backbone.forward_features(x)
        assert torch.equal(backbone(x), features[-1])
    assert backbone.stride == backbone.feature_strides[-1] == 4 * strides[1] * strides[2] * strides[3]
    assert backbone.out_channels == backbone.feature_channels[-1]
    shapes = [(c, 64 // s, 96 // s) for c, s in zip(backbone.feature_channels, backbone.feature_strides, strict=True)]
    assert [tuple(feature.shape[1:]) for feature in features] == shapes


@pytest.mark.parametrize("block", BLOCKS)
def test_blocks_start_as_their_shortcut_and_learn(block):
    """The branch ends with a BatchNorm of weight zero; a step of training changes that, and reaches everything."""
    backbone = _tiny(block)
    second = backbone.layer2[1]
    x = torch.rand(2, backbone.feature_channels[1], 8, 8)
    before = x.clone()
    torch.testing.assert_close(second(x), before)
    assert torch.equal(x, before)
    assert all(parameter.abs().max() == 0 for name, parameter in backbone.named_parameters() if name.endswith("bias"))
    for module in backbone.modules():
        if isinstance(module, block):
            nn.init.ones_(module.last_norm.weight)
    backbone(torch.randn(2, 3, 64, 64)).square().mean().backward()
    assert [name for name, p in backbone.named_parameters() if p.grad is None or not torch.isfinite(p.grad).all()] == []


@pytest.mark.parametrize("modern", [False, True])
def test_odd_sides_are_rounded_up(modern):
    backbone = _tiny(Bottleneck, deep_stem=modern, average_downsample=modern).eval()
    with torch.inference_mode():
        assert backbone(torch.randn(1, 3, 72, 40)).shape[-2:] == (3, 2)


def test_two_deconvolutions():
    model = create_model(
        "resnet50", input_size=(64, 32), codec=build_codec("gaussian", heatmap_size=(8, 4)), deconv_channels=(16, 8)
    ).eval()
    with torch.inference_mode():
        assert model(torch.randn(1, 3, 64, 32)).last.shape == (1, 17, 8, 4)
