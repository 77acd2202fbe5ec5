"""Crops of photos, in float64."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

__all__ = ["affine_crop"]

_MAX_SAMPLES = 64


def affine_crop(
    images: Tensor | Sequence[Tensor],
    matrices: Tensor,
    image_index: Tensor | None = None,
    *,
    size: tuple[int, int],
    mean: float | Sequence[float] | None = None,
    std: float | Sequence[float] | None = None,
    swap_rb: bool = False,
    border: str = "constant",
    border_value: float | Sequence[float] = 0.0,
    antialias: bool = False,
    flip: Tensor | None = None,
    gain: Tensor | None = None,
    offset: Tensor | None = None,
    dtype: torch.dtype = torch.float32,
    layout: str = "nchw",
    out: Tensor | None = None,
) -> Tensor:
    """The same as :func:`fastpose.ops.affine_crop`, computed in float64 and then cast to ``dtype``.

    Differentiable with respect to float images, gain and offset.
    """
    if image_index is None:
        image_index = torch.arange(len(matrices)) if len(images) == len(matrices) and _many(images) else None
    crops = []
    for m, matrix in enumerate(matrices.double()):
        image = images if not _many(images) else images[0 if image_index is None else int(image_index[m])]
        crop = _crop(image.double(), matrix, size, border, border_value, swap_rb, antialias, flip, m)  # type: ignore[union-attr]
        if gain is not None or offset is not None:
            crop = crop * (1.0 if gain is None else gain[m].double()) + (0.0 if offset is None else offset[m].double())
            crop = crop.clamp(0.0, 255.0)
        crops.append((crop - _vector(mean, 0.0, crop)) / _vector(std, 1.0, crop))
    device = matrices.device if not crops else crops[0].device
    result = torch.stack(crops) if crops else torch.empty((0, *size, 3), dtype=torch.float64, device=device)
    if layout == "nchw":
        result = result.permute(0, 3, 1, 2)
    if dtype is torch.uint8:
        result = result.round().clamp(0, 255)
    result = result.to(dtype).contiguous()
    return result if out is None else out.copy_(result)


def _many(images: Any) -> bool:
    return isinstance(images, (list, tuple)) or images.ndim == 4


def _vector(value: Any, default: float, like: Tensor) -> Tensor:
    """A number or three as a tensor of three."""
    numbers = torch.as_tensor(default if value is None else value, dtype=torch.float64, device=like.device)
    return numbers.expand(3)


def _crop(
    image: Tensor,
    matrix: Tensor,
    size: tuple[int, int],
    border: str,
    border_value: Any,
    swap_rb: bool,
    antialias: bool,
    flip: Tensor | None,
    m: int,
) -> Tensor:
    """[h,w,3] of one image, channels in the order of the output."""
    height, width = size
    inverse = torch.linalg.inv(
        torch.cat([matrix, torch.tensor([[0.0, 0.0, 1.0]], dtype=matrix.dtype, device=matrix.device)])
    )[:2]
    n_x = n_y = 1
    if antialias:
        steps = (float(torch.linalg.vector_norm(inverse[:, i])) for i in range(2))
        n_x, n_y = (min(max(math.ceil(step - 1e-6), 1), _MAX_SAMPLES) for step in steps)
    rows = torch.arange(height, dtype=torch.float64, device=image.device)
    columns = torch.arange(width, dtype=torch.float64, device=image.device)
    if flip is not None and bool(flip[m]):
        columns = columns.flip(0)
    outside = _vector(border_value, 0.0, image)
    if swap_rb:
        image = image.flip(-1)
    total = image.new_zeros(height, width, 3)
    for j in range(n_y):
        for i in range(n_x):
            y, x = torch.meshgrid(rows + (j + 0.5) / n_y - 0.5, columns + (i + 0.5) / n_x - 0.5, indexing="ij")
            where = torch.stack([x, y, torch.ones_like(x)], dim=-1) @ inverse.T
            total = total + _bilinear(image, where[..., 0], where[..., 1], border, outside)
    return total / (n_x * n_y)


def _bilinear(image: Tensor, x: Tensor, y: Tensor, border: str, outside: Tensor) -> Tensor:
    """Samples [...,3] of image [H,W,3] at positions x, y [...]."""
    height, width = image.shape[:2]
    x, y = x.clamp(-2, width + 1), y.clamp(-2, height + 1)  # far outside is outside, and safe to convert to integers
    if border == "replicate":
        x, y = x.clamp(0, width - 1), y.clamp(0, height - 1)
    left, top = x.floor(), y.floor()
    fx, fy = (x - left)[..., None], (y - top)[..., None]
    taps = []
    for dy in (0, 1):
        for dx in (0, 1):
            column, row = left.long() + dx, top.long() + dy
            inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
            pixel = image[row.clamp(0, height - 1), column.clamp(0, width - 1)]
            taps.append(torch.where(inside[..., None], pixel, outside))
    upper = taps[0] + fx * (taps[1] - taps[0])
    lower = taps[2] + fx * (taps[3] - taps[2])
    return upper + fy * (lower - upper)
