"""Codecs: keypoints to a network's target, and its output back to keypoints."""

from __future__ import annotations

from ..spec import CodecSpec
from .heatmap import HeatmapCodec
from .regression import RegressionCodec
from .views import ViewAverage, build_views

__all__ = ["Codec", "HeatmapCodec", "RegressionCodec", "ViewAverage", "build_codec", "build_views"]

Codec = HeatmapCodec | RegressionCodec


def build_codec(spec: CodecSpec, input_size: tuple[int, int]) -> Codec:
    """The codec that a spec describes.

    Args:
        spec: Kind and parameters.
        input_size: (height, width) of the network's input, pixels.

    Returns:
        An object with ``encode``, ``decode`` and ``output_channels``.

    Raises:
        TypeError: ``spec`` is not a CodecSpec.
        ValueError: The sizes do not fit the kind.
    """
    if not isinstance(spec, CodecSpec):
        raise TypeError(f"spec: expected a CodecSpec, got {type(spec).__name__}")
    return RegressionCodec(spec, input_size) if spec.kind == "regression" else HeatmapCodec(spec, input_size)
