"""A pose network: backbone, neck, head, and the PoseSpec that says what goes in and what comes out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, cast

from torch import Tensor, nn

from fastpose.spec import PoseSpec

from .output import Output


class Head(Protocol):
    """What a network asks of its head besides being a module that returns an `Output`.

    Attributes:
        gives: what it gives, `maps` or `coordinates`, as codecs say what they take.
        stages: for how many stages.
    """

    gives: str
    stages: int


class PoseModel(nn.Module):
    """Top-down pose network: crops in, heatmaps (or coordinates) out.

    State-dict names are MMPose's (`backbone.*`, `neck.*`, `head.*`).

    Args:
        backbone: crops → features; its `stride` is the factor by which the input's sides must be divisible.
        head: features → `Output`; a module that has the attributes of `Head`.
        spec: everything that training, evaluation and prediction must agree on. Where it says 1 for `output_stages`,
            its default, that stands for as many as the head gives.
        neck: between the two, if any.

    Attributes:
        name: zoo name where it was made from a zoo entry, else the architecture; goes into saved files.
        architecture: name of the registered function that built it; goes into saved files.
        arguments: architecture arguments that differ from the defaults; go into saved files.

    Raises:
        ValueError: the codec does not take what the head gives, or the spec says another number of stages.
    """

    def __init__(self, backbone: nn.Module, head: nn.Module, spec: PoseSpec, *, neck: nn.Module | None = None) -> None:
        super().__init__()
        what = cast(Head, head)
        if what.gives != spec.codec.takes:
            raise ValueError(f"codec: {spec.codec.kind!r} takes {spec.codec.takes}, and the network gives {what.gives}")
        if spec.output_stages not in (1, what.stages):
            raise ValueError(f"output_stages: the network returns {what.stages}, the spec says {spec.output_stages}")
        self.backbone = backbone
        self.neck = neck
        self.head = head
        self.spec = spec.replace(output_stages=what.stages)
        self.name = ""
        self.architecture = ""
        self.arguments: Mapping[str, Any] = {}

    @property
    def tells_visibility(self) -> bool:
        """Whether its outputs say how probable it is that a keypoint can be seen."""
        return self.spec.codec.tells_visibility or bool(getattr(self.head, "tells_visibility", False))

    def forward(self, x: Tensor) -> Output:
        """Compute the head's output for a batch of crops.

        Args:
            x: crops [B, 3, h, w], normalised as `spec` says (channel order, mean, std).

        Returns:
            The output; `output.last` is what the codec decodes: maps [B, channels, h', w'], or coordinates
            [B, K, 2 or 4].
        """
        if x.ndim != 4 or x.shape[1] != 3:
            raise ValueError(f"x: expected crops [B, 3, h, w], got shape {tuple(x.shape)}")
        output: Output = self.head(self.features(x))
        return output

    def features(self, x: Tensor) -> Any:
        """What the head gets of crops [B, 3, h, w]: a feature map, or several, the coarsest last."""
        features = self.backbone(x)
        return features if self.neck is None else self.neck(features)

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Train with less memory and about a third more time: recompute the blocks' insides for the gradients.

        Args:
            enable: whether to.

        Raises:
            ValueError: the backbone cannot.
        """
        if not hasattr(self.backbone, "grad_checkpointing"):
            raise ValueError(f"grad_checkpointing: {type(self.backbone).__name__} has none; HRNets and transformers do")
        cast(Any, self.backbone).grad_checkpointing = enable


def check_sizes(spec: PoseSpec, *, backbone_stride: int, output_stride: int | None) -> None:
    """Refuse a spec whose sizes a network cannot give.

    Args:
        spec: the spec.
        backbone_stride: the input's sides must be multiples of it.
        output_stride: input pixels per heatmap pixel; None where no heatmap comes out.

    Raises:
        ValueError: input_size is no multiple of backbone_stride, or the maps' size is not input_size / output_stride.
    """
    height, width = spec.input_size
    if height <= 0 or width <= 0 or height % backbone_stride or width % backbone_stride:
        raise ValueError(
            f"input_size: expected (height, width) in multiples of {backbone_stride}, got {spec.input_size}"
        )
    if output_stride is None:
        return
    given = height // output_stride, width // output_stride
    taken = spec.codec.output_shape(spec.num_keypoints, spec.input_size)[1:]
    if taken != given:
        raise ValueError(
            f"codec.heatmap_size: the network gives {given} for an input of {spec.input_size}, "
            f"the codec {spec.codec.kind!r} takes {taken}"
        )
