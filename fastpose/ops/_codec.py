"""What the heatmap ops share: a codec in numbers."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any, ClassVar, Protocol

import numpy as np

from ._native import C

__all__ = [
    "UDP_KINDS",
    "HeatmapCodec",
    "VectorCodec",
    "blur_size",
    "check_codec",
    "check_vectors",
    "codec_values",
    "decode_scale",
    "encode_scale",
    "gaussian_taps",
    "native_codec",
    "native_codec_of",
    "native_vectors",
    "native_vectors_of",
    "parameter",
    "vector_blur",
    "vector_sizes",
    "vector_values",
]


class HeatmapCodec(Protocol):
    """What the heatmap ops ask of a codec (see `fastpose.codecs`), besides the parameters of its kind.

    Attributes:
        kind: ``gaussian``, ``dark``, ``udp``, ``udp_combined`` or ``megvii``.
    """

    kind: ClassVar[str]

    @property
    def heatmap_size(self) -> tuple[int, int]:
        """(height, width)."""


class VectorCodec(Protocol):
    """What the ops of coordinate vectors ask of a codec (`fastpose.codecs.SimCC`, which says what these are)."""

    @property
    def sigma(self) -> tuple[float, float]: ...
    @property
    def split_ratio(self) -> float: ...
    @property
    def smoothing(self) -> str: ...
    @property
    def label_smoothing(self) -> float: ...
    @property
    def normalized(self) -> bool: ...
    @property
    def dark(self) -> bool: ...
    @property
    def visibility(self) -> bool: ...


def check_vectors(codec: VectorCodec, input_size: tuple[int, int]) -> tuple[int, int]:
    """`vector_sizes`, after checking that the codec has vectors.

    Raises:
        TypeError: ``codec`` is no codec.
        ValueError: The codec has no vectors, or a size or a parameter is out of the native core's range.
    """
    kind = getattr(codec, "kind", None)
    if not isinstance(kind, str):
        raise TypeError(f"codec: expected a codec of fastpose.codecs, got {type(codec).__name__}")
    if kind != "simcc":
        raise ValueError(f"codec: expected a codec of vectors (simcc), got {kind!r}")
    sides: Any = input_size
    whole = isinstance(sides, (tuple, list)) and all(isinstance(side, (int, np.integer)) for side in sides)
    if not whole or len(sides) != 2 or sides[0] < 1 or sides[1] < 1:
        raise ValueError(f"input_size: expected (height, width) of at least 1 pixel, got {input_size!r}")
    sizes = vector_sizes(codec, input_size)
    if min(sizes) < 1 or max(sizes) > MAX_BINS:
        raise ValueError(
            f"codec: expected 1 to {MAX_BINS} bins, got {sizes} of an input of {tuple(input_size)} and split_ratio "
            f"{codec.split_ratio}"
        )
    if not all(1e-3 <= sigma <= MAX_VECTOR_SIGMA for sigma in codec.sigma):
        raise ValueError(f"codec: expected a sigma of 0.001 to {MAX_VECTOR_SIGMA} bins, got {codec.sigma}")
    if codec.dark and max(map(vector_blur, codec.sigma)) > MAX_TAPS:
        raise ValueError(f"codec: dark expected a sigma whose blur has at most {MAX_TAPS} taps, got {codec.sigma}")
    return sizes


def vector_blur(sigma: float) -> int:
    """Taps of the blur before DARK's step, for labels of that sigma: the next odd number below."""
    taps = int((sigma * 20 - 7) // 3)
    return max(taps - (taps % 2 == 0), 1)


def vector_sizes(codec: VectorCodec, input_size: tuple[int, int]) -> tuple[int, int]:
    """Bins of the two vectors, (x, y), for an input of (height, width) pixels."""
    return int(input_size[1] * codec.split_ratio), int(input_size[0] * codec.split_ratio)


MAX_BINS = 32768
MAX_VECTOR_SIGMA = 4096

VectorValues = tuple[int, int, float, bool, float, float, float, bool, int, int, bool]
CodecValues = tuple[int, int, int, int, int, float, float, int, int]

UDP_KINDS = ("udp", "udp_combined")

# OpenCV rounds the taps of its small kernels to 1/256 steps; models were trained with targets made that way.
_SMALL_TAPS: dict[int, tuple[float, ...]] = {
    1: (1.0,),
    3: (0.25, 0.5, 0.25),
    5: (0.0625, 0.25, 0.375, 0.25, 0.0625),
    7: (0.03125, 0.109375, 0.21875, 0.28125, 0.21875, 0.109375, 0.03125),
    9: tuple(tap / 256 for tap in (4, 13, 30, 51, 60, 51, 30, 13, 4)),
}
MAX_TAPS = 127


def check_codec(codec: HeatmapCodec, input_size: tuple[int, int]) -> tuple[int, int]:
    """The heatmap's (height, width), after checking that the codec has heatmaps and that the scale is defined.

    Raises:
        TypeError: ``codec`` is no codec.
        ValueError: The codec has no heatmap, a size does not fit, or a blur is wider than 127 taps.
    """
    kind = getattr(codec, "kind", None)
    if not isinstance(kind, str):
        raise TypeError(f"codec: expected a codec of fastpose.codecs, got {type(codec).__name__}")
    if kind not in _KINDS:
        raise ValueError(f"codec: expected a codec of heatmaps ({', '.join(_KINDS)}), got {kind!r}")
    sides: Any = input_size
    whole = isinstance(sides, (tuple, list)) and all(isinstance(side, (int, np.integer)) for side in sides)
    if not whole or len(sides) != 2 or sides[0] < 1 or sides[1] < 1:
        raise ValueError(f"input_size: expected (height, width) of at least 1 pixel, got {input_size!r}")
    if kind in UDP_KINDS and min(*codec.heatmap_size, *input_size) < 2:
        raise ValueError(
            f"codec: {kind!r} expected sides of at least 2 pixels, got heatmap {codec.heatmap_size}, "
            f"input {tuple(input_size)}"
        )
    if blur_size(codec) > MAX_TAPS:
        raise ValueError(f"codec: expected blurs of at most {MAX_TAPS} taps, got {codec}")
    sigma = parameter(codec, "sigma")
    if not 1e-3 <= sigma <= 1e6:
        raise ValueError(f"codec: expected a sigma of 0.001 to 1000000 pixels, got {sigma}")
    return codec.heatmap_size


def blur_size(codec: HeatmapCodec) -> int:
    """Taps of the blur before decoding (1: none)."""
    if codec.kind == "megvii":
        return int(parameter(codec, "kernel_size"))
    taps = int(parameter(codec, "blur_kernel"))
    if codec.kind == "udp_combined":
        return 2 * taps + 1
    return taps if codec.kind in ("dark", "udp") else 1


def parameter(codec: HeatmapCodec, name: str) -> Any:
    """A parameter of the codec; of one that its kind has not, what the native core takes without looking at it."""
    return getattr(codec, name, _UNUSED[name])


_UNUSED = {"sigma": 2.0, "radius_factor": 0.05, "kernel_size": 11, "blur_kernel": 11}


def encode_scale(codec: HeatmapCodec, input_size: tuple[int, int]) -> tuple[float, float]:
    """(x, y) input pixels in one heatmap pixel: distances between pixel centres for UDP, else sides."""
    height, width = check_codec(codec, input_size)
    if codec.kind in UDP_KINDS:
        return (input_size[1] - 1) / (width - 1), (input_size[0] - 1) / (height - 1)
    return input_size[1] / width, input_size[0] / height


def decode_scale(codec: HeatmapCodec, input_size: tuple[int, int]) -> tuple[float, float]:
    """(x, y) factor from heatmap pixels to the coordinates that MMPose reports.

    For UDP that is side / (heatmap side - 1): a fraction of the crop times its size, not :func:`encode_scale`.
    """
    height, width = check_codec(codec, input_size)
    if codec.kind in UDP_KINDS:
        return input_size[1] / (width - 1), input_size[0] / (height - 1)
    return input_size[1] / width, input_size[0] / height


_KINDS = ("gaussian", "dark", "udp", "udp_combined", "megvii")  # in the order of CodecKind in the native core
_seen: dict[int, tuple[HeatmapCodec, tuple[int, int], Any]] = {}


def codec_values(codec: HeatmapCodec, input_size: tuple[int, int]) -> CodecValues:
    """A codec in numbers, as torch's dispatcher takes it; checked as :func:`check_codec` does.

    Returns:
        Kind, heatmap height and width, input height and width, sigma, radius_factor, kernel_size, blur_kernel.
    """
    height, width = check_codec(codec, input_size)
    return (
        _KINDS.index(codec.kind),
        height,
        width,
        int(input_size[0]),
        int(input_size[1]),
        float(parameter(codec, "sigma")),
        float(parameter(codec, "radius_factor")),
        int(parameter(codec, "kernel_size")),
        int(parameter(codec, "blur_kernel")),
    )


@lru_cache(maxsize=256)
def native_codec_of(values: CodecValues) -> Any:
    """What the native core takes, of :func:`codec_values`."""
    return C.HeatmapCodec(*values)


def native_codec(codec: HeatmapCodec, input_size: tuple[int, int]) -> Any:
    """A codec as the native core takes it; checked and made once per codec object."""
    seen = _seen.get(id(codec))
    if seen is not None and seen[0] is codec and type(input_size) is tuple and seen[1] == input_size:
        return seen[2]
    values = codec_values(codec, input_size)
    if len(_seen) >= 256:
        _seen.clear()
    native = native_codec_of(values)
    _seen[id(codec)] = codec, (values[3], values[4]), native
    return native


def vector_values(codec: VectorCodec, input_size: tuple[int, int]) -> VectorValues:
    """A codec of vectors in numbers, as torch's dispatcher takes it; checked as :func:`check_vectors` does.

    Returns:
        Bins along x and y, split ratio, whether labels are Gaussian, sigma along x and y, label smoothing, whether they
        are normalized, taps of the blur along x and y (0: no refinement), whether visibility is told.
    """
    bins = check_vectors(codec, input_size)
    taps = tuple(vector_blur(sigma) if codec.dark else 0 for sigma in codec.sigma)
    return (
        *bins,
        float(codec.split_ratio),
        codec.smoothing == "gaussian",
        float(codec.sigma[0]),
        float(codec.sigma[1]),
        float(codec.label_smoothing),
        codec.normalized,
        taps[0],
        taps[1],
        codec.visibility,
    )


@lru_cache(maxsize=256)
def native_vectors_of(values: VectorValues) -> Any:
    """What the native core takes, of :func:`vector_values`."""
    return C.SimccCodec(*values)


def native_vectors(codec: VectorCodec, input_size: tuple[int, int]) -> Any:
    """A codec of vectors as the native core takes it; checked and made once per codec object and input size."""
    key = id(codec), input_size if type(input_size) is tuple else None
    seen = _seen_vectors.get(key)
    if seen is not None and seen[0] is codec:
        return seen[1]
    native = native_vectors_of(vector_values(codec, input_size))
    if len(_seen_vectors) >= 256:
        _seen_vectors.clear()
    if key[1] is not None:
        _seen_vectors[key] = codec, native
    return native


_seen_vectors: dict[Any, tuple[VectorCodec, Any]] = {}


@lru_cache(maxsize=64)
def gaussian_taps(size: int) -> tuple[float, ...]:
    """Taps of OpenCV's Gaussian blur of ``size`` (odd) when its sigma is left to it; they sum to 1."""
    if size in _SMALL_TAPS:
        return _SMALL_TAPS[size]
    sigma = 0.3 * ((size - 1) * 0.5 - 1) + 0.8
    values = [math.exp(-((i - size // 2) ** 2) / (2 * sigma * sigma)) for i in range(size)]
    total = math.fsum(values)
    return tuple(value / total for value in values)
