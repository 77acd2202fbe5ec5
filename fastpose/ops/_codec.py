"""What a CodecSpec means in numbers: the scale between input and heatmap pixels, and the taps of the blurs."""

from __future__ import annotations

import math
from functools import lru_cache

from ..spec import CodecSpec

__all__ = ["CROP_PIXEL_KINDS", "UDP_KINDS", "check_codec", "decode_scale", "encode_scale", "gaussian_taps", "map_count"]

UDP_KINDS = ("udp", "udp_combined")
CROP_PIXEL_KINDS = ("gaussian", "dark", "megvii")

# OpenCV rounds the taps of its small kernels to 1/256 steps; models were trained with targets made that way.
_SMALL_TAPS: dict[int, tuple[float, ...]] = {
    1: (1.0,),
    3: (0.25, 0.5, 0.25),
    5: (0.0625, 0.25, 0.375, 0.25, 0.0625),
    7: (0.03125, 0.109375, 0.21875, 0.28125, 0.21875, 0.109375, 0.03125),
    9: tuple(tap / 256 for tap in (4, 13, 30, 51, 60, 51, 30, 13, 4)),
}
MAX_TAPS = 127


def check_codec(codec: CodecSpec, input_size: tuple[int, int]) -> tuple[int, int]:
    """The heatmap's (height, width), after checking that the codec has heatmaps and that the scale is defined.

    Raises:
        TypeError: ``codec`` is not a CodecSpec.
        ValueError: The codec has no heatmap, a size does not fit, or a blur is wider than 127 taps.
    """
    if not isinstance(codec, CodecSpec):
        raise TypeError(f"codec: expected a CodecSpec, got {type(codec).__name__}")
    if codec.heatmap_size is None:
        raise ValueError(f"codec: expected a kind with heatmaps, got {codec.kind!r}")
    if len(input_size) != 2 or input_size[0] < 1 or input_size[1] < 1:
        raise ValueError(f"input_size: expected (height, width) of at least 1 pixel, got {tuple(input_size)}")
    if codec.kind in UDP_KINDS and min(*codec.heatmap_size, *input_size) < 2:
        raise ValueError(
            f"codec: {codec.kind!r} expected sides of at least 2 pixels, got heatmap {codec.heatmap_size}, "
            f"input {tuple(input_size)}"
        )
    if max(codec.kernel_size, blur_size(codec)) > MAX_TAPS:
        raise ValueError(f"codec: expected blurs of at most {MAX_TAPS} taps, got {codec}")
    return codec.heatmap_size


def map_count(codec: CodecSpec, num_keypoints: int) -> int:
    """Heatmaps of ``num_keypoints`` keypoints."""
    return codec.output_channels(num_keypoints)


def blur_size(codec: CodecSpec) -> int:
    """Taps of the blur before decoding (1: none)."""
    if codec.kind == "megvii":
        return codec.kernel_size
    if codec.kind == "udp_combined":
        return 2 * codec.blur_kernel + 1
    return codec.blur_kernel if codec.kind in ("dark", "udp") else 1


def encode_scale(codec: CodecSpec, input_size: tuple[int, int]) -> tuple[float, float]:
    """(x, y) input pixels in one heatmap pixel: distances between pixel centres for UDP, else sides."""
    height, width = check_codec(codec, input_size)
    if codec.kind in UDP_KINDS:
        return (input_size[1] - 1) / (width - 1), (input_size[0] - 1) / (height - 1)
    return input_size[1] / width, input_size[0] / height


def decode_scale(codec: CodecSpec, input_size: tuple[int, int]) -> tuple[float, float]:
    """(x, y) factor from heatmap pixels to the coordinates that MMPose reports.

    For UDP that is side / (heatmap side - 1): a fraction of the crop times its size, not :func:`encode_scale`.
    """
    height, width = check_codec(codec, input_size)
    if codec.kind in UDP_KINDS:
        return input_size[1] / (width - 1), input_size[0] / (height - 1)
    return input_size[1] / width, input_size[0] / height


@lru_cache(maxsize=64)
def gaussian_taps(size: int) -> tuple[float, ...]:
    """Taps of OpenCV's Gaussian blur of ``size`` (odd) when its sigma is left to it; they sum to 1."""
    if size in _SMALL_TAPS:
        return _SMALL_TAPS[size]
    sigma = 0.3 * ((size - 1) * 0.5 - 1) + 0.8
    values = [math.exp(-((i - size // 2) ** 2) / (2 * sigma * sigma)) for i in range(size)]
    total = math.fsum(values)
    return tuple(value / total for value in values)
