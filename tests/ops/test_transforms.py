"""Every op under everything of torch that looks on: the right value or a clear error, never a wrong value."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd import forward_ad
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils._pytree import tree_map, tree_map_only
from torch.utils.flop_counter import FlopCounterMode
from transform_cases import OPS

Function = Callable[[Tensor], Any]
Refusal = tuple[type[Exception] | tuple[type[Exception], ...], str]


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Torch's hints, of which some stand for every transform."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
    torch._dynamo.reset()
    forward_ad._current_level = -1  # see `check`


def same(got: Any, wanted: Any, **tolerance: float) -> None:
    parts = [(x if isinstance(x, tuple | list) else (x,)) for x in (got, wanted)]
    for a, b in zip(*parts, strict=True):
        torch.testing.assert_close(a, b, check_stride=False, **tolerance)


class Wrapped(Tensor):
    """A tensor that holds another and no memory of its own, as DTensor does; remembers which ops came to it."""

    inner: Tensor
    seen: ClassVar[list[str]] = []

    @staticmethod
    def __new__(cls, inner: Tensor) -> Wrapped:
        return Tensor._make_wrapper_subclass(cls, inner.shape, inner.stride(), dtype=inner.dtype, device=inner.device)

    def __init__(self, inner: Tensor) -> None:
        self.inner = inner

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        cls.seen.append(str(func))
        args, kwargs = tree_map_only(Wrapped, lambda w: w.inner, (args, kwargs or {}))
        return tree_map_only(Tensor, Wrapped, func(*args, **kwargs))


class Module(torch.nn.Module):
    """The function as a module with one parameter, which the function does not need."""

    def __init__(self, function: Function) -> None:
        super().__init__()
        self.function = function
        self.shift = torch.nn.Parameter(torch.tensor(1e9), requires_grad=False)

    def forward(self, x: Tensor) -> Any:
        return self.function(x + self.shift)


def in_context(make: Callable[[], contextlib.AbstractContextManager[Any]]) -> Callable[[Function, Tensor, Tensor], Any]:
    def run(f: Function, _: Tensor, b: Tensor) -> Any:
        with make():
            return f(b)

    return run


def wrapped(f: Function, _: Tensor, b: Tensor) -> Any:
    Wrapped.seen.clear()
    result = f(Wrapped(b))
    assert Wrapped.seen
    return tree_map_only(Wrapped, lambda w: w.inner, result)


def exported(strict: bool) -> Callable[[Function, Tensor, Tensor], Any]:
    def run(f: Function, a: Tensor, b: Tensor) -> Any:
        class Exported(torch.nn.Module):
            def forward(self, x: Tensor) -> Any:
                return f(x)

        return torch.export.export(Exported(), (a,), strict=strict).module()(b)

    return run


def called_with(f: Function, _: Tensor, b: Tensor) -> Any:
    return torch.func.functional_call(Module(f), {"shift": torch.zeros(())}, (b,))


def fake(f: Function, _: Tensor, b: Tensor) -> Any:
    """Shapes and dtypes, with the right numbers put in."""
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        made = f(mode.from_tensor(b))

    def checked(result: Any, wanted: Any) -> Any:
        assert result.shape == wanted.shape
        assert result.dtype is wanted.dtype
        return wanted

    return tree_map(checked, made, f(b))


# From the op, an example and another input: what the transformed op makes of the latter: what the op makes.
VALUES: dict[str, Callable[[Function, Tensor, Tensor], Any]] = {
    "jit.trace": lambda f, a, b: torch.jit.trace(f, (a,))(b),
    "jit.trace with a gradient": lambda f, a, b: torch.jit.trace(f, (a,))(b.requires_grad_()),
    "make_fx": lambda f, a, b: make_fx(f)(a)(b),
    "make_fx, fake": lambda f, a, b: make_fx(f, tracing_mode="fake", _allow_non_fake_inputs=True)(a)(b),
    "make_fx, symbolic": lambda f, a, b: make_fx(f, tracing_mode="symbolic", _allow_non_fake_inputs=True)(a)(b),
    "make_fx, pre-dispatch": lambda f, a, b: make_fx(f, pre_dispatch=True)(a)(b),
    "export": exported(strict=False),
    "export, strict": exported(strict=True),
    "compile": lambda f, _, b: torch.compile(f, fullgraph=True, backend="aot_eager")(b),
    "compile, dynamic": lambda f, _, b: torch.compile(f, fullgraph=True, backend="aot_eager", dynamic=True)(b),
    "func.functionalize": lambda f, _, b: torch.func.functionalize(f)(b),
    "func.functional_call": called_with,
    "make_fx of functionalize": lambda f, a, b: make_fx(torch.func.functionalize(f))(a)(b),
    "func.vmap": lambda f, a, b: tree_map(lambda r: r[1], torch.func.vmap(f)(torch.stack((a, b)))),
    "inference_mode": in_context(torch.inference_mode),
    "no_grad": lambda f, a, b: in_context(torch.no_grad)(f, a, b.requires_grad_()),
    "a dispatch mode": in_context(lambda: FlopCounterMode(display=False)),
    "forward AD without a tangent": in_context(forward_ad.dual_level),
    "a wrapping subclass": wrapped,
    "FakeTensorMode": fake,
}


def forward_mode(f: Function, x: Tensor, tangent: Tensor) -> Tensor:
    with forward_ad.dual_level():
        made = forward_ad.unpack_dual(f(forward_ad.make_dual(x, tangent))).tangent
        return torch.zeros(()) if made is None else made


def backward(f: Function, x: Tensor, create_graph: bool = False) -> Tensor:
    leaf = x.detach().requires_grad_()
    return torch.autograd.grad(f(leaf), leaf, create_graph=create_graph)[0]


def traced_backward(f: Function, x: Tensor) -> Tensor:
    return backward(torch.jit.trace(f, (x + 1,)), x)


def penalty(f: Function, x: Tensor) -> Tensor:
    """The gradient of a gradient's square, beside a term that has a gradient anyway."""
    leaf = x.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(f(leaf), leaf, create_graph=True)
    return torch.autograd.grad((gradient * (x + 1)).sum() + 1e-3 * leaf.sum(), leaf)[0]


