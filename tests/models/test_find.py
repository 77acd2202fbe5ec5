"""One rule for what a user names a model by."""

import os

import pytest
import torch

from fastpose.models import CARRIED_MODEL, WeightsError, carried_file, create_model, find_model, save_model


def test_the_carried_model_by_its_name_and_by_none():
    for model in (find_model(), find_model(CARRIED_MODEL), find_model(str(carried_file()))):
        assert model.name == CARRIED_MODEL
        assert not model.training


def test_a_file_by_path_or_name(tmp_path, monkeypatch):
    model = create_model("resnet18_slim", input_size=(64, 64))
    monkeypatch.chdir(tmp_path)
    for name in ("model.safetensors", "model"):
        save_model(model, tmp_path / name)
        for given in (name, tmp_path / name, os.path.join(".", name)):
            found = find_model(given)
            assert torch.equal(found.backbone.conv1.weight, model.backbone.conv1.weight)


def test_what_is_not_there():
    for name in ("gone.safetensors", "gone.pth", os.path.join("runs", "gone")):
        with pytest.raises(WeightsError, match="cannot be read"):
            find_model(name)
    with pytest.raises(ValueError, match="no model is named 'resnet5x'"):
        find_model("resnet5x")
