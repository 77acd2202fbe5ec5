"""Networks against the reference implementation, on weights drawn by name."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from fastpose.models import create_model

FIGURES = json.loads((Path(__file__).parents[1] / "data" / "model_figures.json").read_text(encoding="utf-8"))
TOLERANCE = 1e-4  # relative to the largest magnitude
SMALL = 40e6  # parameters; larger networks, and larger inputs than 256x192, run with the slow tests


def _cases():
    slow = {name for name, figures in FIGURES.items() if figures["parameters"] > SMALL or "256x192" not in name}
    return [pytest.param(name, marks=pytest.mark.slow if name in slow else ()) for name in FIGURES]


def _outputs(model, x):
    with torch.inference_mode():
        outputs = model.eval()(x)
    return [y.numpy() for y in (outputs if isinstance(outputs, list) else [outputs])]


@pytest.mark.parametrize("name", _cases())
def test_equals_reference_figures(name, fill_by_name, input_by_name):
    figures = FIGURES[name]
    model = create_model(name)
    entries = [[key, list(t.shape), str(t.dtype).removeprefix("torch.")] for key, t in model.state_dict().items()]
    assert len(entries) == figures["state_dict"]
    assert hashlib.sha256(json.dumps(entries).encode()).hexdigest() == figures["state_dict_sha256"]
    assert sum(parameter.numel() for parameter in model.parameters()) == figures["parameters"]

    fill_by_name(model)
    outputs = _outputs(model, input_by_name(model.spec.input_size))
    assert len(outputs) == len(figures["outputs"])
    for output, expected in zip(outputs, figures["outputs"], strict=True):
        assert list(output.shape) == expected["shape"]
        assert output.shape[1:] == (model.spec.output_channels, *model.spec.codec.heatmap_size)
        stored = output[..., :: expected["step"], :: expected["step"]].astype(np.float64)
        samples = stored.ravel()[np.linspace(0, stored.size - 1, len(expected["samples"])).astype(int)]
        assert np.abs(samples - expected["samples"]).max() <= TOLERANCE * expected["largest"]
        assert np.abs(stored).sum() == pytest.approx(expected["l1"], rel=TOLERANCE)
        assert np.sqrt(np.square(stored).sum()) == pytest.approx(expected["l2"], rel=TOLERANCE)


@pytest.mark.shared
@pytest.mark.parametrize("name", _cases())
def test_equals_whole_reference_outputs(name, shared, fill_by_name, input_by_name):
    model = create_model(name)
    fill_by_name(model)
    outputs = _outputs(model, input_by_name(model.spec.input_size))
    facts = json.loads((shared / "reference" / "models" / f"{name}.json").read_text(encoding="utf-8"))
    entries = [[key, list(t.shape), str(t.dtype).removeprefix("torch.")] for key, t in model.state_dict().items()]
    assert entries == facts["keys"]
    with np.load(shared / "reference" / "models" / f"{name}.npz") as arrays:
        assert len(arrays.files) == len(outputs)
        for output, key in zip(outputs, arrays.files, strict=True):
            expected = arrays[key]
            step = round(output.shape[-1] / expected.shape[-1])
            difference = np.abs(output[..., ::step, ::step] - expected).max()
            assert difference <= TOLERANCE * np.abs(expected).max()
