"""ViPNAS-ResNet (Xu et al., "ViPNAS: Efficient Video Pose Estimation via Neural Architecture Search", CVPR 2021)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from fastpose.spec import PoseSpec

from ..baseline import simple_baseline
from ..layers import MaxPool, NormSequential, init_normal, norm_act
from ..pose_model import PoseModel
from ..registry import register_model

_GROUPS = 16
# What the search found: width, blocks, side of the kernel, whether the blocks have attention, stride of the first.
_STAGES = ((80, 4, 3, True, 1), (160, 6, 5, False, 2), (304, 7, 5, True, 2), (608, 3, 5, True, 2))


class ViPNASResNet(nn.Module):
    """The searched ResNet-50: 608 channels at 1/32 of the input; `forward_features` gives its four stages' maps."""

    stride = 32
    out_channels = 608
    feature_channels = (80, 160, 304, 608)
    feature_strides = (4, 8, 16, 32)

    def __init__(self) -> None:
        super().__init__()
        channels = 48
        self.conv1 = nn.Conv2d(3, channels, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = MaxPool(3, stride=2, padding=1)
        stages = []
        for width, depth, kernel, attention, stride in _STAGES:
            blocks = [Bottleneck(channels, width, kernel, attention=attention, stride=stride)]
            blocks += [Bottleneck(width, width, kernel, attention=attention) for _ in range(depth - 1)]
            stages.append(nn.Sequential(*blocks))
            channels = width
        self.layer1, self.layer2, self.layer3, self.layer4 = stages
        self.init_weights()

    def init_weights(self) -> None:
        """Draw every convolution from N(0, 0.001), as the official training does."""
        init_normal(self)

    def forward_features(self, x: Tensor) -> list[Tensor]:
        """[B, 3, h, w] → [B, feature_channels[i], h / feature_strides[i], w / feature_strides[i]]."""
        x = self.maxpool(norm_act(self.bn1, self.conv1(x), self.relu))
        maps = []
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = stage(x)
            maps.append(x)
        return maps

    def forward(self, x: Tensor) -> Tensor:
        """[B, 3, h, w] → [B, 608, h / 32, w / 32]."""
        return self.forward_features(x)[-1]


class Bottleneck(nn.Module):
    """1x1, grouped kxk and 1x1 convolution of one width, perhaps global context, and a shortcut.

    Args:
        in_channels: channels of the input; the shortcut is a projection where the output has others.
        width: channels of all convolutions, and of the output.
        kernel: side of the grouped convolution's kernel, odd.
        attention: with global context at the end of the branch.
        stride: stride of the grouped convolution and of the shortcut.
    """

    def __init__(self, in_channels: int, width: int, kernel: int, *, attention: bool, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, kernel, stride, kernel // 2, groups=_GROUPS, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, width, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(width)
        self.attention = GlobalContext(width) if attention else None
        self.relu = nn.ReLU(inplace=True)
        self.downsample = None
        if in_channels != width:
            projection = nn.Conv2d(in_channels, width, 1, stride, bias=False)
            self.downsample = NormSequential(projection, nn.BatchNorm2d(width))

    def forward(self, x: Tensor) -> Tensor:
        """[B, in_channels, h, w] → [B, width, h / stride, w / stride]."""
        shortcut = x if self.downsample is None else self.downsample(x)
        x = norm_act(self.bn1, self.conv1(x), self.relu)
        x = norm_act(self.bn2, self.conv2(x), self.relu)
        if self.attention is None:
            return norm_act(self.bn3, self.conv3(x), self.relu, shortcut)
        return self.relu(self.attention(norm_act(self.bn3, self.conv3(x))).add_(shortcut))


class GlobalContext(nn.Module):
    """Add to every position what two layers make of a weighted mean over all (Cao et al., "GCNet", ICCVW 2019).

    Args:
        width: channels; the hidden layer has a sixteenth, and at least 16.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        hidden = max(width // 16, 16)
        self.conv_mask = nn.Conv2d(width, 1, 1)
        self.channel_add_conv = nn.Sequential(
            nn.Conv2d(width, hidden, 1),
            nn.LayerNorm((hidden, 1, 1)),
            nn.ReLU(inplace=True),
            nn.Conv2d(hidden, width, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """[B, width, h, w] → the same shape."""
        weights = self.conv_mask(x).flatten(2).softmax(dim=2)
        context = x.flatten(2) @ weights.mT
        return x + self.channel_add_conv(context.unsqueeze(3))


@register_model
def vipnas_resnet50(
    spec: PoseSpec, *, deconv_channels: Sequence[int] = (144, 144, 144), deconv_groups: int = 16
) -> PoseModel:
    """ViPNAS-ResNet-50 with grouped deconvolutions."""
    return simple_baseline(spec, ViPNASResNet(), deconv_channels=deconv_channels, deconv_groups=deconv_groups)
