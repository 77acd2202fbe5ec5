"""The codec whose target are the coordinates themselves, as fractions of the input's size."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..ops._native import Array
from ..spec import CodecSpec

__all__ = ["RegressionCodec"]


class RegressionCodec:
    """Coordinates divided by the input's width and height (DeepPose, RLE).

    Attributes:
        spec: A CodecSpec of kind ``regression``.
        input_size: (height, width) of the network's input, pixels.
    """

    def __init__(self, spec: CodecSpec, input_size: tuple[int, int]) -> None:
        """Binds a spec to an input size.

        Args:
            spec: Kind ``regression``.
            input_size: (height, width), pixels.

        Raises:
            ValueError: Another kind, or sides below one pixel.
        """
        if spec.kind != "regression":
            raise ValueError(f"spec: expected the kind 'regression', got {spec.kind!r}")
        if len(input_size) != 2 or input_size[0] < 1 or input_size[1] < 1:
            raise ValueError(f"input_size: expected (height, width) of at least 1 pixel, got {tuple(input_size)}")
        self.spec = spec
        self.input_size = (int(input_size[0]), int(input_size[1]))

    def __repr__(self) -> str:
        return f"RegressionCodec(input_size={self.input_size})"

    def output_channels(self, num_keypoints: int) -> int:
        """Coordinates of a network's output for this many keypoints (without deviations)."""
        return 2 * num_keypoints

    def encode(self, keypoints: Array, visible: Array, *, joint_weights: Any = None) -> tuple[Array, Array]:
        """The target of a batch of poses.

        Args:
            keypoints: [B,K,2] (x, y), input pixels.
            visible: [B,K]; 0.5 and below means not labelled.
            joint_weights: [K] factors on the weights.

        Returns:
            Fractions [B,K,2] float32 and loss weights [B,K] float32, 0 where the keypoint is not labelled or lies
            outside the pixels of the input.

        Raises:
            ValueError: A shape does not fit.
        """
        points, level = _tensor("keypoints", keypoints).float(), _tensor("visible", visible)
        if points.ndim != 3 or points.shape[-1] != 2:
            raise ValueError(f"keypoints: expected shape [B, K, 2], got {list(points.shape)}")
        if level.shape != points.shape[:2]:
            raise ValueError(f"visible: expected shape {list(points.shape[:2])}, got {list(level.shape)}")
        height, width = self.input_size
        x, y = points.unbind(-1)  # numbers on the device would have to be sent there, and waited for
        inside = (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)
        weights = (inside & (level > 0.5)).float()
        if joint_weights is not None:
            weights = weights * torch.as_tensor(joint_weights, dtype=torch.float32, device=weights.device)
        target = torch.nan_to_num(torch.stack([x / width, y / height], -1), nan=0.0, posinf=0.0, neginf=0.0)
        return _like(keypoints, target), _like(keypoints, weights)

    def decode(
        self,
        output: Array,
        *,
        flipped: Array | None = None,
        flip_index: Sequence[int] | None = None,
        flip_shift: bool = False,
        inverse: Any = None,
    ) -> tuple[Array, Array]:
        """The keypoints in a network's output.

        Args:
            output: [B,K,2] fractions, or [B,K,4] fractions and their deviations.
            flipped: The output for the mirrored input, to be averaged with.
            flip_index: [K] keypoint that each keypoint becomes in a mirror; needed with ``flipped``.
            flip_shift: The mirrored coordinates move left by one pixel first.
            inverse: [B,2,3] crop pixels to source pixels.

        Returns:
            Keypoints [B,K,2] float32 in input pixels (source pixels with ``inverse``), and scores [B,K] float32: 1, or
            one minus the mean deviation.

        Raises:
            ValueError: A shape does not fit, or ``flipped`` came without ``flip_index``.
        """
        values = _tensor("output", output).detach().float()
        if values.ndim != 3 or values.shape[-1] not in (2, 4):
            raise ValueError(f"output: expected shape [B, K, 2] or [B, K, 4], got {list(values.shape)}")
        height, width = self.input_size
        if flipped is not None:
            if flip_index is None:
                raise ValueError("flip_index: expected [K] indices together with flipped, got None")
            mirrored = _tensor("flipped", flipped).detach().float()
            if mirrored.shape != values.shape:
                raise ValueError(f"flipped: expected shape {list(values.shape)}, got {list(mirrored.shape)}")
            mirrored = mirrored[:, torch.as_tensor(flip_index, device=values.device)].clone()
            mirrored[..., 0] = 1 - mirrored[..., 0] - (1 / width if flip_shift else 0)
            values = (values + mirrored) * 0.5
        points = torch.stack([values[..., 0] * width, values[..., 1] * height], -1)
        scores = 1 - values[..., 2:].mean(-1) if values.shape[-1] == 4 else torch.ones_like(values[..., 0])
        if inverse is not None:
            matrices = torch.as_tensor(inverse, dtype=torch.float64, device=points.device)
            if matrices.shape != (len(points), 2, 3):
                raise ValueError(f"inverse: expected shape {[len(points), 2, 3]}, got {list(matrices.shape)}")
            points = (points.double() @ matrices[..., :2].mT + matrices[:, None, :, 2]).float()
        return _like(output, points), _like(output, scores)


def _tensor(name: str, value: Array) -> Tensor:
    if isinstance(value, np.ndarray):
        return torch.as_tensor(np.ascontiguousarray(value))
    if not isinstance(value, Tensor):
        raise TypeError(f"{name}: expected a NumPy array or a tensor, got {type(value).__name__}")
    return value


def _like(given: Array, value: Tensor) -> Array:
    return value if isinstance(given, Tensor) else value.numpy()
