"""ViPNAS: global context, the steep hard sigmoid, grouped deconvolutions, maps."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from fastpose.models import create_model
from fastpose.models.backbones.vipnas_mobilenetv3 import SteepHardsigmoid
from fastpose.models.backbones.vipnas_resnet import Bottleneck, GlobalContext


def test_global_context_adds_a_weighted_mean_to_every_position():
    context = GlobalContext(24)
    nn.init.normal_(context.conv_mask.weight)
    x = torch.randn(2, 24, 5, 4)
    expected = torch.empty_like(x)
    for n in range(2):
        weights = torch.softmax((x[n] * context.conv_mask.weight[0]).sum(0).flatten(), dim=0)
        mean = (x[n].flatten(1) * weights).sum(1)
        expected[n] = x[n] + context.channel_add_conv(mean[None, :, None, None])[0]
    torch.testing.assert_close(context(x), expected)


def test_hidden_layer_of_the_context_has_at_least_16_channels():
    assert [GlobalContext(width).channel_add_conv[0].out_channels for width in (80, 304, 608)] == [16, 19, 38]


def test_gradient_flows_through_attention_and_shortcut():
    block = Bottleneck(32, 32, 3, attention=True)
    x = torch.randn(2, 32, 6, 6, requires_grad=True)
    block(x).square().sum().backward()
    assert x.grad is not None
    assert x.grad.any()
    assert all(parameter.grad is not None for parameter in block.parameters())


def test_steep_hard_sigmoid():
    x = torch.tensor([-2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0])
    assert SteepHardsigmoid()(x).tolist() == [0, 0, 0.25, 0.5, 0.75, 1, 1]


@pytest.mark.parametrize(("name", "groups"), [("vipnas_resnet50", 16), ("vipnas_mobilenetv3", 160)])
def test_deconvolutions_are_grouped(name, groups):
    def deconvolutions(**options):
        head = create_model(name, input_size=(64, 64), **options).head
        return [layer for layer in head.deconv_layers if isinstance(layer, nn.ConvTranspose2d)]

    assert [layer.groups for layer in deconvolutions()] == [groups] * 3
    assert [layer.groups for layer in deconvolutions(deconv_channels=(32, 32, 32), deconv_groups=4)] == [4] * 3
