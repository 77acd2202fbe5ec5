"""Backbones on their own, for other tasks."""

from __future__ import annotations

from typing import Any, cast

from torch import Tensor, nn

from .pose_model import PoseModel


class FeatureExtractor(nn.Module):
    """The feature maps of a pose network's backbone, finest first; its head is left out.

    Args:
        model: the network; its backbone is shared, not copied.

    Attributes:
        channels: of each map.
        strides: input pixels per pixel of each map.
    """

    def __init__(self, model: PoseModel) -> None:
        super().__init__()
        self.backbone = model.backbone
        self.channels = cast("tuple[int, ...]", model.backbone.feature_channels)
        self.strides = cast("tuple[int, ...]", model.backbone.feature_strides)

    def forward(self, x: Tensor) -> list[Tensor]:
        """[B, 3, h, w] → maps [B, channels[i], h / strides[i], w / strides[i]]."""
        extract: Any = self.backbone.forward_features
        return cast("list[Tensor]", extract(x))
