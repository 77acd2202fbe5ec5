"""Heads: from feature maps to an `Output`.

Each says what it gives, by the word with which codecs say what they take (`maps`, `coordinates`), for how many stages,
and whether it tells visibility; `PoseModel` holds that against its spec.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .layers import NormSequential, norm_act
from .losses import RLELoss
from .output import Output

# ConvTranspose2d settings that double the resolution exactly: kernel → (padding, output_padding).
_DECONV_PADDING = {4: (1, 0), 3: (1, 1), 2: (0, 0)}


class HeatmapHead(nn.Module):
    """Deconvolutions, optional convolutions and a last convolution to one map per channel of the codec.

    The head of SimpleBaseline (Xiao et al., "Simple Baselines for Human Pose Estimation and Tracking", ECCV 2018);
    without deconvolutions and convolutions it is the head of HRNet.

    Args:
        in_channels: channels of the backbone's feature map.
        out_channels: maps, as the codec wants them (one or three per keypoint).
        deconv_channels: output channels of each stride-2 deconvolution; every one doubles the resolution.
        deconv_kernels: kernel size of each, 4, 3 or 2; 4 everywhere by default.
        deconv_groups: groups of each.
        conv_channels: output channels of each convolution that follows (with BatchNorm and ReLU).
        conv_kernels: kernel size of each (odd); 1 everywhere by default.
        final_kernel: kernel size of the last convolution (odd), or None where the features are the maps.
    """

    gives = "maps"
    stages = 1

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        deconv_channels: Sequence[int] = (256, 256, 256),
        deconv_kernels: Sequence[int] | None = None,
        deconv_groups: int = 1,
        conv_channels: Sequence[int] = (),
        conv_kernels: Sequence[int] | None = None,
        final_kernel: int | None = 1,
    ) -> None:
        super().__init__()
        deconv_kernels = _kernels("deconv_kernels", deconv_kernels, deconv_channels, default=4)
        conv_kernels = _kernels("conv_kernels", conv_kernels, conv_channels, default=1)
        channels = in_channels
        layers: list[nn.Module] = []
        for width, kernel in zip(deconv_channels, deconv_kernels, strict=True):
            if kernel not in _DECONV_PADDING:
                raise ValueError(f"deconv_kernels: expected 2, 3 or 4, got {kernel}")
            padding, output_padding = _DECONV_PADDING[kernel]
            layers += [
                nn.ConvTranspose2d(channels, width, kernel, 2, padding, output_padding, deconv_groups, bias=False),
                nn.BatchNorm2d(width),
                nn.ReLU(inplace=True),
            ]
            channels = width
        self.deconv_layers = nn.Sequential(*layers) if layers else nn.Identity()
        layers = []
        for width, kernel in zip(conv_channels, conv_kernels, strict=True):
            layers += [
                nn.Conv2d(channels, width, kernel, padding=kernel // 2),
                nn.BatchNorm2d(width),
                nn.ReLU(inplace=True),
            ]
            channels = width
        self.conv_layers = NormSequential(*layers) if layers else nn.Identity()
        self.final_layer: nn.Module
        if final_kernel is None:
            if channels != out_channels:
                raise ValueError(f"final_kernel: None leaves {channels} maps where the codec wants {out_channels}")
            self.final_layer = nn.Identity()
        else:
            self.final_layer = nn.Conv2d(channels, out_channels, final_kernel, padding=final_kernel // 2)
        self.upsampling = 2 ** len(deconv_channels)
        self.init_weights()

    def init_weights(self) -> None:
        """Draw every convolution from N(0, 0.001): the maps start near zero, as almost all of every target is."""
        for module in self.modules():
            if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
                nn.init.normal_(module.weight, std=0.001)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, x: Tensor) -> Output:
        """Features [B, in_channels, h, w] → one stage of maps [B, out_channels, h * upsampling, w * upsampling]."""
        return Output((self.final_layer(self.conv_layers(self._enlarge(x))),))

    def _enlarge(self, x: Tensor) -> Tensor:
        """The deconvolutions; those of large maps are a third faster on a CPU with the channels last."""
        if not isinstance(self.deconv_layers, nn.Sequential):
            return x
        layers = list(self.deconv_layers)
        for position in range(0, len(layers), 3):
            deconv, norm, activation = layers[position : position + 3]
            if position == 3 and x.device.type == "cpu":  # before the second; the first has more weights than pixels
                x = x.contiguous(memory_format=torch.channels_last)
            x = norm_act(norm, deconv(x), activation)
        return x


class RegressionHead(nn.Module):
    """One linear layer from pooled features to coordinates (Toshev and Szegedy, "DeepPose", CVPR 2014).

    Args:
        in_channels: features.
        num_keypoints: K.
        rle: also say how unsure each coordinate is (Li et al., "Human Pose Regression with Residual Log-likelihood
            Estimation", ICCV 2021); the flow that its training needs is then part of the head, as in official files.
    """

    gives = "coordinates"
    stages = 1

    def __init__(self, in_channels: int, num_keypoints: int, *, rle: bool = False) -> None:
        super().__init__()
        self.num_keypoints = num_keypoints
        self.loss_module = RLELoss() if rle else None
        self.fc = nn.Linear(in_channels, num_keypoints * (4 if rle else 2))
        nn.init.normal_(self.fc.weight, std=0.01)
        nn.init.zeros_(self.fc.bias)

    def forward(self, x: Tensor) -> Output:
        """[B, in_channels] → one stage [B, K, 2 or 4].

        (x, y) as fractions of the input's sides, and their deviations before a sigmoid.
        """
        return Output((self.fc(x).unflatten(1, (self.num_keypoints, -1)),))


class VisibilityHead(nn.Module):
    """A heatmap head, and beside it the probability that each keypoint is labelled at all.

    Args:
        pose_head: gives the maps.
        in_channels: channels of the backbone's feature map.
        num_keypoints: K.
    """

    tells_visibility = True

    def __init__(self, pose_head: HeatmapHead, in_channels: int, num_keypoints: int) -> None:
        super().__init__()
        self.gives, self.stages = pose_head.gives, pose_head.stages
        self.pose_head = pose_head
        linear = nn.Linear(in_channels, num_keypoints)
        nn.init.normal_(linear.weight, std=0.01)
        nn.init.zeros_(linear.bias)
        self.vis_head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), linear, nn.Sigmoid())

    def forward(self, x: Tensor) -> Output:
        """Features [B, in_channels, h, w] → the pose head's stages, and probabilities [B, K]."""
        return Output(self.pose_head(x).stages, self.vis_head(x))


class MapsHead(nn.Module):
    """No layers: the backbone's maps are the output.

    Args:
        stages: how many there are; the backbone returns a sequence of maps, or one tensor.
    """

    gives = "maps"

    def __init__(self, stages: int = 1) -> None:
        super().__init__()
        self.stages = stages

    def forward(self, maps: Tensor | Sequence[Tensor]) -> Output:
        """Maps [B, C, h, w] of every stage → the same as an output."""
        return Output((maps,) if isinstance(maps, Tensor) else tuple(maps))


def _kernels(name: str, kernels: Sequence[int] | None, channels: Sequence[int], default: int) -> tuple[int, ...]:
    if kernels is None:
        return (default,) * len(channels)
    if len(kernels) != len(channels):
        raise ValueError(f"{name}: expected {len(channels)} values, one per layer, got {len(kernels)}")
    return tuple(kernels)
