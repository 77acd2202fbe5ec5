"""SCNet: the self-calibrated convolution against its definition, on maps of all sizes."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from fastpose.models.backbones.scnet import SelfCalibratedConv


@pytest.mark.parametrize("size", [(8, 12), (12, 9), (6, 4)])
@pytest.mark.parametrize("stride", [1, 2])
def test_equals_its_definition(size, stride):
    torch.manual_seed(0)
    layer, x = SelfCalibratedConv(3, stride).eval(), torch.randn(2, 3, *size)
    before = x.clone()
    _, conv, norm = layer.k2
    with torch.inference_mode():
        coarse = norm(conv(F.avg_pool2d(x, 4)))
        gate = torch.sigmoid(x + F.interpolate(coarse, size=size))
        torch.testing.assert_close(layer(x), layer.k4(layer.k3(x) * gate))
    assert torch.equal(x, before)


def test_maps_smaller_than_a_square_are_averaged_whole():
    layer, x = SelfCalibratedConv(3, 1), torch.randn(1, 3, 2, 6)
    assert torch.equal(layer.k2[0](x), F.avg_pool2d(x, (2, 4)))
    assert layer(torch.randn(2, 3, 1, 2)).shape == (2, 3, 1, 2)
