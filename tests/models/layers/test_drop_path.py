"""DropPath: what is dropped, what is kept, and that the expectation stays."""

from __future__ import annotations

import pytest
import torch

from fastpose.models.layers import DropPath


def test_whole_samples_are_dropped_and_the_others_scaled():
    torch.manual_seed(0)
    y = DropPath(0.2)(torch.ones(4000, 3, 2))
    first = y[:, 0, 0]
    assert torch.equal(y, first[:, None, None].expand_as(y))
    assert set(first.tolist()) == {0.0, 1.25}
    assert y.mean().item() == pytest.approx(1, abs=0.03)


def test_nothing_happens_in_evaluation_or_at_zero():
    x = torch.randn(4, 3)
    assert DropPath(0.5).eval()(x) is x
    assert DropPath()(x) is x


@pytest.mark.parametrize("probability", [-0.1, 1.0])
def test_probability_is_checked(probability):
    with pytest.raises(ValueError, match=r"probability: expected a number in \[0, 1\), got"):
        DropPath(probability)
