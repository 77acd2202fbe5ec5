"""Losses that codecs offer by name: value and gradient as the reference figures have them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from fastpose.codecs import build_codec
from fastpose.codecs.losses import COORDINATE_LOSSES, adaptive_wing, coordinate_loss, jensen_shannon
from fastpose.models import LossSettings, build_loss
from fastpose.models.output import Output, map_stage
from fastpose.ops.reference.simcc_loss import simcc_loss_of_labels
from fastpose.skeletons import COCO17
from fastpose.spec import PoseSpec

RTMW = {"beta": 1.0, "label_softmax": True, "label_beta": 10.0}
KL: dict[str, dict[str, Any]] = {
    "kl_discret": {},
    "kl_discret_rtmpose": {"beta": 10.0, "label_softmax": True},
    "kl_discret_rtmw": RTMW,
}


def near(value: Tensor, expected: float, gradients: list[tuple[Tensor, Any]]) -> None:
    assert value.item() == pytest.approx(expected, rel=1e-5)
    value.backward()
    for tensor, wanted in gradients:
        assert tensor.grad is not None
        # Where the weight is 0, MMPose's Jensen-Shannon divergence has a gradient that is not a number.
        expected_gradient = torch.tensor(np.asarray(wanted), dtype=torch.float32).nan_to_num(nan=0.0)
        torch.testing.assert_close(tensor.grad, expected_gradient, rtol=1e-4, atol=1e-6)


def learnt(value: Any) -> Tensor:
    return torch.tensor(np.asarray(value), dtype=torch.float32, requires_grad=True)


@pytest.mark.parametrize("name", list(KL))
def test_kl(data: Path, name: str) -> None:
    figures = json.loads((data / "loss_figures.json").read_text())[name]
    x, y = learnt(figures["in_0_0"]), learnt(figures["in_0_1"])
    labels = torch.tensor(figures["in_1_0"]), torch.tensor(figures["in_1_1"])
    weights = torch.tensor(figures["in_2"])
    if name == "kl_discret_rtmw":
        weights[:, [1, 3]] *= 0.5
    loss = simcc_loss_of_labels((x, y), labels, weights, **KL[name])
    near(loss, figures["value"], [(x, figures["in_0_0_grad"]), (y, figures["in_0_1_grad"])])


@pytest.mark.parametrize("name", ["wing", "soft_wing", "l1", "mse"])
def test_coordinates(data: Path, name: str) -> None:
    figures = json.loads((data / "loss_figures.json").read_text())[name]
    predicted, weights = learnt(figures["in_0"]), torch.tensor(figures["in_2"])
    loss = coordinate_loss(name, predicted, torch.tensor(figures["in_1"]), weights[..., 0])
    near(loss, figures["value"], [(predicted, figures["in_0_grad"])])


def test_maps(shared: Path) -> None:
    arrays = np.load(shared / "reference" / "losses_wider.npz")
    values = json.loads((shared / "reference" / "losses_wider.json").read_text())
    for name, function in (("adaptive_wing", adaptive_wing), ("js_discret", jensen_shannon)):
        maps, weights = learnt(arrays[f"{name}/in_0"]), torch.tensor(arrays[f"{name}/in_2"])
        loss = function(maps, torch.tensor(arrays[f"{name}/in_1"]), weights)
        near(loss, values[name]["value"], [(maps, arrays[f"{name}/in_0_grad"])])
    name = "adaptive_wing_unweighted"
    maps = learnt(arrays[f"{name}/in_0"])
    near(
        adaptive_wing(maps, torch.tensor(arrays[f"{name}/in_1"])),
        values[name]["value"],
        [(maps, arrays[f"{name}/in_0_grad"])],
    )


@pytest.mark.parametrize("name", list(COORDINATE_LOSSES))
def test_gradients_of_coordinates(name: str) -> None:
    generator = torch.Generator().manual_seed(0)
    predicted, target = (torch.rand(2, 3, 2, generator=generator, dtype=torch.float64) * 30 for _ in range(2))
    weights = torch.tensor([[1.0, 0, 1], [0.5, 1, 1]], dtype=torch.float64)
    assert torch.autograd.gradcheck(
        lambda x: coordinate_loss(name, x, target, weights), predicted.requires_grad_()
    )  # fmt: skip


def test_gradients_of_maps() -> None:
    generator = torch.Generator().manual_seed(0)
    maps, target = (torch.rand(2, 3, 4, 5, generator=generator, dtype=torch.float64) for _ in range(2))
    weights = torch.tensor([[1.0, 0, 1], [0.5, 1, 1]], dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda x: adaptive_wing(x, target, weights), maps.requires_grad_())
    assert torch.autograd.gradcheck(lambda x: jensen_shannon(x, target, weights), maps.detach().requires_grad_())


CASES = [
    ("dark", {"heatmap_size": (16, 12)}, "adaptive_wing", {"omega": 12.0}, lambda: torch.rand(2, 17, 16, 12)),
    ("regression", {}, "wing", {"epsilon": 1.0}, lambda: torch.rand(2, 17, 2)),
    ("simcc", {}, "kl", RTMW, lambda: (torch.rand(2, 17, 96), torch.rand(2, 17, 128))),
    ("integral", {"heatmap_size": (16, 12)}, "js", {"coordinates": "l1"},
     lambda: (torch.rand(2, 17, 2), torch.rand(2, 17, 16 * 12).softmax(-1).view(2, 17, 16, 12))),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "fields", "loss", "options", "draw"), CASES, ids=[case[0] for case in CASES])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_recipe_names_them(kind: str, fields: Any, loss: str, options: Any, draw: Any, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    spec = PoseSpec(COCO17, (64, 48), build_codec(kind, **fields))
    function = build_loss(torch.nn.Identity(), spec, LossSettings(kind=loss, options=options))
    stage: Any = map_stage(lambda part: part.to(dtype).requires_grad_(), draw())
    points = torch.rand(2, 17, 2) * 40
    value = function(Output((stage,)), points, torch.ones(2, 17))
    assert value.dtype == torch.float32
    assert value.isfinite()
    assert value > 0
    nothing = function(Output((stage,)), points, torch.zeros(2, 17))
    assert nothing == 0
    (value + nothing).backward()
    for part in stage if isinstance(stage, tuple) else (stage,):
        assert part.grad.isfinite().all()


def test_a_mask_names_keypoints() -> None:
    spec = PoseSpec(COCO17, (64, 48), build_codec("simcc"))
    stage = torch.rand(1, 17, 96), torch.rand(1, 17, 128)
    points, weights = torch.rand(1, 17, 2) * 40, torch.ones(1, 17)

    def loss(**options: Any) -> float:
        return float(
            build_loss(torch.nn.Identity(), spec, LossSettings(options=options))(Output((stage,)), points, weights)
        )

    alone = torch.zeros(1, 17)
    alone[0, 0] = 1
    nose = float(build_loss(torch.nn.Identity(), spec)(Output((stage,)), points, alone))
    assert loss(mask=["nose"], mask_weight=0.0) == pytest.approx(loss() - nose, rel=1e-5)
    assert loss(mask=[0], mask_weight=0.5) == pytest.approx(loss() - nose / 2, rel=1e-5)
    with pytest.raises(ValueError, match=r"options\.mask: skeleton 'coco17' has no keypoint 'tail'"):
        loss(mask=["tail"])
    with pytest.raises(ValueError, match="indices below 17, got 17"):
        loss(mask=[17])


def test_a_batch_counts_as_the_mean_of_its_crops() -> None:
    """Whatever it is divided into: else the loss of a step would depend on the number of processes."""
    torch.manual_seed(0)
    for kind, fields, loss, options, draw in CASES:
        function = build_codec(kind, **fields).make_loss((64, 48), kind=loss, **options)
        stage, points, weights = draw(), torch.rand(2, 17, 2) * 40, torch.ones(2, 17)
        single = [function(map_stage(lambda part, i=i: part[i : i + 1], stage), points[i : i + 1], weights[i : i + 1])
                  for i in range(2)]  # fmt: skip
        assert function(stage, points, weights).item() == pytest.approx(sum(single).item() / 2, rel=1e-5), kind
