"""Suppression of poses that describe the same person, plainly in torch."""

from __future__ import annotations

import torch
from torch import Tensor

from .oks import oks

__all__ = ["oks_nms"]


def oks_nms(
    poses: Tensor,
    scores: Tensor,
    areas: Tensor,
    sigmas: Tensor,
    threshold: float = 0.9,
    *,
    image_index: Tensor | None = None,
    soft: bool = False,
    max_per_image: int | None = None,
) -> Tensor | tuple[Tensor, Tensor]:
    """Kept poses, best first; see :func:`fastpose.ops.oks_nms`.

    Args:
        poses: [N,K,2 or 3] (x, y, …) in pixels.
        scores: [N].
        areas: [N] square pixels.
        sigmas: [K].
        threshold: Hard: a pose is dropped if its OKS with a better kept one is above this. Soft: width of the Gaussian.
        image_index: [N] int; poses of different images leave each other alone.
        soft: Lower the scores of similar poses instead of dropping them.
        max_per_image: At most so many of each image.

    Returns:
        Hard: [M] int64 indices. Soft: the same and [M] lowered scores.
    """
    exact = poses.double()
    value = torch.nan_to_num(scores.double(), nan=-torch.inf, posinf=torch.inf, neginf=-torch.inf)
    images = torch.zeros_like(scores, dtype=torch.int64) if image_index is None else image_index
    similarity = oks(exact, exact, areas.double(), sigmas.double(), areas_b=areas.double())
    final = value.clone()
    kept: list[int] = []
    for image in images.unique().tolist():
        alive = images == image
        count = 0
        while bool(alive.any()) and (max_per_image is None or count < max_per_image):
            left = alive.nonzero()[:, 0]
            best = int(left[final[left].argmax()])  # the first of equal ones
            kept.append(best)
            count += 1
            alive[best] = False
            if soft:
                lowered = final * torch.exp(-similarity[best].square() / threshold)
                final = torch.where(alive, torch.where(lowered.isnan(), -torch.inf, lowered), final)
            else:
                alive &= ~(similarity[best] > threshold)
    kept.sort(key=lambda i: (-float(final[i]), i))
    indices = torch.tensor(kept, dtype=torch.int64, device=poses.device)
    return (indices, final[indices].to(scores.dtype)) if soft else indices
