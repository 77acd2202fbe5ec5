"""MultiResolutionModule against the sum that it stands for."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from fastpose.models.layers import MultiResolutionModule, conv_halving, separable_halving


@pytest.mark.parametrize(("halving", "interpolation"), [(conv_halving, "nearest"), (separable_halving, "bilinear")])
@pytest.mark.parametrize("fused", [1, 3])
def test_every_fused_branch_is_the_sum_of_all(halving, interpolation, fused):
    torch.manual_seed(0)
    widths = (4, 6, 8)
    module = MultiResolutionModule(
        [nn.Identity() for _ in widths], widths, halving=halving, interpolation=interpolation, fused=fused
    ).eval()
    maps = [torch.randn(2, width, 16 >> i, 8 >> i) for i, width in enumerate(widths)]
    before = [x.clone() for x in maps]
    outputs = module(maps)
    for to, output in enumerate(outputs):
        expected = maps[to].clone()
        for source in range(3) if to < fused else ():
            if source != to:
                x = module.fuse_layers[to][source](maps[source])
                expected += F.interpolate(x, size=expected.shape[-2:], mode=interpolation) if source > to else x
        torch.testing.assert_close(output, expected.relu() if to < fused else expected)
    assert all(torch.equal(a, b) for a, b in zip(maps, before, strict=True))


def test_keeps_the_branches_blocks():
    module = MultiResolutionModule(
        [nn.Sequential(nn.Conv2d(2, 2, 1)), nn.Sequential(nn.Conv2d(3, 3, 1))],
        (2, 3),
        halving=conv_halving,
        interpolation="nearest",
        fused=1,
    )
    first, second = module([torch.randn(1, 2, 4, 4), torch.zeros(1, 3, 2, 2)])
    assert first.min() >= 0
    assert torch.equal(second[0, :, 0, 0], module.branches[1][0].bias)
