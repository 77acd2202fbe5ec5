"""The codec whose target are the coordinates themselves, as fractions of the input's size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..checks import Size, check_size
from ..ops._native import Array
from .codec import LossFunction
from .losses import COORDINATE_LOSSES, coordinate_loss, loss_options

__all__ = ["Regression"]


@dataclass(frozen=True)
class Regression:
    """Coordinates divided by the input's width and height (Toshev and Szegedy, "DeepPose", CVPR 2014).

    A network may also say how unsure each coordinate is (Li et al., "Human Pose Regression with Residual
    Log-likelihood Estimation", ICCV 2021).

    Example:
        >>> import numpy as np
        >>> target, weights = Regression().encode(np.float32([[[96, 64]]]), np.ones((1, 1), np.float32), (256, 192))
        >>> target.tolist(), Regression().decode(target, (256, 192))[0].tolist()
        ([[[0.5, 0.25]]], [[[96.0, 64.0]]])
    """

    kind: ClassVar[str] = "regression"
    takes: ClassVar[str] = "coordinates"
    needs_core: ClassVar[bool] = False
    tells_visibility: ClassVar[bool] = False

    def check(self, input_size: Size) -> None:
        """Refuses, by a ValueError, what is no (height, width) of at least one pixel."""
        check_size("input_size", input_size)

    def output_channels(self, num_keypoints: int) -> int:
        """Coordinates of a network's output for this many keypoints (without deviations)."""
        return 2 * num_keypoints

    def output_shape(self, num_keypoints: int, input_size: Size) -> tuple[int, ...]:
        """Shape of a network's output for one crop, without deviations: (K, 2)."""
        return num_keypoints, 2

    def accepts(self, output: Tensor, num_keypoints: int, input_size: Size) -> bool:
        """Whether a network's output [B,K,2 or 4] has the shape that the codec decodes."""
        return tuple(output.shape[1:]) in ((num_keypoints, 2), (num_keypoints, 4))

    def resized(self, old: Size, new: Size, *, exact: bool = True) -> Regression:
        """The same codec: fractions do not change with the input's size."""
        return self

    def encode(
        self, keypoints: Array, visible: Array, input_size: Size, *, joint_weights: Any = None
    ) -> tuple[Array, Array]:
        """The target of a batch of poses.

        Args:
            keypoints: [B,K,2] (x, y), input pixels.
            visible: [B,K]; 0.5 and below means not labelled.
            input_size: (height, width) of the network's input, pixels.
            joint_weights: [K] factors on the weights.

        Returns:
            Fractions [B,K,2] float32 and loss weights [B,K] float32, 0 where the keypoint is not labelled or lies
            outside the pixels of the input.

        Raises:
            TypeError: Neither arrays nor tensors.
            ValueError: A shape does not fit.
        """
        height, width = check_size("input_size", input_size)
        points, level = _tensor("keypoints", keypoints).float(), _tensor("visible", visible)
        if points.ndim != 3 or points.shape[-1] != 2:
            raise ValueError(f"keypoints: expected shape [B, K, 2], got {list(points.shape)}")
        if level.shape != points.shape[:2]:
            raise ValueError(f"visible: expected shape {list(points.shape[:2])}, got {list(level.shape)}")
        x, y = points.unbind(-1)  # numbers on the device would have to be sent there, and waited for
        inside = (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)
        weights = (inside & (level > 0.5)).float()
        if joint_weights is not None:
            weights = weights * torch.as_tensor(joint_weights, dtype=torch.float32, device=weights.device)
        target = torch.nan_to_num(torch.stack([x / width, y / height], -1), nan=0.0, posinf=0.0, neginf=0.0)
        return _like(keypoints, target), _like(keypoints, weights)

    def make_loss(
        self, input_size: Size, hardest: int | None = None, *, kind: str | None = None, **options: Any
    ) -> LossFunction:
        """The loss: mean smooth L1 distance over all coordinates, both sides multiplied by the weight; or another one.

        Networks with deviations have a loss of their own, which is part of their head.

        Args:
            input_size: (height, width) of the network's input, pixels.
            hardest: Has no meaning here.
            kind: A name of `fastpose.codecs.losses.COORDINATE_LOSSES`: ``smooth_l1``, ``l1``, ``mse``, ``wing``,
                ``soft_wing``.
            options: Its values.

        Returns:
            A function of fractions [B,K,2], keypoints [B,K,2] in input pixels and weights [B,K], to a scalar.

        Raises:
            ValueError: ``hardest`` is given, or the loss or an option is unknown.
        """
        if hardest is not None:
            raise ValueError("hardest: goes with heatmaps, and this network gives coordinates")
        defaults = {key: given for key, (_, given) in COORDINATE_LOSSES.items()}
        name, values = loss_options(kind, options, defaults)

        def loss(output: Tensor, keypoints: Tensor, weights: Tensor) -> Tensor:
            target, inside = (torch.as_tensor(value) for value in self.encode(keypoints, weights > 0, input_size))
            return coordinate_loss(name, output.float(), target, inside * weights, **values)

        return loss

    def decode(
        self,
        output: Array,
        input_size: Size,
        *,
        flipped: Array | None = None,
        flip_index: Sequence[int] | Tensor | None = None,
        inverse: Any = None,
    ) -> tuple[Array, Array]:
        """The keypoints in a network's output.

        Args:
            output: [B,K,2] fractions, or [B,K,4] fractions and their deviations before a sigmoid.
            input_size: (height, width) of the network's input, pixels.
            flipped: The output for the mirrored input, to be averaged with.
            flip_index: [K] keypoint that each keypoint becomes in a mirror; needed with ``flipped``.
            inverse: [B,2,3] crop pixels to source pixels.

        Returns:
            Keypoints [B,K,2] float32 in input pixels (source pixels with ``inverse``), and scores [B,K] float32: 1, or
            one minus the mean deviation.

        Raises:
            TypeError: No array or tensor.
            ValueError: A shape does not fit, or ``flipped`` came without ``flip_index``.
        """
        values = _tensor("output", output).detach().float()
        if values.ndim != 3 or values.shape[-1] not in (2, 4):
            raise ValueError(f"output: expected shape [B, K, 2] or [B, K, 4], got {list(values.shape)}")
        height, width = check_size("input_size", input_size)
        shape, values = values.shape, _with_deviations(values)
        if flipped is not None:
            if flip_index is None:
                raise ValueError("flip_index: expected [K] indices together with flipped, got None")
            mirrored = _tensor("flipped", flipped).detach().float()
            if mirrored.shape != shape:
                raise ValueError(f"flipped: expected shape {list(shape)}, got {list(mirrored.shape)}")
            values = (values + _with_deviations(self.unmirror(mirrored, flip_index, input_size))) * 0.5
        points = torch.stack([values[..., 0] * width, values[..., 1] * height], -1)
        scores = 1 - values[..., 2:].mean(-1) if values.shape[-1] == 4 else torch.ones_like(values[..., 0])
        if inverse is not None:
            matrices = torch.as_tensor(inverse, dtype=torch.float64, device=points.device)
            if matrices.shape != (len(points), 2, 3):
                raise ValueError(f"inverse: expected shape {[len(points), 2, 3]}, got {list(matrices.shape)}")
            points = (points.double() @ matrices[..., :2].mT + matrices[:, None, :, 2]).float()
        return _like(output, points), _like(output, scores)

    def unmirror(self, output: Tensor, flip_index: Sequence[int] | Tensor, input_size: Size) -> Tensor:
        """The mirrored input's output, as if the input had not been mirrored.

        Args:
            output: [B,K,2] or [B,K,4].
            flip_index: [K] keypoint that each keypoint becomes in a mirror.
            input_size: (height, width) of the network's input, pixels.

        Returns:
            The same shape, a new tensor.
        """
        values = output[:, torch.as_tensor(flip_index, device=output.device)].clone()
        values[..., 0] = 1 - values[..., 0] - 1 / input_size[1]  # pixel centres: column x becomes width - 1 - x
        return values

    def output_to_input(self, input_size: Size) -> NDArray[np.float64] | None:
        """None: where one crop shows the left ankle and another one the right one, their mean is neither."""
        return None


def _with_deviations(values: Tensor) -> Tensor:
    """The deviations, if there are any, as numbers from 0 to 1."""
    return values if values.shape[-1] == 2 else torch.cat((values[..., :2], values[..., 2:].sigmoid()), -1)


def _tensor(name: str, value: Array) -> Tensor:
    if isinstance(value, np.ndarray):
        return torch.as_tensor(np.ascontiguousarray(value))
    if not isinstance(value, Tensor):
        raise TypeError(f"{name}: expected a NumPy array or a tensor, got {type(value).__name__}")
    return value


def _like(given: Array, value: Tensor) -> Array:
    return value if isinstance(given, Tensor) else value.numpy()
