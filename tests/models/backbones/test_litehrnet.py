"""Lite-HRNet: its fusion and its weighting against their definitions, and its features."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from fastpose.models.backbones.litehrnet import CrossResolutionWeighting, FusionModule, LiteHRNet

WIDTHS = (16, 32, 64)


def _branches(widths=WIDTHS):
    return [torch.randn(2, width, 24 >> level, 16 >> level) for level, width in enumerate(widths)]


def test_features_are_the_heads_maps():
    torch.manual_seed(0)
    backbone = LiteHRNet((1, 1, 1)).eval()
    x = torch.randn(2, 3, 64, 96)
    with torch.inference_mode():
        features = backbone.forward_features(x)
        assert torch.equal(backbone(x), features[0])
    assert (backbone.stride, backbone.out_channels) == (32, 40)
    shapes = [(c, 64 // s, 96 // s) for c, s in zip(backbone.feature_channels, backbone.feature_strides, strict=True)]
    assert [tuple(feature.shape[1:]) for feature in features] == shapes


def test_fusion_sums_all_branches(fill_by_name):
    """The first branch counts twice, and is handed down as fused but before its ReLU."""
    torch.manual_seed(0)
    module = FusionModule(WIDTHS).eval()
    fill_by_name(module)
    with torch.inference_mode():
        branches = module.layers(_branches())
        module.layers = torch.nn.Identity()
        actual = module([branch.clone() for branch in branches])
        expected = []
        for to in range(3):
            first = expected[0] if to else branches[0]
            total = 2 * module.fuse_layers[to][0](first)
            for source in (1, 2):
                part = module.fuse_layers[to][source](branches[source])
                total += F.interpolate(part, size=total.shape[-2:]) if source > to else part
            expected.append(total)
    for a, b in zip(actual, expected, strict=True):
        torch.testing.assert_close(a, torch.relu(b))


def test_weighting_is_computed_at_the_lowest_resolution(fill_by_name):
    torch.manual_seed(0)
    layer, branches = CrossResolutionWeighting(WIDTHS).eval(), _branches()
    fill_by_name(layer)
    with torch.inference_mode():
        pooled = torch.cat([F.adaptive_avg_pool2d(branch, (6, 4)) for branch in branches], dim=1)
        weights = layer.conv2(layer.conv1(pooled)).split(WIDTHS, dim=1)
        for actual, branch, weight in zip(layer(branches), branches, weights, strict=True):
            torch.testing.assert_close(actual, branch * F.interpolate(weight, size=branch.shape[-2:]))


def test_every_parameter_gets_a_gradient():
    torch.manual_seed(0)
    backbone = LiteHRNet((1, 1, 1))
    features = backbone.forward_features(torch.randn(2, 3, 64, 64))
    sum(feature.square().mean() for feature in features).backward()
    assert [name for name, p in backbone.named_parameters() if p.grad is None] == []
