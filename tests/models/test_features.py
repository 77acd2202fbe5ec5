"""Backbones on their own."""

from __future__ import annotations

import pytest
import torch

from fastpose.models import FeatureExtractor, create_model, list_architectures
from fastpose.models.factory import _keypoint_entries


@pytest.mark.parametrize("name", list_architectures())
def test_maps_are_as_announced(name):
    with torch.device("meta"), torch.inference_mode():
        extractor = create_model(name, features_only=True).eval()
        assert isinstance(extractor, FeatureExtractor)
        maps = extractor(torch.empty(1, 3, 256, 192))
    shapes = [(1, c, 256 // s, 192 // s) for c, s in zip(extractor.channels, extractor.strides, strict=True)]
    if name == "alexnet":  # its convolutions are not padded to keep a ratio
        shapes = [(1, 64, 63, 47), (1, 192, 31, 23), (1, 256, 15, 11), (1, 256, 7, 5)]
    assert [tuple(features.shape) for features in maps] == shapes
    assert list(extractor.strides) == sorted(extractor.strides)


@pytest.mark.parametrize(
    "name", ["resnet18", "cspnext_tiny", "mobilenetv2", "shufflenetv1", "shufflenetv2", "vipnas_resnet50"]
)
def test_the_last_map_is_what_the_head_takes(name):
    torch.manual_seed(0)
    extractor = create_model(name, features_only=True).eval()
    x = torch.randn(2, 3, 64, 96)
    with torch.inference_mode():
        assert torch.equal(extractor(x)[-1], extractor.backbone(x))


@pytest.mark.parametrize("name", list_architectures())
def test_what_depends_on_the_keypoints_is_found(name):
    with torch.device("meta"):
        model = create_model(name)
        names = _keypoint_entries(model)
    assert names
    if name != "cpm":  # whose backbone works on maps of keypoints
        assert all(name.startswith("head.") for name in names)


def test_the_head_is_left_out_and_the_weights_are_the_network_s():
    extractor = create_model("resnet18_slim_refined", pretrained=True, features_only=True)
    assert all(name.startswith("backbone.") for name in extractor.state_dict())
    whole = create_model("resnet18_slim_refined", pretrained=True)
    assert torch.equal(extractor.backbone.conv1.weight, whole.backbone.conv1.weight)
