"""RSN (Cai et al., "Learning Delicate Local Representations for Multi-Person Pose Estimation", ECCV 2020)."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from fastpose.spec import PoseSpec

from ..layers import ConvUnit
from ..layers.multi_stage import MultiStageNet
from ..multi_stage_heads import multi_unit_network
from ..pose_model import PoseModel
from ..registry import register_model

_STEPS = 4


class ResidualStepsBlock(nn.Module):
    """Four branches of one to four 3x3 convolutions; each step takes in the same step of the branch before.

    Args:
        in_channels: channels of the input; a branch has 26/64 of them.
        width: channels of the output.
        stride: stride of the first convolution (and of the shortcut).
        downsample: the shortcut's projection; None where the input is added as it is.
    """

    expansion: ClassVar[int] = 1

    def __init__(self, in_channels: int, width: int, stride: int = 1, downsample: nn.Module | None = None) -> None:
        super().__init__()
        branch = in_channels * 26 // 64
        self.downsample = downsample
        self.conv_bn_relu1 = ConvUnit(in_channels, _STEPS * branch, stride=stride, activation=nn.ReLU(inplace=True))
        for row in range(1, _STEPS + 1):
            for step in range(1, row + 1):
                unit = ConvUnit(branch, branch, 3, activation=nn.ReLU(inplace=True))
                self.add_module(f"conv_bn_relu2_{row}_{step}", unit)
        self.conv_bn3 = ConvUnit(_STEPS * branch, width)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """[B, in_channels, h, w] → [B, width, h / stride, w / stride]."""
        shortcut = x if self.downsample is None else self.downsample(x)
        above: list[Tensor] = []  # the branch before, step by step
        ends = []
        for row, branch in enumerate(self.conv_bn_relu1(x).chunk(_STEPS, dim=1), 1):
            steps: list[Tensor] = []
            for step in range(1, row + 1):
                y = steps[-1] if steps else branch
                if step < row:
                    y = y + above[step - 1]
                steps.append(getattr(self, f"conv_bn_relu2_{row}_{step}")(y))
            ends.append(steps[-1])
            above = steps
        return self.relu(self.conv_bn3(torch.cat(ends, dim=1)) + shortcut)


@register_model
def rsn18(spec: PoseSpec, *, stages: int = 1) -> PoseModel:
    """RSN with two blocks at each size; four maps a stage."""
    backbone = MultiStageNet(ResidualStepsBlock, (2, 2, 2, 2), stages=stages, name="multi_stage_rsn")
    return multi_unit_network(spec, backbone, stages=stages)


@register_model
def rsn50(spec: PoseSpec, *, stages: int = 1) -> PoseModel:
    """RSN with ResNet-50's numbers of blocks; four maps a stage."""
    backbone = MultiStageNet(ResidualStepsBlock, (3, 4, 6, 3), stages=stages, name="multi_stage_rsn")
    return multi_unit_network(spec, backbone, stages=stages)
