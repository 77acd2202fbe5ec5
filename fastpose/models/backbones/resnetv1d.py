"""ResNet-D (He et al., "Bag of Tricks for Image Classification with Convolutional Neural Networks", CVPR 2019)."""

from __future__ import annotations

from collections.abc import Sequence

from fastpose.spec import PoseSpec

from ..baseline import simple_baseline
from ..layers import Bottleneck
from ..pose_model import PoseModel
from ..registry import register_model
from .resnet import ResNet


def _resnetv1d(spec: PoseSpec, depths: Sequence[int], deconv_channels: Sequence[int]) -> PoseModel:
    backbone = ResNet(Bottleneck, depths, deep_stem=True, average_downsample=True)
    return simple_baseline(spec, backbone, deconv_channels=deconv_channels)


@register_model
def resnetv1d50(spec: PoseSpec, *, deconv_channels: Sequence[int] = (256, 256, 256)) -> PoseModel:
    """SimpleBaseline on ResNet-50-D."""
    return _resnetv1d(spec, (3, 4, 6, 3), deconv_channels)


@register_model
def resnetv1d101(spec: PoseSpec, *, deconv_channels: Sequence[int] = (256, 256, 256)) -> PoseModel:
    """SimpleBaseline on ResNet-101-D."""
    return _resnetv1d(spec, (3, 4, 23, 3), deconv_channels)


@register_model
def resnetv1d152(spec: PoseSpec, *, deconv_channels: Sequence[int] = (256, 256, 256)) -> PoseModel:
    """SimpleBaseline on ResNet-152-D."""
    return _resnetv1d(spec, (3, 8, 36, 3), deconv_channels)
