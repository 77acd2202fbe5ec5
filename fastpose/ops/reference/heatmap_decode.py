"""Heatmaps to keypoints, plainly in torch."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from .._codec import (
    UDP_KINDS,
    HeatmapCodec,
    blur_size,
    check_codec,
    decode_scale,
    encode_scale,
    gaussian_taps,
    parameter,
)
from .heatmap_encode import fused_multiply_add, mirrored

__all__ = ["heatmap_decode", "merge_flipped"]

# Numerator and denominator of log(1 + x), lowest power first: NumPy's float32 logarithm (BSD-3).
LOG_COEFFICIENTS = (
    (0.0, 0.9999999999999999, 2.112677543073053, 1.4800006335765066, 0.3808837741388408, 0.025899791179079227),
    (1.0, 2.6126775430731092, 2.4530060717847364, 0.9864942958519419, 0.15464763749839067, 0.005875095403124574),
)


def heatmap_decode(
    heatmaps: Tensor,
    codec: HeatmapCodec,
    input_size: tuple[int, int],
    *,
    flipped: Tensor | None = None,
    flip_index: Sequence[int] | Tensor | None = None,
    flip_shift: bool = False,
    inverse: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Keypoints and scores; see :func:`fastpose.ops.heatmap_decode`.

    Args:
        heatmaps: [B,K,h,w] ([B,3K,h,w] for udp_combined); float64 is computed in float64, all else in float32.
        codec: A kind with heatmaps.
        input_size: (height, width) of the network's input.
        flipped: Heatmaps of the mirrored input, same shape.
        flip_index: [K] keypoint that each keypoint becomes in a mirror.
        flip_shift: The mirrored maps move right by one pixel before they are averaged.
        inverse: [B,2,3] crop pixels to source pixels.

    Returns:
        Keypoints [B,K,2] and scores [B,K].
    """
    height, width = check_codec(codec, input_size)
    maps = heatmaps if heatmaps.dtype == torch.float64 else heatmaps.float()
    if flipped is not None:
        maps = (maps + merge_flipped(flipped.to(maps.dtype), codec, flip_index, flip_shift)) * 0.5
    offsets = None
    if codec.kind == "udp_combined":
        maps = maps.unflatten(1, (-1, 3))
        maps, offsets = maps[:, :, 0], maps[:, :, 1:]
    taps = torch.tensor(gaussian_taps(blur_size(codec)), dtype=maps.dtype, device=maps.device)
    blurred = _blur(maps, taps, reflect=offsets is not None) if len(taps) > 1 else maps
    peak = _first_maximum(_without_nan(maps).flatten(2))[0]
    # MMPose scales the blurred map to the maximum that it had before (not that of udp_combined).
    ratio = peak / _first_maximum(_without_nan(blurred).flatten(2))[0]
    ratio = torch.where((ratio > 0) & ratio.isfinite(), ratio, torch.zeros_like(ratio))
    scaled = torch.where(ratio[..., None, None] > 0, blurred * ratio[..., None, None], blurred)
    searched = {"megvii": scaled, "udp_combined": blurred}.get(codec.kind, maps)

    scores, index = _first_maximum(_without_nan(searched).flatten(2))
    x, y = index % width, index // width
    found = scores > 0
    points = torch.stack((x, y), -1).to(maps.dtype)
    udp = codec.kind in UDP_KINDS
    scale = torch.tensor(
        (encode_scale if udp and inverse is not None else decode_scale)(codec, input_size),
        dtype=points.dtype,
        device=points.device,
    )

    if codec.kind == "gaussian":
        inside = _between(x, 1, width - 1) & _between(y, 0, height), _between(y, 1, height - 1) & _between(x, 0, width)
        step = 0.25 * torch.stack([_slope(searched, x, y, along).sign() * ok for along, ok in enumerate(inside)], -1)
    elif codec.kind == "megvii":
        inside_both = _between(x, 1, width - 1) & _between(y, 1, height - 1)
        step = torch.stack([_slope(searched, x, y, along).sign() for along in range(2)], -1)
        step = inside_both[..., None] * (0.25 * step + 0.5)
    elif offsets is not None:
        pixels = index[..., None, None].expand(*index.shape, 2, 1)
        step = offsets.flatten(3).gather(3, pixels)[..., 0] * (parameter(codec, "radius_factor") * max(height, width))
    else:
        step = _dark_step(scaled, x, y) if codec.kind == "dark" else _udp_step(scaled, x, y)
        step = (step * (ratio > 0)[..., None]).to(points.dtype)
    refined = points + step
    usable = found & (refined * scale).isfinite().all(-1)
    points = torch.where(usable[..., None], refined, points)

    if codec.kind == "megvii":
        empty = scores == 0
        scores = torch.where(found, scores, peak.clamp(max=0)) / 255 + 0.5
        # A map without any response stands at pixel 0; only a negative one is reported as (-1, -1).
        points = torch.where(empty[..., None], torch.zeros_like(points), points)
        found = found | empty
    if not udp:
        points = torch.where(found[..., None], points, -torch.ones_like(points))
    points = points * scale
    if inverse is not None:
        matrices = inverse.to(torch.float64)
        points = (points.double() @ matrices[..., :2].mT + matrices[:, None, :, 2]).to(points.dtype)
    return points, scores


