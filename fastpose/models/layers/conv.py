"""A convolution with its normalisation and activation, named as official checkpoints name them."""

from __future__ import annotations

from torch import Tensor, nn


class ConvUnit(nn.Module):
    """Convolution (`conv`), then BatchNorm (`bn`) if wanted, then an activation if wanted.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        kernel: side of the kernel, odd; the padding keeps the size at stride 1.
        stride: stride.
        groups: groups of the convolution.
        norm: with BatchNorm; without it the convolution has a bias.
        activation: applied last; None for none.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int = 1,
        *,
        stride: int = 1,
        groups: int = 1,
        norm: bool = True,
        activation: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(
            in_channels, out_channels, kernel, stride, padding=kernel // 2, groups=groups, bias=not norm
        )
        self.bn = nn.BatchNorm2d(out_channels) if norm else None
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        """[B, in_channels, h, w] → [B, out_channels, h / stride, w / stride]."""
        x = self.conv(x)
        if self.bn is not None:
            x = self.bn(x)
        return x if self.activation is None else self.activation(x)


class SeparableConvUnit(nn.Module):
    """3x3 depthwise convolution with BatchNorm, then 1x1 convolution with BatchNorm and ReLU.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.depthwise_conv = ConvUnit(in_channels, in_channels, 3, groups=in_channels)
        self.pointwise_conv = ConvUnit(in_channels, out_channels, activation=nn.ReLU(inplace=True))

    def forward(self, x: Tensor) -> Tensor:
        """[B, in_channels, h, w] → [B, out_channels, h, w]."""
        return self.pointwise_conv(self.depthwise_conv(x))


def channel_shuffle(x: Tensor, groups: int) -> Tensor:
    """Interleave the channels of the groups (Zhang et al., "ShuffleNet", CVPR 2018): [B, c, h, w] → the same shape."""
    batch, channels, height, width = x.shape
    return x.view(batch, groups, channels // groups, height, width).transpose(1, 2).flatten(1, 2)
