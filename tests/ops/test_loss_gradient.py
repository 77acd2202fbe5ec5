"""The gradient of heatmap_loss, made with the loss for a slope of 1, and what backward makes of it for other slopes."""

from __future__ import annotations

import importlib
from typing import Any

import pytest
import torch
from heatmap_cases import CODECS, INPUT, at_simd_levels, poses
from torch import Tensor

from fastpose import _C, ops

LOSS = importlib.import_module("fastpose.ops.heatmap_loss")
GRADIENT = importlib.import_module("fastpose.ops._made_gradient")
CODEC = CODECS["gaussian"]
DTYPES = (torch.float32, torch.bfloat16, torch.float16)
SLOPES = (1.0, 65536.0, 0.37, -3.0, 0.0, float("inf"), float("nan"))

pytestmark = pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.cuda)])


says_what_is_kept = pytest.mark.skipif(
    not hasattr(torch._C._autograd, "_get_current_graph_task_keep_graph"), reason="this torch does not say"
)


def leaf_and_loss(device: str, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    points, visible = poses(3, 5, seed=4)
    generator = torch.Generator().manual_seed(0)
    maps = torch.randn((3, 5, 64, 48), generator=generator).to(device, dtype).requires_grad_()
    return maps, ops.heatmap_loss(maps, points.to(device), visible.clamp(max=1).to(device), CODEC, INPUT)


def gradient_of(device: str, dtype: torch.dtype = torch.float32) -> Tensor:
    leaf, loss = leaf_and_loss(device, dtype)
    return torch.autograd.grad(loss, leaf)[0]


def product(gradient: Tensor, slope: float) -> Tensor:
    """Rounded once."""
    return (gradient.double() * torch.tensor(slope).double().item()).to(gradient.dtype)


def equal(ours: Tensor | None, wanted: Tensor) -> None:
    torch.testing.assert_close(ours, wanted, rtol=0, atol=0, equal_nan=True)


@pytest.fixture
def scaled(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """From where to where each call of the core's scale_gradient goes."""
    calls: list[tuple[int, int]] = []
    scale = _C.scale_gradient

    def noted(gradient: Tensor, slope: Tensor, out: Tensor) -> Tensor:
        calls.append((gradient.data_ptr(), out.data_ptr()))
        return scale(gradient, slope, out)

    monkeypatch.setattr(LOSS.C, "scale_gradient", noted)
    return calls


@says_what_is_kept
@pytest.mark.parametrize("dtype", DTYPES[:2])
@pytest.mark.parametrize("slope", SLOPES)
def test_the_last_backward_takes_the_memory(device: str, dtype: torch.dtype, slope: float, scaled: list[Any]) -> None:
    wanted = product(gradient_of(device, dtype), slope)
    scaled.clear()
    leaf, loss = leaf_and_loss(device, dtype)
    loss.backward(torch.tensor(slope, device=device))
    equal(leaf.grad, wanted)
    ((source, target),) = scaled
    assert leaf.grad is not None
    assert source == target == leaf.grad.data_ptr()


@says_what_is_kept
def test_an_earlier_backward_leaves_it_as_it_is(device: str, scaled: list[Any]) -> None:
    gradient = gradient_of(device)
    leaf, loss = leaf_and_loss(device)
    seen = []
    for slope, kept in ((3.0, True), (float("inf"), True), (1.0, True), (0.5, False)):
        leaf.grad = None
        loss.backward(torch.tensor(slope, device=device), retain_graph=kept)
        equal(leaf.grad, product(gradient, slope))
        assert leaf.grad is not None
        seen.append(leaf.grad)
        leaf.grad.add_(1)  # its memory belongs to nobody else
    assert [source == target for source, target in scaled] == [True, False, False, False, True]
    assert len({each.data_ptr() for each in seen}) == 4
    with pytest.raises(RuntimeError, match="second time"):
        loss.backward()


def test_the_slope_may_have_a_graph_of_its_own(device: str) -> None:
    gradient = gradient_of(device)
    leaf, loss = leaf_and_loss(device)
    weight = torch.tensor(3.0, device=device, requires_grad=True)
    equal(torch.autograd.grad(weight * loss, leaf, create_graph=True)[0], 3 * gradient)
    equal(torch.autograd.grad(loss, leaf, weight)[0], 3 * gradient)


@pytest.mark.parametrize("dtype", DTYPES[:2])
def test_many_slopes_at_once(device: str, dtype: torch.dtype) -> None:
    gradient = gradient_of(device, dtype)
    leaf, loss = leaf_and_loss(device, dtype)
    slopes = torch.tensor([1.0, 3.0, -0.37], device=device)
    (found,) = torch.autograd.grad(loss, leaf, slopes, is_grads_batched=True)
    equal(found, torch.stack([product(gradient, slope) for slope in slopes.tolist()]))


def test_a_hook_may_write_into_what_it_gets(device: str) -> None:
    gradient = gradient_of(device)
    leaf, loss = leaf_and_loss(device)
    hook = leaf.register_hook(lambda grad: grad.mul_(2))
    loss.backward(retain_graph=True)
    hook.remove()
    loss.backward()
    equal(leaf.grad, 3 * gradient)


def test_gradients_add_up_over_losses_of_the_same_maps(device: str) -> None:
    gradient = gradient_of(device)
    leaf, first = leaf_and_loss(device)
    points, visible = (each.to(device) for each in poses(3, 5, seed=4))
    second = ops.heatmap_loss(leaf, points, visible.clamp(max=1), CODEC, INPUT)
    (2 * first + 4 * second).backward()
    equal(leaf.grad, 6 * gradient)
    first_grad = leaf.grad
    third = ops.heatmap_loss(leaf, points, visible.clamp(max=1), CODEC, INPUT)
    third.backward()
    equal(leaf.grad, 6 * gradient + gradient)
    assert leaf.grad is first_grad


def test_where_torch_does_not_say_whether_the_graph_is_kept(
    device: str, scaled: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    gradient = gradient_of(device)
    scaled.clear()
    monkeypatch.setattr(GRADIENT, "_graph_is_kept", lambda: True)
    leaf, loss = leaf_and_loss(device)
    loss.backward()
    ((source, target),) = scaled
    assert source != target
    equal(leaf.grad, gradient)


@says_what_is_kept
def test_this_torch_says_whether_the_graph_is_kept(device: str) -> None:
    said = []

    class Asking(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, value: Tensor) -> Tensor:
            return value.clone()

        @staticmethod
        def backward(ctx: Any, slope: Tensor) -> Tensor:
            said.append(GRADIENT._graph_is_kept())
            return slope

    value = Asking.apply(torch.ones((), device=device, requires_grad=True))
    value.backward(retain_graph=True)
    value.backward()
    assert said[0] is True
    if hasattr(torch._C._autograd, "_get_current_graph_task_keep_graph"):
        assert said[1] is False


@pytest.mark.parametrize("slope", ["expanded", "double", "from the CPU"])
def test_slopes_of_other_kinds(device: str, slope: str) -> None:
    gradient = gradient_of(device)
    leaf, loss = leaf_and_loss(device)
    if slope == "expanded":
        loss.expand(3).sum().backward()
    else:
        loss.backward(torch.tensor(3.0, dtype=torch.float64, device=device if slope == "double" else "cpu"))
    equal(leaf.grad, product(gradient, 3.0))


def test_saved_on_the_cpu(device: str) -> None:
    gradient = gradient_of(device)
    with torch.autograd.graph.save_on_cpu():
        leaf, loss = leaf_and_loss(device)
    for kept in (True, False):
        leaf.grad = None
        (loss * 3).backward(retain_graph=kept)
        equal(leaf.grad, product(gradient, 3.0))


def test_checkpointed(device: str) -> None:
    from torch.utils.checkpoint import checkpoint

    gradient = gradient_of(device)
    points, visible = (each.to(device) for each in poses(3, 5, seed=4))
    for reentrant in (True, False):
        leaf, _ = leaf_and_loss(device)
        loss = checkpoint(
            lambda maps: ops.heatmap_loss(maps, points, visible.clamp(max=1), CODEC, INPUT),
            leaf,
            use_reentrant=reentrant,
        )
        (3 * loss).backward()
        equal(leaf.grad, product(gradient, 3.0))


def test_a_second_derivative_is_refused_and_not_left_out(device: str) -> None:
    leaf, loss = leaf_and_loss(device)
    (gradient,) = torch.autograd.grad(loss, leaf, create_graph=True)
    equal(gradient, gradient_of(device))
    penalty = gradient.square().sum() + leaf.square().sum()  # has a gradient without that of the loss, too
    with pytest.raises(RuntimeError, match=r"heatmap_loss is differentiable once; .*reference\.heatmap_loss"):
        penalty.backward()


def test_the_registered_op_rounds_once_too(device: str) -> None:
    points, visible = (each.to(device) for each in poses(3, 5, seed=4))
    gradient = gradient_of(device, torch.bfloat16)
    values = LOSS.codec_values(CODEC, INPUT)
    leaf, _ = leaf_and_loss(device, torch.bfloat16)
    loss = torch.ops.fastpose.heatmap_loss(leaf, points, visible.clamp(max=1), None, 0, True, *values)[0]
    loss.backward(torch.tensor(0.37, device=device))
    equal(leaf.grad, product(gradient, 0.37))
    twice = gradient * torch.tensor(0.37, dtype=torch.bfloat16, device=device)
    assert (twice != leaf.grad).any()


# --- the core's function --------------------------------------------------------------------------------------------
def placed(values: Tensor, device: str, skip: int) -> Tensor:
    memory = torch.empty(values.numel() + skip, dtype=values.dtype, device=device)
    return memory[skip:].view(values.shape).copy_(values)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(2, 3, 8, 8), (1, 1, 3, 7), (1, 5, 1, 1), (0, 3, 4, 4), (3, 17, 64, 48)])
@pytest.mark.parametrize("skips", [(0, 0), (0, 1), (3, 3)])
def test_scale(device: str, dtype: torch.dtype, shape: tuple[int, ...], skips: tuple[int, int]) -> None:
    values = torch.randn(shape, generator=torch.Generator().manual_seed(1)).to(dtype)
    for slope in SLOPES:
        gradient, out = placed(values, device, skips[0]), placed(torch.zeros_like(values), device, skips[1])
        factor = torch.tensor(slope, device=device)
        _C.scale_gradient(gradient, factor, out)
        equal(gradient.cpu(), values)
        equal(out.cpu(), product(values, slope))
        _C.scale_gradient(gradient, factor, gradient)
        equal(gradient.cpu(), product(values, slope))


def test_scale_refuses_what_does_not_fit(device: str) -> None:
    maps, one = torch.zeros(2, 3, 4, 4, device=device), torch.ones((), device=device)
    for arguments, error, text in [
        ((maps.double(), one, maps.double()), TypeError, "gradient"),
        ((maps[0], one, maps[0]), ValueError, "gradient"),
        ((maps.mT, one, maps), ValueError, "gradient"),
        ((maps, one.double(), maps), TypeError, "slope"),
        ((maps, one[None], maps), ValueError, "slope"),
        ((maps, one, maps.bfloat16()), TypeError, "out"),
        ((maps, one, maps[:1]), ValueError, "out"),
        ((maps, one, maps.mT), ValueError, "out"),
    ]:
        with pytest.raises(error, match=text):
            _C.scale_gradient(*arguments)


def test_scale_at_all_simd_levels(device: str) -> None:
    if device == "cuda":
        pytest.skip("of the CPU")
    code = """
import test_loss_gradient as tests
for dtype in tests.DTYPES:
    tests.test_scale("cpu", dtype, (2, 3, 5, 7), (0, 1))
print("same")
"""
    assert set(at_simd_levels(code).values()) == {"same\n"}
