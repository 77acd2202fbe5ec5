"""Measuring a model: perfect, mirrored and missing predictions, and names instead of positions."""

import numpy as np
import pytest

from fastpose.data.readers.coco import read_coco
from fastpose.models import create_model
from fastpose.skeletons import COCO17, LSP14
from fastpose.train.evaluate import Evaluator, Predictions


@pytest.fixture(scope="module")
def model():
    return create_model("resnet18_slim", input_size=(64, 64)).eval()


@pytest.fixture
def evaluators(figures):
    records = read_coco(figures / "val.json")
    return [Evaluator(records, metric, annotations=figures / "val.json") for metric in ("pck", "coco_ap")]


def predictions(records, keypoints=None):
    points = records.keypoints if keypoints is None else keypoints
    return Predictions(points, np.ones(points.shape[:2], np.float32))


def test_the_truth_is_perfect(evaluators, model):
    for evaluator in evaluators:
        values = evaluator.measure(predictions(evaluator.records), model)
        assert values[evaluator.metric_name] == pytest.approx(1.0)


def test_left_for_right_is_wrong(evaluators, model):
    for evaluator in evaluators:
        swapped = evaluator.records.keypoints[:, list(COCO17.flip_index)]
        assert evaluator.measure(predictions(evaluator.records, swapped), model)[evaluator.metric_name] < 0.5


def test_a_photo_that_cannot_be_read_counts_as_missed(evaluators, model):
    points = evaluators[0].records.keypoints.copy()
    points[:4] = np.nan
    for evaluator in evaluators:
        values = evaluator.measure(predictions(evaluator.records, points), model)
        assert values[evaluator.metric_name] == pytest.approx(0.5, abs=0.02)


def test_pck_matches_keypoints_by_name(evaluators, figures):
    lsp = create_model("resnet18_slim", input_size=(64, 64), skeleton=LSP14)
    truth = evaluators[0].records
    points = np.zeros((len(truth), 14, 2), np.float32)
    for position, name in enumerate(LSP14.keypoints):
        if name in COCO17.keypoints:
            points[:, position] = truth.keypoints[:, COCO17.index(name)]
    assert evaluators[0].measure(predictions(truth, points), lsp)["PCK@0.2"] == 1.0
    with pytest.raises(ValueError, match="lsp14"):
        evaluators[1].measure(predictions(truth, points), lsp)


def test_prediction_keeps_the_mode_and_counts_people(evaluators, model):
    counted = []
    model.train()
    result = evaluators[0].predict(model, on_batch=counted.append)
    assert model.training
    model.eval()
    assert sum(counted) == len(evaluators[0]) == 8
    assert result.keypoints.shape == (8, 17, 2)
    assert np.isfinite(result.keypoints).all()


def test_flip_test_changes_the_result(evaluators, model):
    with_flip = evaluators[0].predict(model, flip_test=True)
    without = evaluators[0].predict(model, flip_test=False)
    assert (with_flip.scores != without.scores).any()


def test_ap_needs_annotations(figures):
    with pytest.raises(ValueError, match="coco_ap needs an annotation file"):
        Evaluator(read_coco(figures / "val.json"), "coco_ap")
