"""Optimizers and the learning rate over a run."""

from __future__ import annotations

import fnmatch
import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from ..models import PoseModel
from .overrides import RecipeError
from .settings import OptimizerSettings, ScheduleSettings, TrainSettings

__all__ = [
    "build_optimizer",
    "freeze",
    "is_trained",
    "learning_rate_factor",
    "limit_warmup",
    "scaled_lr",
    "set_learning_rate",
    "set_training_mode",
]

_NORMS = (_NormBase, nn.GroupNorm, nn.LayerNorm)


def build_optimizer(
    model: nn.Module, settings: OptimizerSettings, beside: nn.Module | None = None
) -> torch.optim.Optimizer:
    """The optimizer of a recipe.

    Args:
        model: Its parameters that require a gradient are trained.
        settings: Which optimizer, and its values.
        beside: What is trained with it without being a part of it, at the full rate.

    Returns:
        The optimizer, parameters in groups of one weight decay and one learning rate; ``lr_scale`` of a group is its
        factor on the rate (see :func:`set_learning_rate`).

    Raises:
        RecipeError: The network does not count its layers, and ``layer_decay`` needs that.
    """
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter, norm in _parameters(model):
        if parameter.requires_grad:
            key = _weight_decay(name, norm, settings), _lr_scale(model, name, settings)
            groups.setdefault(key, []).append(parameter)
    for name, parameter, norm in _parameters(beside) if beside else ():
        groups.setdefault((_weight_decay(name, norm, settings), 1.0), []).append(parameter)
    options = [
        {"params": parameters, "weight_decay": decay, "lr": settings.lr * scale, "lr_scale": scale}
        for (decay, scale), parameters in groups.items()
    ]
    # One pass over each weight: on two CPU cores five times as fast as the default, 4 % of a step of a small network.
    fused = all(parameter.device.type in ("cpu", "cuda") for parameter in model.parameters())
    if settings.name == "sgd":
        sharded = any(hasattr(parameter, "full_tensor") for parameter in model.parameters())  # those have no fused SGD
        return torch.optim.SGD(options, lr=settings.lr, momentum=settings.momentum, fused=fused and not sharded)
    kind = torch.optim.AdamW if settings.name == "adamw" else torch.optim.Adam
    return kind(options, lr=settings.lr, betas=settings.betas, fused=fused)


def _parameters(model: nn.Module) -> Iterator[tuple[str, nn.Parameter, bool]]:
    """Name, parameter, and whether it belongs to a normalisation; each parameter once."""
    seen: set[nn.Parameter] = set()
    for prefix, module in model.named_modules():
        for name, parameter in module.named_parameters(recurse=False):
            if parameter not in seen:
                seen.add(parameter)
                yield f"{prefix}.{name}" if prefix else name, parameter, isinstance(module, _NORMS)


def _weight_decay(name: str, norm: bool, settings: OptimizerSettings) -> float:
    if any(part in name for part in settings.no_decay):
        return 0.0
    if norm:
        return settings.weight_decay * settings.norm_decay
    return settings.weight_decay * (settings.bias_decay if name.split(".")[-1] == "bias" else 1.0)


def _lr_scale(model: nn.Module, name: str, settings: OptimizerSettings) -> float:
    if settings.layer_decay is None:
        return 1.0
    backbone: Any = model.backbone if isinstance(model, PoseModel) else model
    if not hasattr(backbone, "layer_of"):
        raise RecipeError(f"train.optimizer.layer_decay: {type(backbone).__name__} does not count its layers")
    last: int = backbone.layer_of("")  # what follows all layers
    inside = name.startswith("backbone.")
    return settings.layer_decay ** (last - (backbone.layer_of(name.removeprefix("backbone.")) if inside else last))


def freeze(model: nn.Module, patterns: list[str]) -> None:
    """Take parameters out of the training.

    Args:
        model: Changed in place.
        patterns: Shell-style patterns of parameter names; ``*`` stands for dots too.

    Raises:
        RecipeError: A pattern fits no parameter, or none is left to train.
    """
    for number, pattern in enumerate(patterns):
        found = [p for name, p in model.named_parameters() if fnmatch.fnmatchcase(name, pattern)]
        if not found:
            parts = sorted({name.split(".")[0] for name, _ in model.named_parameters()})
            raise RecipeError(
                f"train.freeze.{number}: no parameter fits {pattern!r}; names begin with {', '.join(parts)}"
            )
        for parameter in found:
            parameter.requires_grad_(False)
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise RecipeError("train.freeze: nothing is left to train")


def set_training_mode(model: nn.Module) -> None:
    """Training mode, but normalisation whose parameters are frozen keeps its running statistics as they are."""
    model.train()
    for module in model.modules():
        if isinstance(module, _NORMS) and not is_trained(module):
            module.eval()


def is_trained(norm: nn.Module) -> bool:
    """Whether a normalisation takes part in the training: without parameters of its own it is never frozen."""
    parameters = list(norm.parameters())
    return not parameters or any(parameter.requires_grad for parameter in parameters)


def scaled_lr(settings: TrainSettings, batch_size: int) -> float:
    """The learning rate of the recipe for steps of ``batch_size * accumulate`` crops (Goyal et al. 2017).

    ``batch_size`` counts the crops of all processes.
    """
    if settings.base_batch_size is None:
        return settings.optimizer.lr
    return settings.optimizer.lr * batch_size * settings.accumulate / settings.base_batch_size


def limit_warmup(settings: ScheduleSettings, steps: int) -> ScheduleSettings:
    """The schedule of a run of so many optimizer steps: its warm-up takes no more of it than ``warmup_limit``."""
    return settings.model_copy(update={"warmup": min(settings.warmup, round(settings.warmup_limit * steps))})


def learning_rate_factor(settings: ScheduleSettings, step: int, progress: float) -> float:
    """Factor on the learning rate.

    Args:
        settings: The schedule.
        step: Optimizer steps done, for the warm-up.
        progress: Fraction of the run's images seen, 0 to 1.

    Returns:
        The factor, 0 to 1.
    """
    if settings.kind == "cosine":
        fallen = min(max(progress - settings.begin, 0.0) / (1 - settings.begin), 1.0)
        factor = settings.final + (1 - settings.final) * (1 + math.cos(math.pi * fallen)) / 2
    else:
        factor = settings.factor ** sum(progress >= milestone for milestone in settings.milestones)
    if step < settings.warmup:
        factor *= settings.warmup_start + (1 - settings.warmup_start) * step / max(settings.warmup - 1, 1)
    return factor


def set_learning_rate(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Give every parameter group this learning rate, times its ``lr_scale``."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group.get("lr_scale", 1.0)
