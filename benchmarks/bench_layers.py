"""The ops of training on the CPU, forward and backward, at the sizes that they have in Lite-HRNet-18 and ResNet-18."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from fastpose import ops
from fastpose.ops import reference

from .harness import Case, Thunk, bench

Data = tuple[list[torch.Tensor], torch.Tensor]
Call = Callable[[Any, list[torch.Tensor]], torch.Tensor]


def _maps(
    shape: tuple[int, int, int, int], dtype: torch.dtype, maps: int, others: list[tuple[int, ...]], out: tuple[int, ...]
) -> Data:
    """Maps of that shape with the channels last, other tensors in float32, and the gradient of the output."""
    generator = torch.Generator().manual_seed(0)

    def draw(size: tuple[int, ...]) -> torch.Tensor:
        return torch.randn(size, generator=generator)

    inputs = [draw(shape).to(dtype).contiguous(memory_format=torch.channels_last) for _ in range(maps)]
    slope = draw(out).to(dtype).contiguous(memory_format=torch.channels_last)
    return [*inputs, *(draw(size) for size in others)], slope


def _step(module: Any, call: Call, data: Data) -> Thunk:
    inputs, slope = data
    leaves = [x.clone(memory_format=torch.preserve_format).requires_grad_() for x in inputs]

    def run() -> Any:
        y = call(module, leaves)
        return y.detach(), *torch.autograd.grad(y, leaves, slope)

    return run


def _contenders(call: Call) -> dict[str, Callable[[Data], Thunk]]:
    return {"fastpose": partial(_step, ops, call), "torch": partial(_step, reference, call)}


def _norm(module: Any, leaves: list[torch.Tensor], *, relu: bool) -> torch.Tensor:
    x, *residual, weight, bias = leaves
    statistics = torch.zeros_like(weight.detach()), torch.ones_like(weight.detach())
    return module.batch_norm_act(
        x, weight, bias, *statistics, momentum=0.1, eps=1e-5, relu=relu, residual=residual[0] if residual else None
    )


def _conv(module: Any, leaves: list[torch.Tensor], *, stride: int) -> torch.Tensor:
    return module.depthwise_conv(*leaves, stride)


def _shuffle(module: Any, leaves: list[torch.Tensor]) -> torch.Tensor:
    first, second, weights = leaves
    return module.interleave(first, second, weights.to(first.dtype))


def check(ours: Any, theirs: Any) -> None:
    """Within 5 % of their size: where torch's sum in bfloat16 is 0 by rounding, no gradient passes its ReLU."""
    for number, (a, b) in enumerate(zip(ours, theirs, strict=True)):
        worst = float((a.float() - b.float()).norm() / a.float().norm())
        assert worst <= 0.05, f"result {number} differs by {worst:.2e} of its size"


CASES = []
for _dtype, _name in ((torch.bfloat16, "bfloat16"), (torch.float32, "float32")):
    for _shape, _maps_in, _relu in (
        ((32, 64, 24, 24), 1, True),
        ((32, 64, 24, 24), 2, True),
        ((16, 20, 64, 48), 1, False),
        ((16, 40, 64, 48), 1, True),
        ((16, 320, 8, 6), 1, False),
    ):
        _end = " +" * (_maps_in - 1) + " ReLU" * _relu
        _size = "×".join(map(str, _shape))
        CASES.append(
            Case(
                f"batch_norm_act{_end} {_name} {_size}",
                partial(_maps, _shape, _dtype, _maps_in, [_shape[1:2], _shape[1:2]], _shape),
                _contenders(partial(_norm, relu=_relu)),
                check,
            )
        )
    for _shape, _stride in (((16, 20, 64, 48), 1), ((16, 40, 64, 48), 2), ((16, 80, 32, 24), 2)):
        _batch, _channels, _height, _width = _shape
        _out = (_batch, _channels, _height // _stride, _width // _stride)
        CASES.append(
            Case(
                f"depthwise_conv 3×3 / {_stride} {_name} {'×'.join(map(str, _shape))}",
                partial(_maps, _shape, _dtype, 1, [(_channels, 1, 3, 3)], _out),
                _contenders(partial(_conv, stride=_stride)),
                check,
            )
        )
    for _shape in ((16, 20, 64, 48), (16, 80, 16, 12)):
        _batch, _channels, _height, _width = _shape
        CASES.append(
            Case(
                f"interleave {_name} {'×'.join(map(str, _shape))}",
                partial(_maps, _shape, _dtype, 2, [(_batch, _channels)], (_batch, 2 * _channels, _height, _width)),
                _contenders(_shuffle),
                check,
            )
        )

test_layers = bench(CASES)
