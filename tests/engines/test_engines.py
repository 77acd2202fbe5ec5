"""Every engine gives what the network gives; which one runs is what was asked for."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch

from fastpose.engines import ENGINES, Eager, build_engine
from fastpose.engines.compiled import Compiled
from fastpose.models import create_model
from fastpose.predict import Predictor

CPU = torch.device("cpu")
IMAGE = np.random.default_rng(0).integers(0, 255, (90, 120, 3), dtype=np.uint8)
BOXES = np.array([[10, 5, 60, 80], [40, 10, 110, 85], [0, 0, 90, 90]], np.float32)


@pytest.fixture
def model():
    torch.manual_seed(0)
    return create_model("resnet18_slim", input_size=(64, 64)).eval()


def test_auto_is_eager_on_a_cpu(model) -> None:
    assert type(build_engine(model, device=CPU)) is Eager
    assert Predictor(model, device="cpu").engine.name == "eager"
    assert "eager" in repr(Predictor(model, device="cpu"))


def test_what_does_not_run_here_is_refused(model) -> None:
    with pytest.raises(ValueError, match="engine: expected one of auto, eager, compiled, cuda_graphs, got 'onnx'"):
        build_engine(model, "onnx", device=CPU)
    with pytest.raises(ValueError, match="engine: 'cuda_graphs' runs on CUDA, not on cpu"):
        build_engine(model, "cuda_graphs", device=CPU)
    assert set(ENGINES) == {"eager", "compiled", "cuda_graphs"}


def test_an_engine_has_a_network_of_its_own(model) -> None:
    engine = build_engine(model, device=CPU)
    crops = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        before = engine.run(2, 2, lambda out: crops).last
        model.head.final_layer.weight.add_(1)
        assert torch.equal(engine.run(2, 2, lambda out: crops).last, before)


def test_compiled_gives_the_same(model, monkeypatch) -> None:
    # The compiler's back end takes half a minute of a C++ compiler's time and is not ours.
    compile_ = torch.compile
    monkeypatch.setattr(torch, "compile", lambda *args, **options: compile_(*args, backend="eager", **options))
    eager, compiled = Predictor(model, device="cpu"), Predictor(model, device="cpu", engine="compiled")
    assert compiled.engine.name == "compiled"
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        for count in (1, 2, 3):
            ours, theirs = compiled(IMAGE, BOXES[:count]), eager(IMAGE, BOXES[:count])
            np.testing.assert_allclose(ours.scores, theirs.scores, atol=1e-5)


def test_what_cannot_be_compiled_runs_as_it_is_and_says_so_once(model, monkeypatch) -> None:
    def compile_(network, **options):
        def call(x):
            raise RuntimeError("no C++ compiler\nmore about it")

        return call

    monkeypatch.setattr(torch, "compile", compile_)
    engine = Compiled(model, CPU, torch.float32)
    crops = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        with pytest.warns(UserWarning, match=r"resnet18_slim.* cannot be compiled .*: no C\+\+ compiler$"):
            first = engine.run(2, 2, lambda out: crops).last
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert torch.equal(engine.run(2, 2, lambda out: crops).last, first)
        assert torch.equal(first, model(crops).last)