def compiled(f: Callable[..., Any]) -> Callable[..., Any]:
    return torch.compile(f, backend="aot_eager")


def many(x: Tensor) -> Tensor:
    return torch.stack((x, 2 * x, x.flip(0)))


FUNC = torch.func
# From a function to one number and an input: some derivative. Must be that of the reference.
DERIVATIVES: dict[str, Callable[[Function, Tensor], Any]] = {
    "backward": backward,
    "jit.trace, backward": traced_backward,
    "compile, backward": lambda f, x: backward(compiled(f), x),
    "forward AD": lambda f, x: forward_mode(f, x, x + 1),
    "func.grad": lambda f, x: FUNC.grad(f)(x),
    "func.vjp": lambda f, x: FUNC.vjp(f, x)[1](torch.tensor(2.0))[0],
    "func.jvp": lambda f, x: FUNC.jvp(f, (x,), (x + 1,))[1],
    "func.linearize": lambda f, x: FUNC.linearize(f, x)[1](x + 1),
    "func.jacrev": lambda f, x: FUNC.jacrev(f)(x),
    "func.jacfwd": lambda f, x: FUNC.jacfwd(f)(x),
    "func.vmap of grad": lambda f, x: FUNC.vmap(FUNC.grad(f))(many(x)),
    "func.grad of vmap": lambda f, x: FUNC.grad(lambda xs: FUNC.vmap(f)(xs).sum())(many(x)),
    "func.jvp of vmap": lambda f, x: FUNC.jvp(FUNC.vmap(f), (many(x),), (many(x),))[1],
    "func.vmap of jvp": lambda f, x: FUNC.vmap(lambda y: FUNC.jvp(f, (y,), (y,))[1])(many(x)),
    "make_fx of grad": lambda f, x: make_fx(FUNC.grad(f))(x + 1)(x),
    "make_fx of jvp": lambda f, x: make_fx(lambda y: FUNC.jvp(f, (y,), (y,))[1])(x + 1)(x),
    "compile of grad": lambda f, x: compiled(FUNC.grad(f))(x),
    "compile of jvp": lambda f, x: compiled(lambda y: FUNC.jvp(f, (y,), (y,))[1])(x),
}
SECOND: dict[str, Callable[[Function, Tensor], Any]] = {
    "backward twice": penalty,
    "func.hessian": lambda f, x: FUNC.hessian(f)(x),
    "func.jacrev twice": lambda f, x: FUNC.jacrev(FUNC.jacrev(f))(x),
    "func.grad of grad": lambda f, x: FUNC.grad(lambda y: FUNC.grad(f)(y).square().sum())(x),
    "forward AD of grad": lambda f, x: forward_mode(lambda y: FUNC.grad(f)(y).square().sum(), x, x + 1),
}


