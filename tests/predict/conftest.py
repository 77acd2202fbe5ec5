"""Predictors of a network whose right answer is known."""

from __future__ import annotations

import pytest
from fake_cuda import FakeCuda, LateClock
from spot_model import spot_model

from fastpose.engines import CudaGraphs, Eager
from fastpose.inference import Estimator
from fastpose.predict import Predictor


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
        assert type(predictor.engine) is Eager
        engine = CudaGraphs(predictor.engine.network, predictor.device, predictor.dtype, FakeCuda)
        predictor._estimator = Estimator(engine, predictor.spec)
        monkeypatch.setattr("fastpose.inference.Clock", LateClock)
        return predictor, engine._cuda

    return make
