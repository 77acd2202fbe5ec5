"""Keypoints to target heatmaps."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ._arguments import argument, array_argument, dispatched, filled, refuse_grad
from ._codec import HeatmapCodec, codec_values, native_codec, native_codec_of
from ._native import Array, C, is_dynamo_compiling
from ._registration import plain, register

__all__ = ["heatmap_encode"]


def heatmap_encode(
    keypoints: Array,
    visible: Any,
    codec: HeatmapCodec,
    input_size: tuple[int, int],
    *,
    joint_weights: Any = None,
    out: Array | None = None,
    out_weights: Array | None = None,
) -> tuple[Any, Any]:
    """Makes the target heatmaps of a batch of poses.

    Pixel centres stand at whole numbers. NumPy arrays in, NumPy arrays out, or tensors in, tensors out.

    Args:
        keypoints: [B,K,2] (x, y) in pixels of the network's input; made float32.
        visible: [B,K] numbers or bool; below 0.5 means not labelled, above 1 counts as 1, NaN as 0.
        codec: A kind with heatmaps. ``gaussian``: exp(-d²/2σ²) within 3σ of the nearest pixel, around that pixel;
            ``udp``: the same window, around the point itself; ``dark``: the whole map, around the point itself;
            ``udp_combined``: a disc of ones and the offsets to the point, in radii; ``megvii``: a blurred pixel of 255.
        input_size: (height, width) of the network's input, pixels.
        joint_weights: [K] factors on the weights (``Skeleton.joint_weights``).
        out: Heatmaps to fill, contiguous float32; saves the allocation, which costs more than the kernel.
        out_weights: Weights to fill, contiguous float32.

    Returns:
        Heatmaps [B,K,h,w] float32 (``udp_combined``: [B,3K,h,w]: disc, x offset, y offset of each keypoint) and loss
        weights [B,K] float32: the visibility, but 0 where the heatmap is not reached or a coordinate is not finite.

    Raises:
        TypeError: A dtype is wrong, arrays and tensors are mixed, or a gradient is wanted.
        ValueError: A shape or the codec does not fit; the message names the argument.

    Example:
        >>> import numpy as np
        >>> from fastpose import build_codec
        >>> from fastpose.ops import heatmap_encode
        >>> codec = build_codec(kind="gaussian", heatmap_size=(64, 48), sigma=2.0)
        >>> keypoints = np.array([[[96.0, 128.0], [-500.0, 0.0]]], np.float32)  # one person, the second one far outside
        >>> maps, weights = heatmap_encode(keypoints, np.ones((1, 2)), codec, (256, 192))
        >>> maps.shape, weights.tolist()
        ((1, 2, 64, 48), [[1.0, 0.0]])
        >>> [int(i) for i in np.unravel_index(maps[0, 0].argmax(), (64, 48))]  # row, column
        [32, 24]

    Source: MSRA, https://arxiv.org/abs/1804.06208; DARK, https://arxiv.org/abs/1910.06278; UDP,
        https://arxiv.org/abs/1911.07524; MSPN, https://arxiv.org/abs/1901.00148.
    """
    if not is_dynamo_compiling():
        native = native_codec(codec, input_size)
        result = C.try_heatmap_encode(keypoints, visible, joint_weights, out, out_weights, native)
        if result is not None:
            return result
    refuse_grad("heatmap_encode", keypoints=keypoints, visible=visible, joint_weights=joint_weights)
    points = argument("keypoints", array_argument("keypoints", keypoints), torch.float32, keypoints)
    levels = argument("visible", visible, torch.float32, points)
    factors = None if joint_weights is None else argument("joint_weights", joint_weights, torch.float32, points)
    if dispatched(points, levels, factors):
        values = codec_values(codec, input_size)
        maps, weights = torch.ops.fastpose.heatmap_encode(points, levels, factors, *values)
        return filled("out", out, maps), filled("out_weights", out_weights, weights)
    return C.heatmap_encode(points, levels, factors, out, out_weights, native_codec(codec, input_size))


def _shapes(points: Any, kind: int, height: int, width: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    batch, keypoints = (points.shape[0], points.shape[1]) if points.ndim == 3 else (0, 0)  # the binding refuses it
    return (batch, keypoints * (3 if kind == 3 else 1), height, width), (batch, keypoints)


def _registered(keypoints: Tensor, visible: Tensor, joint_weights: Tensor | None, *values: Any) -> Any:
    return C.heatmap_encode(plain(keypoints), plain(visible), plain(joint_weights), None, None, native_codec_of(values))


def _fake(keypoints: Tensor, visible: Tensor, joint_weights: Tensor | None, *values: Any) -> tuple[Tensor, Tensor]:
    maps_shape, weights_shape = _shapes(keypoints, *values[:3])
    return keypoints.new_empty(maps_shape), keypoints.new_empty(weights_shape)


register(
    "heatmap_encode",
    "(Tensor keypoints, Tensor visible, Tensor? joint_weights, int kind, int height, int width, int input_height, "
    "int input_width, float sigma, float radius_factor, int kernel_size, int blur_kernel) -> (Tensor, Tensor)",
    _registered,
    _fake,
)