# What raises, by transform and op; all else gives a value.
WITHOUT = (
    *("box_nms", "box_nms, padded", "heatmap_decode", "heatmap_encode", "oks", "oks_nms", "oks_nms, padded"),
    *("simcc_decode", "simcc_encode"),
)
NO_GRADIENT: dict[str, Refusal] = dict.fromkeys(WITHOUT, ((TypeError, RuntimeError), "has no gradient"))
IN_PLACE: dict[str, Refusal] = {"batch_norm_act": (RuntimeError, "running_mean or running_var, which will be updated")}
REFUSED: dict[str, dict[str, Refusal]] = {
    **{name: dict(NO_GRADIENT) for name in (*DERIVATIVES, *SECOND, "jit.trace with a gradient")},
    "func.vmap": dict.fromkeys(("box_nms", "oks_nms"), (RuntimeError, "vmap: .* dynamic shape")) | IN_PLACE,
    "FakeTensorMode": dict.fromkeys(("box_nms", "oks_nms"), (RuntimeError, "nonzero")),
    "backward twice": NO_GRADIENT | {name: (RuntimeError, f"{name} is differentiable once") for name in OPS},
}
for _name in ("func.vmap of grad", "func.grad of vmap", "func.jvp of vmap", "func.vmap of jvp"):
    REFUSED[_name] |= IN_PLACE
REFUSED["compile of jvp"] |= {"batch_norm_act": (RuntimeError, "batch_norm")}  # torch's, too
REFUSED["backward twice"] |= NO_GRADIENT


def check(transform: str, name: str, run: Callable[[], Any], wanted: Callable[[], Any], **tolerance: float) -> None:
    refusal = REFUSED.get(transform, {}).get(name)
    if refusal is None:
        same(run(), wanted(), **tolerance)
        return
    # In a thread of its own: dynamo leaves behind the transforms in which an error met it, and they are a thread's.
    with ThreadPoolExecutor(1) as other, pytest.raises(refusal[0], match=refusal[1]):
        other.submit(run).result()


@pytest.mark.parametrize("name", OPS)
@pytest.mark.parametrize("transform", VALUES)
def test_values(transform: str, name: str) -> None:
    op = OPS[name]
    a, b = op.make(0), op.make(1)
    check(transform, name, lambda: VALUES[transform](op.call, a, b), lambda: op.call(op.make(1)))


@pytest.mark.parametrize("name", OPS)
@pytest.mark.parametrize("transform", [*DERIVATIVES, *SECOND])
def test_derivatives(transform: str, name: str) -> None:
    op = OPS[name]
    x = op.make(2)
    f = (DERIVATIVES | SECOND)[transform]
    check(transform, name, lambda: f(op.total(), x), lambda: f(op.total(plainly=True), x), rtol=1e-3, atol=1e-4)
