"""What training minimises: from a network's output and the labels of a batch to one number, for every kind of head."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from fastpose.codecs import RegressionCodec
from fastpose.ops import heatmap_loss
from fastpose.spec import CodecSpec, PoseSpec

from .heads import RegressionHead, VisibilityHead
from .losses import smooth_l1, visibility_loss


class Loss(Protocol):
    """What training calls: from what the network's forward returned, and the labels of a batch, to a scalar."""

    def __call__(self, output: Any, keypoints: Tensor, weights: Tensor, annotated: Tensor | None = None, /) -> Tensor:
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
    """

    weight: float = 1.0
    hardest: int | None = None
    stages: tuple[StageLoss, ...] = ()
    visibility: float = 1e-3

    def __post_init__(self) -> None:
        StageLoss(self.weight, self.hardest)
        if self.stages and self.hardest is not None:
            raise ValueError("loss.hardest: give it in loss.stages, not beside them")
        if not self.visibility >= 0:
            raise ValueError(f"loss.visibility: expected a number of at least 0, got {self.visibility!r}")


def build_loss(head: nn.Module, spec: PoseSpec, settings: LossSettings | None = None) -> Loss:
    """The loss that trains a network with this head.

    Heatmaps: mean squared error without a target map in memory (`fastpose.ops.heatmap_loss`), summed over the stages.
    Coordinates: smooth L1, or with deviations residual log-likelihood. Visibility: binary cross-entropy beside it.

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
    if isinstance(head, RegressionHead):
        if settings.stages or settings.hardest is not None:
            raise ValueError("loss: stages and hardest are for heatmaps, and this network gives coordinates")
        return _regression_loss(head, spec, settings.weight)
    maps = _heatmap_loss(spec, settings)
    if not isinstance(head, VisibilityHead):
        return maps

    def with_visibility(
        output: tuple[Tensor, Tensor], keypoints: Tensor, weights: Tensor, annotated: Tensor | None = None
    ) -> Tensor:
        visible = visibility_loss(output[1], weights, annotated)
        return maps(output[0], keypoints, weights) + settings.weight * settings.visibility * visible

    return with_visibility


def _heatmap_loss(spec: PoseSpec, settings: LossSettings) -> Loss:
    stages = settings.stages or (StageLoss(hardest=settings.hardest),) * spec.output_stages
    if len(stages) != spec.output_stages:
        raise ValueError(f"loss.stages: expected one for each of {spec.output_stages} stages, got {len(stages)}")
    codecs = [_stage_codec(spec.codec, stage) for stage in stages]

    def loss(
        output: Tensor | Sequence[Tensor], keypoints: Tensor, weights: Tensor, annotated: Tensor | None = None
    ) -> Tensor:
        outputs = [output] if isinstance(output, Tensor) else output
        total = None
        for maps, codec, stage in zip(outputs, codecs, stages, strict=True):
            one = heatmap_loss(maps.float(), keypoints, weights, codec, spec.input_size, ohkm_topk=stage.hardest)
            one = one * (stage.weight * settings.weight)
            total = one if total is None else total + one
        assert total is not None  # a network has at least one stage
        return total

    return loss


def _stage_codec(codec: CodecSpec, stage: StageLoss) -> CodecSpec:
    if stage.kernel_size is None:
        return codec
    if codec.kind != "megvii":
        raise ValueError(f"loss.kernel_size: targets of codec {codec.kind!r} are not blurred points; only megvii's are")
    return replace(codec, kernel_size=stage.kernel_size)


def _regression_loss(head: RegressionHead, spec: PoseSpec, weight: float) -> Loss:
    codec = RegressionCodec(spec.codec, spec.input_size)

    def loss(output: Tensor, keypoints: Tensor, weights: Tensor, annotated: Tensor | None = None) -> Tensor:
        target, inside = (torch.as_tensor(values) for values in codec.encode(keypoints, weights > 0))
        counted, output = inside * weights, output.float()
        if head.loss_module is not None:
            return weight * head.loss_module(output[..., :2], output[..., 2:], target, counted)
        return weight * smooth_l1(output, target, counted)

    return loss
