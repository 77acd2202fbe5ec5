"""A convolution with its normalisation and activation, named as official checkpoints name them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from fastpose.ops import interleave as native_interleave

from .depthwise import DepthwiseConv
from .norm import norm_act


class ConvUnit(nn.Module):
    """Convolution (`conv`), then BatchNorm (`bn`) if wanted, then an activation if wanted.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        kernel: side of the kernel, odd; the padding keeps the size at stride 1.
        stride: stride.
        groups: groups of the convolution.
        norm: with BatchNorm.
        bias: whether the convolution has a bias; by default where no BatchNorm follows.
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
        bias: bool | None = None,
        activation: nn.Module | None = None,
    ) -> None:
        super().__init__()
        bias = not norm if bias is None else bias
        if 1 < groups == in_channels == out_channels and not bias:
            self.conv: nn.Conv2d = DepthwiseConv(in_channels, kernel, stride)
        else:
            self.conv = nn.Conv2d(in_channels, out_channels, kernel, stride, kernel // 2, groups=groups, bias=bias)
        self.bn = nn.BatchNorm2d(out_channels) if norm else None
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        """[B, in_channels, h, w] → [B, out_channels, h / stride, w / stride]."""
        x = self.conv(x)
        if self.bn is not None:
            return norm_act(self.bn, x, self.activation)
        return x if self.activation is None else self.activation(x)


class SeparableConvUnit(nn.Module):
    """Depthwise convolution with BatchNorm, then 1x1 convolution with BatchNorm; each may have an activation.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        kernel: side of the depthwise kernel, odd.
        depthwise_activation: after the depthwise convolution; None for none.
        activation: after the 1x1 convolution; ReLU where it is None.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int = 3,
        *,
        depthwise_activation: nn.Module | None = None,
        activation: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.depthwise_conv = ConvUnit(
            in_channels, in_channels, kernel, groups=in_channels, activation=depthwise_activation
        )
        activation = nn.ReLU(inplace=True) if activation is None else activation
        self.pointwise_conv = ConvUnit(in_channels, out_channels, activation=activation)

    def forward(self, x: Tensor) -> Tensor:
        """[B, in_channels, h, w] → [B, out_channels, h, w]."""
        return self.pointwise_conv(self.depthwise_conv(x))


def halve(x: Tensor) -> tuple[Tensor, Tensor]:
    """The first half of the channels, to be kept, and the second, to be worked on: [B, c, h, w] → twice [B, c/2, h, w].

    With the channels last in memory on a CPU, the second one is a copy: most layers would take several times as long to
    pass over every other piece of memory, most of all for the gradient.
    """
    first, second = x.chunk(2, dim=1)
    if x.device.type == "cpu" and x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous():
        second = second.contiguous(memory_format=torch.channels_last)
    return first, second


def interleave(parts: Sequence[Tensor], weights: Tensor | None = None) -> Tensor:
    """The first channel of every part, then the second of every part, and so on: G parts [B, c, h, w] → [B, G*c, h, w].

    It is the channel shuffle (Zhang et al., "ShuffleNet", CVPR 2018) of their concatenation, in one copy instead of
    two; with the channels last in memory if a part has them so (halves of a map have neither layout).

    Args:
        parts: the maps.
        weights: [B, c, 1, 1], by which the last part is multiplied first; None for none.
    """
    if len(parts) == 2 and _have_native_op(parts[0], parts[1], weights):
        return native_interleave(parts[0], parts[1], None if weights is None else weights.flatten(1))
    if weights is not None:
        parts = (*parts[:-1], parts[-1] * weights)
    if any(part.is_contiguous(memory_format=torch.channels_last) for part in parts):
        rows = [part.permute(0, 2, 3, 1) for part in parts]
        return torch.stack(rows, dim=4).flatten(3).permute(0, 3, 1, 2)
    return torch.stack(tuple(parts), dim=2).flatten(1, 2)


def _have_native_op(first: Tensor, second: Tensor, weights: Tensor | None) -> bool:
    """Whether it takes these maps, of which the first may be half of the channels of one."""
    if torch.compiler.is_compiling() or torch.jit.is_tracing():  # type: ignore[attr-defined]
        return False
    height, width = first.shape[-2:]
    pitch = first.stride(-1)
    return (
        type(first) is Tensor
        and type(second) is Tensor
        and first.device.type == second.device.type == "cpu"
        and first.dtype in (torch.float32, torch.bfloat16)
        and second.dtype is first.dtype
        and second.shape == first.shape
        and second.numel() > 0
        and second.is_contiguous(memory_format=torch.channels_last)
        and first.stride() == (height * width * pitch, 1, width * pitch, pitch)
        and (weights is None or (type(weights) is Tensor and weights.dtype is first.dtype))
    )


def channel_shuffle(x: Tensor, groups: int) -> Tensor:
    """Interleave the channels of the groups, in the memory layout of the input: [B, c, h, w] → the same shape."""
    if x.is_contiguous(memory_format=torch.channels_last):
        rows = x.permute(0, 2, 3, 1).unflatten(3, (groups, -1))
        return rows.transpose(3, 4).flatten(3).permute(0, 3, 1, 2)
    return x.unflatten(1, (groups, -1)).transpose(1, 2).flatten(1, 2)
