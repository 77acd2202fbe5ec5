"""ResNeSt: split attention against the softmax of the paper."""

from __future__ import annotations

import torch
from torch import nn

from fastpose.models.backbones.resnest import ResNeStBottleneck, SplitAttention


def test_split_attention_is_a_softmax_over_both_halves():
    torch.manual_seed(0)
    layer, x = SplitAttention(8).eval(), torch.randn(2, 8, 6, 5)
    with torch.inference_mode():
        splits = torch.relu(layer.bn0(layer.conv(x))).view(2, 2, 8, 6, 5)
        mean = splits.sum(1).mean((2, 3), keepdim=True)
        weights = layer.fc2(torch.relu(layer.bn1(layer.fc1(mean)))).view(2, 2, 8, 1, 1).softmax(1)
        torch.testing.assert_close(layer(x), (weights * splits).sum(1))
    assert layer.fc1.out_channels == 32
    assert SplitAttention(128).fc1.out_channels == 64


def test_shrinks_by_averaging_after_the_convolutions():
    block = ResNeStBottleneck(16, 8, 2)
    assert block.conv2.conv.stride == (1, 1)
    assert isinstance(block.shrink, nn.AvgPool2d)
    assert block.residual(torch.randn(2, 16, 7, 6)).shape == (2, 32, 4, 3)
