"""What everybody may ask of a codec."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ..checks import Size
from ..ops._native import Array

__all__ = ["Codec", "LossFunction"]

LossFunction = Callable[[Any, Tensor, Tensor], Tensor]
"""From a stage's output, keypoints [B,K,2] in input pixels and weights [B,K] to a scalar."""


class Codec(Protocol):
    """How keypoints become a target, and how they come back from a network's output.

    A codec is a frozen dataclass of its parameters; nobody outside asks for its kind. A new one is a new file in this
    folder and a line in `fastpose.codecs.CODECS`.

    Attributes:
        kind: Its name.
        takes: What a network has to give: ``maps`` [B,C,h,w], ``coordinates`` [B,K,2 or 4], ``vectors`` [B,K,Wx] and
            [B,K,Wy], or ``integral``, coordinates beside the maps that they are the means of; heads say what they give
            by the same words.
        needs_core: Whether training on CUDA needs a native core that was built with it.
        tells_visibility: Whether decoding says how visible keypoints are, too: then there is ``decode_visible``, which
            gives keypoints, scores and visibility [B,K].
    """

    kind: ClassVar[str]
    takes: ClassVar[str]
    needs_core: ClassVar[bool]

    @property
    def tells_visibility(self) -> bool: ...  # noqa: D102

    def check(self, input_size: Size) -> None:
        """Refuses, by a ValueError, an input size (height, width) for which the codec is not defined."""

    def output_channels(self, num_keypoints: int) -> int:
        """Channels of a network's output for this many keypoints."""

    def output_shape(self, num_keypoints: int, input_size: Size) -> tuple[Any, ...]:
        """Shape of a network's output for one crop of that (height, width); several shapes where it is several."""

    def accepts(self, output: Any, num_keypoints: int, input_size: Size) -> bool:
        """Whether a network's output [B, …] for crops of that (height, width) has the shape that the codec decodes."""

    def resized(self, old: Size, new: Size, *, exact: bool = True) -> Codec:
        """The codec when the input's size changes from ``old`` to ``new``; a ValueError where that cannot be."""

    def encode(
        self, keypoints: Array, visible: Array, input_size: Size, *, joint_weights: Any = None
    ) -> tuple[Any, Array]:
        """Target and loss weights [B,K] of keypoints [B,K,2] (x, y) in input pixels, and of visible [B,K]."""

    def make_loss(
        self, input_size: Size, hardest: int | None = None, *, kind: str | None = None, **options: Any
    ) -> LossFunction:
        """The loss of one stage, of only the ``hardest`` keypoints of each person where that is given.

        ``kind`` names one of the codec's losses, the first where it is None, and ``options`` are values of it; a
        ValueError lists what there is.
        """

    def decode(
        self,
        output: Any,
        input_size: Size,
        *,
        flipped: Any = None,
        flip_index: Sequence[int] | Tensor | None = None,
        inverse: Any = None,
    ) -> tuple[Array, Array]:
        """Keypoints [B,K,2] (x, y) and scores [B,K] float32 of an output, averaged with that of the mirrored input.

        In input pixels; in those of the photo where ``inverse`` [B,2,3] says how crops lie in it.
        """

    def unmirror(self, output: Any, flip_index: Sequence[int] | Tensor, input_size: Size) -> Any:
        """The mirrored input's output, as if the input had not been mirrored; of new tensors."""

    def output_to_input(self, input_size: Size) -> NDArray[np.float64] | None:
        """[3,3] from the output's pixels to those of the input; None where outputs of several crops have no mean."""
