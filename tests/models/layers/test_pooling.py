"""MaxPool: PyTorch's values, gradients and memory layouts."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from fastpose.models.layers import MaxPool

LAYOUTS = [torch.contiguous_format, torch.channels_last]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("arguments", [(3, 2, 1), (3, 2), (2,)])
def test_equals_pytorch_in_the_layout_of_the_input(arguments, layout):
    x = torch.randn(2, 5, 9, 12).contiguous(memory_format=layout)
    pooled = MaxPool(*arguments)(x)
    assert torch.equal(pooled, F.max_pool2d(x, *arguments))
    assert pooled.is_contiguous(memory_format=layout)


def test_gradient_equals_pytorchs():
    x = torch.randn(2, 5, 9, 12).round().requires_grad_()  # with ties
    (expected,) = torch.autograd.grad(F.max_pool2d(x, 3, 2, 1).square().sum(), x)
    (gradient,) = torch.autograd.grad(MaxPool(3, 2, 1)(x).square().sum(), x)
    assert torch.equal(gradient, expected)
