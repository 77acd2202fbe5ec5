"""The codecs whose target is a heatmap: Gaussian (MSRA), DARK, UDP, UDP combined, Megvii."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..ops import heatmap_decode, heatmap_encode
from ..ops._codec import check_codec
from ..ops._native import Array
from ..spec import CodecSpec

__all__ = ["HeatmapCodec"]


class HeatmapCodec:
    """Encode and decode of one kind of heatmap; a thin object over :mod:`fastpose.ops`.

    Attributes:
        spec: Kind and parameters.
        input_size: (height, width) of the network's input, pixels.
    """

    def __init__(self, spec: CodecSpec, input_size: tuple[int, int]) -> None:
        """Binds a spec to an input size.

        Args:
            spec: A kind with heatmaps.
            input_size: (height, width), pixels.

        Raises:
            TypeError: ``spec`` is not a CodecSpec.
            ValueError: The kind has no heatmaps, or the sizes do not fit it.
        """
        check_codec(spec, input_size)
        self.spec = spec
        self.input_size = (int(input_size[0]), int(input_size[1]))

    def __repr__(self) -> str:
        return f"HeatmapCodec({self.spec}, input_size={self.input_size})"

    def output_channels(self, num_keypoints: int) -> int:
        """Channels of a network's output for this many keypoints."""
        return self.spec.output_channels(num_keypoints)

    def encode(self, keypoints: Array, visible: Array, *, joint_weights: Any = None) -> tuple[Array, Array]:
        """The target of a batch of poses.

        Args:
            keypoints: [B,K,2] float32 (x, y), input pixels.
            visible: [B,K]; below 0.5 means not labelled.
            joint_weights: [K] factors on the weights.

        Returns:
            Heatmaps [B,C,h,w] float32 with C = ``output_channels(K)``, and loss weights [B,K] float32.
        """
        return heatmap_encode(keypoints, visible, self.spec, self.input_size, joint_weights=joint_weights)

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
            output: [B,C,h,w] heatmaps.
            flipped: The output for the mirrored input, to be averaged with.
            flip_index: [K] keypoint that each keypoint becomes in a mirror; needed with ``flipped``.
            flip_shift: The mirrored heatmaps move right by one pixel first.
            inverse: [B,2,3] crop pixels to source pixels.

        Returns:
            Keypoints [B,K,2] float32 in input pixels (source pixels with ``inverse``), scores [B,K] float32.
        """
        return heatmap_decode(
            output,
            self.spec,
            self.input_size,
            flipped=flipped,
            flip_index=flip_index,
            flip_shift=flip_shift,
            inverse=inverse,
        )
