"""Architectures by name: typed functions that build a network for a spec."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from fastpose.spec import PoseSpec

from .pose_model import PoseModel

Builder = TypeVar("Builder", bound=Callable[..., PoseModel])

_ARCHITECTURES: dict[str, Callable[..., PoseModel]] = {}


def register_model(function: Builder) -> Builder:
    """Register a function as the architecture of its own name (a decorator).

    Args:
        function: `NAME(spec, *, option=default, ...) -> PoseModel`; its keyword-only parameters are the options that
            `create_model(NAME, ...)` takes, and their values must be plain JSON (they go into saved files).

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


def _builder(architecture: str) -> Callable[..., PoseModel]:
    if architecture not in _ARCHITECTURES:
        raise ValueError(f"no architecture is named {architecture!r}; there are {', '.join(list_architectures())}")
    return _ARCHITECTURES[architecture]
