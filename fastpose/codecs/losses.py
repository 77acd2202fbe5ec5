"""Losses of coordinates and of maps that are already there, which codecs offer by name."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = [
    "COORDINATE_LOSSES",
    "adaptive_wing",
    "coordinate_loss",
    "jensen_shannon",
    "loss_options",
    "soft_wing",
    "wing",
]


def loss_options(
    kind: str | None, options: Mapping[str, Any], losses: Mapping[str, Mapping[str, Any]]
) -> tuple[str, dict[str, Any]]:
    """A loss by name, and its values.

    Args:
        kind: Name of the loss; the first one where None.
        options: Values that differ from its defaults.
        losses: By name, its values and their defaults.

    Returns:
        The name, and all of its values.

    Raises:
        ValueError: No loss has that name, or it has no such value; the message lists what there is.
    """
    name = next(iter(losses)) if kind is None else kind
    if name not in losses:
        raise ValueError(f"kind: expected one of {', '.join(losses)}, got {kind!r}")
    unknown = sorted(set(options) - set(losses[name]))
    if unknown:
        known = ", ".join(losses[name]) or "none"
        raise ValueError(f"options: {name} has no {', '.join(unknown)}; it has {known}")
    return name, {**losses[name], **options}


def wing(distance: Tensor, *, omega: float = 10.0, epsilon: float = 2.0) -> Tensor:
    """Feng et al., "Wing Loss for Robust Facial Landmark Localisation with CNNs", CVPR 2018.

    Args:
        distance: [B, K, 2], at least 0.
        omega: Up to this distance the loss is logarithmic, beyond it linear.
        epsilon: How curved it is.

    Returns:
        The sum over keypoints and coordinates, averaged over the batch.
    """
    constant = omega * (1.0 - math.log(1.0 + omega / epsilon))
    values = torch.where(distance < omega, omega * torch.log(1.0 + distance / epsilon), distance - constant)
    return _sum_of_each(values)


def soft_wing(distance: Tensor, *, omega1: float = 2.0, omega2: float = 20.0, epsilon: float = 0.5) -> Tensor:
    """Lin et al., "Structure-Coherent Deep Feature Learning for Robust Face Alignment", TIP 2021.

    Args:
        distance: [B, K, 2], at least 0.
        omega1: Up to this distance the loss is linear, beyond it logarithmic.
        omega2: Factor on the logarithm.
        epsilon: How curved it is.

    Returns:
        The sum over keypoints and coordinates, averaged over the batch.
    """
    constant = omega1 - omega2 * math.log(1.0 + omega1 / epsilon)
    values = torch.where(distance < omega1, distance, omega2 * torch.log(1.0 + distance / epsilon) + constant)
    return _sum_of_each(values)


def _sum_of_each(values: Tensor) -> Tensor:
    return values.sum() / max(len(values), 1)


def _mean(values: Tensor) -> Tensor:
    return values.sum() / max(values.numel(), 1)


def _smooth_l1(distance: Tensor) -> Tensor:
    return _mean(F.smooth_l1_loss(distance, torch.zeros_like(distance), reduction="none"))


COORDINATE_LOSSES: Mapping[str, tuple[Callable[..., Tensor], Mapping[str, float]]] = {
    "smooth_l1": (_smooth_l1, {}),
    "l1": (_mean, {}),
    "mse": (lambda distance: _mean(distance.square()), {}),
    "wing": (wing, {"omega": 10.0, "epsilon": 2.0}),
    "soft_wing": (soft_wing, {"omega1": 2.0, "omega2": 20.0, "epsilon": 0.5}),
}
"""Losses of distances [B, K, 2] by name, with their values."""


def coordinate_loss(kind: str, predicted: Tensor, target: Tensor, weights: Tensor, **values: float) -> Tensor:
    """A loss of coordinates, both sides multiplied by the weight.

    Args:
        kind: A name of `COORDINATE_LOSSES`.
        predicted: [B, K, 2].
        target: The same shape.
        weights: [B, K].
        values: Of the loss.

    Returns:
        A scalar.
    """
    factors = weights[..., None]
    return COORDINATE_LOSSES[kind][0]((predicted * factors - target * factors).abs(), **values)


def adaptive_wing(
    maps: Tensor,
    target: Tensor,
    weights: Tensor | None = None,
    *,
    alpha: float = 2.1,
    omega: float = 14.0,
    epsilon: float = 1.0,
    theta: float = 0.5,
) -> Tensor:
    """Wang et al., "Adaptive Wing Loss for Robust Face Alignment via Heatmap Regression", ICCV 2019.

    Args:
        maps: Predicted [B, K, h, w].
        target: The same shape.
        weights: [B, K], factors on both.
        alpha: Exponent where the target is 0.
        omega: Factor on the logarithm.
        epsilon: How curved it is.
        theta: Up to this difference the loss is logarithmic, beyond it linear.

    Returns:
        The mean over all pixels, a scalar.
    """
    if weights is not None:
        factors = weights[..., None, None]
        maps, target = maps * factors, target * factors
    difference, exponent = (target - maps).abs(), alpha - target
    ratio = theta / epsilon
    power = ratio**exponent
    slope = omega / (1 + power) * exponent * ratio ** (exponent - 1) / epsilon
    constant = theta * slope - omega * torch.log(1 + power)
    near = omega * torch.log(1 + (difference / epsilon) ** exponent)
    return _mean(torch.where(difference < theta, near, slope * difference - constant))


def jensen_shannon(maps: Tensor, target: Tensor, weights: Tensor) -> Tensor:
    """Jensen-Shannon divergence of distributions, of which both sides are multiplied by the weight.

    Args:
        maps: Predicted [B, K, h, w], each of sum 1.
        target: The same.
        weights: [B, K].

    Returns:
        The sum, averaged over the batch.

    Source: Nibali et al., "Numerical Coordinate Regression with Convolutional Neural Networks", 2018.
    """
    factors = weights[..., None, None]
    maps, target = maps * factors, target * factors
    log = _log(0.5 * (maps + target))
    return _sum_of_each(0.5 * (maps * (_log(maps) - log) + target * (_log(target) - log)))


def _log(values: Tensor) -> Tensor:
    """The logarithm, whose slope at 0 is no infinity: a weight of 0 would make it one that is not a number."""
    return torch.log(values + 1e-24)
