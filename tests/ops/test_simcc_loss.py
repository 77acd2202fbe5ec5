"""simcc_loss, value and gradient, against its oracle in double precision; MMPose's figures; derivatives."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from heatmap_cases import at_simd_levels, poses
from simcc_cases import CODECS, INPUT, network_vectors
from torch import Tensor

from fastpose import ops
from fastpose.codecs import SimCC
from fastpose.ops import reference
from fastpose.ops._codec import vector_values

OPTIONS: list[dict[str, Any]] = [
    {},
    {"beta": 10.0, "label_softmax": True},
    {"beta": 1.0, "label_softmax": True, "label_beta": 3.0},
]


def value_and_gradients(loss: Any, vectors: tuple[Tensor, Tensor], *arguments: Any, **options: Any) -> list[Tensor]:
    leaves = tuple(part.detach().clone().requires_grad_() for part in vectors)
    value = loss(leaves, *arguments, **options)
    return [value.detach(), *torch.autograd.grad(value, leaves)]


def compare(got: list[Tensor], wanted: list[Tensor], tolerance: float = 1e-5, terms: float = 0.0) -> None:
    """Within a share of the largest value, and what rounding leaves of a difference between `terms` of that size."""
    for one, other in zip(got, wanted, strict=True):
        size = float(other.abs().max()) if other.numel() else 0.0
        rounding = 2e-8 if one.ndim == 0 else 1e-12 + 1e-7 * terms
        torch.testing.assert_close(one.double(), other.double(), rtol=0, atol=tolerance * size + rounding)


@pytest.mark.parametrize("name", CODECS)
@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("size", [(256, 192), (46, 31), (9, 33), (3, 2)])
def test_equals_the_oracle(name: str, options: dict[str, Any], size: tuple[int, int]) -> None:
    codec = CODECS[name]
    vectors = tuple(5 * part for part in network_vectors(codec, 3, 6, 1, size))
    points, visible = poses(3, 6, seed=2, size=size)
    factors = torch.tensor([1.0, 0, 2, 0.5, -1, 1])
    beta, arguments = options.get("beta", 1.0), (points, visible, codec, size)
    options = {**options, "keypoint_weights": factors}
    got = value_and_gradients(ops.simcc_loss, vectors, *arguments, **options)
    exact = tuple(part.double() for part in vectors)
    wanted = value_and_gradients(reference.simcc_loss, exact, *arguments, **options)
    compare(got, wanted, terms=2 * beta / (6 * min(codec.sizes(size))))
    assert got[1][:, 1].abs().max() == got[1][:, 4].abs().max() == 0


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(dtype: torch.dtype) -> None:
    codec = CODECS["rtmpose"]
    vectors = tuple(part.to(dtype) for part in network_vectors(codec, 3, 6))
    arguments = (*poses(3, 6), codec, INPUT)
    got = value_and_gradients(ops.simcc_loss, vectors, *arguments, beta=10.0, label_softmax=True)
    exact = tuple(part.double() for part in vectors)
    wanted = value_and_gradients(reference.simcc_loss, exact, *arguments, beta=10.0, label_softmax=True)
    assert got[0].dtype is torch.float32
    assert got[1].dtype is dtype
    compare(got[:1], wanted[:1])
    compare(got[1:], wanted[1:], 1e-2 if dtype is torch.bfloat16 else 2e-3)


def test_a_scaled_float16_gradient_is_scaled_first() -> None:
    codec, arguments = CODECS["rtmpose"], poses(64, 6)
    x, y = (part.half().requires_grad_() for part in network_vectors(codec, 64, 6))
    (ops.simcc_loss((x, y), *arguments, codec, INPUT, label_softmax=True) * 1024).backward()
    exact = [part.detach().double().requires_grad_() for part in (x, y)]
    (reference.simcc_loss(tuple(exact), *arguments, codec, INPUT, label_softmax=True) * 1024).backward()
    compare([x.grad, y.grad], [part.grad for part in exact], 2e-3)  # type: ignore[list-item]


@pytest.mark.parametrize("batch", [0, 1, 700])
def test_batches(batch: int) -> None:
    """Of 700 people gradients are large enough for the stores that go past the caches."""
    codec = SimCC()
    vectors, arguments = network_vectors(codec, batch, 4), (*poses(batch, 4), codec, INPUT)
    got = value_and_gradients(ops.simcc_loss, vectors, *arguments)
    compare(got, value_and_gradients(reference.simcc_loss, tuple(v.double() for v in vectors), *arguments))
    assert batch > 0 or got[0] == 0


def test_what_does_not_count_is_not_looked_at() -> None:
    codec = CODECS["rtmpose"]
    x, y = network_vectors(codec, 1, 5)
    points = torch.tensor([[[50.0, 60], [50, 60], [-900, 60], [np.nan, 3], [50, 60]]])
    weights = torch.tensor([[1.0, 0, 1, 1, np.nan]])
    x[0, 1:], y[0, 1:] = np.nan, np.inf
    got = value_and_gradients(ops.simcc_loss, (x, y), points, weights, codec, INPUT)
    assert got[0].isfinite()
    assert not got[1][0, 1:].any()
    assert not got[2][0, 1:].any()
    x[0, 0, 3] = np.nan
    assert ops.simcc_loss((x, y), points, weights, codec, INPUT).isnan()


@pytest.mark.parametrize("options", OPTIONS)
def test_values_of_any_size(options: dict[str, Any]) -> None:
    """The softmax neither overflows nor loses what is small."""
    codec, arguments = CODECS["rtmpose"], (*poses(2, 3), CODECS["rtmpose"], INPUT)
    for scale, shift in itertools.product((1e-3, 1, 1e3), (0, 500, -500)):
        vectors = tuple(scale * part + shift for part in network_vectors(codec, 2, 3))
        got = value_and_gradients(ops.simcc_loss, vectors, *arguments, **options)
        wanted = value_and_gradients(reference.simcc_loss, tuple(v.double() for v in vectors), *arguments, **options)
        compare(got, wanted, 1e-4 if shift else 1e-5)


def test_gradient_of_one_vector_and_none() -> None:
    codec, arguments = SimCC(), (*poses(2, 3), SimCC(), INPUT)
    x, y = network_vectors(codec, 2, 3)
    both = value_and_gradients(ops.simcc_loss, (x, y), *arguments)
    for chosen in (0, 1):
        leaves = [part.clone().requires_grad_(i == chosen) for i, part in enumerate((x, y))]
        (got,) = torch.autograd.grad(ops.simcc_loss(tuple(leaves), *arguments), leaves[chosen])
        torch.testing.assert_close(got, both[1 + chosen], rtol=0, atol=0)
    leaf = x.clone().requires_grad_()
    with torch.no_grad():
        value = ops.simcc_loss((leaf, y), *arguments)
    assert not value.requires_grad
    torch.testing.assert_close(value, both[0], rtol=0, atol=0)
    value = ops.simcc_loss((leaf, y), *arguments)
    value.backward(retain_graph=True)
    value.backward(torch.tensor(3.0))
    torch.testing.assert_close(leaf.grad, 4 * both[1])
    (slope,) = torch.autograd.grad(ops.simcc_loss((leaf, y), *arguments), leaf, create_graph=True)
    with pytest.raises(RuntimeError, match="simcc_loss is differentiable once"):
        slope.sum().backward()


def test_weights_may_be_left_out() -> None:
    codec, vectors = SimCC(), network_vectors(SimCC(), 2, 3)
    points = torch.full((2, 3, 2), 50.0)
    one = ops.simcc_loss(vectors, points, None, codec, INPUT)
    torch.testing.assert_close(one, ops.simcc_loss(vectors, points, torch.ones(2, 3), codec, INPUT), rtol=0, atol=0)


@pytest.mark.parametrize("options", OPTIONS)
def test_gradcheck(options: dict[str, Any]) -> None:
    codec, size = SimCC(sigma=(2.0, 1.5), normalized=False), (5, 4)
    x, y = (part.double().requires_grad_() for part in network_vectors(codec, 2, 3, size=size))
    points, weights = torch.rand(2, 3, 2, dtype=torch.float64) * 4, torch.rand(2, 3)
    assert torch.autograd.gradcheck(
        lambda a, b: ops.simcc_loss((a, b), points, weights, codec, size, **options), (x, y)
    )


def test_errors() -> None:
    codec, x, y = SimCC(), torch.zeros(2, 3, 384), torch.zeros(2, 3, 512)
    points, weights, loss = torch.zeros(2, 3, 2), torch.ones(2, 3), ops.simcc_loss
    rest, wide = (codec, INPUT), x.double()
    for call, error, message in (
        (lambda: loss((x, x), points, weights, *rest), ValueError, r"predicted\[1\]: expected shape"),
        (lambda: loss((wide, wide), points, weights, *rest), ValueError, r"predicted\[1\]: expected shape"),
        (lambda: loss((x, y.bfloat16()), points, weights, *rest), TypeError, r"predicted\[1\]: expected dtype"),
        (lambda: loss((x.long(), y), points, weights, *rest), TypeError, r"predicted\[0\]: expected"),
        (lambda: loss((x.numpy(), y), points, weights, *rest), TypeError, r"predicted\[1\]"),
        (lambda: loss((x, y), points[:1], weights, *rest), ValueError, "keypoints: expected shape"),
        (lambda: loss((x, y), points, weights[:, :2], *rest), ValueError, "weights: expected shape"),
        (lambda: loss((x, y), points, weights, *rest, keypoint_weights=[1.0]), ValueError, "keypoint_weights: exp"),
        (lambda: loss((x, y), points, weights, *rest, beta=0), ValueError, "beta: expected a number above 0"),
        (lambda: loss((x, y), points, weights, *rest, label_beta=1e6), ValueError, "label_beta: expected a number"),
        (lambda: loss((x, y), points, weights, *rest, label_softmax="yes"), TypeError, "label_softmax: expected"),
        (lambda: loss((x, y), points, weights.requires_grad_(), *rest), TypeError, "weights: .* no gradient"),
    ):  # fmt: skip
        with pytest.raises(error, match=message):
            call()


def test_opcheck_and_compiled() -> None:
    codec = CODECS["rtmpose"]
    x, y = (part.requires_grad_() for part in network_vectors(codec, 2, 3))
    points, weights = poses(2, 3)
    values = vector_values(codec, INPUT)
    op = torch.ops.fastpose.simcc_loss.default
    torch.library.opcheck(op, (x, y, points, weights, None, 1.0, True, 10.0, True, *values))
    arguments = (points, weights, codec, INPUT)
    wanted = value_and_gradients(ops.simcc_loss, (x, y), *arguments, beta=10.0, label_softmax=True)
    compiled = torch.compile(
        lambda v: ops.simcc_loss(v, *arguments, beta=10.0, label_softmax=True), fullgraph=True, backend="aot_eager"
    )
    compare(value_and_gradients(compiled, (x, y)), wanted, 1e-7)


def test_every_simd_level() -> None:
    code = """
import numpy as np, torch
from heatmap_cases import poses
from simcc_cases import CODECS, network_vectors
from test_simcc_loss import OPTIONS, value_and_gradients
from fastpose import ops
for codec in CODECS.values():
    vectors, arguments = network_vectors(codec, 3, 5, size=(61, 47)), (*poses(3, 5), codec, (61, 47))
    for options in OPTIONS:
        made = value_and_gradients(ops.simcc_loss, vectors, *arguments, **options)
        print(*np.concatenate([part.numpy().ravel() for part in made]))
"""
    values = [np.fromstring(text, sep=" ") for text in at_simd_levels(code).values()]
    for other in values[1:]:
        np.testing.assert_allclose(other, values[0], rtol=2e-5, atol=2e-8)
