"""Predictors of a network whose right answer is known."""

from __future__ import annotations

import pytest
from spot_model import spot_model

from fastpose.predict import Predictor


@pytest.fixture
def predictor():
    return Predictor(spot_model(flip_test=False), device="cpu")


@pytest.fixture
def flipping():
    return Predictor(spot_model(flip_test=True), device="cpu")
