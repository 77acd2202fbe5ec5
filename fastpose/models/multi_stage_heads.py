"""Heads of networks that predict several times over; the last stage is the best."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from torch import Tensor, nn

from fastpose.spec import PoseSpec

from .layers import ConvUnit
from .layers.multi_stage import MultiStageNet, resize
from .output import Output
from .pose_model import PoseModel, check_sizes


class MultiUnitHead(nn.Module):
    """A prediction from every decoder map of every stage, all at the size of the finest map (MSPN, Li et al., 2019).

    Args:
        in_channels: channels of every feature map.
        out_channels: maps, as the codec wants them.
        count: number of feature maps in all stages together.
    """

    gives = "maps"

    def __init__(self, in_channels: int, out_channels: int, count: int) -> None:
        super().__init__()
        self.stages = count
        self.predict_layers = nn.ModuleList(
            nn.Sequential(
                OrderedDict(
                    conv_layers=nn.Sequential(
                        ConvUnit(in_channels, in_channels, activation=nn.ReLU(inplace=True)),
                        ConvUnit(in_channels, out_channels, 3),
                    )
                )
            )
            for _ in range(count)
        )
        self.init_weights()

    def init_weights(self) -> None:
        """Kaiming for every convolution; BatchNorm, which comes last, sets the maps' scale."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, features: Sequence[Sequence[Tensor]]) -> Output:
        """Every stage's features, [B, in_channels, h', w'] coarsest first → as many maps [B, out_channels, h, w].

        They stand in the order of the features, and have the last feature map's size.
        """
        flat = [x for stage in features for x in stage]
        return Output(tuple(resize(layer(x), flat[-1]) for layer, x in zip(self.predict_layers, flat, strict=True)))


class MultiStageHead(nn.Module):
    """A last convolution for each stage's features.

    Args:
        in_channels: channels of every stage's features.
        out_channels: maps, as the codec wants them.
        stages: number of stages.
    """

    gives = "maps"

    def __init__(self, in_channels: int, out_channels: int, stages: int) -> None:
        super().__init__()
        self.stages = stages
        self.multi_final_layers = nn.ModuleList(nn.Conv2d(in_channels, out_channels, 1) for _ in range(stages))
        self.init_weights()

    def init_weights(self) -> None:
        """Draw every convolution from N(0, 0.001): the maps start near zero, as almost all of every target is."""
        for layer in self.multi_final_layers:
            assert isinstance(layer, nn.Conv2d)
            nn.init.normal_(layer.weight, std=0.001)
            assert layer.bias is not None
            nn.init.zeros_(layer.bias)

    def forward(self, features: Sequence[Tensor]) -> Output:
        """Every stage's features [B, in_channels, h, w] → its maps [B, out_channels, h, w]."""
        return Output(tuple(layer(x) for layer, x in zip(self.multi_final_layers, features, strict=True)))


def multi_unit_network(spec: PoseSpec, backbone: MultiStageNet, *, stages: int) -> PoseModel:
    """MSPN or RSN from its backbone.

    Args:
        spec: what the network reads and gives; the heatmap has a quarter of the input's sides.
        backbone: the backbone.
        stages: how many it has.

    Raises:
        ValueError: the spec's sizes or its number of output stages do not fit.
    """
    check_sizes(spec, backbone_stride=backbone.stride, output_stride=backbone.stride)
    count = stages * len(backbone.feature_channels)
    head = MultiUnitHead(backbone.out_channels, spec.output_channels, count)
    return PoseModel(backbone, head, spec)
