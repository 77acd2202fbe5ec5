"""tools/check_zoo.py: what it says of an entry, and that an interrupted run goes on."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from fastpose.skeletons import COCO17

TOOLS = Path(__file__).parents[2] / "tools"
NAME = "litehrnet18.coco_256x192"


@pytest.fixture
def check_zoo(monkeypatch):
    monkeypatch.syspath_prepend(str(TOOLS))
    return importlib.import_module("check_zoo")


@pytest.fixture
def people(tmp_path):
    """A folder with two annotated people in one photo of noise."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "coco"
    folder.mkdir()
    cv2.imwrite(str(folder / "1.png"), rng.integers(0, 256, (120, 200, 3), np.uint8))
    people = []
    for number in range(2):
        points = (
            np.c_[rng.uniform((100 * number, 10), (100 * number + 90, 100), (17, 2)), np.full(17, 2)]
            .round(1)
            .ravel()
            .tolist()
        )
        people.append({"id": number + 1, "image_id": 1, "category_id": 1, "iscrowd": 0, "num_keypoints": 17})
        people[-1] |= {"keypoints": points, "bbox": [100 * number, 10, 100, 100], "area": 10000}
    category = {"id": 1, "name": "person", "keypoints": list(COCO17.keypoints), "skeleton": []}
    images = [{"id": 1, "file_name": "1.png", "width": 200, "height": 120}]
    content = {"images": images, "annotations": people, "categories": [category]}
    (folder / "test_coco.json").write_text(json.dumps(content))
    return tmp_path


def run(check_zoo, monkeypatch, *words):
    monkeypatch.setattr("sys.argv", ["check_zoo.py", *map(str, words)])
    return check_zoo.main()


def test_an_entry_is_checked_once(check_zoo, people, monkeypatch, capsys):
    results = people / "results.json"
    words = people, "--pattern", NAME, "--results", results
    assert run(check_zoo, monkeypatch, *words) == 0
    (result,) = json.loads(results.read_text()).values()
    assert (result["keys"], result["parameters"], result["loads"], result["learns"]) == (True,) * 4
    assert result["error"] < 1e-5
    assert "1 entries, 0 not right" in capsys.readouterr().out
    monkeypatch.setattr(check_zoo, "check", lambda *_: pytest.fail("it was checked again"))
    assert run(check_zoo, monkeypatch, *words) == 0


def test_what_is_wrong_is_said(check_zoo, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(check_zoo.figures, "TOLERANCE", 1e-12)
    results = tmp_path / "results.json"
    assert run(check_zoo, monkeypatch, "--pattern", NAME, "--results", results) == 1
    assert f"1 not right: {NAME}" in capsys.readouterr().out
    monkeypatch.setattr(check_zoo, "load_official", lambda model: 1 / 0)
    assert run(check_zoo, monkeypatch, "--pattern", NAME, "--results", results, "--again") == 1
    assert "WRONG ZeroDivisionError" in capsys.readouterr().out
