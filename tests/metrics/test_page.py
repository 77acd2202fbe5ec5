"""The Python on the page about metrics runs."""

from __future__ import annotations

import json
import re
from pathlib import Path

import cv2
import numpy as np
import pytest

from fastpose.skeletons import COCO17

ROOT = Path(__file__).resolve().parents[2]


def test_the_examples_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    examples = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8"), re.S)
    assert len(examples) == 3
    points = np.c_[np.random.default_rng(0).uniform(0, 100, (17, 2)), np.full(17, 2)].ravel().tolist()
    person = {"id": 1, "image_id": 7, "category_id": 1, "bbox": [0, 0, 100, 100], "area": 1e4, "keypoints": points}
    category = {"id": 1, "name": "person", "keypoints": list(COCO17.keypoints)}
    content = {"images": [{"id": 7, "file_name": "7.png"}], "annotations": [person], "categories": [category]}
    (tmp_path / "person_keypoints_val2017.json").write_text(json.dumps(content))
    for name in ("results", "detections"):
        (tmp_path / f"{name}.json").write_text(json.dumps([person | {"score": 0.5}]))
    (tmp_path / "val2017").mkdir()
    cv2.imwrite(str(tmp_path / "val2017" / "7.png"), np.zeros((120, 120, 3), np.uint8))
    monkeypatch.chdir(tmp_path)
    for example in examples:
        exec(compile(example, "docs/metrics.md", "exec"), {})
    printed = [float(line) for line in capsys.readouterr().out.splitlines()]
    assert printed == pytest.approx([1.0, 1.0, 1.0, 1.0])
