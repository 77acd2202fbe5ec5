"""A network that learns from another one beside the labels."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ..models import (
    Output,
    PoseModel,
    create_model,
    feature_distillation,
    find_model,
    load_checkpoint,
    vector_distillation,
)
from ..models.find import is_weights_file
from ..models.hub import user_file
from .optim import freeze
from .recipe import Recipe, RecipeError
from .settings import DistillSettings

__all__ = ["Distillation", "build_distillation"]

_INPUT = ("input_size", "channel_order", "mean", "std")  # of a PoseSpec: what the crops are


class Distillation(nn.Module):
    """A network and its teacher (Yang et al., "Effective Whole-body Pose Estimation with Two-stages Distillation").

    The teacher is no part of the module: it is neither trained nor saved, averaged or sent to other processes.

    Args:
        model: The network.
        teacher: The other one; changed: it goes where the network is, and into evaluation mode.
        settings: What is learnt from it.
        beta: Factor on coordinate vectors before the softmax.

    Attributes:
        model: The network.
        align: 1x1 convolution from the network's channels of feature maps to the teacher's; None where there are as
            many, or features are not learnt.
    """

    def __init__(self, model: PoseModel, teacher: PoseModel, settings: DistillSettings, beta: float = 1.0) -> None:
        super().__init__()
        self.model = model
        parameter = next(model.parameters())
        self._teacher = (teacher.to(parameter.device, parameter.dtype).eval().requires_grad_(False),)
        self._settings, self._beta = settings, beta
        self.align: nn.Conv2d | None = None
        if settings.features:
            ours, theirs = (features.shape[1] for features in self._features(model.spec.input_size))
            if ours != theirs:
                self.align = nn.Conv2d(ours, theirs, 1).to(parameter.device, parameter.dtype)

    def forward(self, images: Tensor) -> tuple[Output, Tensor]:
        """What the network gives for crops [B, 3, h, w], and how far that is from the teacher: a float32 scalar."""
        settings, (teacher,) = self._settings, self._teacher
        with torch.no_grad():
            taught = teacher.features(images)
            answer = teacher.head(taught) if settings.logits else None
        features = taught if settings.head_only else self.model.features(images)
        output: Output = self.model.head(features)
        distance = images.new_zeros((), dtype=torch.float32)
        if settings.features:
            last = _last(features)
            mixed = last if self.align is None else self.align(last)
            distance = distance + settings.features * feature_distillation(mixed, _last(taught))
        if answer is not None:
            distance = distance + settings.logits * vector_distillation(output.last, answer.last, self._beta)
        return output, distance

    def factor(self, progress: float) -> float:
        """Factor on the distance after a fraction of the run's epochs."""
        return 1.0 - progress if self._settings.fade else 1.0

    @property
    def labels(self) -> float:
        """Factor on the loss of the labels."""
        return self._settings.labels

    def state(self) -> dict[str, Tensor]:
        """What is trained besides the network."""
        return self.align.state_dict() if self.align is not None else {}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Continue from what :meth:`state` gave.

        Raises:
            RuntimeError: It is of a teacher with other features.
        """
        (self.align or nn.Identity()).load_state_dict(state)

    @torch.no_grad()
    def _features(self, size: tuple[int, int]) -> list[Tensor]:
        """Feature maps of a blank crop of that (height, width): the network's and the teacher's."""
        parameter = next(self.model.parameters())
        crop = torch.zeros(1, 3, *size, device=parameter.device, dtype=parameter.dtype)
        training = self.model.training
        try:
            return [_last(network.features(crop)) for network in (self.model.eval(), *self._teacher)]
        finally:
            self.model.train(training)

    def check(self, size: tuple[int, int]) -> None:
        """Refuses, by a ValueError, crops of which the two networks' feature maps have other sizes, (height, width)."""
        if self._settings.features:
            ours, theirs = (tuple(features.shape[2:]) for features in self._features(size))
            if ours != theirs:
                raise ValueError(f"features: the network's are {ours} for crops of {size}, the teacher's {theirs}")


