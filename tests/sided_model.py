"""A network that knows left from right, and whose answers are known: spots in a photo stand for the keypoints.

A red spot is the nose. Of green spots the one in the right half of the crop is the left eye, as of somebody who looks
into the camera, and the one in the left half the right eye: so the network says of a mirrored crop what it should.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from fastpose.codecs import build_codec
from fastpose.models import PoseModel
from fastpose.models.heads import HeatmapHead, VisibilityHead
from fastpose.skeletons import Skeleton
from fastpose.spec import PoseSpec

FACE = Skeleton("face", ("nose", "left_eye", "right_eye"), flip_pairs=(("left_eye", "right_eye"),))
INPUT = (128, 96)


class Halves(nn.Module):
    """[B, 3, h, w] RGB → [B, 3, h / 4, w / 4] red, green of the right half, green of the left half."""

    def forward(self, x):
        red, green = x[:, 0, ::4, ::4], x[:, 1, ::4, ::4]
        right = torch.arange(green.shape[2], device=x.device) >= green.shape[2] // 2
        return torch.stack([red, green * right, green * ~right], 1)


def sided_model(*, visibility: bool = False) -> PoseModel:
    """Maps of the spots; with `visibility` each keypoint is as visible as its half is bright."""
    codec = build_codec("dark", heatmap_size=(INPUT[0] // 4, INPUT[1] // 4))
    spec = PoseSpec(FACE, INPUT, codec, mean=(0.0, 0.0, 0.0), std=(255.0, 255.0, 255.0), flip_test=True)
    head: nn.Module = HeatmapHead(3, 3, deconv_channels=())
    with torch.no_grad():
        head.final_layer.weight.copy_(torch.eye(3)[..., None, None])
        if visibility:
            head = VisibilityHead(head, 3, 3)
            linear = head.vis_head[2]
            linear.weight.copy_(400 * torch.eye(3))
            linear.bias.fill_(-4.0)
    return PoseModel(Halves(), head, spec).eval()


def photo_of(size, spots):
    """A black photo, uint8 BGR [h, w, 3], with spots: (keypoint, x, y, radius, brightness from 0 to 1)."""
    height, width = size
    y, x = np.mgrid[:height, :width]
    photo = np.zeros((height, width, 3))
    for name, px, py, radius, brightness in spots:
        layer = photo[..., 2 if name == "nose" else 1]
        np.maximum(layer, brightness * np.exp(-((x - px) ** 2 + (y - py) ** 2) / (2 * radius**2)), out=layer)
    return np.round(255 * photo).astype(np.uint8)
