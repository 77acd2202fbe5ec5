"""HRNet: shapes, features, checkpointing, a step of training."""

from __future__ import annotations

import copy

import pytest
import torch

from fastpose.codecs import build_codec
from fastpose.models import create_model, heatmap_mse
from fastpose.models.backbones.hrnet import HRNet


def _tiny():
    torch.manual_seed(0)
    return HRNet((4, 6, 8, 10), modules=(1, 2, 2), blocks=1, stem_blocks=1)


def test_features_are_the_branches():
    backbone = _tiny().eval()
    x = torch.randn(2, 3, 64, 96)
    with torch.inference_mode():
        features = backbone.forward_features(x)
        assert torch.equal(backbone(x), features[0])
    assert [f.shape[1] for f in features] == list(backbone.feature_channels) == [4, 6, 8, 10]
    assert [(64 // s, 96 // s) for s in backbone.feature_strides] == [tuple(f.shape[-2:]) for f in features]
    assert backbone.stride == 32
    assert backbone.out_channels == 4


def test_convolutions_start_small():
    for name, parameter in _tiny().named_parameters():
        if parameter.ndim == 4:
            assert 0.0005 < parameter.std() < 0.002, name


def test_checkpointing_changes_nothing():
    plain = _tiny()
    checkpointed = copy.deepcopy(plain)
    assert not plain.grad_checkpointing
    checkpointed.grad_checkpointing = True
    assert checkpointed.grad_checkpointing
    x = torch.randn(2, 3, 64, 64)
    for backbone in (plain, checkpointed):
        backbone(x).square().sum().backward()
    for (name, a), b in zip(plain.named_parameters(), checkpointed.parameters(), strict=True):
        assert (a.grad is None) == (b.grad is None), name
        if a.grad is not None:
            torch.testing.assert_close(a.grad, b.grad)
    for a, b in zip(plain.buffers(), checkpointed.buffers(), strict=True):
        assert torch.equal(a, b)


def test_every_parameter_that_is_trained_gets_a_gradient():
    torch.manual_seed(0)
    model = create_model("hrnet_w32", input_size=(64, 64), num_keypoints=2)
    heatmap_mse(model(torch.randn(2, 3, 64, 64)).last, torch.rand(2, 2, 16, 16)).backward()
    assert [name for name, parameter in model.named_parameters() if parameter.grad is None] == []


def test_deconvolutions_and_three_maps_a_keypoint():
    codec = build_codec("udp_combined", heatmap_size=(32, 32))
    model = create_model("hrnet_w32", input_size=(64, 64), codec=codec, udp=True, deconv_channels=(32,)).eval()
    with torch.inference_mode():
        assert model(torch.zeros(1, 3, 64, 64)).last.shape == (1, 51, 32, 32)


def test_coco_and_ai_challenger_together():
    """Their 19 keypoints change nothing but the last layer: 33 parameters a keypoint."""
    model = create_model("hrnet_w32", num_keypoints=19)
    assert sum(parameter.numel() for parameter in model.parameters()) == 28_536_113 + 2 * 33


def test_arguments_are_checked():
    with pytest.raises(ValueError, match="expected four branches and three stages"):
        HRNet((32, 64))
    with pytest.raises(ValueError, match="multiples of 32"):
        create_model("hrnet_w32", input_size=(64, 48))
