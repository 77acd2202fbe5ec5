"""heatmap_mse against values by hand, torch, and the reference figures."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from fastpose.models import heatmap_mse


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
