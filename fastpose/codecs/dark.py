"""DARK: a Gaussian around the point itself; a Taylor step on the logarithm of the blurred map."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ..checks import check_odd
from .gaussian import Gaussian

__all__ = ["Dark"]


@dataclass(frozen=True)
class Dark(Gaussian):
    """Zhang et al., "Distribution-Aware Coordinate Representation for Human Pose Estimation", CVPR 2020.

    Attributes:
        heatmap_size: (height, width) of the maps.
        sigma: Standard deviation, heatmap pixels.
        blur_kernel: Side of the blur before the step, heatmap pixels, odd.
    """

    blur_kernel: int = 11

    kind: ClassVar[str] = "dark"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_odd("codec.blur_kernel", self.blur_kernel)
