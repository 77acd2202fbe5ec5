"""PVT: attention against torch's own, positions, what version 2 changes."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from fastpose.models.backbones.pvt import CrossAttention, Positions, PyramidVisionTransformer


def test_attention_equals_that_of_torch():
    torch.manual_seed(0)
    ours, theirs = CrossAttention(12, 3), nn.MultiheadAttention(12, 3, batch_first=True)
    nn.init.normal_(theirs.in_proj_bias)
    ours.load_state_dict(theirs.state_dict())
    x, context = torch.randn(2, 10, 12), torch.randn(2, 4, 12)
    torch.testing.assert_close(ours(x, context), theirs(x, context, context)[0])


def test_positions_follow_the_grid():
    positions = Positions(4, 3)
    x = torch.randn(2, 4, 4, 3)
    assert torch.equal(positions(x), x + positions.pos_embed.view(1, 4, 4, 3))
    plane = positions.pos_embed.view(1, 4, 4, 3).permute(0, 3, 1, 2)
    expected = F.interpolate(plane, size=(6, 2), mode="bilinear").permute(0, 2, 3, 1)
    torch.testing.assert_close(positions(torch.zeros(2, 6, 2, 3)), expected.expand(2, -1, -1, -1))


def test_the_second_version_has_no_positions_and_overlapping_patches():
    first, second = (PyramidVisionTransformer((1, 1, 1, 1), v2=v2, drop_path=0.0) for v2 in (False, True))
    assert sum("pos_embed" in name for name, _ in first.named_parameters()) == 4
    assert not any("pos_embed" in name for name, _ in second.named_parameters())
    assert [stage[0].projection.kernel_size[0] for stage in first.layers] == [4, 2, 2, 2]
    assert [stage[0].projection.kernel_size[0] for stage in second.layers] == [7, 3, 3, 3]
    with pytest.raises(ValueError, match="depths: expected four stages"):
        PyramidVisionTransformer((1, 1), v2=True, drop_path=0.0)
