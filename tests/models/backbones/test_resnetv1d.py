"""ResNet-D: the stem of three convolutions, and shortcuts that average."""

from __future__ import annotations

import torch
from torch import nn

from fastpose.models import create_model


def test_stem_and_shortcuts():
    with torch.device("meta"):
        backbone = create_model("resnetv1d50", input_size=(64, 64)).backbone
    assert [unit.conv.stride[0] for unit in backbone.stem] == [2, 1, 1]
    assert [type(layer) for layer in backbone.layer1[0].downsample] == [nn.Conv2d, nn.BatchNorm2d]
    pool, conv, _ = backbone.layer2[0].downsample
    assert (pool.kernel_size, conv.stride) == (2, (1, 1))
    assert backbone.layer2[1].downsample is None
