"""tools/render_scenes.py: photos and boxes that pycocotools reads."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path

import cv2
import numpy as np


def test_scenes_have_people_where_the_boxes_are(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "tools"))
    render = importlib.import_module("render_scenes")
    file = tmp_path / "rendered.json"
    monkeypatch.setattr(sys, "argv", ["render_scenes.py", str(tmp_path / "photos"), str(file), "--scenes", "3"])
    render.main()
    content = json.loads(file.read_text())
    assert {row["image_id"] for row in content["annotations"]} == {1, 2, 3}
    for row in content["annotations"]:
        image = content["images"][row["image_id"] - 1]
        photo = cv2.imread(str(tmp_path / "photos" / image["file_name"]))
        assert photo.shape[:2] == (image["height"], image["width"])
        x, y, width, height = row["bbox"]
        assert min(width, height) > 5
        assert min(x, y) >= -1
        assert x + width <= image["width"] + 1
        assert y + height <= image["height"] + 1
        inside = photo[int(y) : int(y + height), int(x) : int(x + width)].astype(float)
        assert np.ptp(inside.mean(2)) > 30  # somebody is to be seen
