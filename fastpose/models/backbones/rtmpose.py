"""RTMPose and RTMW: CSPNeXt with heads of coordinate vectors (Jiang et al., 2023 and 2024)."""

from __future__ import annotations

from fastpose.codecs import SimCC
from fastpose.spec import PoseSpec

from ..pose_model import PoseModel, check_sizes
from ..registry import register_model
from ..vector_heads import RTMCCHead, RTMWHead
from .cspnext import CSPNeXt, CSPNeXtPAFPN

# Factors on depth and width.
_TINY, _S, _M, _L, _X = (0.167, 0.375), (0.33, 0.5), (0.67, 0.75), (1.0, 1.0), (1.33, 1.25)


def _bins(spec: PoseSpec) -> tuple[int, int]:
    if not isinstance(spec.codec, SimCC):
        raise ValueError(f"codec: the network gives vectors, and {spec.codec.kind!r} takes {spec.codec.takes}")
    check_sizes(spec, backbone_stride=CSPNeXt.stride, output_stride=None)
    return spec.codec.sizes(spec.input_size)


def _map_size(spec: PoseSpec) -> tuple[int, int]:
    return spec.input_size[0] // CSPNeXt.stride, spec.input_size[1] // CSPNeXt.stride


def _rtmpose(spec: PoseSpec, size: tuple[float, float]) -> PoseModel:
    bins, backbone = _bins(spec), CSPNeXt(*size)
    return PoseModel(backbone, RTMCCHead(backbone.out_channels, spec.num_keypoints, _map_size(spec), bins), spec)


def _rtmw(spec: PoseSpec, size: tuple[float, float]) -> PoseModel:
    bins, backbone = _bins(spec), CSPNeXt(*size, levels=3)
    head = RTMWHead(backbone.out_channels, spec.num_keypoints, _map_size(spec), bins)
    return PoseModel(backbone, head, spec, neck=CSPNeXtPAFPN(backbone.feature_channels[1:]))


@register_model
def rtmpose_tiny(spec: PoseSpec) -> PoseModel:
    """RTMPose-t."""
    return _rtmpose(spec, _TINY)


@register_model
def rtmpose_s(spec: PoseSpec) -> PoseModel:
    """RTMPose-s."""
    return _rtmpose(spec, _S)


@register_model
def rtmpose_m(spec: PoseSpec) -> PoseModel:
    """RTMPose-m."""
    return _rtmpose(spec, _M)


@register_model
def rtmpose_l(spec: PoseSpec) -> PoseModel:
    """RTMPose-l."""
    return _rtmpose(spec, _L)


@register_model
def rtmpose_x(spec: PoseSpec) -> PoseModel:
    """RTMPose-x."""
    return _rtmpose(spec, _X)


@register_model
def rtmw_m(spec: PoseSpec) -> PoseModel:
    """RTMW-m, for whole bodies."""
    return _rtmw(spec, _M)


@register_model
def rtmw_l(spec: PoseSpec) -> PoseModel:
    """RTMW-l, for whole bodies."""
    return _rtmw(spec, _L)


@register_model
def rtmw_x(spec: PoseSpec) -> PoseModel:
    """RTMW-x, for whole bodies."""
    return _rtmw(spec, _X)