def _last(features: Any) -> Tensor:
    last: Tensor = features if isinstance(features, Tensor) else features[-1]
    return last


def build_distillation(recipe: Recipe, model: PoseModel) -> Distillation | None:
    """The network of a recipe beside its teacher; None where it has none.

    Args:
        recipe: What to do.
        model: Its network; for ``head_only``, backbone and neck become the teacher's and are frozen.

    Raises:
        RecipeError: The teacher cannot be had, or does not fit the network.
    """
    settings = recipe.train.distill
    if settings is None:
        return None
    teacher = _load_teacher(settings)
    try:
        _check_fit(model, teacher, settings)
        if settings.head_only:
            _take_body(model, teacher)
        distillation = Distillation(model, teacher, settings, float(recipe.train.loss.options.get("beta", 1.0)))
        for size in {phase.input_size or model.spec.input_size for phase in recipe.train.phases}:
            distillation.check(size)
    except ValueError as error:
        raise RecipeError(f"train.distill: teacher {settings.teacher} does not fit: {error}") from None
    return distillation


def _load_teacher(settings: DistillSettings) -> PoseModel:
    """The teacher with its weights; a RecipeError where it cannot be had."""
    name, weights = settings.teacher, settings.weights
    is_file = is_weights_file(name)
    if weights is None:
        try:
            return find_model(user_file(name) if is_file else name)
        except ValueError as error:
            hint = "" if is_file else " (train.distill.weights takes those of a file)"
            raise RecipeError(f"train.distill.teacher: {error}{hint}") from None
    if is_file:
        raise RecipeError(f"train.distill.weights: go with a zoo name, and the teacher is the file {name}")
    try:
        teacher = create_model(name)
        load_checkpoint(teacher, user_file(weights))
    except ValueError as error:
        raise RecipeError(f"train.distill: teacher {name}: {error}") from None
    return teacher


def _check_fit(model: PoseModel, teacher: PoseModel, settings: DistillSettings) -> None:
    """Refuses, by a ValueError, a teacher of other crops, and for vectors one of other keypoints or bins."""
    ours, theirs = model.spec, teacher.spec
    for name in _INPUT:
        if getattr(ours, name) != getattr(theirs, name):
            raise ValueError(f"{name}: the network has {getattr(ours, name)}, the teacher {getattr(theirs, name)}")
    if not settings.logits:
        return
    for whose, spec in (("network", ours), ("teacher", theirs)):
        if spec.codec.takes != "vectors":
            raise ValueError(f"logits: expected coordinate vectors, the {whose} gives {spec.codec.takes}")
    if ours.skeleton.keypoints != theirs.skeleton.keypoints:
        raise ValueError(f"keypoints: the network has {_keypoints(model)}, the teacher {_keypoints(teacher)}")
    shapes = [spec.codec.output_shape(spec.num_keypoints, spec.input_size) for spec in (ours, theirs)]
    if shapes[0] != shapes[1]:
        raise ValueError(f"logits: the network gives {list(shapes[0])}, the teacher {list(shapes[1])}")


def _keypoints(model: PoseModel) -> str:
    return f"{model.spec.num_keypoints} of {model.spec.skeleton.name!r}"


def _take_body(model: PoseModel, teacher: PoseModel) -> None:
    """Backbone and neck become the teacher's, frozen; a ValueError where they are of another architecture."""
    parts = [part for part in ("backbone", "neck") if getattr(model, part) or getattr(teacher, part)]
    for part in parts:
        ours, theirs = (
            {key: value.shape for key, value in (getattr(network, part) or nn.Identity()).state_dict().items()}
            for network in (model, teacher)
        )
        if ours != theirs:
            raise ValueError(
                f"head_only: the {part} is another one, {teacher.architecture} instead of {model.architecture}"
            )
    for part in parts:
        getattr(model, part).load_state_dict(getattr(teacher, part).state_dict())
    freeze(model, [f"{part}.*" for part in parts])
