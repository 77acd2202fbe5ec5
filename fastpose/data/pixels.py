"""Random changes of a crop's pixels: colour in HSV, photometric distortion, blur, and holes.

They are for 8-bit crops, before normalisation, in this order. Ranges, probabilities and arithmetic are those of
the transforms that official recipes name (YOLOXHSVRandomAug of MMDetection, PhotometricDistortion of MMPose, Blur,
MedianBlur, CoarseDropout and GridDropout of Albumentations); random numbers come from one generator a crop, so what
is drawn has their distribution, not their sequence.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["Blur", "GridDropout", "Holes", "HueSaturationValue", "Photometric", "PixelChanges", "change_pixels"]

Pixels = NDArray[np.uint8]
Random = np.random.Generator


class _Checked:
    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid", "allow_inf_nan": False}

    def _probability(self) -> None:
        value = getattr(self, "prob", 0.0)
        if not 0 <= value <= 1:
            raise ValueError(f"prob: expected a probability between 0 and 1, got {value}")

    def _ranges(self, least: float, most: float, *names: str) -> None:
        for name in names:
            low, high = getattr(self, name)
            if not least <= low <= high <= most:
                raise ValueError(f"{name}: expected (smallest, largest) from {least:g} to {most:g}, got {(low, high)}")


@dataclass(frozen=True)
class HueSaturationValue(_Checked):
    """Whole steps added to hue, saturation and value, each with probability 1/2.

    Attributes:
        hue: Largest change either way, in units of 2 degrees; it goes round.
        saturation: Largest change either way, of 255.
        value: Largest change either way, of 255.
    """

    hue: float = 5.0
    saturation: float = 30.0
    value: float = 30.0

    def __post_init__(self) -> None:
        for name, most in (("hue", 90), ("saturation", 255), ("value", 255)):
            if not 0 <= getattr(self, name) <= most:
                raise ValueError(f"{name}: expected 0 to {most}, got {getattr(self, name)}")


@dataclass(frozen=True)
class Photometric(_Checked):
    """Brightness, contrast, saturation, hue and the order of the channels, each with probability 1/2.

    As MMPose's code does it, which is not quite what its text says: contrast changes twice or not at all (before and
    after the hue, probability 1/4), and a hue that falls below 0 is taken modulo 256.

    Attributes:
        brightness: Largest number added either way, of 255.
        contrast: Smallest and largest factor.
        saturation: Smallest and largest factor.
        hue: Largest change either way, whole steps of 2 degrees; the largest itself only downwards.
    """

    brightness: float = 32.0
    contrast: tuple[float, float] = (0.5, 1.5)
    saturation: tuple[float, float] = (0.5, 1.5)
    hue: int = 18

    def __post_init__(self) -> None:
        self._ranges(0, math.inf, "contrast", "saturation")
        if not 0 <= self.brightness <= 255 or not 1 <= self.hue <= 90:
            raise ValueError(f"brightness, hue: expected 0 to 255 and 1 to 90, got {self.brightness} and {self.hue}")


@dataclass(frozen=True)
class Blur(_Checked):
    """A square filter, its side any odd number in a range.

    Attributes:
        prob: Probability.
        size: Smallest and largest side, pixels.
    """

    prob: float = 0.1
    size: tuple[int, int] = (3, 7)

    def __post_init__(self) -> None:
        self._probability()
        self._ranges(3, 255, "size")
        if self.size[0] % 2 == 0 or self.size[1] % 2 == 0:
            raise ValueError(f"size: expected odd numbers, got {self.size}")


@dataclass(frozen=True)
class Holes(_Checked):
    """Black rectangles anywhere within the crop (DeVries and Taylor, "Improved Regularization ... with Cutout", 2017).

    Attributes:
        prob: Probability.
        count: Smallest and largest number.
        height: Smallest and largest height of each, in ``unit``.
        width: The same for the width.
        unit: ``crop``: fractions of the crop's side, rounded down; ``pixel``: whole pixels.
    """

    prob: float = 0.5
    count: tuple[int, int] = (1, 1)
    height: tuple[float, float] = (0.2, 0.4)
    width: tuple[float, float] = (0.2, 0.4)
    unit: Literal["crop", "pixel"] = "crop"

    def __post_init__(self) -> None:
        self._probability()
        self._ranges(1, 1000, "count")
        self._ranges(0, 1 if self.unit == "crop" else 10_000, "height", "width")


@dataclass(frozen=True)
class GridDropout(_Checked):
    """A grid of black squares with a random origin (Chen et al., "GridMask Data Augmentation", 2020).

    Attributes:
        prob: Probability.
        unit: Smallest and largest side of a cell, pixels.
        ratio: Side of a square, as a fraction of its cell's.
    """

    prob: float = 0.5
    unit: tuple[int, int] = (10, 40)
    ratio: float = 0.5

    def __post_init__(self) -> None:
        self._probability()
        self._ranges(2, 10_000, "unit")
        if not 0 < self.ratio <= 1:
            raise ValueError(f"ratio: expected a fraction above 0, got {self.ratio}")


@dataclass(frozen=True)
class PixelChanges(_Checked):
    """What happens to the pixels of a crop; nothing by default.

    Attributes:
        hsv: Changes of hue, saturation and value.
        photometric: Photometric distortion.
        blur: Mean filter.
        median_blur: Median filter.
        holes: Black rectangles.
        grid: A grid of black squares.
    """

    hsv: HueSaturationValue | None = None
    photometric: Photometric | None = None
    blur: Blur | None = None
    median_blur: Blur | None = None
    holes: Holes | None = None
    grid: GridDropout | None = None


def change_pixels(crop: Pixels, seed: int, settings: PixelChanges, *, rgb: bool) -> None:
    """Change a crop at random, in place.

    Args:
        crop: [h, w, 3], contiguous.
        seed: Of this crop's random numbers.
        settings: What is changed.
        rgb: Order of the channels; False: BGR.
    """
    import cv2

    random = np.random.Generator(np.random.SFC64(seed))
    if settings.hsv is not None:
        _hsv(crop, random, settings.hsv, rgb)
    if settings.photometric is not None:
        distort(crop, draw_distortion(random, settings.photometric), rgb=rgb)
    if settings.blur is not None and random.random() < settings.blur.prob:
        side = _odd(random, settings.blur)
        cv2.blur(crop, (side, side), dst=crop)
    if settings.median_blur is not None and random.random() < settings.median_blur.prob:
        cv2.medianBlur(crop, _odd(random, settings.median_blur), dst=crop)
    if settings.holes is not None and random.random() < settings.holes.prob:
        _holes(crop, random, settings.holes)
    if settings.grid is not None and random.random() < settings.grid.prob:
        _grid(crop, random, settings.grid)


def _odd(random: Random, settings: Blur) -> int:
    low, high = settings.size
    return low + 2 * int(random.integers((high - low) // 2 + 1))


def _hsv(crop: Pixels, random: Random, settings: HueSaturationValue, rgb: bool) -> None:
    import cv2

    most = np.array([settings.hue, settings.saturation, settings.value])
    hue, saturation, value = np.trunc(random.uniform(-1, 1, 3) * most * random.integers(0, 2, 3)).tolist()
    steps = np.arange(256)
    tables = [(steps + hue) % 180, np.clip(steps + saturation, 0, 255), np.clip(steps + value, 0, 255)]
    _through_hsv(crop, np.stack(tables, axis=1).astype(np.uint8), cv2, rgb)


def _through_hsv(crop: Pixels, tables: Pixels, cv2: Any, rgb: bool) -> None:
    """Look hue, saturation and value up in one column each of ``tables`` [256, 3]."""
    hsv = cv2.cvtColor(crop, cv2.COLOR_RGB2HSV if rgb else cv2.COLOR_BGR2HSV)
    cv2.LUT(hsv, tables[None], dst=hsv)
    cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB if rgb else cv2.COLOR_HSV2BGR, dst=crop)


class Distortion(NamedTuple):
    """What photometric distortion drew.

    Attributes:
        offset: Added to all pixels.
        contrast: Factor on all pixels, before and after the next two.
        hue: Added to the hue, or None.
        saturation: Factor on the saturation, or None.
        order: Of the channels.
    """

    offset: float
    contrast: float
    hue: int | None
    saturation: float | None
    order: list[int]


def draw_distortion(random: Random, settings: Photometric) -> Distortion:
    """Random choices of a photometric distortion."""
    twice, brighter, contrasted, swapped = (random.integers(0, 2, 4) == 1).tolist()
    mode = int(random.integers(4))
    offset, contrast = random.uniform(-settings.brightness, settings.brightness), random.uniform(*settings.contrast)
    saturation, hue = random.uniform(*settings.saturation), int(random.integers(-settings.hue, settings.hue))
    order = random.permutation(3).tolist()
    return Distortion(
        offset if brighter else 0.0,
        contrast if twice and contrasted else 1.0,
        hue if mode in (2, 3) else None,
        saturation if mode in (1, 3) else None,
        order if swapped else [0, 1, 2],
    )


def distort(crop: Pixels, drawn: Distortion, *, rgb: bool) -> None:
    """Apply a photometric distortion to a crop [h, w, 3], in place; ``rgb``: order of its channels."""
    import cv2

    steps = np.arange(256, dtype=np.float32)
    contrast = np.clip(steps * np.float32(drawn.contrast), 0, 255).astype(np.uint8)
    if drawn.offset:
        cv2.LUT(crop, np.clip(steps + np.float32(drawn.offset), 0, 255).astype(np.uint8), dst=crop)
    if drawn.contrast != 1:
        cv2.LUT(crop, contrast, dst=crop)
    if drawn.hue is not None or drawn.saturation is not None:
        hues = (steps + (drawn.hue or 0)) % 256
        factor = np.float32(1 if drawn.saturation is None else drawn.saturation)
        saturations = np.clip(steps * factor, 0, 255)
        _through_hsv(crop, np.stack([hues, saturations, steps], axis=1).astype(np.uint8), cv2, rgb)
    if drawn.contrast != 1:
        cv2.LUT(crop, contrast, dst=crop)
    if drawn.order != [0, 1, 2]:
        crop[:] = crop[..., drawn.order]


def _holes(crop: Pixels, random: Random, settings: Holes) -> None:
    for _ in range(int(random.integers(settings.count[0], settings.count[1] + 1))):
        sides = []
        for side, (low, high) in zip(crop.shape, (settings.height, settings.width), strict=False):
            if settings.unit == "crop":
                hole = int(side * random.uniform(low, high))
            else:
                hole = min(int(random.integers(int(low), int(high) + 1)), side)
            start = int(random.integers(side - hole + 1))
            sides.append(slice(start, start + hole))
        crop[sides[0], sides[1]] = 0


def _grid(crop: Pixels, random: Random, settings: GridDropout) -> None:
    unit = int(random.integers(settings.unit[0], settings.unit[1] + 1))
    hole = min(max(int(unit * settings.ratio), 1), unit - 1)
    black = []
    for side in crop.shape[:2]:
        start = int(random.integers(unit - hole + 1))
        position = np.arange(side) - start
        black.append((position >= 0) & (position % unit < hole))
    crop[black[0][:, None] & black[1][None]] = 0
