"""SimpleBaseline around any backbone (Xiao et al., "Simple Baselines for Human Pose Estimation", ECCV 2018)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, cast

from torch import nn

from fastpose.spec import PoseSpec

from .heads import HeatmapHead, RegressionHead, VisibilityHead
from .pose_model import PoseModel, check_sizes

HEADS = ("heatmap", "visibility", "regression", "rle")


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
    deconv_groups: int = 1,
    neck: nn.Module | None = None,
    head: str = "heatmap",
) -> PoseModel:
    """Backbone, deconvolutions that double the resolution, one map per channel of the codec; or another head.

    Args:
        spec: what the network reads and gives.
        backbone: crops [B, 3, h, w] → features [B, out_channels, h / stride, w / stride].
        deconv_channels: of each deconvolution.
        deconv_groups: groups of each deconvolution.
        neck: between backbone and head, if any; keeps the size.
        head: `heatmap`; `visibility`, which also says which keypoints are visible; `regression` (DeepPose) or `rle`,
            for the codec regression.

    Returns:
        The network, freshly initialised.

    Raises:
        ValueError: the spec's sizes do not fit, or the head does not fit the codec.
    """
    if head not in HEADS:
        raise ValueError(f"head: expected one of {', '.join(HEADS)}, got {head!r}")
    module, channels, keypoints = cast(nn.Module, backbone), backbone.out_channels, spec.num_keypoints
    gives = RegressionHead.gives if head in ("regression", "rle") else HeatmapHead.gives
    if gives != spec.codec.takes:
        raise ValueError(f"head: {head!r} gives {gives}, and the codec {spec.codec.kind!r} takes {spec.codec.takes}")
    if gives == RegressionHead.gives:
        check_sizes(spec, backbone_stride=backbone.stride, output_stride=None)
        pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        neck = pool if neck is None else nn.Sequential(neck, pool)
        return PoseModel(module, RegressionHead(channels, keypoints, rle=head == "rle"), spec, neck=neck)
    check_sizes(spec, backbone_stride=backbone.stride, output_stride=backbone.stride >> len(deconv_channels))
    maps = HeatmapHead(channels, spec.output_channels, deconv_channels=deconv_channels, deconv_groups=deconv_groups)
    top = maps if head == "heatmap" else VisibilityHead(maps, channels, keypoints)
    return PoseModel(module, top, spec, neck=neck)
