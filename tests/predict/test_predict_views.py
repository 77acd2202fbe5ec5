"""Several crops a person, from the photo to the keypoints: the same in prediction and in evaluation."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest
from click.testing import CliRunner
from spot_model import SPOTS, random_spots, spot_model

from fastpose.cli import main
from fastpose.data import read_annotations, write_coco
from fastpose.data.synthetic import synthetic_records
from fastpose.evaluate import Evaluator
from fastpose.models import create_model, save_model
from fastpose.predict import Predictor
from fastpose.views import build_views

OPTIONS = {"scales": (0.9, 1.0, 1.15), "rotations": (-10.0, 0.0, 10.0)}


@pytest.mark.parametrize("flip", [False, True])
def test_keypoints_are_where_the_spots_are(flip):
    predictor = Predictor(spot_model(flip_test=flip), device="cpu")
    for seed in range(4):
        image, points, boxes = random_spots(seed)
        poses = predictor(image, boxes, **OPTIONS)
        assert np.abs(poses.keypoints[0] - points).max() < 0.5 * 4 * 2.1
        assert (poses.scores > 0.6).all()


def test_the_ordinary_crop_alone_changes_nothing(predictor):
    image, _, boxes = random_spots(3)
    np.testing.assert_array_equal(
        predictor(image, boxes, scales=[1], rotations=[0.0]).keypoints, predictor(image, boxes).keypoints
    )


@pytest.mark.parametrize("batch_size", [1, 20, 100])
def test_batches_do_not_change_results(flipping, batch_size):
    cases = [random_spots(seed) for seed in range(5)]
    boxes = [np.repeat(box, count, axis=0) for (_, _, box), count in zip(cases, [1, 0, 3, 2, 1], strict=True)]
    together = flipping([image for image, _, _ in cases], boxes, batch_size=batch_size, **OPTIONS)
    for (image, _, _), box, poses in zip(cases, boxes, together, strict=True):
        np.testing.assert_allclose(poses.keypoints, flipping(image, box, **OPTIONS).keypoints, atol=1e-3)


def test_bad_numbers_are_named(predictor):
    image, _, boxes = random_spots(0)
    with pytest.raises(ValueError, match=r"scales: expected different numbers from 0\.25 to 4, got \[9\]"):
        predictor(image, boxes, scales=[9])
    with pytest.raises(ValueError, match="rotations: expected"):
        predictor([image], [boxes], rotations=[])


def test_evaluation_predicts_the_same(tmp_path):
    write_coco(synthetic_records(3, seed=5, size=(96, 80), people=2), tmp_path / "a.json", tmp_path)
    records = read_annotations(tmp_path / "a.json")
    model = create_model("resnet18_slim", input_size=(64, 64)).eval()
    predictor = Predictor(model, device="cpu")
    evaluator = Evaluator(records, "pck", batch_size=20)
    for flip in (False, True):
        found = evaluator.predict(model, flip_test=flip, views=build_views(model.spec, **OPTIONS))
        boxes = [records.boxes[records.image_index == i] for i in range(3)]
        poses = predictor(list(records.image_paths), boxes, flip_test=flip, **OPTIONS)
        # A fresh network's maps are flat: two maxima may change places over a rounding. Most are the same.
        same = np.abs(np.concatenate([p.keypoints for p in poses]) - found.keypoints).max(2) < 0.05
        assert same.mean() > 0.9
        np.testing.assert_allclose(np.concatenate([p.scores for p in poses]), found.scores, atol=1e-4)
    plain = evaluator.predict(model, flip_test=False)
    assert np.abs(plain.keypoints - found.keypoints).max() > 1


def test_command_line(tmp_path):
    image, _, boxes = random_spots(2)
    cv2.imwrite(str(tmp_path / "a.png"), image)
    save_model(create_model("resnet18_slim", skeleton=SPOTS, input_size=(64, 64)), tmp_path / "m.safetensors")
    box = ",".join(str(value) for value in boxes[0].tolist())
    common = ["predict", str(tmp_path / "a.png"), "--boxes", box, "--model", str(tmp_path / "m.safetensors")]
    outputs = []
    for more in ([], ["--scales", "0.9,1,1.1", "--rotations", "-10,0,10"]):
        result = CliRunner().invoke(main, [*common, *more], catch_exceptions=False)
        assert result.exit_code == 0, result.output
        outputs.append(json.loads(result.stdout)[0]["people"][0]["keypoints"])
    assert outputs[0] != outputs[1]
    result = CliRunner().invoke(main, [*common, "--scales", "1,x"])
    assert result.exit_code == 2
    assert "expected numbers with commas between them, got '1,x'" in result.output

    write_coco(synthetic_records(2, seed=5, size=(96, 80)), tmp_path / "b.json", tmp_path)
    save_model(create_model("resnet18_slim", input_size=(64, 64)), tmp_path / "n.safetensors")
    words = ["eval", str(tmp_path / "n.safetensors"), "--data", str(tmp_path / "b.json"), "--metric", "pck"]
    words += ["--scales", "1,1.2", "--json", str(tmp_path / "r.json")]
    result = CliRunner().invoke(main, words, catch_exceptions=False)
    assert "flip test on, 2 crops each" in result.output
    assert json.loads((tmp_path / "r.json").read_text())["settings"]["scales"] == [1.0, 1.2]
