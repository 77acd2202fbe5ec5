"""The head of integral regression: a keypoint is the mean of its map."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from fastpose.checks import Size

from .heads import HeatmapHead
from .output import Output


class IntegralHead(nn.Module):
    """The softmax of each map, and the mean place under it (Sun et al., "Integral Human Pose Regression", ECCV 2018).

    Args:
        in_channels: channels of the backbone's feature map.
        num_keypoints: K.
        map_size: (height, width) of the maps, after the deconvolutions.
        deconv_channels: output channels of each deconvolution.
        beta: factor on the maps before the softmax.
        debias: take out what the softmax adds everywhere, which pulls means to the middle (Gu et al., "Removing the
            Bias of Integral Pose Regression", ICCV 2021).
    """

    gives = "integral"
    stages = 1

    def __init__(
        self,
        in_channels: int,
        num_keypoints: int,
        map_size: Size,
        *,
        deconv_channels: Sequence[int] = (256, 256, 256),
        beta: float = 1.0,
        debias: bool = False,
    ) -> None:
        super().__init__()
        self.beta, self.debias = beta, debias
        height, width = map_size
        # In official files these stand among the weights.
        self.linspace_x = nn.Parameter((torch.arange(width) / width).view(1, 1, 1, width), requires_grad=False)
        self.linspace_y = nn.Parameter((torch.arange(height) / height).view(1, 1, height, 1), requires_grad=False)
        self.simplebaseline_head = HeatmapHead(in_channels, num_keypoints, deconv_channels=deconv_channels)

    def forward(self, x: Tensor) -> Output:
        """Features [B, in_channels, h, w] → one stage: fractions of the input's sides [B, K, 2], maps [B, K, H, W]."""
        scores = self.simplebaseline_head(x).last
        maps = (scores * self.beta).flatten(2).softmax(2).view_as(scores)
        points = torch.stack([(maps * line).sum((2, 3)) for line in (self.linspace_x, self.linspace_y)], -1)
        if self.debias:
            total = scores.flatten(2).exp().sum(2)[..., None]
            points = total / (total - 1) * (points - 1 / (2 * total))
        return Output(((points, maps),))
