"""Folding follows what a network does, not how its layers are registered; and it proves itself."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from fastpose.codecs import Gaussian
from fastpose.models import HeatmapHead, PoseModel, fuse_batchnorm
from fastpose.skeletons import COCO17
from fastpose.spec import PoseSpec

SPEC = PoseSpec(COCO17, (32, 32), Gaussian((8, 8)))


class Third(nn.Module):
    """A backbone as somebody else may write it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8)
        self.conv2, self.norm2 = nn.Conv2d(8, 8, 3, 2, 1), nn.BatchNorm2d(8)


class ReluBetween(Third):
    def forward(self, x):
        x = self.norm1(F.relu(self.conv1(x)))
        return self.norm2(self.conv2(x))


class ReluInPlaceBetween(Third):
    def forward(self, x):
        x = self.norm1(F.relu_(self.conv1(x)))
        return self.norm2(self.conv2(x))


class OtherOrder(Third):
    """The normalisations are registered the other way round than they are used."""

    def forward(self, x):
        x = F.relu(self.norm2(self.conv1(x)))
        return self.norm1(self.conv2(x))


class Twice(Third):
    """One convolution's result is normalised in two ways."""

    def forward(self, x):
        x = self.conv1(x)
        return self.norm2(self.conv2(self.norm1(x) + F.relu(self.norm2(x))))


class Seen(Third):
    """A convolution's result is used beside its normalisation."""

    def forward(self, x):
        x = self.conv1(x)
        return self.norm2(self.conv2(self.norm1(x) + x))


class Shared(Third):
    """One convolution, called twice."""

    def forward(self, x):
        x = self.norm1(self.conv1(x))
        return self.norm2(self.conv2(F.relu(self.conv2(F.interpolate(x, scale_factor=2.0)))))


@pytest.mark.parametrize(
    ("backbone", "left"),
    [(ReluBetween, 1), (ReluInPlaceBetween, 1), (OtherOrder, 0), (Twice, 2), (Seen, 2), (Shared, 1)],
)
def test_a_backbone_of_others(backbone, left) -> None:
    torch.manual_seed(0)
    model = PoseModel(backbone(), HeatmapHead(8, 17, deconv_channels=()), SPEC).eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, std=0.5)
            nn.init.uniform_(module.running_var, 0.2, 2.0)
            nn.init.normal_(module.bias)
    nn.init.normal_(model.head.final_layer.weight)
    x = torch.randn(2, 3, 32, 32)
    state = torch.random.get_rng_state()
    folded = fuse_batchnorm(model)
    assert torch.equal(torch.random.get_rng_state(), state)
    with torch.no_grad():
        expected, got = model(x).last, folded(x).last
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))
    assert sum(isinstance(module, nn.BatchNorm2d) for module in folded.modules()) == left


def test_hooks_of_the_watching_do_not_stay() -> None:
    model = PoseModel(ReluBetween(), HeatmapHead(8, 17, deconv_channels=()), SPEC)
    folded = fuse_batchnorm(model)
    for network in (model, folded):
        assert not any(module._forward_hooks or module._forward_pre_hooks for module in network.modules())
    assert model.training
