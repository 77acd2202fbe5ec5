"""ShuffleNets: their units in both memory layouts against the papers' figures, their maps, their first weights."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from fastpose.models.backbones import shufflenetv1, shufflenetv2

LAYOUTS = [torch.contiguous_format, torch.channels_last]


def _shuffled(x, groups):
    """Channel k of group g comes k-th after the k-th of all groups before it."""
    width = x.shape[1] // groups
    return torch.stack([x[:, group * width + k] for k in range(width) for group in range(groups)], dim=1)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(("in_channels", "width"), [(48, 48), (24, 48)])
def test_unit_of_the_first(in_channels, width, layout):
    unit = shufflenetv1.ShuffleUnit(in_channels, width).eval()
    x = torch.randn(2, in_channels, 8, 6)
    with torch.inference_mode():
        out = unit.depthwise_conv3x3_bn(unit.g_conv_1x1_compress(x))
        out = unit.g_conv_1x1_expand(_shuffled(out, 3))
        if in_channels == width:
            expected = F.relu(x + out)
        else:
            expected = F.relu(torch.cat((F.avg_pool2d(x, 3, stride=2, padding=1), out), dim=1))
        given = x.clone(memory_format=layout)
        torch.testing.assert_close(unit(given), expected)
        assert torch.equal(given, x)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_units_of_the_second(layout):
    down, unit = shufflenetv2.DownUnit(8, 20).eval(), shufflenetv2.ShuffleUnit(20).eval()
    x = torch.randn(2, 8, 8, 6)
    with torch.inference_mode():
        halved = _shuffled(torch.cat((down.branch1(x), down.branch2(x)), dim=1), 2)
        expected = _shuffled(torch.cat((halved[:, :10], unit.branch2(halved[:, 10:])), dim=1), 2)
        torch.testing.assert_close(unit(down(x.contiguous(memory_format=layout))), expected)


def test_first_weights_are_the_authors():
    torch.manual_seed(0)
    stage = shufflenetv1.ShuffleNetV1().layers[2]
    grouped, depthwise = stage[1].g_conv_1x1_compress, stage[1].depthwise_conv3x3_bn
    assert grouped.conv.weight.std().item() == pytest.approx(1 / 320, rel=0.05)
    assert depthwise.conv.weight.std().item() == pytest.approx(1, rel=0.05)
    assert torch.equal(grouped.bn.bias, torch.full((240,), 1e-4))