def merge_flipped(
    flipped: Tensor, codec: HeatmapCodec, flip_index: Sequence[int] | Tensor | None, flip_shift: bool
) -> Tensor:
    """The mirrored input's heatmaps turned back: columns reversed, pairs swapped, x offsets negated, moved by one."""
    maps = flipped.flip(-1)
    per_keypoint = 3 if codec.kind == "udp_combined" else 1
    maps = maps.unflatten(1, (-1, per_keypoint))
    if flip_index is not None:
        maps = maps[:, torch.as_tensor(flip_index, device=maps.device)]
    if per_keypoint == 3:
        maps = maps * torch.tensor([1.0, -1.0, 1.0], dtype=maps.dtype, device=maps.device)[:, None, None]
    maps = maps.flatten(1, 2)
    return torch.cat((maps[..., :1], maps[..., :-1]), dim=-1) if flip_shift else maps


def _first_maximum(flat: Tensor) -> tuple[Tensor, Tensor]:
    """Value and index [B,K] of the first maximum of [B,K,n]; a map that holds nothing above -inf gives 0 and 0."""
    values = flat.amax(-1)
    index = (flat == values[..., None]).to(torch.uint8).argmax(-1)
    return torch.where(values == -torch.inf, torch.zeros_like(values), values), index


def _between(values: Tensor, low: int, high: int) -> Tensor:
    return (values > low) & (values < high)


