"""Heatmaps to keypoints."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ._arguments import argument, array_argument, dispatched, filled, flag_argument, flip_pairs, refuse_grad
from ._codec import HeatmapCodec, codec_values, native_codec, native_codec_of
from ._native import Array, C, is_dynamo_compiling
from ._registration import plain, register

__all__ = ["heatmap_decode"]


def heatmap_decode(
    heatmaps: Array,
    codec: HeatmapCodec,
    input_size: tuple[int, int],
    *,
    flipped: Array | None = None,
    flip_index: Any = None,
    flip_shift: bool = False,
    inverse: Any = None,
    out: Array | None = None,
    out_scores: Array | None = None,
) -> tuple[Any, Any]:
    """Finds one keypoint in each heatmap of a batch.

    The arg-max (the first largest value in row-major order; NaN never wins), refined as the codec says: ``gaussian`` a
    quarter of a pixel towards the higher neighbour, ``dark`` and ``udp`` a Newton step on the logarithm of the blurred
    map, ``udp_combined`` by the offset maps, ``megvii`` a quarter on the blurred map. Each map is read once. NumPy
    arrays in, NumPy arrays out, or tensors in, tensors out.

    Without ``inverse`` the udp kinds report what MMPose reports: position / (heatmap side - 1) * input side, which is
    larger by side / (side - 1) than the pixel coordinate that was encoded. With ``inverse``, every kind starts from
    pixel coordinates of the crop; identity matrices give these themselves.

    Args:
        heatmaps: [B,K,h,w] (``udp_combined``: [B,3K,h,w]) float32, float16 or bfloat16.
        codec: A kind with heatmaps.
        input_size: (height, width) of the network's input, pixels.
        flipped: Heatmaps of the mirrored input, same shape and dtype; averaged with ``heatmaps`` after they have been
            mirrored back, pairs swapped and, for ``udp_combined``, the x offsets negated.
        flip_index: [K] keypoint that each keypoint becomes in a mirror (``Skeleton.flip_index``); with ``flipped``. A
            CUDA tensor is not looked at before the kernel, which takes the nearest keypoint for an index out of range.
        flip_shift: The mirrored maps move right by one pixel first.
        inverse: [B,2,3] matrices from crop pixels to source pixels.
        out: Keypoints to fill, contiguous float32.
        out_scores: Scores to fill, contiguous float32.

    Returns:
        Keypoints [B,K,2] float32 (x, y) in pixels of the input (of the source with ``inverse``), and scores [B,K]
        float32: the maximum (``megvii``: divided by 255, plus 0.5). Where it is not above 0, ``gaussian`` and ``dark``
        report (-1, -1) in heatmap pixels, the udp kinds the arg-max unrefined.

    Raises:
        TypeError: A dtype is wrong, arrays and tensors are mixed, or a gradient is wanted.
        ValueError: A shape, an index or the codec does not fit, ``flipped`` and ``flip_index`` do not come together, or
            a matrix is not finite (not checked on CUDA).

    Example:
        >>> import torch
        >>> from fastpose import build_codec
        >>> from fastpose.ops import heatmap_decode
        >>> codec = build_codec(kind="gaussian", heatmap_size=(64, 48), sigma=2.0)
        >>> maps = torch.zeros(1, 2, 64, 48)
        >>> maps[0, 0, 32, 24], maps[0, 0, 32, 25] = 1.0, 0.5  # a peak that leans to the right
        >>> keypoints, scores = heatmap_decode(maps, codec, (256, 192))
        >>> keypoints[0, 0].tolist(), scores.tolist()  # 4 * (24 + a quarter), 4 * 32; nothing in the second map
        ([97.0, 128.0], [[1.0, 0.0]])
        >>> to_photo = torch.tensor([[[2.0, 0, 200], [0, 2, 100]]])  # crop pixels to those of the photo
        >>> heatmap_decode(maps, codec, (256, 192), inverse=to_photo)[0][0, 0].tolist()
        [394.0, 356.0]

    Source: DARK, https://arxiv.org/abs/1910.06278; UDP, https://arxiv.org/abs/1911.07524; MSPN,
        https://arxiv.org/abs/1901.00148.
    """
    if not is_dynamo_compiling():
        native = native_codec(codec, input_size)
        result = C.try_heatmap_decode(heatmaps, flipped, flip_index, flip_shift, inverse, out, out_scores, native)
        if result is not None:
            return result
    refuse_grad("heatmap_decode", heatmaps=heatmaps, flipped=flipped, inverse=inverse)
    maps = array_argument("heatmaps", heatmaps)
    if (flipped is None) != (flip_index is None):
        raise ValueError("flip_index: expected [K] indices together with flipped, and none without it")
    mirrored = None if flipped is None else array_argument("flipped", flipped, maps)
    pairs = None if flip_index is None else flip_pairs(flip_index, maps)
    matrices = None if inverse is None else argument("inverse", inverse, torch.float64, maps)
    shift = flag_argument("flip_shift", flip_shift)
    if dispatched(maps, mirrored, pairs, matrices):
        values = codec_values(codec, input_size)
        points, scores = torch.ops.fastpose.heatmap_decode(maps, mirrored, pairs, shift, matrices, *values)
        return filled("out", out, points), filled("out_scores", out_scores, scores)
    native = native_codec(codec, input_size)
    return C.heatmap_decode(maps, mirrored, pairs, shift, matrices, out, out_scores, native)


def _shapes(maps: Any, kind: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    if maps.ndim != 4:
        return (0, 0, 2), (0, 0)  # the binding refuses it
    shape = (maps.shape[0], maps.shape[1] // (3 if kind == 3 else 1))
    return (*shape, 2), shape


def _registered(
    heatmaps: Tensor,
    flipped: Tensor | None,
    flip_index: Tensor | None,
    flip_shift: bool,
    inverse: Tensor | None,
    *values: Any,
) -> Any:
    tensors = (plain(heatmaps), plain(flipped), plain(flip_index), flip_shift, plain(inverse))
    return C.heatmap_decode(*tensors, None, None, native_codec_of(values))


def _fake(
    heatmaps: Tensor,
    flipped: Tensor | None,
    flip_index: Tensor | None,
    flip_shift: bool,
    inverse: Tensor | None,
    *values: Any,
) -> tuple[Tensor, Tensor]:
    points_shape, scores_shape = _shapes(heatmaps, values[0])
    return heatmaps.new_empty(points_shape, dtype=torch.float32), heatmaps.new_empty(scores_shape, dtype=torch.float32)


register(
    "heatmap_decode",
    "(Tensor heatmaps, Tensor? flipped, Tensor? flip_index, bool flip_shift, Tensor? inverse, int kind, int height, "
    "int width, int input_height, int input_width, float sigma, float radius_factor, int kernel_size, int blur_kernel) "
    "-> (Tensor, Tensor)",
    _registered,
    _fake,
)
