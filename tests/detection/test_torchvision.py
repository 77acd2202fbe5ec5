"""torchvision's detectors: by name (a stand-in for the package), as networks, and what they give."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from fastpose.detection.torchvision import TorchvisionDetector
from fastpose.models.weights import WeightsError

PHOTOS = [np.full((40, 60, 3), (10, 20, 30), np.uint8), np.zeros((90, 30, 3), np.uint8)]


class Says(nn.Module):
    """Tells of each photo the same; keeps what it was given."""

    def __init__(self, boxes=(), labels=(), scores=()):
        super().__init__()
        self.answer = {
            "boxes": torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
            "labels": torch.tensor(labels, dtype=torch.int64),
            "scores": torch.tensor(scores, dtype=torch.float32),
            "masks": torch.zeros(len(boxes), 1, 4, 4),
        }
        self.given = []

    def forward(self, photos):
        assert not self.training
        self.given.append(photos)
        return [dict(self.answer) for _ in photos]


def test_photos_of_any_sizes_go_in_at_once_as_they_are():
    model = Says([[4, 4, 20, 30], [1, 1, 9, 9], [5, 5, 21, 31], [2, 2, 50, 80]], [1, 18, 1, 1], [0.9, 0.9, 0.8, 0.6])
    detector = TorchvisionDetector(model.train(), device="cpu")
    wide, tall = detector.detect(PHOTOS)
    ((first, second),) = model.given
    assert (first.shape, second.shape) == ((3, 40, 60), (3, 90, 30))
    torch.testing.assert_close(first, torch.tensor([30, 20, 10])[:, None, None].expand(3, 40, 60) / 255)
    assert wide.boxes.tolist() == [[4, 4, 20, 30], [5, 5, 21, 31], [2, 2, 50, 40]]  # within the photo
    assert tall.boxes.tolist() == [[4, 4, 20, 30], [5, 5, 21, 31], [2, 2, 30, 80]]
    np.testing.assert_allclose(wide.scores, [0.9, 0.8, 0.6])
    assert len(detector.detect(PHOTOS, threshold=0.85)[0]) == 1
    assert len(TorchvisionDetector(model, device="cpu", overlap=0.5)(PHOTOS[0])) == 2
    assert len(TorchvisionDetector(model, device="cpu", person_class=18)(PHOTOS[0])) == 1
    assert len(TorchvisionDetector(model, device="cpu", most=1)(PHOTOS[0])) == 1
    assert detector.detect([]) == []


def test_boxes_that_are_none_are_left_out():
    nan = float("nan")
    boxes = [[nan, 0, 5, 5], [9, 9, 3, 3], [0, 0, 5, 5], [1, 1, 8, 8]]
    found = TorchvisionDetector(Says(boxes, [1, 1, 1, 1], [0.9, 0.9, nan, 0.8]), device="cpu")(PHOTOS[0])
    assert found.boxes.tolist() == [[1, 1, 8, 8]]
    assert len(TorchvisionDetector(Says(), device="cpu")(PHOTOS[0])) == 0


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ([{"boxes": torch.zeros(0, 4)}] * 2, r"expected tensors boxes, labels and scores, got \['boxes'\]"),
        (torch.zeros(2, 1000), "expected a list of 2 answers, got Tensor"),
        ([torch.zeros(1)] * 2, "expected tensors boxes, labels and scores, got Tensor"),
        (
            [{"boxes": torch.zeros(2, 4), "labels": torch.zeros(2), "scores": torch.zeros(3)}] * 2,
            r"expected boxes .*, got \[\[2, 4\], \[2\], \[3\]\]",
        ),
    ],
)
def test_a_network_that_is_no_detector_is_named(answer, message):
    class Other(nn.Module):
        def forward(self, photos):
            return answer

    with pytest.raises(ValueError, match=f"torchvision's detector: {message}"):
        TorchvisionDetector(Other(), device="cpu").detect(PHOTOS)


@pytest.fixture
def package(monkeypatch):
    """A package that has one detector, whose weights call a person class 2."""
    weights = SimpleNamespace(meta={"categories": ["nothing", "horse", "person"]})
    asked = []

    def get_model(name, weights):
        asked.append((name, weights))
        return Says([[4, 4, 20, 30], [4, 4, 25, 30]], [1, 2], [0.9, 0.8])

    models = SimpleNamespace(
        detection="its detectors",
        list_models=lambda module: ["good", "other"] if module == "its detectors" else [],
        get_model_weights=lambda name: SimpleNamespace(DEFAULT=weights),
        get_model=get_model,
    )
    module = ModuleType("torchvision")
    module.models = models
    monkeypatch.setitem(sys.modules, "torchvision", module)
    return SimpleNamespace(models=models, asked=asked, weights=weights)


def test_a_name_gets_the_best_weights_and_their_class_of_people(package):
    detector = TorchvisionDetector("good", device="cpu")
    assert package.asked == [("good", package.weights)]
    assert detector.person_class == 2
    assert detector(PHOTOS[0]).boxes.tolist() == [[4, 4, 25, 30]]
    assert TorchvisionDetector("good", device="cpu", person_class=1)(PHOTOS[0]).boxes.tolist() == [[4, 4, 20, 30]]


def test_names_that_are_none_and_weights_that_cannot_be_had(package):
    with pytest.raises(ValueError, match="torchvision:best: there is no such detector; expected one of good, other"):
        TorchvisionDetector("best", device="cpu")
    for error in (OSError("Name or service not known"), RuntimeError("invalid hash value")):

        def fails(name, weights, error=error):
            raise error

        package.models.get_model = fails
        with pytest.raises(WeightsError, match=f"torchvision:good: its weights cannot be had: {error}"):
            TorchvisionDetector("good", device="cpu")


def test_without_torchvision_it_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchvision", None)
    with pytest.raises(ImportError, match=r"torchvision:good needs a torchvision for torch .*pip install torchvision"):
        TorchvisionDetector("good", device="cpu")


def test_what_is_no_network_is_named():
    with pytest.raises(TypeError, match="model: expected a name or a network, got int"):
        TorchvisionDetector(3, device="cpu")


def test_the_package_itself():
    models = pytest.importorskip("torchvision.models")
    torch.manual_seed(0)
    model = models.get_model("ssdlite320_mobilenet_v3_large", weights=None, weights_backbone=None, score_thresh=0.0)
    found = TorchvisionDetector(model, device="cpu", threshold=0.0).detect(PHOTOS)
    for answer, photo in zip(found, PHOTOS, strict=True):
        assert len(answer) > 0
        assert (answer.boxes >= 0).all()
        assert (answer.boxes[:, 2:] <= photo.shape[1::-1]).all()
