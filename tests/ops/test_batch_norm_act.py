"""batch_norm_act against torch in float64: values, gradients, running statistics; threads, SIMD levels."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from fastpose import ops
from fastpose.ops import reference

# Few, odd and many channels; one pixel; several blocks of sums; what does not fill a row of folded pixels.
SHAPES = [(2, 1, 1, 1), (3, 1, 5, 5), (2, 20, 7, 5), (2, 17, 9, 3), (7, 5, 1, 1), (2, 333, 5, 3), (1, 40, 64, 48),
          (1, 2048, 4, 3), (3, 64, 40, 40), (2, 31, 3, 30)]  # fmt: skip
ENDS = [(False, False), (True, False), (False, True), (True, True)]


def make(shape: tuple[int, ...], dtype: torch.dtype, seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)

    def draw(*size: int) -> Tensor:
        return torch.randn(size, generator=generator)

    maps = {"x": 2 * draw(*shape) + 3, "residual": draw(*shape), "slope": draw(*shape)}
    maps = {name: x.to(dtype).contiguous(memory_format=torch.channels_last) for name, x in maps.items()}
    channels = shape[1]
    return maps | {
        "weight": draw(channels), "bias": draw(channels), "mean": draw(channels), "variance": draw(channels).square()
    }  # fmt: skip


def run(module: Any, given: dict[str, Tensor], relu: bool, residual: bool, dtype: torch.dtype | None = None) -> Any:
    """Output, gradients and running statistics, in float64; computed in another dtype if one is named."""
    given = {name: x.clone() if dtype is None else x.to(dtype) for name, x in given.items()}
    leaves = [given[name].requires_grad_() for name in ("x", "weight", "bias", *(["residual"] if residual else []))]
    y = module.batch_norm_act(
        *leaves[:3],
        given["mean"],
        given["variance"],
        momentum=0.3,
        eps=1e-3,
        relu=relu,
        residual=leaves[3] if residual else None,
    )
    y.backward(given["slope"])
    results = [y.detach(), *(leaf.grad for leaf in leaves), given["mean"], given["variance"]]
    for x, like in zip(results, [given["x"], *leaves, given["mean"], given["variance"]], strict=True):
        assert x.dtype is like.dtype
        assert x.shape == like.shape
    return [x.double() for x in results]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_is_as_exact_as_torch(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    given = make(shape, dtype)
    for relu, residual in ENDS:
        exact = run(reference, given, relu, residual, torch.float64)
        for got, theirs, wanted in zip(
            run(ops, given, relu, residual), run(reference, given, relu, residual), exact, strict=True
        ):
            scale = max(float(wanted.abs().max()), 1.0)
            least = 1e-6 if dtype is torch.float32 or got.ndim == 1 else 4e-3
            assert (got - wanted).abs().max() <= max(2 * float((theirs - wanted).abs().max()), least * scale)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_every_simd_level(simd: str, dtype: torch.dtype) -> None:
    for shape in SHAPES:
        given = make(shape, dtype)
        for relu, residual in ENDS:
            exact = run(reference, given, relu, residual, torch.float64)
            for got, wanted in zip(run(ops, given, relu, residual), exact, strict=True):
                tolerance = 5e-6 if dtype is torch.float32 or got.ndim == 1 else 8e-3
                assert (got - wanted).abs().max() <= tolerance * max(float(wanted.abs().max()), 1.0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_is_the_same_for_any_number_of_threads(dtype: torch.dtype) -> None:
    given = make((5, 24, 61, 37), dtype)
    before = torch.get_num_threads()
    results = []
    try:
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            results.append(run(ops, given, True, True))
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


def test_a_large_mean_costs_nothing() -> None:
    given = make((4, 20, 31, 17), torch.float32)
    given["x"] = (1000 + 0.1 * given["x"]).contiguous(memory_format=torch.channels_last)
    given["x"][0, :, 0, 0] = 0  # the first value is far away from all others
    exact = run(reference, given, False, False, torch.float64)
    # Mean of squares minus square of the mean, in float32, would be off by 2e-4 of the value.
    for got, wanted in zip(run(ops, given, False, False), exact, strict=True):
        assert (got - wanted).abs().max() <= 1e-5 * wanted.abs().max() + 1e-6
    torch.testing.assert_close(run(ops, given, False, False)[0], exact[0], rtol=1e-4, atol=1e-4)


def test_what_is_not_a_number_stays_so() -> None:
    given = make((2, 20, 4, 4), torch.float32)
    given["x"][0, 3, 1, 1] = torch.nan
    for relu, residual in ENDS:
        got, wanted = run(ops, given, relu, residual), run(reference, given, relu, residual)
        for a, b in zip(got, wanted, strict=True):
            assert torch.equal(a.isnan(), b.isnan())


@pytest.mark.parametrize("relu", [False, True])
def test_only_the_gradients_that_are_wanted(relu: bool) -> None:
    given = make((2, 20, 4, 4), torch.float32)
    options: dict[str, Any] = {"momentum": 0.3, "eps": 1e-3, "relu": relu}
    wanted = run(reference, given, relu, True)
    names = ["x", "weight", "bias", "residual"]
    for number, name in enumerate(names):
        leaves = {key: given[key].clone().requires_grad_(key == name) for key in names}
        y = ops.batch_norm_act(
            leaves["x"], leaves["weight"], leaves["bias"], given["mean"].clone(), given["variance"].clone(),
            residual=leaves["residual"], **options,
        )  # fmt: skip
        (gradient,) = torch.autograd.grad(y, leaves[name], given["slope"])
        assert all(leaf.requires_grad == (key == name) for key, leaf in leaves.items())
        torch.testing.assert_close(gradient.double(), wanted[1 + number], rtol=1e-5, atol=1e-5)


def test_a_gradient_of_another_layout() -> None:
    given = make((2, 20, 4, 6), torch.float32)
    wanted = run(ops, given, True, True)
    given["slope"] = given["slope"].contiguous()
    for got, expected in zip(run(ops, given, True, True), wanted, strict=True):
        assert torch.equal(got, expected)
    x = given["x"].clone().requires_grad_()
    y = ops.batch_norm_act(
        x, given["weight"], given["bias"], given["mean"], given["variance"], momentum=0.1, eps=1e-5, relu=True
    )
    y.sum().backward()  # expanded from one number
    assert x.grad is not None


def test_what_happens_to_the_statistics_is_known() -> None:
    given = make((2, 20, 4, 4), torch.float32)
    mean, variance = given["mean"], given["variance"]
    versions = mean._version, variance._version
    kept = mean.clone(), variance.clone()
    options: dict[str, Any] = {"eps": 1e-5}
    ops.batch_norm_act(given["x"], given["weight"], given["bias"], mean, variance, momentum=0.0, **options)
    assert torch.equal(mean, kept[0])
    assert torch.equal(variance, kept[1])
    assert mean._version > versions[0]
    assert variance._version > versions[1]


def test_twice_differentiated_it_says_no() -> None:
    given = make((2, 4, 3, 3), torch.float32)
    x = given["x"].requires_grad_()
    y = ops.batch_norm_act(
        x, given["weight"], given["bias"], given["mean"], given["variance"], momentum=0.1, eps=1e-5, relu=True
    )
    (gradient,) = torch.autograd.grad(y.square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="batch_norm_act is differentiable once"):
        gradient.sum().backward()


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"x": torch.zeros(2, 4, 3, 3, dtype=torch.float64)}, TypeError, "x: expected dtype bfloat16 or float32"),
        ({"x": torch.zeros(2, 4, 3, 3)}, ValueError, "x: expected the channels last in memory"),
        ({"x": torch.zeros(2, 4)}, ValueError, r"x: expected shape \[B, C, H, W\]"),
        ({"x": torch.zeros(1, 4, 1, 1)}, ValueError, "x: expected more than one value per channel"),
        ({"x": torch.zeros(0, 4, 3, 3)}, ValueError, "x: expected more than one value per channel"),
        ({"weight": torch.zeros(5)}, ValueError, r"weight: expected shape \[C\]"),
        ({"bias": torch.zeros(4, dtype=torch.bfloat16)}, TypeError, "bias: expected dtype float32"),
        ({"running_var": torch.zeros(8)[::2]}, ValueError, "running_var: expected row-major contiguous memory"),
        ({"running_mean": torch.zeros(1).expand(4)}, ValueError, "running_mean: expected row-major contiguous"),
        ({"residual": torch.zeros(2, 4, 3, 3)}, ValueError, "residual: expected the channels last in memory"),
        ({"residual": torch.zeros(2, 4, 3, 3, dtype=torch.bfloat16)}, TypeError, "residual: expected dtype float32"),
        ({"residual": torch.zeros(2, 4, 3, 2)}, ValueError, r"residual: expected shape \[B, C, H, W\] = "),
    ],
)
def test_wrong_arguments(change: dict[str, Tensor], error: type[Exception], message: str) -> None:
    arguments: dict[str, Any] = {
        "x": torch.zeros(2, 4, 3, 3).contiguous(memory_format=torch.channels_last),
        "weight": torch.ones(4), "bias": torch.zeros(4), "running_mean": torch.zeros(4), "running_var": torch.ones(4),
    }  # fmt: skip
    with pytest.raises(error, match=message):
        ops.batch_norm_act(**arguments | change, momentum=0.1, eps=1e-5)
