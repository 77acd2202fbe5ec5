"""Scores that are probabilities: the spec's logistic function, and what becomes of it in training."""

import numpy as np
from spot_model import spot_model

from fastpose.models import create_model, save_model
from fastpose.predict import Predictor, load
from fastpose.spec import PoseSpec
from fastpose.train.recipe import load_recipe
from fastpose.train.setup import build_model

PHOTO = np.random.default_rng(0).integers(0, 255, (60, 80, 3), np.uint8)
BOXES = [[5, 5, 40, 50], [30, 10, 75, 55]]


def test_scores_go_through_the_logistic_function(tmp_path):
    model = spot_model(flip_test=False)
    plain = Predictor(model, device="cpu")(PHOTO, BOXES)
    model.spec = model.spec.replace(score_fit=(6.0, -2.5))
    fitted = Predictor(model, device="cpu")(PHOTO, BOXES)
    np.testing.assert_allclose(fitted.scores, 1 / (1 + np.exp(2.5 - 6.0 * plain.scores)), atol=1e-6)
    np.testing.assert_array_equal(fitted.keypoints, plain.keypoints)


def test_the_fit_stands_in_the_file(tmp_path):
    model = create_model("resnet18_slim", input_size=(64, 64))
    model.spec = model.spec.replace(score_fit=(6.0, -2.5))
    save_model(model, tmp_path / "model.safetensors")
    assert load(tmp_path / "model.safetensors", device="cpu").spec.score_fit == (6.0, -2.5)


def test_training_begins_without_a_fit(monkeypatch):
    recipe = load_recipe("synthetic_demo")
    fitted = create_model(recipe.model.name)
    fitted.spec = fitted.spec.replace(score_fit=(6.0, -2.5))
    monkeypatch.setattr("fastpose.train.setup.create_model", lambda *_, **__: fitted)
    assert build_model(recipe, print).spec.score_fit is None


def test_older_files_have_none():
    spec = spot_model(flip_test=False).spec
    assert spec.score_fit is None
    assert PoseSpec.from_json(spec.to_json().replace(',"score_fit":null', "")) == spec
