"""UDP: as DARK, with distances between pixel centres everywhere."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from .dark import Dark

__all__ = ["Udp"]


@dataclass(frozen=True)
class Udp(Dark):
    """Huang et al., "The Devil is in the Details: Delving into Unbiased Data Processing", CVPR 2020.

    Attributes:
        heatmap_size: (height, width) of the maps.
        sigma: Standard deviation, heatmap pixels.
        blur_kernel: Side of the blur before the step, heatmap pixels, odd.
    """

    kind: ClassVar[str] = "udp"
    shifts_mirror: ClassVar[bool] = False
