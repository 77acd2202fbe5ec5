"""Keypoints to target heatmaps, plainly in torch."""

from __future__ import annotations

import torch
from torch import Tensor

from .._codec import HeatmapCodec, check_codec, encode_scale, gaussian_taps, parameter

__all__ = ["heatmap_encode", "heatmap_targets"]

# Beyond this no window can touch a map, and integers are still exact in float32.
_FAR = float(2**22)


def heatmap_encode(
    keypoints: Tensor,
    visible: Tensor,
    codec: HeatmapCodec,
    input_size: tuple[int, int],
    *,
    joint_weights: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Target heatmaps and weights; see :func:`fastpose.ops.heatmap_encode`.

    Args:
        keypoints: [B,K,2] float32 or float64 (x, y), input pixels.
        visible: [B,K], any number type.
        codec: A kind with heatmaps.
        input_size: (height, width) of the network's input.
        joint_weights: [K] factors on the weights.

    Returns:
        Heatmaps [B,K,h,w] ([B,3K,h,w] for udp_combined) and weights [B,K], of the keypoints' dtype.
    """
    level = visible.to(keypoints.dtype)
    level = torch.where(level > 0, level.clamp(max=1), torch.zeros_like(level))
    heatmaps, inside = heatmap_targets(keypoints, level >= 0.5, codec, input_size)
    finite = torch.isfinite(keypoints).all(-1)
    weights = torch.where(finite & (inside | (level < 0.5)), level, torch.zeros_like(level))
    return heatmaps, weights if joint_weights is None else weights * joint_weights.to(weights)


def heatmap_targets(
    keypoints: Tensor, drawn: Tensor, codec: HeatmapCodec, input_size: tuple[int, int]
) -> tuple[Tensor, Tensor]:
    """Heatmaps of the keypoints that are ``drawn`` [B,K] bool, and which keypoints [B,K] reach their map."""
    height, width = check_codec(codec, input_size)
    scale = torch.tensor(encode_scale(codec, input_size), dtype=keypoints.dtype, device=keypoints.device)
    points = keypoints / scale
    drawn = drawn & torch.isfinite(points).all(-1)
    points = torch.nan_to_num(points, nan=0.0, posinf=_FAR, neginf=-_FAR).clamp(-_FAR, _FAR)
    size = torch.tensor([width, height], dtype=points.dtype, device=points.device)
    columns = torch.arange(width, dtype=points.dtype, device=points.device)
    rows = torch.arange(height, dtype=points.dtype, device=points.device)
    dx = columns - points[..., 0, None]  # [B,K,w]
    dy = rows - points[..., 1, None]  # [B,K,h]

    if codec.kind == "udp_combined":
        radius = parameter(codec, "radius_factor") * max(height, width)
        # In float64, because pixels at exactly the radius belong to the disc.
        x = ((points[..., 0, None].double() - columns) / radius)[..., None, :]
        y = ((points[..., 1, None].double() - rows) / radius)[..., :, None]
        disc = x.square() + y.square() <= 1
        maps = torch.stack((disc, x.expand(disc.shape), y.expand(disc.shape)), dim=2).to(points.dtype)
        maps = torch.where(drawn[..., None, None, None], maps, torch.zeros_like(maps))
        return maps.flatten(1, 2), drawn

    if codec.kind == "megvii":
        centre = points.trunc()
        inside = ((centre >= 0) & (centre < size)).all(-1) & drawn
        index = torch.where(inside[..., None], centre, torch.zeros_like(centre)).long()
        maps = _blurred_point(
            index[..., 0], index[..., 1], (height, width), points.dtype, parameter(codec, "kernel_size")
        )
        return torch.where(inside[..., None, None], maps, torch.zeros_like(maps)), inside

    reach = 3 * parameter(codec, "sigma")
    if codec.kind == "dark":
        first, stop = points - reach, points + reach + 1
        window_x = torch.ones_like(dx, dtype=torch.bool)
        window_y = torch.ones_like(dy, dtype=torch.bool)
    else:
        centre = (points + 0.5).trunc()
        first, stop = (centre - reach).floor(), (centre + reach + 1).floor()
        window_x = (columns >= first[..., 0, None]) & (columns < stop[..., 0, None])
        window_y = (rows >= first[..., 1, None]) & (rows < stop[..., 1, None])
        if codec.kind == "gaussian":
            dx, dy = columns - centre[..., 0, None], rows - centre[..., 1, None]
    inside = ((first < size) & (stop >= 0)).all(-1) & drawn
    maps = torch.exp(-(dx.square()[..., None, :] + dy.square()[..., :, None]) / (2 * parameter(codec, "sigma") ** 2))
    keep = window_y[..., :, None] & window_x[..., None, :] & inside[..., None, None]
    return torch.where(keep, maps, torch.zeros_like(maps)), inside


def _blurred_point(x: Tensor, y: Tensor, size: tuple[int, int], dtype: torch.dtype, kernel_size: int) -> Tensor:
    """[B,K,h,w]: a one at pixel (x, y) after a mirrored-border blur, as a multiple of its value there, times 255.

    The order of additions is that of :func:`.heatmap_decode._blur`.
    """
    height, width = size
    taps = torch.tensor(gaussian_taps(kernel_size), dtype=dtype, device=x.device)
    radius = kernel_size // 2
    along_x, along_y = _hits(width, radius).to(taps), _hits(height, radius).to(taps)
    row = torch.zeros_like(along_x[0])
    for i in range(kernel_size):
        row = row + along_x[i] * taps[i]
    row = row[x][..., None, :]  # [B,K,1,w]
    maps = along_y[radius][y][..., :, None] * row * taps[radius]
    for i in range(1, radius + 1):
        pair = (along_y[radius + i] + along_y[radius - i])[y][..., :, None] * row
        maps = fused_multiply_add(pair, taps[radius + i], maps)
    centre = maps.flatten(2).gather(2, (y * width + x)[..., None])[..., None]
    return maps / centre * 255


def _hits(size: int, radius: int) -> Tensor:
    """[2*radius+1, size, size]: 1 where tap i at pixel p reads pixel c, at [i, c, p]."""
    hits = torch.zeros(2 * radius + 1, size, size)
    for tap in range(-radius, radius + 1):
        for pixel in range(size):
            hits[tap + radius, mirrored(pixel + tap, size), pixel] = 1
    return hits


def fused_multiply_add(a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """The value a * b + c with one rounding (float32; a float64 product has none to spare)."""
    return (a.double() * b.double() + c.double()).to(c.dtype)


def mirrored(index: int, size: int) -> int:
    """``index`` reflected into 0..size-1 about the outermost pixels, as often as it takes."""
    if size == 1:
        return 0
    index = abs(index) % (2 * size - 2)
    return min(index, 2 * size - 2 - index)
