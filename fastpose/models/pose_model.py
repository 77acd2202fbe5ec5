"""A pose network: backbone, neck, head, and the PoseSpec that says what goes in and what comes out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from torch import Tensor, nn

from fastpose.spec import PoseSpec

from .heads import RegressionHead


class PoseModel(nn.Module):
    """Top-down pose network: crops in, heatmaps (or coordinates) out.

    State-dict names are MMPose's (`backbone.*`, `neck.*`, `head.*`).

    Args:
        backbone: crops → features; its `stride` is the factor by which the input's sides must be divisible.
        head: features → maps; its `upsampling` undoes part of the stride (see `HeatmapHead`).
        spec: everything that training, evaluation and prediction must agree on.
        neck: between the two, if any.

    Attributes:
        name: zoo name where it was made from a zoo entry, else the architecture; goes into saved files.
        architecture: name of the registered function that built it; goes into saved files.
        arguments: architecture arguments that differ from the defaults; go into saved files.
    """

    def __init__(self, backbone: nn.Module, head: nn.Module, spec: PoseSpec, *, neck: nn.Module | None = None) -> None:
        super().__init__()
        self.backbone = backbone
        self.neck = neck
        self.head = head
        self.spec = spec
        self.name = ""
        self.architecture = ""
        self.arguments: Mapping[str, Any] = {}

    def forward(self, x: Tensor) -> Tensor | list[Tensor] | tuple[Tensor, Tensor]:
        """Compute the head's output for a batch of crops: what training needs.

        Args:
            x: crops [B, 3, h, w], normalised as `spec` says (channel order, mean, std).

        Returns:
            Maps [B, channels, h', w'] with as many channels as the codec wants; for several output stages a list of
            them, the last one the best; with a visibility head (maps, probabilities [B, K]). Coordinates [B, K, 2],
            or [B, K, 4] with deviations, where the codec is regression (see `RegressionHead`).
        """
        if x.ndim != 4 or x.shape[1] != 3:
            raise ValueError(f"x: expected crops [B, 3, h, w], got shape {tuple(x.shape)}")
        features = self.backbone(x)
        if self.neck is not None:
            features = self.neck(features)
        return self.head(features)

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

    def predict(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Compute what a prediction is made of.

        Args:
            x: as for `forward`.

        Returns:
            What the codec decodes: maps of the last stage [B, channels, h', w'], or coordinates [B, K, 2 or 4]; and the
            probability of each keypoint being visible [B, K], or None where the network does not say.
        """
        output = self(x)
        visibility = None
        if isinstance(output, tuple):
            output, visibility = output
        if isinstance(output, list):
            output = output[-1]
        if isinstance(self.head, RegressionHead):
            output = self.head.decodable(output)
        return output, visibility


def check_sizes(spec: PoseSpec, *, backbone_stride: int, output_stride: int | None) -> None:
    """Refuse a spec whose sizes a network cannot give.

    Args:
        spec: the spec.
        backbone_stride: the input's sides must be multiples of it.
        output_stride: input pixels per heatmap pixel; None where no heatmap comes out.

    Raises:
        ValueError: input_size is no multiple of backbone_stride, or heatmap_size is not input_size / output_stride.
    """
    height, width = spec.input_size
    if height <= 0 or width <= 0 or height % backbone_stride or width % backbone_stride:
        raise ValueError(
            f"input_size: expected (height, width) in multiples of {backbone_stride}, got {spec.input_size}"
        )
    if output_stride is None:
        return
    expected = (height // output_stride, width // output_stride)
    if spec.codec.heatmap_size != expected:
        raise ValueError(
            f"codec.heatmap_size: the network gives {expected} for an input of {spec.input_size}, "
            f"the spec says {spec.codec.heatmap_size}"
        )
