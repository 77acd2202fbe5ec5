"""What a detector may be named by."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from fake_detector import FakeDetector

from fastpose.detection import BatchDetector, find_detector, sources
from fastpose.detection.person_detector import DetectorSpec, PersonDetector, save_detector
from fastpose.models import WeightsError

SPEC = DetectorSpec(widths=(8, 8, 8, 8, 8), depths=(0, 0, 0, 0), neck=8, side=64)


@pytest.fixture
def made(monkeypatch):
    """What is made of ONNX files and of torchvision's names, which need packages of their own."""
    calls = []
    for module, name in (("onnx", "OnnxDetector"), ("torchvision", "TorchvisionDetector")):
        stand_in = ModuleType(f"fastpose.detection.{module}")
        setattr(stand_in, name, lambda *a, name=name, **k: calls.append((name, a, k)))
        monkeypatch.setitem(sys.modules, stand_in.__name__, stand_in)
    return calls


@pytest.mark.parametrize("kind", [str, Path])
def test_files(tmp_path, made, kind):
    save_detector(SPEC.build(), SPEC, tmp_path / "a.safetensors")
    found = find_detector(kind(tmp_path / "a.safetensors"), device="cpu")
    assert isinstance(found, PersonDetector)
    assert isinstance(found, BatchDetector)
    assert found.spec == SPEC
    assert found.dtype == torch.float32
    half = find_detector(kind(tmp_path / "a.safetensors"), device="cpu", dtype="bfloat16")
    assert isinstance(half, PersonDetector)
    assert half.dtype == next(half.net.parameters()).dtype == torch.bfloat16
    find_detector(kind("folder/yolo.ONNX"), device="cpu", layout="yolox", person_class=2)
    options = {"device": "cpu", "layout": "yolox", "person_class": 2}
    assert made == [("OnnxDetector", (kind("folder/yolo.ONNX"),), options)]


def test_names(made):
    find_detector("torchvision:ssdlite320_mobilenet_v3_large", device="cpu")
    assert made == [("TorchvisionDetector", ("ssdlite320_mobilenet_v3_large",), {"device": "cpu"})]


def test_the_carried_one(monkeypatch, tmp_path):
    monkeypatch.setattr(sources, "_CARRIED_FILE", str(tmp_path / "gone.safetensors"))
    with pytest.raises(WeightsError, match=r"carried: the package should hold .*gone.safetensors, and does not"):
        find_detector()
    save_detector(SPEC.build(), SPEC, tmp_path / "gone.safetensors")
    assert find_detector().spec == find_detector("carried", device=torch.device("cpu")).spec == SPEC


def test_functions_are_what_they_are():
    fake = FakeDetector(lambda photo: [])
    assert find_detector(fake) is fake
    assert find_detector(len) is len


@pytest.mark.parametrize(
    ("source", "options", "kind", "message"),
    [
        ("yolo", {}, ValueError, r"detector: expected 'carried', .* got 'yolo'"),
        ("a.pt", {}, ValueError, r"detector: expected .*\.onnx or \.safetensors file.* got 'a.pt'"),
        (3, {}, TypeError, "detector: expected 'carried', .* got int"),
        ("gone.safetensors", {}, WeightsError, "gone.safetensors: cannot be read"),
        ("carried", {"layout": "yolox"}, ValueError, "layout: is for the detectors of ONNX files, got 'yolox' for 'ca"),
        (len, {"person_class": 0}, ValueError, "person_class: is for the detectors of ONNX files"),
    ],
)
def test_what_is_none(source, options, kind, message):
    with pytest.raises(kind, match=message):
        find_detector(source, **options)
