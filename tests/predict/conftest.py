"""Predictors of a network whose right answer is known."""

from __future__ import annotations

import pytest
from fake_cuda import FakeCuda, LateClock
from spot_model import spot_model

from fastpose.predict import Predictor
from fastpose.predict.graphs import Eager, Graphs


@pytest.fixture
def predictor():
    return Predictor(spot_model(flip_test=False), device="cpu")


@pytest.fixture
def flipping():
    return Predictor(spot_model(flip_test=True), device="cpu")


@pytest.fixture
def graphed(monkeypatch):
    """A function that makes a predictor whose network runs as on CUDA; gives it and its stand-in for CUDA."""

    def make(model):
        predictor = Predictor(model, device="cpu")
        assert type(predictor._network) is Eager
        predictor._network = Graphs(predictor._network.network, predictor.device, predictor.dtype, FakeCuda)
        monkeypatch.setattr("fastpose.predict.predictor.Clock", LateClock)
        return predictor, predictor._network._cuda

    return make
