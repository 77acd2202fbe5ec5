"""heatmap_mse against values by hand, torch, and the reference figures."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from fastpose.codecs.losses import coordinate_loss
from fastpose.models import (
    RegressionHead,
    RLELoss,
    feature_distillation,
    heatmap_mse,
    vector_distillation,
    visibility_loss,
)


def test_value_and_gradient_by_hand():
    predicted = torch.tensor([[[[1.0, 2.0]], [[3.0, 4.0]]]], requires_grad=True)  # [1, 2, 1, 2]
    target = torch.tensor([[[[0.0, 2.0]], [[1.0, 0.0]]]])
    loss = heatmap_mse(predicted, target, torch.tensor([[1.0, 0.5]]))
    assert loss.item() == pytest.approx((1 + 0 + 0.5 * 4 + 0.5 * 16) / 4)
    loss.backward()
    assert predicted.grad.tolist() == [[[[0.5, 0.0]], [[0.5, 1.0]]]]
    assert heatmap_mse(predicted, target).item() == pytest.approx((1 + 0 + 4 + 16) / 4)


def test_half_precision_predictions_are_compared_in_float32():
    predicted = torch.full((1, 1, 2, 2), 300.0, dtype=torch.float16)
    assert heatmap_mse(predicted, torch.zeros(1, 1, 2, 2)).item() == 90000.0  # above float16's largest number
    assert heatmap_mse(predicted.double(), torch.zeros(1, 1, 2, 2)).dtype == torch.float64


@pytest.mark.parametrize(
    ("predicted", "target", "weights", "message"),
    [
        ((2, 3, 4, 4), (2, 3, 4, 5), None, "predicted, target: expected the same shape"),
        ((3, 4, 4), (3, 4, 4), None, "expected the same shape"),
        ((2, 3, 4, 4), (2, 3, 4, 4), (2, 3, 1), r"weights: expected shape \(2, 3\), got \(2, 3, 1\)"),
    ],
)
def test_wrong_shapes_are_named(predicted, target, weights, message):
    with pytest.raises(ValueError, match=message):
        heatmap_mse(torch.zeros(predicted), torch.zeros(target), None if weights is None else torch.zeros(weights))


@pytest.mark.shared
def test_equals_reference(shared):
    expected = json.loads((shared / "reference" / "losses.json").read_text(encoding="utf-8"))["losses"]["mse_weighted"]
    with np.load(shared / "reference" / "losses.npz") as arrays:
        predicted = torch.from_numpy(arrays["pred"]).requires_grad_()
        loss = heatmap_mse(predicted, torch.from_numpy(arrays["target"]), torch.from_numpy(arrays["weight"]))
        loss.backward()
        assert loss.item() == pytest.approx(expected["value"], rel=1e-6)
        np.testing.assert_allclose(predicted.grad.numpy(), arrays["grad/mse_weighted"], rtol=1e-5, atol=1e-9)


@pytest.fixture(scope="module")
def regression():
    """Inputs, values and gradients that the reference implementation gave, as tensors [2, 5, 2]."""
    path = Path(__file__).parents[1] / "data" / "regression_losses.json"
    figures = json.loads(path.read_text(encoding="utf-8"))
    shape = figures.pop("shape")
    return {
        name: torch.tensor(value).reshape(shape) if isinstance(value, list) else value
        for name, value in figures.items()
    }


def test_smooth_l1_equals_reference(regression):
    predicted = regression["reg_pred"].clone().requires_grad_()
    loss = coordinate_loss("smooth_l1", predicted, regression["reg_target"], regression["reg_weight"][..., 0])
    loss.backward()
    assert loss.item() == pytest.approx(regression["smooth_l1"], rel=1e-6)
    torch.testing.assert_close(predicted.grad, regression["grad/smooth_l1"])


def test_rle_equals_reference(regression, fill_by_name):
    # The flow's weights are those of a head, named as such.
    head = RegressionHead(8, 5, rle=True)
    fill_by_name(torch.nn.ModuleDict({"head": head}))
    for name, buffer in RLELoss().named_buffers():  # constants
        head.loss_module.get_buffer(name).copy_(buffer)
    predicted = regression["reg_pred"].clone().requires_grad_()
    deviation = regression["reg_sigma"].clone().requires_grad_()
    # The figures are for deviations that went through a sigmoid before the loss applied its own.
    output = torch.cat([predicted, deviation.sigmoid()], -1)
    loss = head.loss_module(output, regression["reg_target"], regression["reg_weight"][..., 0])
    loss.backward()
    assert loss.item() == pytest.approx(regression["rle"], rel=1e-5)
    torch.testing.assert_close(predicted.grad, regression["grad/rle"], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(deviation.grad, regression["grad/rle_sigma"], rtol=1e-4, atol=1e-5)


def test_rle_of_nobody_is_zero():
    empty = torch.zeros(0, 5, 2)
    assert RLELoss()(torch.zeros(0, 5, 4), empty, torch.zeros(0, 5)).item() == 0


def test_visibility_loss_by_hand():
    probability = torch.tensor([[0.5, 0.25]])
    expected = -(np.log(0.5) + np.log(0.75)) / 2
    assert visibility_loss(probability, torch.tensor([[1.5, 0.0]])).item() == pytest.approx(expected)


def test_what_a_data_set_never_labels_is_not_invisible():
    probability = torch.tensor([[0.5, 0.25]], requires_grad=True)
    annotated = torch.tensor([[True, False]])
    loss = visibility_loss(probability, torch.tensor([[1.0, 0.0]]), annotated)
    loss.backward()
    assert loss.item() == pytest.approx(-np.log(0.5) / 2)
    assert probability.grad[0, 1] == 0


def _learnt(values: object) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float32, requires_grad=True)


def test_feature_distillation(data):
    figures = json.loads((data / "loss_figures.json").read_text())["distill_feature"]
    pupil = _learnt(figures["in_0"])
    loss = 7e-5 * feature_distillation(pupil, torch.tensor(figures["in_1"]))
    assert loss.item() == pytest.approx(figures["value"], rel=1e-5)
    loss.backward()
    torch.testing.assert_close(pupil.grad, torch.tensor(figures["in_0_grad"]), rtol=1e-5, atol=1e-10)


def test_vector_distillation(data):
    figures = json.loads((data / "loss_figures.json").read_text())["distill_logit"]
    pupil = [_learnt(figures[f"student_{axis}"]) for axis in "xy"]
    teacher = [torch.tensor(figures[f"teacher_{axis}"]) for axis in "xy"]
    loss = 0.1 * vector_distillation(pupil, teacher, beta=10.0)
    assert loss.item() == pytest.approx(figures["value"], rel=1e-5)
    loss.backward()
    for vectors, axis in zip(pupil, "xy", strict=True):
        torch.testing.assert_close(vectors.grad, torch.tensor(figures[f"student_{axis}_grad"]), rtol=1e-4, atol=1e-7)


def test_distillation_of_half_precision_is_computed_in_float32():
    maps = torch.full((1, 2, 3, 3), 300.0, dtype=torch.float16)
    assert feature_distillation(maps, torch.zeros_like(maps)).item() == 18 * 300.0**2  # more than float16 can hold
    vectors = [torch.tensor([[[60000.0, 0.0]]], dtype=torch.float16)] * 2
    far = [vector.flip(-1) for vector in vectors]
    assert vector_distillation(vectors, far, beta=2.0).item() == 2 * 2 * 60000.0
    assert vector_distillation(vectors, vectors).item() == 0


def test_distillation_of_no_crops_is_0():
    assert feature_distillation(torch.zeros(0, 2, 3, 3), torch.zeros(0, 2, 3, 3)).item() == 0
    assert vector_distillation([torch.zeros(0, 2, 3)] * 2, [torch.zeros(0, 2, 3)] * 2).item() == 0
