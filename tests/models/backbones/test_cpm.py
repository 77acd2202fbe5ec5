"""CPM: sizes, and what its stages see."""

from __future__ import annotations

import torch

from fastpose.models.backbones.cpm import CPM


def _tiny():
    torch.manual_seed(0)
    return CPM(4, stages=3, width=8, image_channels=6).eval()


def test_maps_have_an_eighth_of_the_sides():
    with torch.inference_mode():
        assert [m.shape for m in _tiny()(torch.randn(1, 3, 368, 184))] == [(1, 4, 46, 23)] * 3


def test_every_stage_sees_the_maps_before_it_and_the_image():
    backbone = _tiny()
    seen = []
    for stage in backbone.cpm_stages:
        stage.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    with torch.inference_mode():
        x = torch.randn(2, 3, 64, 64)
        maps = backbone(x)
        image = backbone.middle(x)
        for index, given in enumerate(seen):
            assert torch.equal(given[:, :4], maps[index])
            torch.testing.assert_close(given[:, 4:], backbone.middle_conv[index](image))


def test_pooling_before_the_relu_gives_the_same():
    backbone = _tiny()
    unit, pool = backbone.middle[:2]
    with torch.inference_mode():
        features = unit(torch.randn(1, 3, 32, 32))
        expected = torch.nn.functional.max_pool2d(features.relu(), 3, 2, 1)
        torch.testing.assert_close(pool(features), expected)


def test_fresh_maps_start_near_zero():
    assert all(m.abs().max() < 0.1 for m in _tiny()(torch.randn(1, 3, 64, 64)))
