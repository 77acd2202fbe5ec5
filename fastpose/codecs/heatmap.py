"""What the codecs of heatmaps have in common."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..checks import Size, check_size
from ..ops import heatmap_decode, heatmap_encode, heatmap_loss
from ..ops._codec import check_codec, encode_scale
from ..ops._native import Array
from ..ops.reference.heatmap_decode import merge_flipped
from .codec import LossFunction
from .losses import adaptive_wing, loss_options

__all__ = ["HeatmapCodec"]


@dataclass(frozen=True)
class HeatmapCodec:
    """One map a keypoint, or three; each codec says which, and what is particular to it.

    Attributes:
        heatmap_size: (height, width) of the maps.
        kind: Name of the codec, also that by which the heatmap ops know it.
        takes: What a network has to give.
        needs_core: Whether training on CUDA needs a native core that was built with it.
        maps_per_keypoint: Channels of the network's output for each keypoint.
        shifts_mirror: Whether the mirrored input's maps move right by one pixel before they are averaged with the
            others. In an ordinary crop a map's pixel i stands for the input's pixel i times the stride, counted from
            the left; in the mirror it is counted from the right. UDP and Megvii have no such difference.
        pixel_shift: How far right of and below its own place, in map pixels, lies what a map's pixel stands for.
    """

    heatmap_size: Size

    kind: ClassVar[str]
    takes: ClassVar[str] = "maps"
    needs_core: ClassVar[bool] = True
    tells_visibility: ClassVar[bool] = False
    maps_per_keypoint: ClassVar[int] = 1
    shifts_mirror: ClassVar[bool] = True
    pixel_shift: ClassVar[float] = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "heatmap_size", check_size("codec.heatmap_size", self.heatmap_size))

    def check(self, input_size: Size) -> None:
        """Refuses an input size for which the codec is not defined.

        Args:
            input_size: (height, width) of the network's input, pixels.

        Raises:
            ValueError: It does not suit the maps' size, or a parameter is out of the native core's range.
        """
        check_codec(self, input_size)

    def output_channels(self, num_keypoints: int) -> int:
        """Maps that a network gives for this many keypoints."""
        return num_keypoints * self.maps_per_keypoint

    def output_shape(self, num_keypoints: int, input_size: Size) -> tuple[int, ...]:
        """Shape of a network's output for one crop: (channels, height, width)."""
        return self.output_channels(num_keypoints), *self.heatmap_size

    def accepts(self, output: Tensor, num_keypoints: int, input_size: Size) -> bool:
        """Whether a network's output [B,C,h,w] has the shape that the codec decodes."""
        return tuple(output.shape[1:]) == self.output_shape(num_keypoints, input_size)

    def resized(self, old: Size, new: Size, *, exact: bool = True) -> HeatmapCodec:
        """The codec for another input size: the maps keep their ratio to the input.

        Args:
            old: (height, width) of the input up to now.
            new: That from now on.
            exact: Refuse a size that gives no whole map pixels; otherwise round.

        Raises:
            ValueError: It gives no whole map pixels.
        """
        sizes = zip(new, old, self.heatmap_size, strict=True)
        if exact and any(side * heat % before for side, before, heat in sizes):
            ratio = f"{self.heatmap_size[0]}x{self.heatmap_size[1]} from {old[0]}x{old[1]}"
            raise ValueError(f"input_size: {new[0]}x{new[1]} gives no whole heatmap pixels at the ratio of {ratio}")
        height, width = (
            max(1, round(side * heat / before)) for side, before, heat in zip(new, old, self.heatmap_size, strict=True)
        )
        return dataclasses.replace(self, heatmap_size=(height, width))

    def encode(
        self, keypoints: Array, visible: Array, input_size: Size, *, joint_weights: Any = None
    ) -> tuple[Array, Array]:
        """The target of a batch of poses.

        Args:
            keypoints: [B,K,2] float32 (x, y), input pixels.
            visible: [B,K]; below 0.5 means not labelled.
            input_size: (height, width) of the network's input, pixels.
            joint_weights: [K] factors on the weights.

        Returns:
            Heatmaps [B,C,h,w] float32 with C = ``output_channels(K)``, and loss weights [B,K] float32.
        """
        return heatmap_encode(keypoints, visible, self, input_size, joint_weights=joint_weights)

    def make_loss(
        self, input_size: Size, hardest: int | None = None, *, kind: str | None = None, **options: Any
    ) -> LossFunction:
        """The loss of one stage: mean squared error, without a target map in memory; or another one, with it.

        Args:
            input_size: (height, width) of the network's input, pixels.
            hardest: Count only so many keypoints of each person, those with the largest loss.
            kind: ``mse`` or ``adaptive_wing``.
            options: Of ``adaptive_wing``: ``alpha``, ``omega``, ``epsilon``, ``theta``.

        Returns:
            A function of maps [B,C,h,w], keypoints [B,K,2] in input pixels and weights [B,K], to a scalar.

        Raises:
            ValueError: The loss or an option is unknown, or goes with neither ``hardest`` nor several maps a keypoint.
        """
        wing = {"alpha": 2.1, "omega": 14.0, "epsilon": 1.0, "theta": 0.5}
        name, values = loss_options(kind, options, {"mse": {}, "adaptive_wing": wing})
        if name == "adaptive_wing" and (hardest is not None or self.maps_per_keypoint != 1):
            raise ValueError("kind: adaptive_wing goes with one map a keypoint, and without hardest")

        def loss(maps: Tensor, keypoints: Tensor, weights: Tensor) -> Tensor:
            if name == "mse":
                return heatmap_loss(maps.float(), keypoints, weights, self, input_size, ohkm_topk=hardest)
            target, inside = self.encode(keypoints, (weights > 0).float(), input_size)
            return adaptive_wing(maps.float(), torch.as_tensor(target), torch.as_tensor(inside) * weights, **values)

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
            output: [B,C,h,w] heatmaps.
            input_size: (height, width) of the network's input, pixels.
            flipped: The output for the mirrored input, to be averaged with.
            flip_index: [K] keypoint that each keypoint becomes in a mirror; needed with ``flipped``.
            inverse: [B,2,3] crop pixels to source pixels.

        Returns:
            Keypoints [B,K,2] float32 in input pixels (source pixels with ``inverse``), scores [B,K] float32.
        """
        return heatmap_decode(
            output,
            self,
            input_size,
            flipped=flipped,
            flip_index=flip_index,
            flip_shift=self.shifts_mirror and flipped is not None,
            inverse=inverse,
        )

    def unmirror(self, output: Tensor, flip_index: Sequence[int] | Tensor, input_size: Size) -> Tensor:
        """The mirrored input's maps, as if the input had not been mirrored.

        Args:
            output: [B,C,h,w].
            flip_index: [K] keypoint that each keypoint becomes in a mirror.
            input_size: (height, width) of the network's input, pixels.

        Returns:
            The same shape, a new tensor.
        """
        return merge_flipped(output, self, flip_index, self.shifts_mirror)

    def output_to_input(self, input_size: Size) -> NDArray[np.float64] | None:
        """Where in the input the pixels of the maps lie, for those who move maps from one crop to another.

        Args:
            input_size: (height, width) of the network's input, pixels.

        Returns:
            float64 [3,3], map pixels (x, y, 1) to input pixels; None where maps cannot be moved.
        """
        if self.maps_per_keypoint != 1:  # offsets would have to be turned, too
            return None
        x, y = encode_scale(self, input_size)
        return np.array([[x, 0, self.pixel_shift * x], [0, y, self.pixel_shift * y], [0, 0, 1]])
