"""SE-ResNet: the gated block against its parts."""

from __future__ import annotations

import torch
from torch import nn

from fastpose.models.backbones.seresnet import SEBottleneck


def test_gate_is_applied_before_the_shortcut_is_added():
    torch.manual_seed(0)
    block, x = SEBottleneck(16, 8, 2, nn.Conv2d(16, 32, 1, 2)).eval(), torch.randn(2, 16, 6, 4)
    with torch.inference_mode():
        branch = block.last_norm(block.residual(x))
        expected = torch.relu(branch * block.se_layer.weights(branch) + block.downsample(x))
        torch.testing.assert_close(block(x), expected)
    assert block.se_layer.conv1.conv.out_channels == 32 // 16
