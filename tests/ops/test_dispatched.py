"""Calls that go through torch's dispatcher: outputs that the caller gave, and every argument that sends one there."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from test_fuzz_arguments import as_tensor, correct_calls
from test_transforms import Wrapped
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils._pytree import tree_leaves, tree_map, tree_map_only

from fastpose import ops
from fastpose.codecs import build_codec
from fastpose.ops._native import C

CODEC, SIZE = build_codec("gaussian", heatmap_size=(8, 6)), (32, 24)
POSES, AREAS, SIGMAS = torch.rand(4, 3, 2) * 30, torch.full((4,), 900.0), torch.full((3,), 0.1)


def calls(op: str, outputs: bool = True) -> tuple[Callable[..., Any], dict[str, Any]]:
    """A call of the op that works, all arrays as tensors."""
    function, arguments = correct_calls()[op]
    kept = {k: as_tensor(v) for k, v in arguments.items() if outputs or not k.startswith("out")}
    if op == "affine_crop":
        kept["dtype"] = None
    return function, kept


def places(arguments: dict[str, Any]) -> Iterator[tuple[str, Tensor, Callable[[Any], dict[str, Any]]]]:
    """Name and tensor of each argument, or part of a pair, and what makes the arguments with another in its place."""
    for name, value in arguments.items():
        if isinstance(value, Tensor):
            yield name, value, lambda other, name=name: arguments | {name: other}
        elif isinstance(value, tuple) and isinstance(value[0], Tensor):
            one, two = value
            yield f"{name}[0]", one, lambda other, name=name, two=two: arguments | {name: (other, two)}
            yield f"{name}[1]", two, lambda other, name=name, one=one: arguments | {name: (one, other)}


def parts(result: Any) -> list[Tensor]:
    return list(result) if isinstance(result, tuple) else [result]


@pytest.mark.parametrize("op", [name for name, (_, arguments) in correct_calls().items() if "out" in arguments])
@pytest.mark.parametrize("way", ["make_fx", "jit.trace"])
@pytest.mark.filterwarnings("ignore")
def test_outputs_are_filled(op: str, way: str) -> None:
    function, arguments = calls(op)
    outputs = {
        name: tree_map(lambda out: torch.full_like(out, 77), value)
        for name, value in arguments.items()
        if name.startswith("out")
    }
    first, *_ = (name for name in arguments if isinstance(arguments[name], Tensor))
    whole = {"padded": True} if op in ("box_nms", "oks_nms") else {}
    wanted = parts(function(**calls(op, outputs=False)[1] | whole))

    def run(x: Tensor) -> Any:
        return function(**arguments | outputs | {first: x})

    x = arguments[first]
    trace: Any = make_fx(run)(x) if way == "make_fx" else torch.jit.trace(run, (x,), check_trace=False)
    filled = tree_leaves(list(outputs.values()))
    for out in filled:
        out.fill_(77)
    trace(x)
    for out, value in zip(filled, wanted, strict=False):
        torch.testing.assert_close(out, value)


@pytest.mark.parametrize("op", list(correct_calls()))
def test_one_wrapped_argument_is_enough(op: str) -> None:
    """A tensor whose memory the core cannot see sends the call to the dispatcher, at whatever place it stands."""
    function, arguments = calls(op, outputs=False)
    wanted = parts(function(**calls(op, outputs=False)[1]))
    for name, value, replaced in places(arguments):
        if name in ("running_mean", "running_var"):
            continue
        Wrapped.seen.clear()
        result = parts(function(**replaced(Wrapped(value))))
        assert any("fastpose" in seen or "aten" in seen for seen in Wrapped.seen), name
        for got, right in zip(result, wanted, strict=True):
            plain = tree_map_only(Wrapped, lambda w: w.inner, got)
            torch.testing.assert_close(plain, right, check_stride=False, msg=lambda m, name=name: f"{name}: {m}")


@pytest.mark.parametrize("op", list(correct_calls()))
def test_gradients_are_given_or_refused_by_name(op: str) -> None:
    """Of no argument a gradient is lost."""
    function, _ = calls(op)
    for name, given, replaced in places(calls(op, outputs=False)[1]):
        value = given.float() if name == "images" else given.clone()
        if not value.is_floating_point():
            continue
        arguments = replaced(value.requires_grad_())
        refusal, result = "", None
        try:
            result = function(**arguments)
        except TypeError as error:
            refusal = str(error)
        if result is None:
            assert name in refusal
            assert "grad" in refusal
        else:
            sum(part.sum() for part in parts(result) if part.is_floating_point()).backward()
            assert value.grad is not None, name
        if name in ("running_mean", "running_var"):  # written in place: never
            continue
        with torch.no_grad():
            for part in parts(function(**arguments)):
                assert not part.requires_grad


def test_outputs_of_another_kind_are_refused() -> None:
    def run(out: Any) -> Callable[[Tensor], Any]:
        return lambda x: ops.oks(x, x, AREAS, SIGMAS, out=out)

    for out, error, text in [
        (torch.zeros(4, 5), ValueError, r"out: expected shape \[4, 4\], got \[4, 5\]"),
        (torch.zeros(1, 4), ValueError, r"out: expected shape"),
        (torch.zeros(4, 4).double(), TypeError, "out: expected torch.float32"),
        (np.zeros((4, 4), np.float32), TypeError, "out: expected a tensor, got ndarray"),
    ]:
        with pytest.raises(error, match=text):
            make_fx(run(out))(POSES)


def test_arrays_are_looked_on_by_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """A trace does not follow arrays: the core may have them."""
    direct: list[str] = []
    oks = C.try_oks
    monkeypatch.setattr(C, "try_oks", lambda *a: direct.append("oks") or oks(*a))

    def run(x: Tensor) -> Tensor:
        similarity = ops.oks(POSES.numpy(), POSES.numpy(), AREAS.numpy(), SIGMAS.numpy())
        assert isinstance(similarity, np.ndarray)
        return x * float(similarity[0, 0])

    torch.testing.assert_close(make_fx(run)(torch.ones(2))(torch.full((2,), 3.0)), torch.full((2,), 3.0))
    assert direct == ["oks"]


def test_the_core_says_whether_somebody_looks_on() -> None:
    seen: list[bool] = []

    def run(x: Tensor) -> Tensor:
        seen.append(C.watched())
        return x + 1

    torch.jit.trace(run, (torch.ones(1),), check_trace=False)
    make_fx(run)(torch.ones(1))
    make_fx(run, pre_dispatch=True)(torch.ones(1))
    with torch.autograd.forward_ad.dual_level():
        run(torch.ones(1))
    assert seen == [True] * 4
    with torch.device("cpu"), torch.inference_mode():  # a function mode, but nobody's trace
        assert not C.watched()
    assert not C.watched()


def test_every_op_stands_in_the_tables() -> None:
    from transform_cases import OPS

    names = {name for name in ops.__all__ if inspect.isfunction(getattr(ops, name))}
    assert names == set(ops.__all__)
    assert names <= set(OPS)
    assert names == set(correct_calls())
