"""Object keypoint similarity, plainly in torch."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["oks"]


def oks(
    poses_a: Tensor,
    poses_b: Tensor,
    areas: Tensor,
    sigmas: Tensor,
    *,
    visible: Tensor | None = None,
    areas_b: Tensor | None = None,
) -> Tensor:
    """OKS of every pose of ``a`` with every pose of ``b``; see :func:`fastpose.ops.oks`. Differentiable.

    Args:
        poses_a: [N,K,2 or 3] (x, y, …) in pixels, float32 or float64.
        poses_b: [M,K,2 or 3].
        areas: [N] square pixels.
        sigmas: [K].
        visible: [N,K]; keypoints of ``a`` count where this is above 0. By default all do.
        areas_b: [M]; with it the area of a pair is the mean of both.

    Returns:
        [N,M] between 0 and 1, of the poses' dtype.
    """
    difference = poses_a[:, None, :, :2] - poses_b[None, :, :, :2]
    area = areas.to(poses_a).clamp(min=0)[:, None]
    if areas_b is not None:
        area = (area + areas_b.to(poses_a).clamp(min=0)) / 2
    spread = 8 * sigmas.to(poses_a) ** 2  # twice the square of (2 sigma)
    exponent = difference.square().sum(-1) / spread / (area + torch.finfo(torch.float64).eps)[..., None]
    # A keypoint that is not a number agrees with nothing.
    agreement = torch.where(exponent >= 0, torch.exp(-exponent), torch.zeros_like(exponent))
    if visible is None:
        return agreement.mean(-1) if sigmas.numel() else agreement.sum(-1)
    counted = (visible > 0).to(agreement)[:, None]
    return (agreement * counted).sum(-1) / counted.sum(-1).clamp(min=1)
