"""CSPNeXt: its pooling, its blocks, its sizes."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from fastpose.models.backbones.cspnext import ChannelAttention, CSPNeXt, CSPNeXtBlock, PyramidPooling


def test_repeated_small_poolings_are_the_large_ones():
    pooling = PyramidPooling(8).eval()
    x = torch.randn(2, 8, 12, 9)
    with torch.inference_mode():
        inner = pooling.conv1(x)
        large = [F.max_pool2d(inner, side, stride=1, padding=side // 2) for side in (5, 9, 13)]
        assert torch.equal(pooling(x), pooling.conv2(torch.cat((inner, *large), dim=1)))


def test_attention_weighs_channels_by_their_means():
    attention = ChannelAttention(6)
    x = torch.randn(2, 6, 5, 4)
    logits = x.mean((2, 3)) @ attention.fc.weight[:, :, 0, 0].T
    weights = (logits / 6 + 0.5).clamp(0, 1)
    torch.testing.assert_close(attention(x), x * weights[:, :, None, None])


def test_blocks_of_the_last_stage_have_no_shortcut():
    backbone = CSPNeXt(0.33, 0.25)
    shortcuts = {
        name.split(".")[0]: module.shortcut
        for name, module in backbone.named_modules()
        if isinstance(module, CSPNeXtBlock)
    }
    assert shortcuts == {"stage1": True, "stage2": True, "stage3": True, "stage4": False}


def test_depth_and_width_scale_the_stages():
    backbone = CSPNeXt(0.67, 0.25).eval()
    assert [len(stage[-1].blocks) for stage in (backbone.stage1, backbone.stage2, backbone.stage4)] == [2, 4, 2]
    assert backbone.feature_channels == (32, 64, 128, 256)
