"""Megvii's codec: a blurred point of height 255; arg-max of the blurred map, and three quarters of a pixel on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ..checks import check_odd
from .heatmap import HeatmapCodec

__all__ = ["Megvii"]


@dataclass(frozen=True)
class Megvii(HeatmapCodec):
    """Li et al., "Rethinking on Multi-Stage Networks for Human Pose Estimation", 2019.

    Attributes:
        heatmap_size: (height, width) of the maps.
        kernel_size: Side of the blur that makes a target, heatmap pixels, odd.
    """

    kernel_size: int = 11

    kind: ClassVar[str] = "megvii"
    shifts_mirror: ClassVar[bool] = False
    pixel_shift: ClassVar[float] = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        check_odd("codec.kernel_size", self.kernel_size)
