"""The library's detector: photos of many sizes, its file, and what it cannot use."""

from __future__ import annotations

import json

import numpy as np
import pytest
import safetensors.torch
import torch

from fastpose.detection.network import PersonNet, place_centers
from fastpose.detection.passes import BATCH
from fastpose.detection.person_detector import DetectorSpec, PersonDetector, load_detector, save_detector
from fastpose.models.weights import WeightsError

SPEC = DetectorSpec(widths=(8, 8, 16, 16, 16), depths=(0, 1, 1, 1), neck=16, side=64)


def build(seed=0):
    torch.manual_seed(seed)
    return SPEC.build()


class Sees(PersonNet):
    """Says what it is told: logits and distances by place, whatever it sees."""

    def __init__(self, answers):
        super().__init__(SPEC.widths, SPEC.depths, SPEC.neck)
        self.answers = answers

    def forward(self, x):
        count = len(place_centers((x.shape[2], x.shape[3]))[0])
        logits, distances = torch.full((len(x), count), -9.0), torch.ones(len(x), count, 4)
        for place, (logit, reach) in self.answers.items():
            logits[:, place], distances[:, place] = logit, torch.tensor(reach)
        return logits, distances


def test_boxes_are_those_of_the_photo():
    """Place 9 of a 64x32 input lies in the second row, second column: (12, 12)."""
    net = Sees({9: (2.0, [4.0, 8.0, 12.0, 16.0])})
    found = PersonDetector(net, SPEC)(np.zeros((64, 128, 3), np.uint8))  # shrunk to a half
    np.testing.assert_allclose(found.boxes, [[16, 8, 48, 56]])
    np.testing.assert_allclose(found.scores, [1 / (1 + np.exp(-2))], rtol=1e-6)


@pytest.mark.parametrize("batch", [1, 16])
def test_boxes_end_where_the_photo_ends(monkeypatch, batch):
    monkeypatch.setitem(BATCH, "cpu", batch)
    net = Sees({0: (2.0, [50.0, 50.0, 200.0, 200.0])})
    small, tall = PersonDetector(net, SPEC).detect([np.zeros((30, 40, 3), np.uint8), np.zeros((200, 64, 3), np.uint8)])
    np.testing.assert_allclose(small.boxes, [[0, 0, 40, 30]])
    np.testing.assert_allclose(tall.boxes, [[0, 0, 64, 200]])


def test_the_lower_of_two_scores_on_one_person_goes():
    net = Sees({9: (2.0, [4, 4, 12, 12]), 10: (1.0, [12, 4, 4, 12]), 1: (1.5, [4, 4, 4, 4])})
    scores = PersonDetector(net, SPEC)(np.zeros((64, 64, 3), np.uint8)).scores
    np.testing.assert_allclose(scores, torch.tensor([2.0, 1.5]).sigmoid())
    both = PersonDetector(net, SPEC, overlap=1.0)(np.zeros((64, 64, 3), np.uint8))
    assert len(both) == 3
    assert len(PersonDetector(net, SPEC, most=1)(np.zeros((64, 64, 3), np.uint8))) == 1
    assert len(PersonDetector(net, SPEC, threshold=0.85)(np.zeros((64, 64, 3), np.uint8))) == 1


@pytest.mark.parametrize("reach", [[float("nan")] * 4, [float("inf"), 1, 1, 1], [-9.0, 1, 1, 1]])
def test_boxes_that_are_none_are_left_out(reach):
    net = Sees({9: (2.0, reach), 1: (float("nan"), [4, 4, 4, 4])})
    assert len(PersonDetector(net, SPEC)(np.zeros((64, 64, 3), np.uint8))) == 0


def test_photos_of_one_shape_are_found_alike_alone_and_together(monkeypatch):
    monkeypatch.setitem(BATCH, "cpu", 16)  # as on a GPU
    detector = PersonDetector(build(), SPEC, threshold=1e-4)
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (90, 120, 3), np.uint8) for _ in range(3)]
    for alone, together in zip(map(detector, images), detector.detect(images), strict=True):
        assert len(alone) > 0
        np.testing.assert_allclose(alone.boxes, together.boxes, atol=1e-3)
    assert detector.detect([]) == []


@pytest.mark.parametrize(("dtype", "close"), [(None, 1e-5), (torch.int8, 0.05)])
def test_a_file_gives_the_same_detector(tmp_path, dtype, close):
    net = build(3)
    file = tmp_path / "detector.safetensors"
    save_detector(net, SPEC, file, dtype=dtype)
    loaded = load_detector(file, threshold=0.001)
    assert loaded.spec == SPEC
    assert loaded.threshold == 0.001
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(loaded.net(x)[0], net.eval()(x)[0], atol=close, rtol=0)
    if dtype is torch.int8:
        assert file.stat().st_size < sum(p.numel() for p in net.parameters()) * 1.5 + 20_000


def test_a_file_that_is_no_detector_is_named(tmp_path):
    file = tmp_path / "other.safetensors"
    safetensors.torch.save_file({"a": torch.zeros(2)}, file)
    with pytest.raises(WeightsError, match=r"other.safetensors: is no detector of people"):
        load_detector(file)
    for spec in ({"side": 63}, {"colour": 1}, {"neck": 24}):
        header = {"fastpose.detector": json.dumps({**json.loads(_header(tmp_path)), **spec})}
        safetensors.torch.save_file(build().state_dict(), file, header)
        with pytest.raises(WeightsError, match=r"other.safetensors: is no detector of people: "):
            load_detector(file)


def _header(folder):
    save_detector(build(), SPEC, folder / "right.safetensors")
    with safetensors.safe_open(folder / "right.safetensors", "pt") as file:
        return file.metadata()["fastpose.detector"]


@pytest.mark.parametrize("values", [{"side": 100}, {"threshold": 0.0}])
def test_a_spec_that_is_wrong_is_named(values):
    with pytest.raises(ValueError, match=next(iter(values))):
        DetectorSpec(**values)


def test_wide_and_tall_photos_of_a_batch_come_back_in_order(monkeypatch):
    monkeypatch.setitem(BATCH, "cpu", 16)
    net = Sees({0: (2.0, [50.0, 50.0, 200.0, 200.0])})
    sizes = [(200, 64), (30, 40), (90, 30), (20, 99)]
    found = PersonDetector(net, SPEC).detect([np.zeros((*size, 3), np.uint8) for size in sizes])
    for answer, (height, width) in zip(found, sizes, strict=True):
        np.testing.assert_allclose(answer.boxes, [[0, 0, width, height]], rtol=1e-6)
