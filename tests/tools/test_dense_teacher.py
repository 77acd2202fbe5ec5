"""tools/dense_teacher.py: where a teacher is believed, and what its pupil learns of it."""

from __future__ import annotations

import importlib
from pathlib import Path

import numpy as np
import pytest
import torch

TOOLS = Path(__file__).parents[2] / "tools"


@pytest.fixture
def dense(monkeypatch):
    monkeypatch.syspath_prepend(str(TOOLS))
    return importlib.import_module("dense_teacher")


def test_a_teacher_is_believed_where_somebody_is_known(dense):
    boxes = torch.tensor([[[0.0, 0, 10, 10], [20, 0, 30, 10]], [[0, 0, 10, 10], [20, 0, 30, 10]]])
    known = [np.float32([[18, 0, 32, 12]]), np.empty((0, 4), np.float32)]
    assert dense.believed(torch.full((2, 2), 0.7), boxes, known).tolist() == [[0, pytest.approx(0.7)], [0, 0]]


def test_a_pupil_that_says_the_same_has_nothing_to_learn(dense):
    scores = torch.tensor([[0.9, 0.0, 0.2]])
    boxes = torch.tensor([[[0.0, 0, 10, 10], [5, 5, 6, 6], [20, 0, 30, 10]]])
    logits = torch.logit(scores, 1e-6).requires_grad_()
    score_loss, box_loss = dense.distillation_loss(logits, boxes.clone(), scores, boxes)
    score_loss.backward()
    assert logits.grad.abs().max() < 1e-5
    assert box_loss < 1e-5
    # Boxes count where the teacher sees somebody, and the more the surer it is.
    off = boxes.clone()
    off[0, 1] += 3
    assert dense.distillation_loss(logits, off, scores, boxes)[1] < 1e-5
    first, third = boxes.clone(), boxes.clone()
    first[0, 0] += 3
    third[0, 2] += 3
    losses = [float(dense.distillation_loss(logits, moved, scores, boxes)[1].detach()) for moved in (first, third)]
    assert losses[0] > losses[1] > 0


@torch.no_grad()
def test_maps_are_alike_whatever_their_scale_and_order(dense):
    torch.manual_seed(0)
    maps = [torch.randn(2, 3, 8, 8), torch.randn(2, 3, 4, 4)]
    loss = dense.FeatureLoss(3, 3, 2)
    for mix in loss.mixes:
        mix.weight.copy_(torch.eye(3)[[2, 0, 1], :, None, None] * 5)
    features = [x[:, [2, 0, 1]] * 0.1 + 3 for x in maps]
    assert loss(maps, features) == pytest.approx(0, abs=1e-4)
    assert loss(maps, [-x for x in features]) == pytest.approx(2, abs=1e-4)
    assert loss(maps, [torch.randn_like(x) for x in features]) == pytest.approx(1, abs=0.2)


def test_the_teacher_has_the_places_of_the_pupil(dense, shared):
    """Of a person who is there, the surest place's box holds that place, and is the person's."""
    import cv2

    from fastpose.detection.letterbox import letterbox
    from fastpose.detection.network import place_centers
    from fastpose.detection.person_detector import DetectorSpec

    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    file = shared / "real" / "rtmdet_nano_end2end.onnx"
    teacher = dense.DenseTeacher(file, "y.24", "y.28", ["onnx::Conv_1085", "onnx::Conv_1093", "onnx::Conv_1101"])
    spec = DetectorSpec()
    photo = cv2.imread(str(shared / "data" / "samples" / "coco" / "000000000785.jpg"))
    pixels, _ = letterbox([photo], size=(320, 320), mean=spec.mean, std=spec.std, border=spec.border)
    taught = teacher(pixels)
    scores, boxes = taught.scores, taught.boxes
    assert [list(feature.shape) for feature in taught.features] == [[1, 64, side, side] for side in (40, 20, 10)]
    centers, _ = place_centers((320, 320))
    assert scores.shape == (1, len(centers))
    best = int(scores[0].argmax())
    assert scores[0, best] > 0.7
    x0, y0, x1, y1 = boxes[0, best].tolist()
    x, y = centers[best].tolist()
    assert x0 < x < x1
    assert y0 < y < y1
