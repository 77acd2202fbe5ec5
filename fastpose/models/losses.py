"""Losses on outputs and targets that are already there (`fastpose.ops.heatmap_loss` works without target maps)."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .layers import RealNVP


def heatmap_mse(predicted: Tensor, target: Tensor, weights: Tensor | None = None) -> Tensor:
    """Mean squared error between predicted and target maps, each keypoint's map counted by its weight.

    The mean is over all elements, also those of maps of weight 0 (as in Xiao et al. 2018, and in MMPose), so a batch
    with few visible keypoints pulls less. Training does without target maps: see `fastpose.ops.heatmap_loss`.

    Args:
        predicted: maps [B, K, h, w].
        target: maps [B, K, h, w].
        weights: [B, K], factor on each map's squared errors, 0 where a keypoint is not to be learnt; None counts every
            map once.

    Returns:
        The loss, a scalar, in float32 or wider whatever the dtype of the maps.

    Raises:
        ValueError: the shapes do not agree.
    """
    if predicted.ndim != 4 or predicted.shape != target.shape:
        raise ValueError(
            "predicted, target: expected the same shape [B, K, h, w], "
            f"got {tuple(predicted.shape)} and {tuple(target.shape)}"
        )
    errors = (predicted.to(torch.promote_types(predicted.dtype, torch.float32)) - target).square()
    if weights is not None:
        if weights.shape != predicted.shape[:2]:
            raise ValueError(f"weights: expected shape {tuple(predicted.shape[:2])}, got {tuple(weights.shape)}")
        errors = errors * weights[:, :, None, None]
    return errors.mean()


def visibility_loss(probability: Tensor, weights: Tensor, annotated: Tensor | None = None) -> Tensor:
    """Mean binary cross-entropy between predicted visibility and whether a keypoint is labelled.

    Args:
        probability: [B, K], 0 to 1.
        weights: [B, K]; above 0 where a keypoint is labelled.
        annotated: bool [B, K]; keypoints that the data set does not label at all count nothing. None: it labels all.

    Returns:
        The loss, a scalar.
    """
    labelled = (weights > 0).float()
    counted = None if annotated is None else annotated.float()
    return F.binary_cross_entropy(probability.float(), labelled, weight=counted)


def feature_distillation(pupil: Tensor, teacher: Tensor) -> Tensor:
    """Squared difference of two networks' feature maps.

    Args:
        pupil: [B, C, h, w].
        teacher: the same shape.

    Returns:
        The sum, averaged over the batch; float32.

    Source: Yang et al., "Effective Whole-body Pose Estimation with Two-stages Distillation" (DWPose), 2023.
    """
    return (pupil.float() - teacher.float()).square().sum() / max(len(pupil), 1)


def vector_distillation(pupil: Iterable[Tensor], teacher: Iterable[Tensor], beta: float = 1.0) -> Tensor:
    """Kullback-Leibler divergence of one network's coordinate vectors from another's, as distributions.

    Args:
        pupil: vectors [B, K, Wx] and [B, K, Wy], before a softmax.
        teacher: the same shapes.
        beta: factor on both before the softmax.

    Returns:
        The sum over both axes, averaged over keypoints and batch; float32.

    Source: as `feature_distillation`.
    """
    parts = []
    for ours, theirs in zip(pupil, teacher, strict=True):
        logarithms, wanted = (ours.float() * beta).log_softmax(-1), (theirs.float() * beta).softmax(-1)
        parts.append(F.kl_div(logarithms, wanted, reduction="sum") / max(ours.shape[0] * ours.shape[1], 1))
    return torch.stack(parts).sum()


class RLELoss(nn.Module):
    """Residual log-likelihood (Li et al., "Human Pose Regression with Residual Log-likelihood Estimation", ICCV 2021).

    The network says where a keypoint is and how unsure it is; a flow learns the shape of the errors, as a correction
    of the Laplace distribution.
    """

    def __init__(self) -> None:
        super().__init__()
        self.flow_model = RealNVP()

    def forward(self, output: Tensor, target: Tensor, weights: Tensor) -> Tensor:
        """The loss, summed over keypoints and coordinates and averaged over the batch.

        Args:
            output: coordinates as fractions of the input's sides, and their deviations before a sigmoid [B, K, 4].
            target: the true coordinates [B, K, 2].
            weights: [B, K].

        Returns:
            The loss, a scalar.
        """
        predicted, sigma = output[..., :2], output[..., 2:].sigmoid()
        error = (predicted - target) / (sigma + 1e-9)
        log_phi = self.flow_model.log_prob(error.reshape(-1, 2)).reshape(*error.shape[:-1], 1)
        laplace = torch.log(sigma * 2) + error.abs()
        total = ((torch.log(sigma) - log_phi + laplace) * weights[..., None]).sum()
        return total / max(len(predicted), 1)