def _at(maps: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """[B,K] values at pixels, which are clamped to the map."""
    height, width = maps.shape[-2:]
    index = y.clamp(0, height - 1) * width + x.clamp(0, width - 1)
    return maps.flatten(2).gather(2, index[..., None])[..., 0]


def _slope(maps: Tensor, x: Tensor, y: Tensor, along: int) -> Tensor:
    right, down = (1, 0) if along == 0 else (0, 1)
    difference = _at(maps, x + right, y + down) - _at(maps, x - right, y - down)
    return torch.where(difference.isnan(), torch.zeros_like(difference), difference)


def _without_nan(maps: Tensor) -> Tensor:
    return torch.where(maps.isnan(), -torch.inf, maps)


def _blur(maps: Tensor, taps: Tensor, reflect: bool) -> Tensor:
    """Separable blur of [B,K,h,w]; beyond the border are zeros, or the map mirrored about its outermost pixels.

    Rows add tap by tap from the left, columns in pairs from the centre, both with fused multiply-adds: OpenCV's order.
    On flat maps the last bit decides which pixel is the largest, and the Newton step on their logarithm magnifies it.
    """
    radius = len(taps) // 2
    height, width = maps.shape[-2:]
    if reflect:
        columns = [mirrored(i, width) for i in range(-radius, width + radius)]
        rows = [mirrored(i, height) for i in range(-radius, height + radius)]
        padded = maps[..., columns][..., rows, :]
    else:
        padded = F.pad(maps, (radius, radius, radius, radius))
    lines = padded[..., :width] * taps[0]
    for i in range(1, len(taps)):
        lines = fused_multiply_add(padded[..., i : i + width], taps[i], lines)
    blurred = lines[..., radius : radius + height, :] * taps[radius]
    for i in range(1, radius + 1):
        pair = lines[..., radius + i : radius + i + height, :] + lines[..., radius - i : radius - i + height, :]
        blurred = fused_multiply_add(pair, taps[radius + i], blurred)
    return blurred


def _log(values: Tensor) -> Tensor:
    """Natural logarithm, in float32 rounded as NumPy and the native kernels round it.

    A rational function of the mantissa, in [sqrt(1/2), sqrt(2)), minus one. On nearly flat maps another rounding moves
    the Newton step by more than a thousandth of a pixel.
    """
    if values.dtype != torch.float32:
        return values.log()
    mantissa, exponent = torch.frexp(values)
    low = mantissa <= 0.70710678118
    mantissa = torch.where(low, mantissa + mantissa, mantissa) - 1
    exponent = (exponent - low.int()).float()
    over, under = (
        torch.tensor(coefficients, dtype=values.dtype, device=values.device) for coefficients in LOG_COEFFICIENTS
    )
    numerator, denominator = over[5].expand_as(values), under[5].expand_as(values)
    for i in range(4, -1, -1):
        numerator = fused_multiply_add(numerator, mantissa, over[i])
        denominator = fused_multiply_add(denominator, mantissa, under[i])
    return fused_multiply_add(
        exponent, torch.tensor(0.693147180559945, dtype=values.dtype, device=values.device), numerator / denominator
    )


def _dark_step(maps: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """[B,K,2] Newton step on the logarithm, second differences over two pixels; none near the border."""
    height, width = maps.shape[-2:]
    logs = _log(maps.clamp(min=1e-10))
    dx = 0.5 * (_at(logs, x + 1, y) - _at(logs, x - 1, y))
    dy = 0.5 * (_at(logs, x, y + 1) - _at(logs, x, y - 1))
    dxx = 0.25 * (_at(logs, x + 2, y) - 2 * _at(logs, x, y) + _at(logs, x - 2, y))
    dyy = 0.25 * (_at(logs, x, y + 2) - 2 * _at(logs, x, y) + _at(logs, x, y - 2))
    dxy = 0.25 * (_at(logs, x + 1, y + 1) - _at(logs, x + 1, y - 1) - _at(logs, x - 1, y + 1) + _at(logs, x - 1, y - 1))
    inside = _between(x, 1, width - 2) & _between(y, 1, height - 2)
    return _newton(dx, dy, dxx, dyy, dxy) * inside[..., None]


def _udp_step(maps: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """[B,K,2] Newton step on the logarithm, differences over one pixel, border repeated."""
    logs = _log(maps.clamp(1e-3, 50.0))
    centre, right, left = _at(logs, x, y), _at(logs, x + 1, y), _at(logs, x - 1, y)
    below, above = _at(logs, x, y + 1), _at(logs, x, y - 1)
    dxy = 0.5 * (_at(logs, x + 1, y + 1) - right - below + centre + centre - left - above + _at(logs, x - 1, y - 1))
    tiny = torch.finfo(torch.float32).eps
    dxx, dyy = right - 2 * centre + left, below - 2 * centre + above
    return _newton(0.5 * (right - left), 0.5 * (below - above), dxx, dyy, dxy, tiny)


def _newton(dx: Tensor, dy: Tensor, dxx: Tensor, dyy: Tensor, dxy: Tensor, ridge: float = 0.0) -> Tensor:
    """[B,K,2]: minus the inverse Hessian (``ridge`` on its diagonal) times the gradient; not finite if it has none."""
    dx, dy, dxx, dyy, dxy = (value.double() for value in (dx, dy, dxx, dyy, dxy))
    dxx, dyy = dxx + ridge, dyy + ridge
    determinant = dxx * dyy - dxy * dxy
    return torch.stack((dxy * dy - dyy * dx, dxy * dx - dxx * dy), -1) / determinant[..., None]
