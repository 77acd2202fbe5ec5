"""``fastpose predict`` where nobody says where people are: who is asked, what is written and said."""

from __future__ import annotations

import json
import os
from importlib import resources

import cv2
import numpy as np
import pytest
import torch
from fake_detector import FakeDetector

from fastpose.cli.predict_demo import match_boxes
from fastpose.detection.person_detector import DetectorSpec, save_detector

BOXES = [[10, 5, 60, 75, 0.9], [50, 5, 80, 75, 0.5]]


@pytest.fixture
def detector(monkeypatch):
    """Stands in for whatever is named; keeps what it was asked for by."""
    import fastpose.predict  # noqa: F401  it keeps the real one, whichever test comes first

    fake = FakeDetector(lambda photo: BOXES)
    fake.named = []
    monkeypatch.setattr("fastpose.detection.find_detector", lambda *a, **k: fake.named.append((a, k)) or fake)
    return fake


@pytest.fixture
def many(photos):
    """Twenty photos."""
    names = [f"{number:02}.png" for number in range(20)]
    for name in names:
        (photos / name).write_bytes((photos / "7.png").read_bytes())
    return names


def people_of(result):
    assert result.exit_code == 0, result.output
    return [entry["people"] for entry in json.loads(result.stdout)]


def failed(result, *parts):
    """Whether a call ended with code 2 and one line on stderr that says all of the parts."""
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1), result.output
    for part in parts:
        assert part in result.stderr
    return True


def test_people_are_found(run, detector):
    [found] = people_of(run("7.png", "--nms-threshold", 1))
    assert [(person["box"], person["box_score"]) for person in found] == [([*box], s) for *box, s in BOXES]
    assert all(len(person["keypoints"]) == 17 for person in found)
    assert detector.named == [
        (("carried",), {"device": torch.device("cpu"), "dtype": torch.float32, "layout": None, "person_class": None}),
    ]


def test_it_is_asked_as_it_was_said(run, detector):
    words = ("--detector", "yolo.onnx", "--person-class", 3, "--detector-layout", "yolox", "--detect-threshold", 0.25)
    assert len(people_of(run("7.png", *words, "--max-people", 1))[0]) == 1
    assert detector.named == [
        (("yolo.onnx",), {"device": torch.device("cpu"), "dtype": torch.float32, "layout": "yolox", "person_class": 3}),
    ]
    assert detector.thresholds == [0.25]
    assert len(people_of(run("7.png", "--detect-threshold", 0.8))[0]) == 1
    detector.find = lambda photo: [[0, 0, 40, 40], [0, 0, 30, 39]]
    assert len(people_of(run("7.png", "--min-size", 40))[0]) == 1


def test_photos_go_together(run, detector, many):
    assert len(people_of(run(*many, "--batch-size", 8))) == 20
    assert detector.asked == [8, 8, 4]


def test_nobody_is_said_once(run, detector, photos, many):
    detector.find = lambda photo: []
    result = run("b.jpg", "--out", "o.png", "--json", "o.json")
    assert (result.exit_code, result.stderr) == (0, "Note: nobody was found in b.jpg\n")
    assert json.loads((photos / "o.json").read_text())[0]["people"] == []
    assert (photos / "o.png").is_file()
    detector.find = lambda photo: BOXES if photo.shape[0] == 100 else []
    result = run("b.jpg", *many)
    assert result.exit_code == 0
    assert result.stderr == "Note: nobody was found in 20 of 21 photos (00.png, 01.png, 02.png, …)\n"


def test_bad_boxes_of_a_detector_are_counted(run, detector, many):
    detector.find = lambda photo: [[5, 5, 5, 9, 0.5], *BOXES, [float("nan"), 5, 5, 9, 0.5]]
    result = run("7.png")
    assert len(people_of(result)[0]) == 2
    assert result.stderr.startswith("Note: 7.png: 2 boxes of the detector left out: row 0 has no width")
    assert len(json.loads(result.stdout)[0]["dropped"]) == 2
    assert run(*many).stderr.count("\n") == 20


def test_a_photo_on_which_it_fails(run, detector, many):
    def find(photo):
        if photo.shape[0] == 100:
            raise RuntimeError("no memory")
        return BOXES

    detector.find = find
    assert failed(run("b.jpg"), "Error: ", "b.jpg: detector: RuntimeError: no memory")
    result = run(*many, "b.jpg", "--json", "o.json", "--out", "drawn")
    assert failed(result, "Error: b.jpg: detector: RuntimeError: no memory")
    assert len(os.listdir("drawn")) == 20


