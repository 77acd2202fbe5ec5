"""Networks against the reference implementation, on weights drawn by name.

Quick: the small ones, and the smallest of every family. All of them: ``pytest -m slow tests/models/test_parity.py``.
"""

from __future__ import annotations

import json
import os
import re

import numpy as np
import pytest
import torch
from model_figures import (
    SIBLINGS,
    all_outputs,
    figures_of,
    fill,
    input_by_name,
    largest_error,
    model_figures,
    same_state_dict,
    state_entries,
    tolerance,
    twin_of,
    without_initialisation,
)

from fastpose.models import build_model, create_model, find_entry, list_entries

QUICK = 12e6  # parameters, at 256x192 and below


def _cases():
    entries = {name: find_entry(name) for name in model_figures() if find_entry(name) is not None}
    size = {name: np.prod(entry.spec.input_size) for name, entry in entries.items()}
    quick = {name for name, entry in entries.items() if entry.parameters <= QUICK and size[name] <= 256 * 192}
    families = {}
    for name, entry in entries.items():
        family = re.match("[a-z]+", entry.architecture)[0], entry.arguments.get("head")
        families.setdefault(family, []).append((size[name], entry.parameters, name))
    quick |= {min(members)[-1] for members in families.values()}
    return [pytest.param(name, marks=() if name in quick else pytest.mark.slow) for name in entries]


def _filled(name):
    entry = find_entry(name)
    # The largest network takes 2.5 GB for its weights alone.
    gigabytes = 8 * entry.parameters / 1e9
    if gigabytes > 2 and os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e9 < 2 * gigabytes:
        pytest.skip(f"needs about {gigabytes:.0f} GB of memory")
    with without_initialisation():
        model = create_model(name)
    fill(model)
    return model


@pytest.mark.parametrize("name", _cases())
def test_equals_reference_figures(name):
    figures = model_figures()[name]
    model = _filled(name)
    assert same_state_dict(model, figures)
    assert sum(parameter.numel() for parameter in model.parameters()) == figures["parameters"]
    assert largest_error(all_outputs(model, input_by_name(model.spec.input_size)), figures) <= tolerance(name)


@pytest.mark.slow
@pytest.mark.shared
@pytest.mark.parametrize("name", _cases())
def test_equals_whole_reference_outputs(name, shared):
    model = _filled(name)
    outputs = all_outputs(model, input_by_name(model.spec.input_size))
    folders = (shared / "reference" / folder for folder in ("models", "models_wider"))
    folder = next(folder for folder in folders if (folder / f"{name}.json").is_file())
    facts = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
    assert state_entries(model) == facts["keys"]
    with np.load(folder / f"{name}.npz") as arrays:
        assert len(arrays.files) == len(outputs)
        for output, key in zip(outputs, arrays.files, strict=True):
            expected = arrays[key]
            steps = (round(a / b) for a, b in zip(output.shape, expected.shape, strict=True))
            seen = output[tuple(slice(None, None, step) for step in steps)]
            assert np.abs(seen - expected).max() <= tolerance(name) * np.abs(expected).max()


def test_every_entry_has_figures_or_a_sibling():
    without = {entry.name for entry in list_entries() if entry.alias and figures_of(twin_of(entry).alias) is None}
    assert without <= set(SIBLINGS)


def _meta(entry, **changes):
    with torch.device("meta"), without_initialisation():
        return build_model(entry.architecture, entry.spec.replace(**changes), entry.arguments)


def _distinct():
    """One entry (the one with the smallest input) of every network up to its keypoints; the others are slow."""
    seen, cases = set(), []
    for entry in sorted(list_entries(), key=lambda entry: np.prod(entry.spec.input_size)):
        network = entry.architecture, json.dumps(entry.arguments)
        cases.append(pytest.param(entry, id=entry.name, marks=pytest.mark.slow if network in seen else ()))
        seen.add(network)
    return cases


@pytest.mark.parametrize("entry", _distinct())
def test_state_dicts_of_entries_are_official(entry):
    """Keys, order, shapes and dtypes: those of the figures, for siblings once they predict the same keypoints."""
    figures, changes = figures_of(twin_of(entry).alias), {}
    if entry.name in SIBLINGS:
        sibling = find_entry(SIBLINGS[entry.name])
        figures, changes = figures_of(sibling.alias), {"skeleton": sibling.spec.skeleton}
    elif entry.alias is None:
        pytest.skip("this project's own")
    model = _meta(entry, **changes)
    assert same_state_dict(model, figures)
    assert sum(parameter.numel() for parameter in model.parameters()) == figures["parameters"]


@pytest.mark.parametrize("name", [name for name in SIBLINGS if find_entry(name) is not None])
def test_siblings_differ_in_their_keypoints_alone(name):
    entry, sibling = find_entry(name), find_entry(SIBLINGS[name])
    assert (entry.architecture, entry.arguments) == (sibling.architecture, sibling.arguments)
    assert (entry.spec.input_size, entry.spec.codec) == (sibling.spec.input_size, sibling.spec.codec)
    keypoints = entry.spec.num_keypoints
    for (key, shape, dtype), (other_key, other_shape, other_dtype) in zip(
        state_entries(_meta(entry)), state_entries(_meta(sibling)), strict=True
    ):
        assert (key, dtype) == (other_key, other_dtype)
        assert shape == ([keypoints, *other_shape[1:]] if key.startswith("head.final_layer.") else other_shape)
