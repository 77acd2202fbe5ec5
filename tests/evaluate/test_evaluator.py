"""Measuring a model: perfect, mirrored and missing predictions, and names instead of positions."""

import copy
import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from fastpose.data.readers.coco import read_coco
from fastpose.evaluate import Evaluator, Predictions, read_predictions, write_predictions
from fastpose.models import create_model
from fastpose.skeletons import COCO17, COCO_AIC19, LSP14, Skeleton


@pytest.fixture(scope="module")
def model():
    return create_model("resnet18_slim", input_size=(64, 64)).eval()


@pytest.fixture
def evaluators(figures):
    records = read_coco(figures / "val.json")
    return [Evaluator(records, metric, annotations=figures / "val.json") for metric in ("pck", "coco_ap")]


def predictions(records, keypoints=None):
    points = records.keypoints if keypoints is None else keypoints
    read = np.isfinite(points).all((1, 2))
    return Predictions(points, np.ones(points.shape[:2], np.float32), read)


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


def test_a_network_in_bfloat16(evaluators, model):
    half = copy.deepcopy(model).to(torch.bfloat16)
    ours, wanted = evaluators[0].predict(half), evaluators[0].predict(model)
    assert np.abs(ours.scores - wanted.scores).max() < 0.05


def test_ap_of_records_without_a_file(figures, evaluators, model):
    """The reader's people instead of the file: the same figures where nobody is a crowd."""
    alone = Evaluator(read_coco(figures / "val.json"), "coco_ap")
    points = evaluators[1].records.keypoints + np.random.default_rng(0).normal(0, 3, (8, 17, 2)).astype(np.float32)
    values = [e.measure(predictions(e.records, points), model) for e in (alone, evaluators[1])]
    assert 0.05 < values[0]["AP"] < 0.95
    assert values[0] == pytest.approx(values[1])


def test_a_network_of_more_keypoints(evaluators):
    """Columns are picked by name, wherever they stand."""
    model = create_model("resnet18_slim", input_size=(64, 64), skeleton=COCO_AIC19)
    truth = evaluators[1].records
    points = np.zeros((len(truth), 19, 2), np.float32)
    points[:, list(COCO_AIC19.indices(COCO17.keypoints))] = truth.keypoints
    assert evaluators[1].measure(predictions(truth, points), model)["AP"] == pytest.approx(1.0)
    turned = Skeleton.from_names("turned", tuple(reversed(COCO17.keypoints)))
    model = create_model("resnet18_slim", input_size=(64, 64), skeleton=turned)
    assert evaluators[1].measure(predictions(truth, truth.keypoints[:, ::-1]), model)["AP"] == pytest.approx(1.0)


def test_results_read_again_give_the_same_figures(evaluators, model, figures, tmp_path):
    for evaluator in evaluators:
        found = evaluator.predict(model)
        results = evaluator.results(found, model.spec)
        write_predictions(tmp_path / "results.json", results, COCO17, figures / "val.json")
        back = read_predictions(tmp_path / "results.json", evaluator.truth, with_ids=not evaluator.metric.ranks_poses)
        assert evaluator.score(back).figures(None) == evaluator.measure(found, model)


def test_values_that_are_not_finite_are_an_error(evaluators, model):
    wrong = predictions(evaluators[0].records)
    wrong.keypoints[2] = np.nan
    for evaluator in evaluators:
        with pytest.raises(ValueError, match="not finite, for 1 of 8 people"):
            evaluator.measure(wrong, model)


def test_people_without_a_box_are_counted(figures):
    records = read_coco(figures / "val.json")
    boxes = records.boxes.copy()
    boxes[0, 2:] = boxes[0, :2]
    evaluator = Evaluator(dataclasses.replace(records, boxes=boxes), "pck")
    assert len(evaluator) == 7
    assert evaluator.skipped["empty box"] == 1
    with pytest.raises(ValueError, match="nobody to measure on"):
        Evaluator(records.select([]), "pck")


def test_settings_are_checked(figures):
    records = read_coco(figures / "val.json")
    with pytest.raises(ValueError, match=r"metric: expected one of coco_ap, .*got 'ap'"):
        Evaluator(records, "ap")
    with pytest.raises(ValueError, match=r"sigmas: expected 17 numbers above 0 \(coco17\)"):
        Evaluator(records, sigmas=[0.1] * 3)


def worker(rank: int, world: int, figures: Path, out: Path) -> None:
    torch.set_num_threads(1)
    address = f"file://{out / 'meeting'}"
    torch.distributed.init_process_group("gloo", init_method=address, rank=rank, world_size=world)
    evaluator = Evaluator(read_coco(figures / "val.json"), "coco_ap", annotations=figures / "val.json", batch_size=3)
    torch.manual_seed(0)
    model = create_model("resnet18_slim", input_size=(64, 64)).eval()
    counted: list[int] = []
    found = evaluator.predict(model, flip_test=False, on_batch=counted.append)
    np.savez(out / f"{rank}.npz", keypoints=found.keypoints, scores=found.scores, counted=sum(counted))
    torch.distributed.destroy_process_group()


@pytest.mark.slow
@pytest.mark.parametrize("world", [2, 3])
def test_several_processes_predict_everybody_once(figures, tmp_path, world):
    for name in (world, 1):
        (tmp_path / str(name)).mkdir()
        torch.multiprocessing.spawn(worker, (name, figures, tmp_path / str(name)), nprocs=name)
    (alone,) = (np.load(tmp_path / "1" / "0.npz"),)
    together = [np.load(tmp_path / str(world) / f"{rank}.npz") for rank in range(world)]
    assert sum(int(part["counted"]) for part in together) == int(alone["counted"]) == 8
    for part in together:  # all of them know everybody
        np.testing.assert_allclose(part["keypoints"], alone["keypoints"], atol=1e-4)
        np.testing.assert_allclose(part["scores"], alone["scores"], atol=1e-6)
