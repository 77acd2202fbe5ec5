"""What a network gives, whatever its head."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor

__all__ = ["Output", "Stage", "map_stage"]

Stage = Tensor | tuple[Tensor, ...]
"""What one stage gives, as the codec says: maps [B, C, h, w], coordinates [B, K, 2 or 4], or several tensors."""


class Output(NamedTuple):
    """What a network gives for a batch of crops.

    Attributes:
        stages: Of each stage what the codec takes; the last one is the best, and the one that predicts.
        visibility: [B, K], probability that each keypoint is labelled at all; None where the network does not say.
    """

    stages: tuple[Stage, ...]
    visibility: Tensor | None = None

    @property
    def last(self) -> Stage:
        """The stage that predicts."""
        return self.stages[-1]

    def tensors(self) -> list[Tensor]:
        """All of them, stage by stage."""
        stages = [tensor for stage in self.stages for tensor in ((stage,) if isinstance(stage, Tensor) else stage)]
        return stages if self.visibility is None else [*stages, self.visibility]

    def map(self, function: Callable[[Tensor], Tensor]) -> Output:
        """The same with a function of every tensor."""
        visibility = None if self.visibility is None else function(self.visibility)
        return Output(tuple(map_stage(function, stage) for stage in self.stages), visibility)


def map_stage(function: Callable[[Tensor], Tensor], stage: Stage) -> Stage:
    """A stage with a function of each of its tensors."""
    return function(stage) if isinstance(stage, Tensor) else tuple(map(function, stage))
