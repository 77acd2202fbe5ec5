"""VGG (Simonyan and Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition", ICLR 2015)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from fastpose.spec import PoseSpec

from ..baseline import simple_baseline
from ..layers import ConvUnit, MaxPool, init_kaiming
from ..pose_model import PoseModel
from ..registry import register_model


class VGG(nn.Module):
    """VGG with BatchNorm and without its classifier: the last pooled map, 512 channels at 1/32 of the input.

    The maps of `forward_features` are the pooled ones from 1/4 on.

    Args:
        depths: convolutions of each of the five stages.
    """

    stride = 32
    out_channels = 512
    feature_channels = (128, 256, 512, 512)
    feature_strides = (4, 8, 16, 32)

    def __init__(self, depths: Sequence[int]) -> None:
        super().__init__()
        channels = 3
        layers: list[nn.Module] = []
        for width, depth in zip((64, 128, 256, 512, 512), depths, strict=True):
            for _ in range(depth):
                # The published networks keep the convolutions' biases, though BatchNorm takes them away again.
                layers.append(ConvUnit(channels, width, 3, bias=True, activation=nn.ReLU(inplace=True)))
                channels = width
            layers.append(MaxPool(2))
        self.features = nn.Sequential(*layers)
        self.init_weights()

    def init_weights(self) -> None:
        """Kaiming for every convolution."""
        init_kaiming(self)

    def forward_features(self, x: Tensor) -> list[Tensor]:
        """[B, 3, h, w] → [B, feature_channels[i], h / feature_strides[i], w / feature_strides[i]]."""
        pooled = []
        for layer in self.features:
            x = layer(x)
            if isinstance(layer, MaxPool):
                pooled.append(x)
        return pooled[1:]

    def forward(self, x: Tensor) -> Tensor:
        """[B, 3, h, w] → [B, 512, h / 32, w / 32]."""
        return self.features(x)


@register_model
def vgg16_bn(spec: PoseSpec, *, deconv_channels: Sequence[int] = (256, 256, 256)) -> PoseModel:
    """SimpleBaseline on VGG-16 with BatchNorm."""
    return simple_baseline(spec, VGG((2, 2, 3, 3, 3)), deconv_channels=deconv_channels)
