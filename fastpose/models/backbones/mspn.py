"""MSPN (Li et al., "Rethinking on Multi-Stage Networks for Human Pose Estimation", 2019)."""

from __future__ import annotations

from fastpose.spec import PoseSpec

from ..layers import Bottleneck
from ..layers.multi_stage import MultiStageNet
from ..multi_stage_heads import multi_unit_network
from ..pose_model import PoseModel
from ..registry import register_model


@register_model
def mspn50(spec: PoseSpec, *, stages: int = 1) -> PoseModel:
    """MSPN whose every stage has a ResNet-50 for its encoder; four maps a stage."""
    backbone = MultiStageNet(Bottleneck, (3, 4, 6, 3), stages=stages, name="multi_stage_mspn")
    return multi_unit_network(spec, backbone, stages=stages)
