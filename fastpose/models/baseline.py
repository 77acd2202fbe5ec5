"""SimpleBaseline around any backbone (Xiao et al., "Simple Baselines for Human Pose Estimation", ECCV 2018)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, cast

from torch import nn

from fastpose.codecs import Integral, SimCC
from fastpose.spec import PoseSpec

from .heads import HeatmapHead, RegressionHead, VisibilityHead
from .integral_head import IntegralHead
from .pose_model import PoseModel, check_sizes
from .vector_heads import SimCCHead

_HEADS: Mapping[str, type[Any]] = {
    "heatmap": HeatmapHead,
    "visibility": HeatmapHead,
    "regression": RegressionHead,
    "rle": RegressionHead,
    "simcc": SimCCHead,
    "integral": IntegralHead,
    "debiased_integral": IntegralHead,
}
HEADS = tuple(_HEADS)


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
            for the codec regression; `simcc`, for that codec; `integral`, `debiased_integral`, for the codec integral.

    Returns:
        The network, freshly initialised.

    Raises:
        ValueError: the spec's sizes do not fit, or the head does not fit the codec.
    """
    if head not in HEADS:
        raise ValueError(f"head: expected one of {', '.join(HEADS)}, got {head!r}")
    module, channels, keypoints = cast(nn.Module, backbone), backbone.out_channels, spec.num_keypoints
    gives = _HEADS[head].gives
    if gives != spec.codec.takes:
        raise ValueError(f"head: {head!r} gives {gives}, and the codec {spec.codec.kind!r} takes {spec.codec.takes}")
    if gives == RegressionHead.gives:
        check_sizes(spec, backbone_stride=backbone.stride, output_stride=None)
        pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        neck = pool if neck is None else nn.Sequential(neck, pool)
        return PoseModel(module, RegressionHead(channels, keypoints, rle=head == "rle"), spec, neck=neck)
    height, width = (side // backbone.stride for side in spec.input_size)
    if isinstance(spec.codec, SimCC):
        check_sizes(spec, backbone_stride=backbone.stride, output_stride=None)
        vectors = SimCCHead(
            channels, keypoints, (height, width), spec.codec.sizes(spec.input_size),
            deconv_channels=deconv_channels, deconv_groups=deconv_groups,
        )  # fmt: skip
        return PoseModel(module, vectors, spec, neck=neck)
    if isinstance(spec.codec, Integral):
        check_sizes(spec, backbone_stride=backbone.stride, output_stride=None)
        debias = head == "debiased_integral"
        means = IntegralHead(
            channels, keypoints, (height << len(deconv_channels), width << len(deconv_channels)),
            deconv_channels=deconv_channels, beta=10.0 if debias else 1.0, debias=debias,
        )  # fmt: skip
        return PoseModel(module, means, spec, neck=neck)
    check_sizes(spec, backbone_stride=backbone.stride, output_stride=backbone.stride >> len(deconv_channels))
    maps = HeatmapHead(channels, spec.output_channels, deconv_channels=deconv_channels, deconv_groups=deconv_groups)
    top = maps if head == "heatmap" else VisibilityHead(maps, channels, keypoints)
    return PoseModel(module, top, spec, neck=neck)
