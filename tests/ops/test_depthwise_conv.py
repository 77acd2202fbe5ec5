"""depthwise_conv: its gradient against torch in float64; threads, SIMD levels, layouts."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from fastpose import ops
from fastpose.ops import reference

# Channels that fill vectors alone, in pairs, in fours, or not at all; maps of one pixel, one column, odd sides.
SHAPES = [(2, 20, 7, 5), (1, 1, 1, 1), (2, 16, 8, 6), (3, 5, 6, 9), (2, 40, 3, 2), (1, 33, 4, 4), (2, 8, 2, 1),
          (1, 160, 8, 6), (5, 12, 16, 12)]  # fmt: skip


def channels_last(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last)


def gradients(module: Any, x: Tensor, weight: Tensor, stride: int) -> list[Tensor]:
    """Output and both gradients, as float64; that of the output is always the same."""
    x, weight = x.clone().requires_grad_(), weight.clone().requires_grad_()
    y = module.depthwise_conv(x, weight, stride)
    slope = torch.linspace(-1, 1, y.numel()).sin().reshape(y.shape).to(torch.bfloat16).to(y.dtype)
    y.backward(slope)
    assert x.grad is not None
    assert weight.grad is not None
    assert weight.grad.dtype is weight.dtype
    return [y.detach().double(), x.grad.double(), weight.grad.double()]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("kernel", [3, 5])
@pytest.mark.parametrize("stride", [1, 2])
def test_equals_torch_in_float64(simd: str, dtype: torch.dtype, kernel: int, stride: int) -> None:
    torch.manual_seed(0)
    for shape in SHAPES:
        x, weight = channels_last(torch.randn(shape).to(dtype)), torch.randn(shape[1], 1, kernel, kernel)
        exact = gradients(reference, x.double(), weight.to(dtype).double(), stride)
        for number, (got, wanted) in enumerate(zip(gradients(ops, x, weight, stride), exact, strict=True)):
            tolerance = 4e-3 if dtype is torch.bfloat16 and number < 2 else 1e-6  # the kernels' gradient is not rounded
            assert (got - wanted).abs().max() <= tolerance * max(float(wanted.abs().max()), 1.0)


def test_is_the_same_for_any_number_of_threads() -> None:
    torch.manual_seed(0)
    x, weight = channels_last(torch.randn(7, 20, 9, 8)), torch.randn(20, 1, 3, 3)
    before = torch.get_num_threads()
    results = []
    try:
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            results.append(gradients(ops, x, weight, 2)[1:])
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


def test_only_the_gradient_that_is_wanted() -> None:
    torch.manual_seed(0)
    x, weight = channels_last(torch.randn(2, 20, 5, 4)), torch.randn(20, 1, 3, 3)
    y, for_x, for_weight = gradients(ops, x, weight, 1)
    slope = torch.linspace(-1, 1, y.numel()).sin().reshape(y.shape).to(torch.bfloat16).float()
    leaf = x.clone().requires_grad_()
    (only,) = torch.autograd.grad(ops.depthwise_conv(leaf, weight), leaf, slope)
    assert torch.equal(only.double(), for_x)
    leaf = weight.clone().requires_grad_()
    (only,) = torch.autograd.grad(ops.depthwise_conv(x, leaf), leaf, slope)
    assert torch.equal(only.double(), for_weight)


def test_what_is_not_a_number_stays_where_it_is() -> None:
    x, weight = channels_last(torch.randn(1, 6, 5, 5)), torch.randn(6, 1, 3, 3)
    x[0, 2, 2, 2] = torch.nan
    _, for_x, for_weight = gradients(ops, x, weight, 1)
    assert not for_x.isnan().any()
    assert for_weight.isnan().flatten(1).all(1).tolist() == [False, False, True, False, False, False]
    assert not for_weight[[0, 1, 3, 4, 5]].isnan().any()


@pytest.mark.parametrize(
    ("x", "weight", "stride", "error", "message"),
    [
        (torch.zeros(2, 4, 5, 5), torch.zeros(4, 1, 3, 3), 1, ValueError, "x: expected the channels last in memory"),
        (
            torch.zeros(2, 4, 5, 5).half(),
            torch.zeros(4, 1, 3, 3),
            1,
            TypeError,
            "x: expected dtype bfloat16 or float32",
        ),
        (channels_last(torch.zeros(2, 4, 9, 9)), torch.zeros(4, 1, 3, 3), 3, ValueError, "stride: expected 1 or 2"),
        (channels_last(torch.zeros(2, 4, 9, 9)), torch.zeros(4, 1, 7, 7), 1, ValueError, "weight: expected kernels"),
    ],
)
def test_wrong_arguments(x: Tensor, weight: Tensor, stride: int, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        ops.depthwise_conv(x.requires_grad_(), weight, stride).sum().backward()


def test_twice_differentiated_it_says_no() -> None:
    x, weight = channels_last(torch.randn(1, 4, 5, 5)).requires_grad_(), torch.randn(4, 1, 3, 3)
    (gradient,) = torch.autograd.grad(ops.depthwise_conv(x, weight).square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="depthwise_conv is differentiable once"):
        gradient.sum().backward()
