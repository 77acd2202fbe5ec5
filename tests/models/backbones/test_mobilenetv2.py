"""MobileNetV2: where blocks have shortcuts, and its maps."""

from __future__ import annotations

import torch

from fastpose.models.backbones.mobilenetv2 import InvertedResidual, MobileNetV2


def test_shortcut_only_between_equal_shapes():
    x = torch.randn(1, 8, 6, 6)
    for block, shortcut in (
        (InvertedResidual(8, 8, 6), True),
        (InvertedResidual(8, 8, 6, 2), False),
        (InvertedResidual(8, 12, 6), False),
    ):
        block.eval()
        kept = x.clone()
        with torch.inference_mode():
            expected = block.conv(x) + x if shortcut else block.conv(x)
            assert torch.equal(block(x), expected)
        assert torch.equal(x, kept)


def test_first_block_does_not_expand():
    assert len(MobileNetV2().layer1[0].conv) == 2
