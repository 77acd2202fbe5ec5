"""Several crops of one person, and their heatmaps averaged.

Points decoded from each crop must not be averaged: where one map sees the left ankle and another the right one, the
middle is neither. So every map is brought to the pixels of the ordinary crop first, and one average map is decoded.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from .spec import PoseSpec

__all__ = ["ViewAverage", "build_views"]

_SMALLEST, _LARGEST = 0.25, 4.0


class ViewAverage:
    """V views of a person: crops about the same centre, scaled and turned.

    Args:
        spec: Of the model; its codec has plain heatmaps.
        views: V pairs (scale, degrees). The region that the crop shows is that much larger, 1 as the spec says; its
            content turns clockwise.

    Raises:
        ValueError: The codec is of another kind.
    """

    def __init__(self, spec: PoseSpec, views: Sequence[tuple[float, float]]) -> None:
        to_input = spec.codec.output_to_input(spec.input_size)
        if to_input is None:
            raise ValueError(
                f"scales, rotations: several crops cannot be averaged with the codec {spec.codec.kind}; give one scale "
                "and no rotation"
            )
        self.spec, self.views = spec, tuple(views)
        height, width = spec.input_size
        # Where crops have their centre: see `fastpose.geometry.crop_matrices`.
        middle = np.array([width - 1, height - 1]) / 2 if spec.udp else np.array([width, height]) / 2
        self._turns = np.stack([_about(middle, 1 / scale, degrees) for scale, degrees in self.views])
        self._sampling = (*self._find_sampling(to_input), torch.tensor(spec.skeleton.flip_index))
        self._on: dict[torch.device, tuple[Tensor, ...]] = {}

    def __len__(self) -> int:
        return len(self.views)

    def matrices(self, matrices: NDArray[np.float64]) -> NDArray[np.float64]:
        """Matrices photo → view of M people, from those of their ordinary crops.

        Args:
            matrices: float64 [M, 2, 3], photo → crop.

        Returns:
            float64 [V * M, 2, 3]: everybody in the first view, then in the second, ….
        """
        whole = np.concatenate([matrices, np.broadcast_to([[[0.0, 0.0, 1.0]]], (len(matrices), 1, 3))], 1)
        return (self._turns[:, None] @ whole[None]).reshape(-1, 3, 3)[:, :2]

    def merge(self, maps: Tensor, flipped: Tensor | None = None) -> Tensor:
        """The average heatmaps of M people, at the pixels of their ordinary crops.

        A view counts only where it shows something.

        Args:
            maps: [V * M, K, h, w], in the order of :meth:`matrices`.
            flipped: The same for the mirrored views, to be averaged with.

        Returns:
            float32 [M, K, h, w].
        """
        maps = maps.float()
        # Sent once, as a GPU is waited for each time.
        if maps.device not in self._on:
            self._on[maps.device] = tuple(each.to(maps.device) for each in self._sampling)
        grids, covered, mirror = self._on[maps.device]
        if flipped is not None:
            maps = (maps + self.spec.codec.unmirror(flipped.float(), mirror, self.spec.input_size)) / 2
        people = len(maps) // len(self)
        total = torch.zeros_like(maps[:people])
        for part, grid in zip(maps.split(people), grids, strict=True):
            places = grid.expand(people, *grid.shape)
            total += F.grid_sample(part, places, mode="bilinear", padding_mode="zeros", align_corners=True)
        return total / covered

    def _find_sampling(self, to_input: NDArray[np.float64]) -> tuple[Tensor, Tensor]:
        """Where each pixel of the average lies in each view ([V, h, w, 2], from -1 to 1), and how many cover it."""
        _, height, width = self.spec.codec.output_shape(1, self.spec.input_size)
        x, y = np.meshgrid(np.arange(width), np.arange(height))
        pixels = np.stack([x, y, np.ones_like(x)], -1).astype(np.float64)
        sides = np.array([max(width - 1, 1), max(height - 1, 1)])
        grids = []
        covered = torch.zeros(height, width)
        for turn in self._turns:
            places = pixels @ (np.linalg.inv(to_input) @ turn @ to_input).T
            grid = torch.from_numpy(2 * places[..., :2] / sides - 1).float()
            grids.append(grid)
            ones = torch.ones(1, 1, height, width)
            covered += F.grid_sample(ones, grid[None], mode="bilinear", padding_mode="zeros", align_corners=True)[0, 0]
        return torch.stack(grids), covered.clamp(min=1e-6)


def build_views(
    spec: PoseSpec, scales: Sequence[float] = (1.0,), rotations: Sequence[float] = (0.0,)
) -> ViewAverage | None:
    """Views of every scale at every rotation; None where that is the ordinary crop alone.

    Args:
        spec: Of the model.
        scales: Of the region that a crop shows, 0.25 to 4; 1 is the spec's.
        rotations: Degrees, -180 to 180.

    Returns:
        The views, or None.

    Raises:
        ValueError: A list is empty, a number is out of range or there twice, or the codec has no plain heatmaps.
    """
    for name, values, low, high in (("scales", scales, _SMALLEST, _LARGEST), ("rotations", rotations, -180.0, 180.0)):
        if not len(values) or len(set(values)) != len(values) or not all(low <= value <= high for value in values):
            raise ValueError(f"{name}: expected different numbers from {low:g} to {high:g}, got {list(values)}")
    views = [(float(scale), float(degrees)) for scale in scales for degrees in rotations]
    return None if views == [(1.0, 0.0)] else ViewAverage(spec, views)


def _about(middle: NDArray[np.float64], factor: float, degrees: float) -> NDArray[np.float64]:
    """[3, 3]: scaled and turned clockwise about a point."""
    angle = np.deg2rad(degrees)
    linear = factor * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    matrix = np.eye(3)
    matrix[:2, :2], matrix[:2, 2] = linear, middle - linear @ middle
    return matrix
