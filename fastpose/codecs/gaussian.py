"""MSRA's codec: a Gaussian around the nearest pixel; arg-max, and a quarter of a pixel back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ..checks import check_number
from .heatmap import HeatmapCodec

__all__ = ["Gaussian"]


@dataclass(frozen=True)
class Gaussian(HeatmapCodec):
    """Xiao et al., "Simple Baselines for Human Pose Estimation and Tracking", ECCV 2018.

    Attributes:
        heatmap_size: (height, width) of the maps.
        sigma: Standard deviation, heatmap pixels.

    Example:
        >>> import numpy as np
        >>> codec = Gaussian((64, 48), sigma=2.0)
        >>> maps, weights = codec.encode(np.float32([[[96, 128]]]), np.ones((1, 1), np.float32), (256, 192))
        >>> maps.shape, codec.decode(maps, (256, 192))[0].tolist()
        ((1, 1, 64, 48), [[[96.0, 128.0]]])
    """

    sigma: float = 2.0

    kind: ClassVar[str] = "gaussian"

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "sigma", check_number("codec.sigma", self.sigma, above=0))
