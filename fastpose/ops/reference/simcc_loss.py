"""The loss of coordinate vectors, plainly in torch: the labels are made, then compared. Autograd gives the gradient."""

from __future__ import annotations

import torch
from torch import Tensor

from .._codec import VectorCodec
from .simcc_encode import simcc_targets

__all__ = ["simcc_loss", "simcc_loss_of_labels"]


def simcc_loss(
    predicted: tuple[Tensor, Tensor],
    keypoints: Tensor,
    weights: Tensor | None,
    codec: VectorCodec,
    input_size: tuple[int, int],
    *,
    beta: float = 1.0,
    label_softmax: bool = False,
    label_beta: float = 10.0,
    keypoint_weights: Tensor | None = None,
) -> Tensor:
    """Scalar loss; see :func:`fastpose.ops.simcc_loss`."""
    x, y = (part if part.dtype == torch.float64 else part.float() for part in predicted)
    points = keypoints.to(x.dtype)
    counted = x.new_ones(x.shape[:2]) if weights is None else _positive(weights.to(x.dtype))
    label_x, label_y, inside = simcc_targets(points, counted > 0, codec, input_size)
    if keypoint_weights is not None:
        counted = _positive(counted * keypoint_weights.to(counted))
    counted = torch.where(inside, counted, torch.zeros_like(counted))
    return simcc_loss_of_labels(
        (x, y), (label_x, label_y), counted, beta=beta, label_softmax=label_softmax, label_beta=label_beta
    )


def _positive(weights: Tensor) -> Tensor:
    return torch.where(weights > 0, weights, torch.zeros_like(weights))


def simcc_loss_of_labels(
    predicted: tuple[Tensor, Tensor],
    labels: tuple[Tensor, Tensor],
    weights: Tensor,
    *,
    beta: float = 1.0,
    label_softmax: bool = False,
    label_beta: float = 10.0,
) -> Tensor:
    """The same with the labels given: Kullback-Leibler divergence, the mean over a vector, weighted, summed, over K.

    Args:
        predicted: [B,K,Wx], [B,K,Wy].
        labels: The same shapes.
        weights: [B,K]. A keypoint of weight 0 is not looked at, whatever its vectors hold.
        beta: Factor on what is predicted, before its softmax.
        label_softmax: Whether labels are made distributions by a softmax.
        label_beta: Factor on them before it.
    """
    total = predicted[0].sum() * 0.0 if predicted[0].numel() == 0 else predicted[0].new_zeros(())
    for values, label in zip(predicted, labels, strict=True):
        seen = (weights > 0)[..., None]
        log = torch.log_softmax(torch.where(seen, values, torch.zeros_like(values)) * beta, -1)
        target = torch.softmax(label * label_beta, -1) if label_softmax else label
        divergence = (torch.xlogy(target, target) - target * log).mean(-1) if values.numel() else values.sum(-1)
        total = total + (divergence * weights).sum()
    return total / max(predicted[0].shape[1], 1)