# --- boxes alone --------------------------------------------------------------------------------------------------
def test_boxes_alone(run, detector, photos, many, monkeypatch):
    monkeypatch.setattr("fastpose.predict.load", None)  # no network is read for it
    jsonschema = pytest.importorskip("jsonschema")

    def boxes_of(*words):
        return run(*words, "--boxes-only", with_model=False)

    result = boxes_of("7.png", "b.jpg")
    report = json.loads(result.stdout)
    schema = json.loads((resources.files("fastpose.predict") / "boxes.schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(report, schema, jsonschema.Draft202012Validator)
    assert [entry["file"] for entry in report] == ["7.png", "b.jpg"]
    assert report[0]["people"] == [{"box": [*box], "box_score": score} for *box, score in BOXES]
    result = boxes_of("7.png", "b.jpg", "--out", "drawn", "--json", "o.json")
    assert "7.png: 2 people, " in result.stdout
    assert sorted(os.listdir("drawn")) == ["7_boxes.png", "b_boxes.jpg"]
    drawn, plain = cv2.imread("drawn/7_boxes.png"), cv2.imread("7.png")
    assert (drawn != plain).any()
    assert (drawn[30, 30] == plain[30, 30]).all()
    found = json.loads(boxes_of("b.jpg", "7.png", "--format", "coco").stdout)
    assert [entry["image_id"] for entry in found] == [1, 1, 7, 7]
    assert found[0] == {"image_id": 1, "category_id": 1, "bbox": [10, 5, 50, 70], "score": 0.9}
    detector.asked.clear()
    boxes_of(*many, "--batch-size", 8, "--max-people", 1)
    assert detector.asked == [8, 8, 4]


def test_boxes_alone_can_be_boxes_again(run, detector, photos):
    run("7.png", "b.jpg", "--boxes-only", "--json", "found.json", with_model=False)
    found = people_of(run("7.png", "b.jpg", "--nms-threshold", 1))
    detector.find = None
    assert people_of(run("7.png", "b.jpg", "--boxes", "found.json", "--nms-threshold", 1)) == found


def test_boxes_alone_of_what_cannot_be_used(run, detector, photos):
    detector.find = lambda photo: []
    result = run("7.png", "gone.jpg", "b.jpg", "--boxes-only", with_model=False)
    assert result.exit_code == 2
    assert result.stderr == ("Error: gone.jpg: no such file\nNote: nobody was found in 2 of 2 photos (7.png, b.jpg)\n")
    assert len(json.loads(result.stdout)) == 2


# --- bad input ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--boxes", "1,1,9,9", "--detector", "carried"), "--detector is of no use with --boxes, which says where"),
        (("--boxes", "whole", "--detect-threshold", 0.5), "--detect-threshold is of no use with --boxes"),
        (("--boxes-only", "--flip-test"), "--flip-test is of no use with --boxes-only, which finds boxes and no"),
        (("--boxes-only", "--boxes", "whole"), "--boxes is of no use with --boxes-only"),
        (("--boxes-only", "--model", "resnet50"), "--model is of no use with --boxes-only"),
        (("--category", "dog"), "--category is for the boxes of a --boxes FILE"),
        (("--boxes", "1,1,9,9", "--box-threshold", 0.5), "--box-threshold is for the boxes of a --boxes FILE"),
        (("--max-people", 0), "--max-people"),
        (("--detector", "yolo.pt"), "detector: expected 'carried', an .onnx or .safetensors file"),
        (("--detector", "gone.safetensors"), "gone.safetensors: cannot be read"),
        (("--person-class", 1), "person_class: is for the detectors of ONNX files"),
    ],
)
def test_what_cannot_be(run, words, message):
    assert failed(run("b.jpg", *words, with_model="--boxes-only" not in words), message)


def test_a_demo_has_no_photos(run):
    assert failed(run("--demo", "--boxes-only", with_model=False), "--demo is of no use with --boxes-only")
    assert failed(run("--demo", "--boxes", "whole"), "--demo renders its own scene and finds its people")


# --- demo ---------------------------------------------------------------------------------------------------------
def test_the_demo_finds_its_people_and_knows_their_joints(run, photos, detector):
    from fastpose.data.synthetic import render_scene

    _, truth = render_scene(2_000_013, (540, 960), 4)
    detector.find = lambda photo: np.concatenate([truth.boxes[[2, 0]] + 3, [[1, 1, 30, 30]]])
    result = run("--demo", "--out", "demo.png", "--json", "demo.json")
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("2 of 4 people found in a rendered scene and 1 box beside them; ")
    assert "joints: mean error" in result.stdout
    assert "PCK@0.2" in result.stdout
    assert cv2.imread(str(photos / "demo.png")).shape == (540, 960, 3)
    assert len(json.loads((photos / "demo.json").read_text())[0]["people"]) == 3
    detector.find = lambda photo: []
    result = run("--demo")
    assert result.exit_code == 0
    assert result.stdout.startswith("0 of 4 people found in a rendered scene; ")
    assert (photos / "demo.jpg").is_file()


def test_boxes_are_whose_they_overlap_most():
    truth = np.float32([[0, 0, 10, 10], [20, 0, 30, 10], [50, 50, 60, 60]])
    found = np.float32([[21, 0, 31, 10], [0, 0, 10, 9], [20, 0, 30, 10], [0, 0, 10, 4]])
    rows, people = match_boxes(found, truth)
    assert dict(zip(rows.tolist(), people.tolist(), strict=True)) == {2: 1, 1: 0}
    assert [len(part) for part in match_boxes(found[:0], truth)] == [0, 0]


def test_with_a_detector_of_ones_own(run, photos):
    """A file of `save_detector`, and the carried one, from end to end."""
    torch.manual_seed(0)
    spec = DetectorSpec(widths=(8, 8, 8, 8, 8), depths=(0, 0, 0, 0), neck=8, side=64)
    save_detector(spec.build(), spec, "own.safetensors")
    result = run("7.png", "--detector", "own.safetensors", "--detect-threshold", 0.001, "--max-people", 2)
    assert len(people_of(result)[0]) == 2
    assert len(people_of(run("7.png"))) == 1
    assert "of 4 people found in a rendered scene" in run("--demo").stdout
