"""SimCC: a keypoint is a distribution over the columns of the input and one over its rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..checks import Size, check_bool, check_choice, check_number, check_size
from ..ops import simcc_decode, simcc_encode, simcc_loss
from ..ops._codec import vector_sizes
from ..ops._native import Array
from ..ops.reference.simcc_decode import unmirror_vectors
from .codec import LossFunction
from .losses import loss_options

__all__ = ["SimCC"]

Vectors = tuple[Array, Array]


@dataclass(frozen=True)
class SimCC:
    """Li et al., "SimCC: A Simple Coordinate Classification Perspective for Human Pose Estimation", ECCV 2022.

    Also the codec of RTMPose (Jiang et al., 2023) and RTMW (Jiang et al., 2024).

    Attributes:
        sigma: Standard deviation of the labels along x and y, bins; a number stands for both.
        split_ratio: Bins a pixel of the input.
        smoothing: How a label spreads: ``gaussian``, or ``standard``, where all but the keypoint's bin share
            ``label_smoothing``.
        label_smoothing: Of standard labels: what the other bins have together; 0 leaves one bin.
        normalized: Of Gaussian labels: divided by sigma times the root of 2 pi, else 1 at the keypoint.
        dark: Refine keypoints by a Newton step on the logarithm of the blurred vectors.
        visibility: Tell how visible keypoints are, by how sharp the vectors' peaks are (RTMW).

    Example:
        >>> import numpy as np
        >>> codec = SimCC(sigma=(4.9, 5.66), normalized=False)
        >>> (x, y), weights = codec.encode(np.float32([[[96, 64]]]), np.ones((1, 1), np.float32), (256, 192))
        >>> x.shape, y.shape, codec.decode((x, y), (256, 192))[0].tolist()
        ((1, 1, 384), (1, 1, 512), [[[96.0, 64.0]]])
    """

    sigma: tuple[float, float] = (6.0, 6.0)
    split_ratio: float = 2.0
    smoothing: str = "gaussian"
    label_smoothing: float = 0.0
    normalized: bool = True
    dark: bool = False
    visibility: bool = False

    kind: ClassVar[str] = "simcc"
    takes: ClassVar[str] = "vectors"
    needs_core: ClassVar[bool] = True

    def __post_init__(self) -> None:
        pair: Any = self.sigma
        if isinstance(pair, int | float) and not isinstance(pair, bool):
            pair = (pair, pair)
        if not isinstance(pair, tuple | list) or len(pair) != 2:
            raise ValueError(f"codec.sigma: expected a number, or two, got {self.sigma!r}")
        sigma = tuple(check_number("codec.sigma", value, above=0) for value in pair)
        object.__setattr__(self, "sigma", sigma)
        object.__setattr__(self, "split_ratio", check_number("codec.split_ratio", self.split_ratio, above=0))
        check_choice("codec.smoothing", self.smoothing, ("gaussian", "standard"))
        share = check_number("codec.label_smoothing", self.label_smoothing)
        if not 0 <= share <= 1:
            raise ValueError(f"codec.label_smoothing: expected a number from 0 to 1, got {share}")
        if share and self.smoothing == "gaussian":
            raise ValueError("codec.label_smoothing: goes with smoothing standard, not gaussian")
        object.__setattr__(self, "label_smoothing", share)
        for name in ("normalized", "dark", "visibility"):
            check_bool(f"codec.{name}", getattr(self, name))

    @property
    def tells_visibility(self) -> bool:
        """Whether `visible` says anything."""
        return self.visibility

    def check(self, input_size: Size) -> None:
        """Refuses, by a ValueError, an input size that has not at least one bin along each axis."""
        if min(self.sizes(input_size)) < 1:
            raise ValueError(f"codec.split_ratio: {self.split_ratio} leaves no bins of an input of {input_size}")

    def sizes(self, input_size: Size) -> tuple[int, int]:
        """Bins of the two vectors, (x, y), for an input of (height, width) pixels."""
        return vector_sizes(self, check_size("input_size", input_size))

    def output_channels(self, num_keypoints: int) -> int:
        """Vectors along each axis that a network gives for this many keypoints."""
        return num_keypoints

    def accepts(self, output: Any, num_keypoints: int, input_size: Size) -> bool:
        """Whether a network's output ([B,K,Wx], [B,K,Wy]) has the shapes that the codec decodes."""
        shapes = [tuple(part.shape[1:]) for part in output]
        return shapes == [(num_keypoints, size) for size in self.sizes(input_size)]

    def output_shape(self, num_keypoints: int, input_size: Size) -> tuple[Any, ...]:
        """Shapes of a network's output for one crop: (K, Wx) and (K, Wy)."""
        return tuple((num_keypoints, size) for size in self.sizes(input_size))

    def resized(self, old: Size, new: Size, *, exact: bool = True) -> SimCC:
        """The same codec: bins follow the input's size."""
        return self

    def encode(
        self, keypoints: Array, visible: Array, input_size: Size, *, joint_weights: Any = None
    ) -> tuple[Vectors, Array]:
        """The target of a batch of poses.

        Args:
            keypoints: [B,K,2] (x, y), input pixels.
            visible: [B,K]; below 0.5 means not labelled.
            input_size: (height, width) of the network's input, pixels.
            joint_weights: [K] factors on the weights.

        Returns:
            Vectors [B,K,Wx] and [B,K,Wy] float32, and loss weights [B,K] float32.
        """
        x, y, weights = simcc_encode(keypoints, visible, self, input_size, joint_weights=joint_weights)
        return (x, y), weights

    def make_loss(
        self, input_size: Size, hardest: int | None = None, *, kind: str | None = None, **options: Any
    ) -> LossFunction:
        """The loss: Kullback-Leibler divergence of the vectors from those of the keypoints, averaged over the batch.

        `fastpose.ops.simcc_loss` adds it up over the batch, as MMPose does on each GPU; that sum would depend on how a
        step's crops are divided among batches and processes.

        Args:
            input_size: (height, width) of the network's input, pixels.
            hardest: Has no meaning here.
            kind: ``kl``.
            options: ``beta``, ``label_softmax``, ``label_beta``: see `fastpose.ops.simcc_loss`; ``mask``, indices of
                keypoints, and ``mask_weight``, a factor on their loss.

        Returns:
            A function of vectors ([B,K,Wx], [B,K,Wy]), keypoints [B,K,2] in input pixels and weights [B,K], to a
            scalar.

        Raises:
            ValueError: ``hardest`` is given, or an option is unknown.
        """
        if hardest is not None:
            raise ValueError("hardest: goes with heatmaps, and this network gives vectors")
        defaults = {"beta": 1.0, "label_softmax": False, "label_beta": 10.0, "mask": (), "mask_weight": 1.0}
        _, values = loss_options(kind, options, {"kl": defaults})
        mask, mask_weight = [int(index) for index in values.pop("mask")], float(values.pop("mask_weight"))

        def loss(output: tuple[Tensor, Tensor], keypoints: Tensor, weights: Tensor) -> Tensor:
            factors = None
            if mask:
                factors = torch.ones(weights.shape[1], device=weights.device)
                factors[mask] = mask_weight
            total = simcc_loss(output, keypoints, weights, self, input_size, keypoint_weights=factors, **values)
            return total / max(len(keypoints), 1)

        return loss

    def decode(
        self,
        output: Vectors,
        input_size: Size,
        *,
        flipped: Vectors | None = None,
        flip_index: Sequence[int] | Tensor | None = None,
        inverse: Any = None,
    ) -> tuple[Array, Array]:
        """The keypoints in a network's output.

        Args:
            output: [B,K,Wx] and [B,K,Wy].
            input_size: (height, width) of the network's input, pixels.
            flipped: The output for the mirrored input, to be averaged with.
            flip_index: [K] keypoint that each keypoint becomes in a mirror; needed with ``flipped``.
            inverse: [B,2,3] crop pixels to source pixels.

        Returns:
            Keypoints [B,K,2] float32 in input pixels (source pixels with ``inverse``), scores [B,K] float32.
        """
        points, scores, _ = simcc_decode(
            *output, self, input_size, flipped=flipped, flip_index=flip_index, inverse=inverse
        )
        return points, scores

    def decode_visible(
        self,
        output: Vectors,
        input_size: Size,
        *,
        flipped: Vectors | None = None,
        flip_index: Sequence[int] | Tensor | None = None,
        inverse: Any = None,
    ) -> tuple[Array, Array, Array]:
        """`decode`, and how visible each keypoint is, [B,K] float32 from 0 to 1; for a codec with ``visibility``."""
        found: tuple[Array, Array, Array] = simcc_decode(
            *output, self, input_size, flipped=flipped, flip_index=flip_index, inverse=inverse
        )
        return found

    def unmirror(
        self, output: tuple[Tensor, Tensor], flip_index: Sequence[int] | Tensor, input_size: Size
    ) -> tuple[Tensor, Tensor]:
        """The mirrored input's vectors, as if the input had not been mirrored; new tensors."""
        return unmirror_vectors(*output, torch.as_tensor(flip_index))

    def output_to_input(self, input_size: Size) -> NDArray[np.float64] | None:
        """None: vectors of crops that are turned have no mean."""
        return None
