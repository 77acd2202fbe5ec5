"""What the tests of ``fastpose predict`` share: a network, photos, and the command line in their folder."""

from __future__ import annotations

import json

import cv2
import pytest
import torch
from click.testing import CliRunner

from fastpose.cli import main
from fastpose.data.synthetic import render_scene
from fastpose.models import create_model, save_model


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A small network that was never trained, but says something."""
    torch.manual_seed(0)
    network = create_model("resnet18_slim", input_size=(64, 64)).eval()
    with torch.no_grad():
        network.head.final_layer.weight.mul_(30)
        network.head.final_layer.bias.fill_(0.5)
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    save_model(network, path, dtype=torch.float16)
    return str(path)


@pytest.fixture
def photos(tmp_path):
    """Two photos of different size, 7.png and b.jpg, and their boxes."""
    boxes = {}
    for name, size, people in (("7.png", (80, 120), 2), ("b.jpg", (100, 90), 1)):
        image, truth = render_scene(len(name), size, people)
        cv2.imwrite(str(tmp_path / name), image)
        boxes[name] = truth.boxes.tolist()
    (tmp_path / "boxes.json").write_text(json.dumps(boxes))
    return tmp_path


@pytest.fixture
def run(model, photos, monkeypatch):
    """The command line, in the folder of the photos."""
    monkeypatch.chdir(photos)

    def call(*words, with_model=True):
        given = ["predict", "--device", "cpu", *(["--model", model] if with_model else []), *map(str, words)]
        return CliRunner().invoke(main, given, catch_exceptions=False)

    return call
