"""Training on a batch of the figures lowers the loss, whatever the head gives and whichever loss learns from it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from fastpose.codecs import build_codec
from fastpose.data.augment import Augmentation
from fastpose.data.dataset import PoseDataset, Source
from fastpose.data.loader import Loader
from fastpose.data.readers import read_annotations
from fastpose.models import HeatmapHead, LossSettings, PoseModel, RegressionHead, build_loss, create_model
from fastpose.models.integral_head import IntegralHead
from fastpose.models.vector_heads import RTMCCHead, RTMWHead, SimCCHead
from fastpose.skeletons import COCO17
from fastpose.spec import PoseSpec

pytestmark = pytest.mark.usefixtures("one_thread")

SIZE, CELLS, CHANNELS = (64, 64), (4, 4), 192
SHARP = {"beta": 10.0, "label_softmax": True}  # RTMPose's
SIMCC: dict[str, Any] = {"kind": "simcc", "sigma": (2.0, 2.0), "normalized": False}
MAPS = {"kind": "gaussian", "heatmap_size": (16, 16)}
INTEGRAL = {"kind": "integral", "heatmap_size": (16, 16)}


class Averages(nn.Module):
    """The mean of each channel, and a head of coordinates on them."""

    gives, stages = "coordinates", 1

    def __init__(self) -> None:
        super().__init__()
        self.head = RegressionHead(CHANNELS, 17)

    def forward(self, x: torch.Tensor) -> Any:
        return self.head(x.mean((2, 3)))


class Shuffled(nn.Module):
    """A fine map of half the channels beside the coarse one, and RTMW's head."""

    gives, stages = "vectors", 1

    def __init__(self) -> None:
        super().__init__()
        self.fine = nn.ConvTranspose2d(CHANNELS, CHANNELS // 2, 2, 2)
        self.head = RTMWHead(CHANNELS, 17, CELLS, (128, 128))

    def forward(self, x: torch.Tensor) -> Any:
        return self.head((self.fine(x), x))


def deconvolved() -> nn.Module:
    return HeatmapHead(CHANNELS, 17, deconv_channels=(32, 32))


def integral(**options: Any) -> nn.Module:
    return IntegralHead(CHANNELS, 17, (16, 16), deconv_channels=(32, 32), **options)


def rtmcc() -> nn.Module:
    return RTMCCHead(CHANNELS, 17, CELLS, (128, 128))


CASES: dict[str, tuple[Any, dict[str, Any], dict[str, Any]]] = {
    "simcc": (lambda: SimCCHead(CHANNELS, 17, CELLS, (128, 128)), {"kind": "simcc", "sigma": (2.0, 2.0)}, {}),
    "rtmpose": (rtmcc, SIMCC, {"options": SHARP}),
    "rtmw": (Shuffled, SIMCC, {"options": {"beta": 1.0, "label_softmax": True, "label_beta": 10.0}}),
    "masked": (rtmcc, SIMCC, {"options": {**SHARP, "mask": ["nose"], "mask_weight": 0.5}}),
    "integral": (integral, INTEGRAL, {}),
    "debiased": (lambda: integral(beta=10.0, debias=True), INTEGRAL, {}),
    "maps beside": (integral, INTEGRAL, {"kind": "mse"}),
    "adaptive wing": (deconvolved, MAPS, {"kind": "adaptive_wing"}),
    **{
        kind: (Averages, {"kind": "regression"}, {"kind": kind})
        for kind in ("smooth_l1", "l1", "mse", "wing", "soft_wing")
    },
}


@pytest.fixture(scope="module")
def batch(figures: Path) -> Any:
    people = PoseDataset([Source(read_annotations(figures / "train.json", figures))], COCO17)
    still = Augmentation(flip_prob=0, half_body_prob=0, scale=(1.0, 1.0), rotate=0.0, shift=0.0)
    spec = create_model("resnet18_slim", input_size=SIZE).spec
    return next(iter(Loader(people, spec, batch_size=8, augmentation=still, seed=0, workers=1).epoch(0)))


@pytest.mark.parametrize("name", list(CASES))
def test_a_loss_learns(name: str, batch: Any) -> None:
    make_head, codec, settings = CASES[name]
    torch.manual_seed(0)
    backbone = create_model("resnet18_slim", input_size=SIZE).backbone
    model = PoseModel(backbone, make_head(), PoseSpec(COCO17, SIZE, build_codec(**codec)))
    loss_of = build_loss(model.head, model.spec, LossSettings(**settings))
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    losses = []
    for _ in range(12):
        loss = loss_of(model(batch.images), batch.keypoints, batch.weights, batch.annotated)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert all(parameter.grad is not None for parameter in model.parameters() if parameter.requires_grad)
    assert min(losses[-3:]) < 0.9 * losses[0]
