"""Hourglass: sizes, start, and the block that nothing uses."""

from __future__ import annotations

import pytest
import torch

from fastpose.models.backbones.hourglass import Hourglass

WIDTHS, DEPTHS = (8, 8, 12, 16), (1, 2, 1, 2)


@pytest.mark.parametrize("stacks", [1, 2, 3])
def test_every_stack_gives_features(stacks):
    backbone = Hourglass(stacks, widths=WIDTHS, depths=DEPTHS).eval()
    with torch.inference_mode():
        features = backbone(torch.randn(1, 3, 64, 96))
    assert [f.shape for f in features] == [(1, 8, 16, 24)] * stacks


def test_odd_sides_on_the_way_down():
    backbone = Hourglass(1, widths=WIDTHS, depths=DEPTHS).eval()
    with torch.inference_mode():
        assert backbone(torch.randn(1, 3, 100, 36))[0].shape == (1, 8, 25, 9)


def test_idle_block_of_a_single_stack_is_not_trained():
    single, double = (Hourglass(stacks, widths=WIDTHS, depths=DEPTHS) for stacks in (1, 2))
    sum(f.square().sum() for f in single(torch.randn(2, 3, 64, 64))).backward()
    idle = {name for name, p in single.named_parameters() if p.grad is None}
    assert idle == {name for name, p in single.named_parameters() if not p.requires_grad}
    assert {name.split(".")[0] for name in idle} == {"inters"}
    assert all(parameter.requires_grad for parameter in double.parameters())


def test_convolutions_start_small():
    for name, parameter in Hourglass(1, widths=WIDTHS, depths=DEPTHS).named_parameters():
        if parameter.ndim == 4:
            assert 0.0007 < parameter.std() < 0.0013, name


def test_widths_and_depths_are_checked():
    with pytest.raises(ValueError, match="widths, depths: expected two or more of each"):
        Hourglass(1, widths=(8, 8), depths=(1, 1, 1))
