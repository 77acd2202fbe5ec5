"""``fastpose info --data``."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest
from click.testing import CliRunner

from fastpose.cli import main
from fastpose.data.synthetic import render_scene
from fastpose.skeletons import COCO17


def call(*words):
    return CliRunner().invoke(main, [str(word) for word in words], catch_exceptions=False)


@pytest.fixture
def data_set(tmp_path):
    """Twelve scenes in COCO's format whose hips are exchanged; one photo is missing, one person is there twice."""
    images, annotations = [], []
    for number in range(12):
        picture, truth = render_scene(number, (160, 128))
        name = f"{number:03}.png"
        if number != 3:
            cv2.imwrite(str(tmp_path / name), picture)
        images.append({"id": number, "file_name": name, "height": 160, "width": 128})
        for person in truth:
            points = np.concatenate([person.keypoints, person.visible[:, None]], 1)
            left, right = COCO17.indices(["left_hip", "right_hip"])
            points[[left, right]] = points[[right, left]]
            x1, y1, x2, y2 = person.box.tolist()
            for _ in range(2 if number == 5 else 1):
                entry = {
                    "id": len(annotations),
                    "image_id": number,
                    "category_id": 1,
                    "bbox": [x1, y1, x2 - x1, y2 - y1],
                }
                annotations.append({**entry, "keypoints": points.ravel().tolist(), "num_keypoints": 17})
    category = {"id": 1, "name": "person", "keypoints": list(COCO17.keypoints)}
    path = tmp_path / "people.json"
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": [category]}))
    return path


def test_tables(data_set):
    result = call("info", "--data", data_set)
    assert result.exit_code == 0, result.output
    text = " ".join(result.stdout.split())
    assert "13 people on 12 photos, coco17" in text
    assert "photos missing │ 1" in text
    assert "people: double │ 1" in text
    assert "double of 5" in text
    assert "probably swapped: left_hip and right_hip" in text
    assert f"missing: {data_set.parent / '003.png'}" in text


def test_json_and_sheet(data_set, tmp_path):
    sheet = tmp_path / "sheet.png"
    result = call("info", "--data", data_set, "--json", "--limit", 1, "--decode", "--sheet", sheet, "--tiles", 4)
    content = json.loads(result.stdout)
    assert content["people_with"]["double"] == 1
    assert len(content["suspicious"]["first"]) == 1
    assert content["probably_swapped"][0]["pair"] == ["left_hip", "right_hip"]
    even = cv2.imread(str(sheet))
    # Orange of the left side is there, so skeletons are drawn.
    assert (np.abs(even.astype(int) - (50, 150, 255)).max(2) < 12).sum() > 100
    assert call("info", "--data", data_set, "--sheet", sheet, "--tiles", 4, "--suspicious-first").exit_code == 0
    first = cv2.imread(str(sheet))
    assert first.shape == even.shape
    assert (first != even).any()


def test_what_is_not_known_of_the_keypoints_is_said(data_set):
    content = json.loads(data_set.read_text())
    assert "Note:" not in call("info", "--data", data_set).stdout
    content["categories"][0]["keypoints"] = [f"point {number}" for number in range(17)]
    content["categories"].append({"id": 2, "name": "cat", "keypoints": ["Left Ear", "Right Ear"]})
    data_set.write_text(json.dumps(content))
    lines = call("info", "--data", data_set).stdout.splitlines()
    assert "no mirroring in training and in tests" in lines[1]
    assert "no OKS sigmas are known" in lines[2]
    assert len(json.loads(call("info", "--data", data_set, "--json").stdout)["skeleton_warnings"]) == 2
    cats = call("info", "--data", data_set, "--category", "cat").stdout
    assert "0 people on 12 photos, cat" in cats
    assert "Note:" not in cats


def test_photos_elsewhere(data_set, tmp_path):
    folder = tmp_path / "empty"
    folder.mkdir()
    sheet = tmp_path / "sheet.jpg"
    result = call("info", "--data", data_set, "--images", folder, "--sheet", sheet)
    assert result.exit_code == 0
    assert "No photo was found" in result.stdout
    assert sheet.stat().st_size > 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--sheet", "a.jpg"), "--sheet goes with --data"),
        (("resnet50", "--data", "DATA"), "NAME or --data"),
        (("--data", "DATA", "--sheet", "a.gif"), "a picture's name ends in"),
        (("--data", "DATA", "--sheet", "nowhere/a.jpg"), "there is no folder"),
        (("--data", "DATA", "--format", "cocoa"), "expected one of"),
        (("--data", "DATA", "--split", "train"), "the file is not divided"),
        (("--data", "BAD"), "people.bad"),
    ],
)
def test_what_cannot_be_used(data_set, words, said):
    bad = data_set.with_suffix(".bad")
    bad.write_text("{")
    result = call("info", *(str({"DATA": data_set, "BAD": bad}.get(word, word)) for word in words))
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1
    assert said in result.stderr
