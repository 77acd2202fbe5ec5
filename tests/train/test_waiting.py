"""A training step asks the device for no value and sends it none: a GPU would be waited for each time."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from fastpose.models import create_model
from fastpose.models.objective import LossSettings, StageLoss, build_loss
from fastpose.train.optim import build_optimizer
from fastpose.train.settings import OptimizerSettings

ASK = {"_local_scalar_dense", "equal", "masked_select", "nonzero", "_unique2", "repeat_interleave"}
SEND = {"lift_fresh"}  # numbers of Python's as a tensor
BY_MASK = {"index", "index_put_", "_index_put_impl_"}

NETWORKS: dict[str, tuple[str, dict[str, Any], LossSettings]] = {
    "heatmaps": ("mobilenetv2", {}, LossSettings()),
    "hardest": ("mobilenetv2", {}, LossSettings(hardest=8)),
    "stages": ("rsn18", {}, LossSettings(stages=(StageLoss(kernel_size=15), *[StageLoss(hardest=8)] * 3))),
    "visibility": ("mobilenetv2", {"head": "visibility"}, LossSettings()),
    "coordinates": ("mobilenetv2", {"head": "regression", "codec": {"kind": "regression"}}, LossSettings()),
    "deviations": ("mobilenetv2", {"head": "rle", "codec": {"kind": "regression"}}, LossSettings()),
    "interleave": ("litehrnet18", {}, LossSettings()),
}


class Watch(TorchDispatchMode):
    """Counts operations after which the host must wait."""

    def __init__(self) -> None:
        super().__init__()
        self.found: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        masked = name in BY_MASK and any(index is not None and index.dtype == torch.bool for index in args[1])
        if name in ASK | SEND or masked:
            self.found[name] += 1
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("case", NETWORKS)
def test_a_step(case: str) -> None:
    name, options, settings = NETWORKS[case]
    model = create_model(name, input_size=(64, 64), **options).train()
    loss = build_loss(model.head, model.spec, settings)
    optimizer = build_optimizer(model, OptimizerSettings())
    points = torch.rand(2, model.spec.num_keypoints, 2) * 60
    labels = points, torch.ones(points.shape[:2]), torch.ones(points.shape[:2], dtype=torch.bool)
    images = torch.rand(2, 3, 64, 64)
    with Watch() as watch:
        with torch.autocast("cpu", torch.bfloat16):
            output = model(images)
        loss(output, *labels).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    assert not watch.found


def test_the_watch_finds_what_waits() -> None:
    with Watch() as watch:
        values = torch.arange(3.0)
        values[values > 1].sum().item()
        values.new_tensor([1.0, 2.0])
    assert set(watch.found) == {"index", "_local_scalar_dense", "lift_fresh"}
