"""What training minimises: from a network's output and the labels of a batch to one number, for every kind of head."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from fastpose.codecs import change_codec
from fastpose.spec import PoseSpec

from .losses import visibility_loss
from .output import Output


class Loss(Protocol):
    """What training calls: from what the network's forward returned, and the labels of a batch, to a scalar."""

    def __call__(
        self, output: Output, keypoints: Tensor, weights: Tensor, annotated: Tensor | None = None, /
    ) -> Tensor:
        """The loss.

        Args:
            output: What the network's forward returned.
            keypoints: [B, K, 2] (x, y), pixels of the input.
            weights: [B, K] of each label, 0 where there is none.
            annotated: bool [B, K], whether a label would be there if the keypoint could be seen: a data set that never
                labels noses does not make them invisible. All, where None; only a visibility head asks.
        """


@dataclass(frozen=True)
class StageLoss:
    """What one stage of a network adds to the loss.

    Attributes:
        weight: Factor on it.
        hardest: Count only so many keypoints of each person, those with the largest loss; None counts all.
        kernel_size: Side of the blur that makes this stage's target (megvii codec: coarse stages learn blurrier
            targets); the spec's where None.
    """

    weight: float = 1.0
    hardest: int | None = None
    kernel_size: int | None = None

    def __post_init__(self) -> None:
        if not self.weight > 0 or not math.isfinite(self.weight):
            raise ValueError(f"loss.weight: expected a number above 0, got {self.weight!r}")
        if self.hardest is not None and self.hardest < 1:
            raise ValueError(f"loss.hardest: expected at least 1 keypoint, got {self.hardest}")
        if self.kernel_size is not None and (self.kernel_size < 1 or self.kernel_size % 2 == 0):
            raise ValueError(f"loss.kernel_size: expected an odd number, got {self.kernel_size}")


@dataclass(frozen=True)
class LossSettings:
    """The loss of a network; its kind follows from the codec and the head.

    Attributes:
        weight: Factor on the whole. The mean over all pixels of heatmaps is small, which matters for SGD and for
            clipping gradients.
        hardest: `StageLoss.hardest` of every stage where `stages` is empty.
        stages: One for each stage of the network's output, in order; empty: each counts once.
        visibility: Factor on the loss of a visibility head, relative to that of the maps.
        kind: Which of the codec's losses; its first one where None.
        options: Values of that loss which differ from its defaults. Keypoints (``mask``) by name or index.
        absent: Weight of a labelled keypoint that lies outside the crop: its map shall be empty, so that its score is
            low. 0: such a keypoint is not looked at, as in published recipes.
    """

    weight: float = 1.0
    hardest: int | None = None
    stages: tuple[StageLoss, ...] = ()
    visibility: float = 1e-3
    absent: float = 0.0
    kind: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        StageLoss(self.weight, self.hardest)
        if self.stages and self.hardest is not None:
            raise ValueError("loss.hardest: give it in loss.stages, not beside them")
        if not self.visibility >= 0:
            raise ValueError(f"loss.visibility: expected a number of at least 0, got {self.visibility!r}")
        if not 0 <= self.absent < math.inf:
            raise ValueError(f"loss.absent: expected a number of at least 0, got {self.absent!r}")


def build_loss(head: nn.Module, spec: PoseSpec, settings: LossSettings | None = None) -> Loss:
    """The loss that trains a network with this head.

    The codec's loss of every stage, or that of the head where it has one of its own, with weights that are trained
    too (`head.loss_module`); summed over the stages. Visibility: binary cross-entropy beside it.

    Args:
        head: The network's head.
        spec: The network's spec, or one with another input size or sigma for a phase of the training.
        settings: Weights and such.

    Returns:
        The loss, to be called.

    Raises:
        ValueError: The settings do not fit the spec.
    """
    settings = settings or LossSettings()
    stages = settings.stages or (StageLoss(hardest=settings.hardest),) * spec.output_stages
    if len(stages) != spec.output_stages:
        raise ValueError(f"loss.stages: expected one for each of {spec.output_stages} stages, got {len(stages)}")
    factors = [stage.weight * settings.weight for stage in stages]
    functions = [_stage_loss(head, spec, stage, settings) for stage in stages]
    if settings.absent:
        if spec.codec.takes != "maps":
            raise ValueError(f"loss.absent: goes with heatmaps, not with codec {spec.codec.kind}")
        functions = [_with_absent(function, spec, settings.absent) for function in functions]
    visibility = settings.weight * settings.visibility

    def loss(output: Output, keypoints: Tensor, weights: Tensor, annotated: Tensor | None = None) -> Tensor:
        parts = zip(output.stages, functions, factors, strict=True)
        losses = [function(stage, keypoints, weights) * factor for stage, function, factor in parts]
        if output.visibility is not None:
            losses.append(visibility * visibility_loss(output.visibility, weights, annotated))
        total = losses[0]
        for more in losses[1:]:
            total = total + more
        return total

    return loss


def _stage_loss(
    head: nn.Module, spec: PoseSpec, stage: StageLoss, settings: LossSettings
) -> Callable[[Any, Tensor, Tensor], Tensor]:
    try:
        changes = {} if stage.kernel_size is None else {"kernel_size": stage.kernel_size}
        codec = change_codec(spec.codec, **changes)
        options = {**settings.options}
        if "mask" in options:
            options["mask"] = [_keypoint(spec, name) for name in options["mask"]]
        function = codec.make_loss(spec.input_size, stage.hardest, kind=settings.kind, **options)
    except ValueError as error:
        raise ValueError(f"loss: {error} (codec {spec.codec.kind})") from None
    own = getattr(head, "loss_module", None)
    if own is None:
        return function
    if settings.kind is not None or settings.options:
        raise ValueError("loss.kind: the network's head has a loss of its own")

    def loss(output: Tensor, keypoints: Tensor, weights: Tensor) -> Tensor:
        target, inside = (torch.as_tensor(value) for value in codec.encode(keypoints, weights > 0, spec.input_size))
        result: Tensor = own(output.float(), target, inside * weights)
        return result

    return loss


def _keypoint(spec: PoseSpec, name: str | int) -> int:
    """Index of a keypoint that is named, or given by its index."""
    if isinstance(name, str):
        try:
            return spec.skeleton.index(name)
        except KeyError as error:
            raise ValueError(f"options.mask: {error.args[0]}") from None
    if isinstance(name, bool) or not 0 <= name < spec.num_keypoints:
        raise ValueError(f"options.mask: expected names, or indices below {spec.num_keypoints}, got {name!r}")
    return name


def _with_absent(function: Callable[[Any, Tensor, Tensor], Tensor], spec: PoseSpec, factor: float) -> Any:
    """The loss of a stage, and that of the maps of labelled keypoints outside the crop, which shall be empty."""
    height, width = spec.input_size

    def loss(output: Tensor, keypoints: Tensor, weights: Tensor) -> Tensor:
        limit = keypoints.new_tensor([width - 0.5, height - 0.5])
        absent = ((keypoints < -0.5) | (keypoints >= limit)).any(-1) & (weights > 0)
        maps = output.float().unflatten(1, (keypoints.shape[1], -1))[:, :, 0]  # without offsets beside them
        empty = (maps.square().mean((2, 3)) * (weights * absent)).mean()
        return function(output, keypoints, weights.masked_fill(absent, 0)) + factor * empty

    return loss
