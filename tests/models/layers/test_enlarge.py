"""Arithmetic with a map that is not written out, against writing it out."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from fastpose.models.layers import with_enlarged


@pytest.mark.parametrize("small_size", [(8, 6), (4, 2), (2, 6), (1, 1), (3, 4), (5, 1)])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_equals_interpolation(small_size, layout):
    torch.manual_seed(0)
    x = torch.randn(2, 3, 8, 6).to(memory_format=layout)
    small = torch.randn(2, 5, *small_size).to(memory_format=layout)[:, 1:4]  # not contiguous, like a split's parts
    expected = x * F.interpolate(small, size=(8, 6))
    actual = with_enlarged(torch.mul, x, small)
    assert torch.equal(actual, expected)
    assert actual.is_contiguous(memory_format=layout)
    assert with_enlarged(torch.add, x[:0], small[:0]).shape == (0, 3, 8, 6)


def test_gradients():
    torch.manual_seed(0)
    x = torch.randn(1, 2, 4, 6, dtype=torch.float64, requires_grad=True)
    small = torch.randn(1, 2, 2, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x, small: with_enlarged(torch.mul, x, small), (x, small))
