"""Leeds Sports Pose from MATLAB files and JSON."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from fastpose.data import DataError, read_annotations
from fastpose.skeletons import LSP14

JOINTS = np.stack([np.arange(14.0) + 10, np.arange(14.0) * 2 + 30, np.zeros(14)])  # x 10 to 23, y 30 to 56


def save(path: Path, joints: np.ndarray) -> Path:
    pytest.importorskip("scipy.io").savemat(path, {"joints": joints})
    return path


def test_lsp(tmp_path: Path) -> None:
    people = np.stack([JOINTS, JOINTS + 1, JOINTS + 2, JOINTS + 3], axis=2)
    people[2] = 0
    people[2, 3, 1] = 1  # this joint is hidden
    path = save(tmp_path / "joints.mat", people)
    records = read_annotations(path)
    assert (records.skeleton, len(records)) == (LSP14, 4)
    assert records.visible[1].tolist() == [2, 2, 2, 1] + [2] * 10
    assert records.keypoints[0, 13].tolist() == [23, 56]
    np.testing.assert_allclose(records.boxes[0], [10 - 5.3, 30 - 6.6, 23 + 5.3, 56 + 6.6], rtol=1e-6)
    assert records[0].image_path == tmp_path / "images" / "im0001.jpg"
    train, test = (read_annotations(path, split=part) for part in ("train", "test"))
    assert (train.ids.tolist(), test.ids.tolist()) == ([1, 2], [3, 4])
    assert [p.image_path.name for p in test] == ["im0003.jpg", "im0004.jpg"]
    np.testing.assert_array_equal(test.keypoints, records.keypoints[2:])


def test_extended(tmp_path: Path) -> None:
    people = np.stack([JOINTS.T] * 3, axis=2)
    people[:, 2] = 1
    people[4, :, 1] = 0  # not annotated
    people[:, :, 2] = 0
    path = save(tmp_path / "joints.mat", people)
    records = read_annotations(path, tmp_path / "lspet")
    assert records.ids.tolist() == [1, 2]
    assert records.visible[1].tolist() == [2, 2, 2, 2, 0] + [2] * 9
    assert records[1].image_path == tmp_path / "lspet" / "images" / "im00002.jpg"
    assert records.skipped == {"no keypoints": 1}
    with pytest.raises(DataError, match="split: no part is named 'train'; the file is not divided"):
        read_annotations(path, split="train")
    with pytest.raises(DataError, match="detections go with a COCO-style file"):
        read_annotations(path, detections=path)


def test_damaged(tmp_path: Path) -> None:
    people = np.stack([JOINTS, JOINTS], axis=2)
    people[0, 5, 1] = np.nan
    with pytest.raises(DataError, match="person number 1: joints: expected finite numbers"):
        read_annotations(save(tmp_path / "joints.mat", people))
    with pytest.raises(DataError, match=r"expected an array of shape \(3, 14, N\) or \(14, 3, N\), got \(2, 14, 2\)"):
        read_annotations(save(tmp_path / "joints.mat", people[:2]))


def test_json(tmp_path: Path) -> None:
    content = {
        "images": [{"id": 1, "file_name": "a.jpg", "width": 90, "height": 90}],
        "categories": [{"id": 1, "name": "person", "keypoints": list(LSP14.keypoints)}],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 1, 50, 50], "keypoints": [5, 6, 2] * 14}
        ],
    }
    path = tmp_path / "lsp.json"
    path.write_text(json.dumps(content))
    assert read_annotations(path).skeleton is LSP14
    with pytest.raises(DataError, match="split"):
        read_annotations(path, split="train")
