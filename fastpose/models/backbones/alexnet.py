"""AlexNet (Krizhevsky, "One weird trick for parallelizing convolutional neural networks", 2014)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from fastpose.codecs import change_codec
from fastpose.spec import PoseSpec

from ..heads import HeatmapHead
from ..layers import MaxPool
from ..pose_model import PoseModel
from ..registry import register_model


class AlexNet(nn.Module):
    """AlexNet without its classifier: 256 channels at 1/32 of the input.

    Its poolings do not pad, so every map has one row and one column less than the input's sides divided by its stride:
    an input of 256x192 gives 7x5. The maps of `forward_features` are those before each pooling, and the last.
    """

    stride = 32
    out_channels = 256
    feature_channels = (64, 192, 256, 256)
    feature_strides = (4, 8, 16, 32)

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 64, 11, 4, 2),
            nn.ReLU(inplace=True),
            MaxPool(3, 2),
            nn.Conv2d(64, 192, 5, padding=2),
            nn.ReLU(inplace=True),
            MaxPool(3, 2),
            nn.Conv2d(192, 384, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(384, 256, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(256, 256, 3, padding=1),
            nn.ReLU(inplace=True),
            MaxPool(3, 2),
        )

    def forward_features(self, x: Tensor) -> list[Tensor]:
        """[B, 3, h, w] → [B, feature_channels[i], h / feature_strides[i] - 1, w / feature_strides[i] - 1]."""
        maps = []
        for layer in self.features:
            if isinstance(layer, MaxPool):
                maps.append(x)
            x = layer(x)
        return [*maps, x]

    def forward(self, x: Tensor) -> Tensor:
        """[B, 3, h, w] → [B, 256, h / 32 - 1, w / 32 - 1]."""
        return self.features(x)


@register_model
def alexnet(spec: PoseSpec, *, deconv_channels: Sequence[int] = (256, 256, 256)) -> PoseModel:
    """SimpleBaseline on AlexNet.

    Its poolings leave no fixed fraction of the input (56x40 maps for 256x192, 24x16 for 128x96), so the network's spec
    has the size that they do leave as `codec.heatmap_size`, whatever the given one says.
    """
    backbone = AlexNet()
    head = HeatmapHead(backbone.out_channels, spec.output_channels, deconv_channels=deconv_channels)
    if any(side % backbone.stride or side < 2 * backbone.stride for side in spec.input_size):
        raise ValueError(f"input_size: expected (height, width) in multiples of 32 from 64 on, got {spec.input_size}")
    height, width = ((side // backbone.stride - 1) * head.upsampling for side in spec.input_size)
    codec = change_codec(spec.codec, heatmap_size=(height, width))
    return PoseModel(backbone, head, spec.replace(codec=codec))
