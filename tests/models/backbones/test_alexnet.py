"""AlexNet: maps whose size is no fraction of the input's."""

from __future__ import annotations

import pytest
import torch

from fastpose.models import build_model, create_model
from fastpose.models.backbones.alexnet import AlexNet
from fastpose.models.zoo import default_spec


@pytest.mark.parametrize(("size", "heatmap"), [((256, 192), (56, 40)), ((128, 96), (24, 16)), ((64, 64), (8, 8))])
def test_spec_says_what_the_network_gives(size, heatmap):
    model = create_model("alexnet", input_size=size).eval()
    assert model.spec.codec.heatmap_size == heatmap
    with torch.inference_mode():
        assert model(torch.randn(2, 3, *size)).last.shape == (2, 17, *heatmap)


def test_features_are_one_cell_short_of_the_input_over_the_stride():
    backbone = AlexNet().eval()
    x = torch.randn(1, 3, 128, 96)
    maps = backbone.forward_features(x)
    for y, channels, stride in zip(maps, backbone.feature_channels, backbone.feature_strides, strict=True):
        assert y.shape == (1, channels, 128 // stride - 1, 96 // stride - 1)
    assert torch.equal(maps[-1], backbone(x))


@pytest.mark.parametrize("size", [(32, 64), (100, 96)])
def test_input_that_leaves_nothing_or_does_not_divide_is_refused(size):
    with pytest.raises(ValueError, match=r"input_size: expected .* multiples of 32 from 64 on"):
        build_model("alexnet", default_spec().replace(input_size=size))
