"""The Python on the page about metrics runs."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]


def test_the_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    (example,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8"), re.S)
    points = np.c_[np.random.default_rng(0).uniform(0, 100, (17, 2)), np.full(17, 2)].ravel().tolist()
    person = {"id": 1, "image_id": 7, "category_id": 1, "bbox": [0, 0, 100, 100], "area": 1e4, "keypoints": points}
    content = {"images": [{"id": 7}], "annotations": [person]}
    (tmp_path / "person_keypoints_val2017.json").write_text(json.dumps(content))
    (tmp_path / "results.json").write_text(json.dumps([person | {"score": 0.5}]))
    monkeypatch.chdir(tmp_path)
    exec(compile(example, "docs/metrics.md", "exec"), {})
    assert float(capsys.readouterr().out) == pytest.approx(1.0)
