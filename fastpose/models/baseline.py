"""SimpleBaseline around any backbone (Xiao et al., "Simple Baselines for Human Pose Estimation", ECCV 2018)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, cast

from torch import nn

from fastpose.spec import PoseSpec

from .heads import HeatmapHead
from .pose_model import PoseModel, check_sizes


class Backbone(Protocol):
    """What a network asks of its backbone besides being a module.

    Attributes:
        stride: factor by which the input's sides must be divisible; the last feature map is so many times smaller.
        out_channels: channels of the last feature map.
    """

    stride: int
    out_channels: int


def simple_baseline(
    spec: PoseSpec,
    backbone: Backbone,
    *,
    deconv_channels: Sequence[int] = (256, 256, 256),
    neck: nn.Module | None = None,
) -> PoseModel:
    """Backbone, deconvolutions that double the resolution, one map per channel of the codec.

    Args:
        spec: what the network reads and gives.
        backbone: crops [B, 3, h, w] → features [B, out_channels, h / stride, w / stride].
        deconv_channels: of each deconvolution.
        neck: between backbone and head, if any; keeps the size.

    Returns:
        The network, freshly initialised.

    Raises:
        ValueError: the spec's sizes do not fit.
    """
    check_sizes(spec, backbone_stride=backbone.stride, output_stride=backbone.stride >> len(deconv_channels))
    head = HeatmapHead(backbone.out_channels, spec.output_channels, deconv_channels=deconv_channels)
    return PoseModel(cast(nn.Module, backbone), head, spec, neck=neck)
