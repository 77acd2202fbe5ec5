"""UDP with offsets: a disc around the point, and in it how far the point is away, in x and in y."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ..checks import check_number, check_odd
from .heatmap import HeatmapCodec

__all__ = ["UdpCombined"]


@dataclass(frozen=True)
class UdpCombined(HeatmapCodec):
    """Huang et al., "The Devil is in the Details: Delving into Unbiased Data Processing", CVPR 2020.

    Three maps a keypoint: disc, x offset, y offset.

    Attributes:
        heatmap_size: (height, width) of the maps.
        radius_factor: Radius of the disc as a fraction of the map's longer side.
        blur_kernel: Sets the side of the blur before decoding, heatmap pixels, odd.
    """

    radius_factor: float = 0.0546875
    blur_kernel: int = 11

    kind: ClassVar[str] = "udp_combined"
    maps_per_keypoint: ClassVar[int] = 3
    shifts_mirror: ClassVar[bool] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "radius_factor", check_number("codec.radius_factor", self.radius_factor, above=0))
        check_odd("codec.blur_kernel", self.blur_kernel)
