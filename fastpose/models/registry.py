"""Architectures by name: typed functions that build a network for a spec."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import chain
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from fastpose.spec import PoseSpec

from .pose_model import PoseModel

Builder = TypeVar("Builder", bound=Callable[..., PoseModel])

_ARCHITECTURES: dict[str, Callable[..., PoseModel]] = {}


def register_model(function: Builder) -> Builder:
    """Register a function as the architecture of its own name (a decorator).

    Args:
        function: `NAME(spec, *, option=default, ...) -> PoseModel`; its keyword-only parameters are the options that
            `create_model(NAME, ...)` takes, and their values must be plain JSON (they go into saved files). Where it
            can run on the `meta` device (no `.item()` of what it computes), files load without drawing weights first.

    Returns:
        The function itself.

    Raises:
        ValueError: the name is taken, or is no plain lower-case name.
    """
    name = function.__name__
    if name in _ARCHITECTURES:
        raise ValueError(f"architecture {name!r} is registered already, by {_ARCHITECTURES[name].__module__}")
    if name != name.lower() or name.startswith("_"):
        raise ValueError(f"architecture {name!r}: expected a public lower-case function name")
    _ARCHITECTURES[name] = function
    return function


def list_architectures() -> list[str]:
    """Names of all architectures, sorted."""
    return sorted(_ARCHITECTURES)


def architecture_options(architecture: str) -> dict[str, Any]:
    """Options of an architecture and their defaults.

    Raises:
        ValueError: there is no such architecture.
    """
    parameters = inspect.signature(_builder(architecture)).parameters.values()
    return {p.name: p.default for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY}


def build_model(architecture: str, spec: PoseSpec, arguments: Mapping[str, Any] | None = None) -> PoseModel:
    """Build a network, freshly initialised.

    Args:
        architecture: one of `list_architectures()`.
        spec: what it shall read and give.
        arguments: options of the architecture that differ from their defaults (see `architecture_options`).

    Returns:
        The network, in training mode, with `name` the architecture's and `arguments` as given.

    Raises:
        ValueError: no such architecture, an option it does not have, or a spec that it cannot serve.
    """
    arguments = dict(arguments or {})
    options = architecture_options(architecture)
    unknown = sorted(set(arguments) - set(options))
    if unknown:
        raise ValueError(
            f"{architecture}: no option {', '.join(unknown)}; "
            f"it has {', '.join(options) or 'none'}, and the fields of PoseSpec"
        )
    model = _builder(architecture)(spec, **arguments)
    model.name = model.architecture = architecture
    model.arguments = arguments
    return model


def build_outline(
    architecture: str, spec: PoseSpec, arguments: Mapping[str, Any] | None = None, *, most: int | None = None
) -> PoseModel | None:
    """Build a network without memory, on the `meta` device: for weights that come from a file.

    Args:
        architecture: as for `build_model`.
        spec: as for `build_model`.
        arguments: as for `build_model`.
        most: how many parameters it has at most; None for any number.

    Returns:
        The network; `to_empty(device=…)` gives it memory. None where that would not make it whole: it computes with its
        tensors while it is built, or has some that no state dict holds (none of this package's does).

    Raises:
        ValueError: as `build_model`; or it would have more parameters.
    """
    try:
        with torch.device("meta"), _at_most(most):
            model = build_model(architecture, spec, arguments)
    except (NotImplementedError, RuntimeError) as error:
        if _builder(architecture).__module__.startswith(f"{__package__}."):
            raise ValueError(f"{architecture}: {error}") from error
        return None
    return model if _is_in_state_dict(model) else None


@contextmanager
def _at_most(most: int | None) -> Iterator[None]:
    """End the construction of a network that has more parameters than that, of which one may be set twice."""
    left, thread = float("inf") if most is None else 2 * most, threading.get_ident()

    def count(module: nn.Module, name: str, parameter: nn.Parameter) -> None:
        nonlocal left
        if threading.get_ident() == thread:  # the hook is everybody's
            left -= 1
            if left < 0:
                raise ValueError(f"it has more than {most} parameters")

    handle = nn.modules.module.register_module_parameter_registration_hook(count)
    try:
        yield
    finally:
        handle.remove()


def _is_in_state_dict(model: nn.Module) -> bool:
    """Whether a network's state dict holds all of its tensors."""
    held = sum(1 for _ in chain(model.parameters(), model.buffers()))
    plain = any(isinstance(value, Tensor) for module in model.modules() for value in vars(module).values())
    return held == len(model.state_dict()) and not plain


def _builder(architecture: str) -> Callable[..., PoseModel]:
    if architecture not in _ARCHITECTURES:
        raise ValueError(f"no architecture is named {architecture!r}; there are {', '.join(list_architectures())}")
    return _ARCHITECTURES[architecture]
