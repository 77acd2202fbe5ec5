"""Squeeze and excitation against its convolutions."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from fastpose.models.layers import SqueezeExcitation


@pytest.mark.parametrize("gate", [None, nn.Hardsigmoid()])
def test_equals_its_convolutions(gate):
    torch.manual_seed(0)
    layer, x = SqueezeExcitation(8, reduction=4, gate=gate), torch.randn(3, 8, 5, 4)
    weights = layer.conv2(layer.conv1(x.mean((2, 3), keepdim=True)))
    assert layer.conv1.conv.out_channels == 2
    torch.testing.assert_close(layer.weights(x), weights)
    torch.testing.assert_close(layer(x), x * weights)


def test_is_the_same_with_the_channels_last():
    torch.manual_seed(0)
    layer, x = SqueezeExcitation(8, reduction=4), torch.randn(3, 8, 5, 4)
    results = []
    for layout in (torch.contiguous_format, torch.channels_last):
        leaf = x.clone(memory_format=layout).requires_grad_()
        y = layer(leaf)
        results.append((y, *torch.autograd.grad(y.sin().sum(), leaf)))
        assert all(part.is_contiguous(memory_format=layout) for part in results[-1])
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b)
