"""A slim ResNet-18 whose maps a second, U-shaped network corrects."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from fastpose.spec import PoseSpec

from ..layers import BasicBlock, ConvUnit, init_kaiming, norm_act
from ..output import Output
from ..pose_model import PoseModel, check_sizes
from ..registry import register_model
from .resnet import ResNet, residual_stage


class ResNetPyramid(ResNet):
    """A ResNet that returns the maps of all stages."""

    def forward(self, x: Tensor) -> list[Tensor]:  # type: ignore[override]
        """[B, 3, h, w] → every stage's map, finest first."""
        return self.forward_features(x)


class LateralDeconv(nn.Module):
    """A deconvolution that doubles the resolution, plus a finer map (FPN: Lin et al., CVPR 2017).

    Args:
        in_channels: of the coarse map.
        lateral_channels: of the fine map, which a 1x1 convolution brings to `out_channels`; None where it has as many
            and is added as it is.
        out_channels: of the result.
    """

    def __init__(self, in_channels: int, lateral_channels: int | None, out_channels: int) -> None:
        super().__init__()
        self.deconv = nn.ConvTranspose2d(in_channels, out_channels, 4, 2, 1, bias=False)
        self.bn = nn.BatchNorm2d(out_channels)
        self.lateral = nn.Identity() if lateral_channels is None else ConvUnit(lateral_channels, out_channels)

    def forward(self, x: Tensor, fine: Tensor) -> Tensor:
        """[B, in_channels, h, w] and [B, lateral_channels, 2 h, 2 w] → [B, out_channels, 2 h, 2 w]."""
        return norm_act(self.bn, self.deconv(x), F.relu_, self.lateral(fine))


class RefiningHead(nn.Module):
    """Maps from a pyramid of features, then better ones from a network that sees the first ones.

    Both are trained (Wei et al., "Convolutional Pose Machines", CVPR 2016): the second one sees where the other limbs
    were thought to be. It is a small U: down to a quarter of the map's sides and back.

    Args:
        in_channels: of the maps at 1/4, 1/8 and 1/16 of the input.
        out_channels: maps, as the codec wants them.
        channels: of the features that the maps are made of.
        widths: of the second network at half and at a quarter of the map's sides.
    """

    gives = "maps"
    stages = 2

    def __init__(
        self, in_channels: Sequence[int], out_channels: int, *, channels: int = 96, widths: Sequence[int] = (128, 160)
    ) -> None:
        super().__init__()
        fine, middle, coarse = in_channels
        half, quarter = widths
        self.enlarge1 = LateralDeconv(coarse, middle, channels)
        self.enlarge2 = LateralDeconv(channels, fine, channels)
        self.first_layer = nn.Conv2d(channels, out_channels, 1)
        self.return_layer = nn.Conv2d(out_channels, channels, 1)
        self.shrink1 = residual_stage(BasicBlock, channels, half, 2, 2)
        self.shrink2 = residual_stage(BasicBlock, half, quarter, 2, 2)
        self.enlarge3 = LateralDeconv(quarter, None, half)
        self.enlarge4 = LateralDeconv(half, None, channels)
        self.final_layer = nn.Conv2d(channels, out_channels, 1)
        self.init_weights()

    def init_weights(self) -> None:
        """Kaiming; residual branches start at zero, and nearly so the maps and what the second network sees of them."""
        init_kaiming(self)
        for module in self.modules():
            if isinstance(module, BasicBlock):
                nn.init.zeros_(module.last_norm.weight)
        for layer in (self.first_layer, self.return_layer, self.final_layer):
            nn.init.normal_(layer.weight, std=0.001)

    def forward(self, features: Sequence[Tensor]) -> Output:
        """Maps at 1/4, 1/8 and 1/16 of the input, finest first → [B, out_channels, h / 4, w / 4], twice."""
        fine, middle, coarse = features[0], features[1], features[-1]
        x = self.enlarge2(self.enlarge1(coarse, middle), fine)
        first = self.first_layer(x)
        x = x + self.return_layer(first)
        half = self.shrink1(x)
        x = self.enlarge4(self.enlarge3(self.shrink2(half), half), x)
        return Output((first, self.final_layer(x)))


@register_model
def resnet18_slim_refined(spec: PoseSpec, *, channels: int = 96) -> PoseModel:
    """`resnet18_slim`'s backbone, with lateral connections and a second network behind it that corrects its maps."""
    backbone = ResNetPyramid(
        BasicBlock, (2, 2, 2, 2), widths=(32, 64, 128, 192), strides=(1, 2, 2, 1), stem_channels=32
    )
    check_sizes(spec, backbone_stride=backbone.stride, output_stride=4)
    head = RefiningHead((32, 64, 192), spec.output_channels, channels=channels)
    return PoseModel(backbone, head, spec)
