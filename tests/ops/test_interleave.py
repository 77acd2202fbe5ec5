"""interleave: the same bits as torch's copies and product; its gradients; threads, SIMD levels, layouts."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from fastpose import ops
from fastpose.ops import reference

# Channels that fill vectors, or not; one pixel, one column.
SHAPES = [(2, 20, 7, 5), (1, 1, 1, 1), (2, 16, 8, 6), (3, 5, 6, 9), (1, 33, 4, 4), (2, 3, 2, 1), (1, 160, 8, 6)]


def channels_last(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last)


def make(shape: tuple[int, ...], dtype: torch.dtype, *, part: bool, weighted: bool) -> list[Tensor]:
    """The maps, the first one perhaps half of the channels of one, and the weights."""
    torch.manual_seed(0)
    batch, channels = shape[:2]
    first = channels_last(torch.randn(batch, 2 * channels, *shape[2:]).to(dtype))[:, :channels]
    maps = [first if part else channels_last(first), channels_last(torch.randn(shape).to(dtype))]
    return [*maps, torch.rand(batch, channels).to(dtype)] if weighted else maps


def run(module: Any, given: list[Tensor], dtype: torch.dtype | None = None) -> list[Tensor]:
    """Output and gradients."""
    leaves = [x.to(dtype or x.dtype).detach().requires_grad_() for x in given]
    y = module.interleave(*leaves)
    slope = torch.linspace(-1, 1, y.numel()).sin().reshape(y.shape).to(given[0].dtype).to(y.dtype)
    return [y.detach(), *torch.autograd.grad(y, leaves, slope)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("part", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
def test_equals_torch(simd: str, dtype: torch.dtype, part: bool, weighted: bool) -> None:
    for shape in SHAPES:
        given = make(shape, dtype, part=part, weighted=weighted)
        got, wanted = run(ops, given), run(reference, given)
        for a, b in zip(got[:3], wanted[:3], strict=True):
            assert torch.equal(a, b)
        assert all(x.is_contiguous(memory_format=torch.channels_last) for x in got[:3])
        if weighted:
            exact = run(reference, given, torch.float64)[3]
            tolerance = 4e-3 if dtype is torch.bfloat16 else 1e-6
            assert (got[3] - exact).abs().max() <= tolerance * max(float(exact.abs().max()), 1.0)


def test_is_the_same_for_any_number_of_threads() -> None:
    given = make((7, 20, 9, 8), torch.float32, part=True, weighted=True)
    before = torch.get_num_threads()
    results = []
    try:
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            results.append(run(ops, given))
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


def test_strange_values_pass() -> None:
    first, second = make((1, 20, 3, 3), torch.bfloat16, part=False, weighted=False)
    first[0, :4, 1, 1] = torch.tensor([torch.nan, torch.inf, -torch.inf, -0.0])
    second[0, 18, 2, 2] = torch.nan
    torch.testing.assert_close(
        ops.interleave(first, second), reference.interleave(first, second), rtol=0, atol=0, equal_nan=True
    )


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (
            {"first": torch.zeros(2, 4, 3, 3, dtype=torch.float64)},
            TypeError,
            "first: expected dtype bfloat16 or float32",
        ),
        ({"first": torch.zeros(2, 4, 3, 3)}, ValueError, "first: expected the channels last in memory"),
        ({"second": torch.zeros(2, 4, 3, 3).bfloat16()}, TypeError, "second: expected dtype float32"),
        ({"second": channels_last(torch.zeros(2, 5, 3, 3))}, ValueError, r"second: expected shape \[B, C, H, W\] = "),
        ({"second": channels_last(torch.zeros(2, 8, 3, 3))[:, ::2]}, ValueError, "second: expected the channels last"),
        ({"weights": torch.zeros(2, 5)}, ValueError, r"weights: expected shape \[B, C\]"),
        ({"weights": torch.zeros(2, 4).bfloat16()}, TypeError, "weights: expected dtype float32"),
    ],
)
def test_wrong_arguments(change: dict[str, Tensor], error: type[Exception], message: str) -> None:
    arguments: dict[str, Any] = dict.fromkeys(("first", "second"), channels_last(torch.zeros(2, 4, 3, 3)))
    with pytest.raises(error, match=message):
        ops.interleave(**arguments | change)


def test_twice_differentiated_it_says_no() -> None:
    first, second, weights = make((1, 4, 5, 5), torch.float32, part=False, weighted=True)
    leaf = second.requires_grad_()
    (gradient,) = torch.autograd.grad(ops.interleave(first, leaf, weights).square().sum(), leaf, create_graph=True)
    with pytest.raises(RuntimeError, match="interleave is differentiable once"):
        gradient.sum().backward()
