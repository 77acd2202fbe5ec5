"""A network whose right answer is known: it sees a red, a green and a blue spot, and says where they are."""

from __future__ import annotations

import numpy as np
from torch import nn

from fastpose.codecs import build_codec
from fastpose.models import MapsHead, PoseModel
from fastpose.skeletons import Skeleton
from fastpose.spec import PoseSpec

SPOTS = Skeleton("spots", ("red", "green", "blue"))
INPUT = (128, 96)


class EveryFourthPixel(nn.Module):
    def forward(self, x):
        return x[:, :, ::4, ::4]


def spot_model(**changes):
    codec = build_codec("gaussian", heatmap_size=(INPUT[0] // 4, INPUT[1] // 4))
    spec = PoseSpec(SPOTS, INPUT, codec, mean=(0.0, 0.0, 0.0), std=(255.0, 255.0, 255.0)).replace(**changes)
    return PoseModel(EveryFourthPixel(), MapsHead(), spec)


def spots(size, points, radius=7.0):
    """A black photo with a red, a green and a blue spot at points [3, 2]; uint8 BGR."""
    height, width = size
    y, x = np.mgrid[:height, :width]
    layers = [np.exp(-((x - px) ** 2 + (y - py) ** 2) / (2 * radius**2)) for px, py in points]
    return np.round(255 * np.stack(layers[::-1], axis=2)).astype(np.uint8)


def random_spots(seed, size=None):
    """A photo of spots, their places, and a box around them that leaves some room."""
    rng = np.random.default_rng(seed)
    height, width = size or (int(rng.integers(90, 200)), int(rng.integers(90, 200)))
    points = rng.uniform(0.3, 0.7, (3, 2)) * [width, height]
    box = [0.1 * width, 0.1 * height, 0.9 * width, 0.9 * height]
    return spots((height, width), points), points, np.array([box], np.float32)
