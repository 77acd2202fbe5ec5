"""DepthwiseConv: the same numbers as nn.Conv2d, with the native gradient where that is faster."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fastpose.models.layers import ConvUnit, DepthwiseConv, depthwise


@pytest.fixture
def native(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The stride of every call of the op."""
    calls: list[int] = []

    def spy(x: Tensor, weight: Tensor, stride: int) -> Tensor:
        calls.append(stride)
        return real(x, weight, stride)

    real = depthwise.depthwise_conv
    monkeypatch.setattr(depthwise, "depthwise_conv", spy)
    return calls


def plain(layer: DepthwiseConv) -> nn.Conv2d:
    """torch's layer with those weights."""
    size = layer.in_channels
    other = nn.Conv2d(size, size, layer.kernel_size, layer.stride, layer.padding, groups=size, bias=False)  # type: ignore[arg-type]
    other.load_state_dict(layer.state_dict())
    return other


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize(("kernel", "stride"), [(3, 1), (3, 2), (5, 1), (5, 2)])
def test_equals_torchs_layer(native: list[int], kernel: int, stride: int, half: bool) -> None:
    torch.manual_seed(0)
    layer = DepthwiseConv(6, kernel, stride)
    other, x = plain(layer), torch.randn(2, 12 if half else 6, 9, 8).contiguous(memory_format=torch.channels_last)
    results: list[list[Tensor]] = []
    for module in (layer, other):
        leaf = x.clone().requires_grad_()
        with torch.autocast("cpu", torch.bfloat16):
            y = module(leaf[:, :6] if half else leaf)
        y.float().square().sum().backward()
        assert leaf.grad is not None
        results.append([y, leaf.grad, *(weight.grad for weight in module.parameters() if weight.grad is not None)])
    assert torch.equal(results[0][0], results[1][0])
    for a, b in zip(*(result[1:] for result in results), strict=True):
        assert a.dtype is b.dtype
        assert (a - b).norm() < 0.02 * b.norm()
    assert native == [stride]


def test_anything_else_goes_torchs_way(native: list[int]) -> None:
    layer = DepthwiseConv(6, 3, 2)
    x = torch.randn(2, 6, 9, 8).contiguous(memory_format=torch.channels_last)
    layer(x)  # float32
    with torch.autocast("cpu", torch.bfloat16):
        layer(x.contiguous())
        with torch.no_grad():
            layer(x)
        DepthwiseConv(6, 7)(x)
        torch.compile(layer, backend="eager", fullgraph=True)(x)
        copy.deepcopy(layer).bfloat16()(x)
    assert not native


def test_units_have_it_where_it_fits() -> None:
    def kind(*arguments: Any, **options: Any) -> type[nn.Module]:
        return type(ConvUnit(*arguments, **options).conv)

    assert kind(4, 4, 3, groups=4) is DepthwiseConv
    assert kind(4, 4, 3, groups=4, norm=False) is nn.Conv2d  # it has a bias
    assert kind(4, 8, 3, groups=4) is nn.Conv2d
    assert kind(4, 4, 3, groups=2) is nn.Conv2d
    assert kind(1, 1, 3) is nn.Conv2d
