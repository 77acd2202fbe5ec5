"""From crops to keypoints: the only place where that happens. What is published as a model's AP is what users run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .engines import Clock, Engine
from .geometry import invert_matrices
from .models.output import map_stage
from .spec import PoseSpec
from .views import ViewAverage

__all__ = ["Crop", "Estimates", "Estimator", "Pending"]

Array = NDArray[Any]

Crop = Callable[[NDArray[np.float64], bool, Tensor | None], Tensor]
"""Cuts crops: from matrices [M,2,3] photo → crop, whether the M mirrored crops shall follow, and where to put them
([M or 2M, h, w, 3], or None), to [M or 2M, 3, h, w]."""


@dataclass(frozen=True)
class Estimates:
    """What was found in the crops of N people.

    Attributes:
        keypoints: float32 [N,K,2] (x, y), pixels of the photo.
        scores: float32 [N,K].
        visibility: float32 [N,K], probability that a keypoint can be seen; None where the network does not say.
        milliseconds: Time by stage: crop, network, decode.
    """

    keypoints: Array
    scores: Array
    visibility: Array | None
    milliseconds: dict[str, float]


@dataclass
class Pending:
    """A batch under way.

    Attributes:
        held: What the device still reads.
    """

    _results: list[Tensor | None]
    _clock: Clock
    held: list[Any] = field(default_factory=list)

    def read(self) -> Estimates:
        """The results; waits until they are there."""
        times = self._clock.milliseconds()
        keypoints, scores, visibility = (None if values is None else values.numpy() for values in self._results)
        return Estimates(cast(Array, keypoints), cast(Array, scores), visibility, times)


class Estimator:
    """Crops → network → mirrored crops and views merged → keypoints, for one network.

    Args:
        engine: Runs the network.
        spec: What the network reads and gives.
    """

    def __init__(self, engine: Engine, spec: PoseSpec) -> None:
        self.engine, self.spec = engine, spec
        self._mirror = torch.tensor(spec.skeleton.flip_index, device=engine.device)

    @torch.inference_mode()
    def submit(
        self,
        crop: Crop,
        matrices: NDArray[np.float64],
        *,
        flip: bool,
        views: ViewAverage | None = None,
        most: int | None = None,
        held: Sequence[Any] = (),
    ) -> Pending:
        """Have the keypoints of a batch of people found; on CUDA without waiting for them.

        Args:
            crop: Makes the crops.
            matrices: float64 [N,2,3], photo → ordinary crop, of N people, at least one.
            flip: Average with the mirrored crops.
            views: Average over these crops of each person.
            most: People in a full batch.
            held: What must stay until the results are read.

        Returns:
            The batch under way.
        """
        people, engine = len(matrices), self.engine
        inverse = engine.send(torch.from_numpy(invert_matrices(matrices)))
        to_crop = views.matrices(matrices) if views else matrices
        count = len(to_crop)
        each = count // people * (2 if flip else 1)
        with engine.turn():
            clock = Clock(engine.device)

            def fill(out: Tensor | None) -> Tensor:
                crops = crop(to_crop, flip, out)
                clock.lap("crop")
                return crops

            output = engine.run(each * people, each * (most or people), fill)
            stage, visibility = map_stage(Tensor.float, output.last), output.visibility
            clock.lap("network")
            straight = map_stage(lambda values: values[:count], stage)
            flipped = map_stage(lambda values: values[count:], stage) if flip else None
            if visibility is not None and flip:
                visibility = (visibility[:count] + visibility[count:, self._mirror]) / 2
            if views:
                straight, flipped = views.merge(cast(Tensor, straight), cast("Tensor | None", flipped)), None
                visibility = None if visibility is None else visibility.unflatten(0, (len(views), -1)).mean(0)
            codec = self.spec.codec
            decode = cast(Any, codec).decode_visible if codec.tells_visibility else codec.decode
            keypoints, scores, *told = decode(
                straight,
                self.spec.input_size,
                flipped=flipped,
                flip_index=None if flipped is None else self._mirror,
                inverse=inverse,
            )
            if told:
                visibility = told[0]
            found = (keypoints, scores, None if visibility is None else visibility.float())
            results = [None if values is None else engine.fetch(torch.as_tensor(values)) for values in found]
            clock.lap("decode")
        return Pending(results, clock, [inverse, *held])
