"""Integral regression: coordinates that are the means of maps, which learn a distribution beside them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..checks import Size, check_bool, check_number, check_size
from ..ops._native import Array
from .codec import LossFunction
from .gaussian import Gaussian
from .losses import COORDINATE_LOSSES, coordinate_loss, jensen_shannon, loss_options
from .regression import Regression

__all__ = ["Integral"]

Pair = tuple[Array, Array]

_COORDINATES = Regression()


@dataclass(frozen=True)
class Integral:
    """Sun et al., "Integral Human Pose Regression", ECCV 2018; with its maps' loss, DSNT (Nibali et al., 2018).

    Attributes:
        heatmap_size: (height, width) of the maps.
        sigma: Standard deviation of the maps' target, heatmap pixels.
        normalized: Whether each target map sums to 1.

    Example:
        >>> import numpy as np
        >>> codec = Integral((64, 64))
        >>> (points, maps), weights = codec.encode(np.float32([[[64, 32]]]), np.ones((1, 1), np.float32), (256, 256))
        >>> points.tolist(), maps.shape, round(float(maps.sum()), 4)
        ([[[0.25, 0.125]]], (1, 1, 64, 64), 1.0)
    """

    heatmap_size: Size
    sigma: float = 2.0
    normalized: bool = True

    kind: ClassVar[str] = "integral"
    takes: ClassVar[str] = "integral"
    needs_core: ClassVar[bool] = True
    tells_visibility: ClassVar[bool] = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "heatmap_size", check_size("codec.heatmap_size", self.heatmap_size))
        object.__setattr__(self, "sigma", check_number("codec.sigma", self.sigma, above=0))
        check_bool("codec.normalized", self.normalized)

    @property
    def maps(self) -> Gaussian:
        """The codec of the maps alone."""
        return Gaussian(self.heatmap_size, sigma=self.sigma)

    def check(self, input_size: Size) -> None:
        """Refuses, by a ValueError, an input size for which the codec is not defined."""
        self.maps.check(input_size)

    def output_channels(self, num_keypoints: int) -> int:
        """Maps that a network gives for this many keypoints."""
        return num_keypoints

    def output_shape(self, num_keypoints: int, input_size: Size) -> tuple[Any, ...]:
        """Shapes of a network's output for one crop: (K, 2) and (K, height, width)."""
        return (num_keypoints, 2), (num_keypoints, *self.heatmap_size)

    def accepts(self, output: Any, num_keypoints: int, input_size: Size) -> bool:
        """Whether a network's output ([B,K,2], [B,K,h,w]) has the shapes that the codec decodes."""
        return tuple(tuple(part.shape[1:]) for part in output) == self.output_shape(num_keypoints, input_size)

    def resized(self, old: Size, new: Size, *, exact: bool = True) -> Integral:
        """The codec for another input size: the maps keep their ratio to the input; a ValueError where they cannot."""
        return dataclasses.replace(self, heatmap_size=self.maps.resized(old, new, exact=exact).heatmap_size)

    def encode(
        self, keypoints: Array, visible: Array, input_size: Size, *, joint_weights: Any = None
    ) -> tuple[Pair, Array]:
        """The target of a batch of poses.

        Args:
            keypoints: [B,K,2] (x, y), input pixels.
            visible: [B,K]; 0.5 and below means not labelled.
            input_size: (height, width) of the network's input, pixels.
            joint_weights: [K] factors on the weights.

        Returns:
            Fractions [B,K,2] and maps [B,K,h,w] float32, and loss weights [B,K] float32, 0 where the keypoint is not
            labelled or lies outside the input.
        """
        points, weights = _COORDINATES.encode(keypoints, visible, input_size, joint_weights=joint_weights)
        maps, _ = self.maps.encode(keypoints, visible, input_size)
        if self.normalized:
            maps = maps / (maps.sum(-1).sum(-1)[..., None, None] + 1e-24)
        return (points, maps), weights

    def make_loss(
        self, input_size: Size, hardest: int | None = None, *, kind: str | None = None, **options: Any
    ) -> LossFunction:
        """The loss: of the coordinates, smooth L1, and of the maps, Jensen-Shannon divergence.

        Args:
            input_size: (height, width) of the network's input, pixels.
            hardest: Has no meaning here.
            kind: ``js``; ``mse``, the maps' mean squared error instead; or ``coordinates``, without the maps.
            options: ``coordinates``: name of the coordinates' loss.

        Returns:
            A function of ([B,K,2], [B,K,h,w]), keypoints [B,K,2] in input pixels and weights [B,K], to a scalar.

        Raises:
            ValueError: ``hardest`` is given, or the loss or an option is unknown.
        """
        if hardest is not None:
            raise ValueError("hardest: goes with heatmaps alone, and this network gives coordinates")
        named = {"coordinates": "smooth_l1"}
        name, values = loss_options(kind, options, {"js": named, "mse": named, "coordinates": named})
        loss_options(values["coordinates"], {}, {key: {} for key in COORDINATE_LOSSES})

        def loss(output: tuple[Tensor, Tensor], keypoints: Tensor, weights: Tensor) -> Tensor:
            points, maps = (part.float() for part in output)
            (target, wanted), inside = self.encode(keypoints, (weights > 0).float(), input_size)
            factors = torch.as_tensor(inside) * weights
            total = coordinate_loss(values["coordinates"], points, torch.as_tensor(target), factors)
            if name == "js":
                total = total + jensen_shannon(maps, torch.as_tensor(wanted), factors)
            elif name == "mse":
                squares = (maps - torch.as_tensor(wanted)).square() * factors[..., None, None]
                total = total + squares.sum() / max(squares.numel(), 1)
            return total

        return loss

    def decode(
        self,
        output: Pair,
        input_size: Size,
        *,
        flipped: Pair | None = None,
        flip_index: Sequence[int] | Tensor | None = None,
        inverse: Any = None,
    ) -> tuple[Array, Array]:
        """The keypoints in a network's output: those of its coordinates, see `Regression.decode`."""
        mirrored = None if flipped is None else flipped[0]
        return _COORDINATES.decode(output[0], input_size, flipped=mirrored, flip_index=flip_index, inverse=inverse)

    def unmirror(
        self, output: tuple[Tensor, Tensor], flip_index: Sequence[int] | Tensor, input_size: Size
    ) -> tuple[Tensor, Tensor]:
        """The mirrored input's output, as if the input had not been mirrored; new tensors."""
        return (
            _COORDINATES.unmirror(output[0], flip_index, input_size),
            self.maps.unmirror(output[1], flip_index, input_size),
        )

    def output_to_input(self, input_size: Size) -> NDArray[np.float64] | None:
        """None: what several crops say is not averaged."""
        return None
