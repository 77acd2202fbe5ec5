"""MPII and its body contours: head boxes, the authors' MATLAB structure, the two meanings of a scale."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastpose.data import DataError, read_annotations
from fastpose.data.readers import read_mpii, read_mpii_trb
from fastpose.skeletons import MPII16

PERSON = {
    "image": "015601864.jpg",
    "center": [594.0, 257.0],
    "scale": 3.0,
    "joints": [[10.0 + i, 20.0 + i] for i in range(16)],
    "joints_vis": [1] * 15 + [0],
}


def write(path: Path, content: Any) -> Path:
    path.write_text(json.dumps(content))
    return path


def test_boxes(tmp_path: Path) -> None:
    records = read_mpii(write(tmp_path / "mpii_val.json", [PERSON, PERSON | {"image": "000000003.jpg"}]))
    # The centre moves down by 15 * 3 pixels and one up and left; the side is 200 * 3.
    assert records.boxes[0].tolist() == [293, 1, 893, 601]
    assert records.image_ids.tolist() == [15601864, 3]
    assert records.head_sizes is None
    assert records.visible[0].tolist() == PERSON["joints_vis"]


@pytest.mark.parametrize("names", [["a/000001.jpg", "b/000001.jpg"], ["1.jpg", "20230101123045123456789.jpg"]])
def test_numbers_that_are_no_ids(tmp_path: Path, names: list[str]) -> None:
    records = read_mpii(write(tmp_path / "people.json", [PERSON | {"image": name} for name in names]))
    assert records.image_ids.tolist() == [0, 1]


def test_people_without_joints_and_photos_without_numbers(tmp_path: Path) -> None:
    nobody = PERSON | {"joints": [[-1, -1]] * 16, "joints_vis": [0] * 16}
    records = read_mpii(write(tmp_path / "a.json", [nobody, PERSON | {"image": "one.jpg"}, PERSON | {"scale": 0}]))
    assert (records.ids.tolist(), records.skipped) == ([1], {"no keypoints": 1, "empty box": 1})
    assert records.image_ids.tolist() == [0, 1]
    assert records[0].image_path == tmp_path / "one.jpg"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image": 5}, "person number 0: image: expected a string, got int"),
        ({"center": [1]}, "person number 0: center: expected 2 numbers, got 1"),
        ({"scale": None}, "person number 0: scale: expected"),
        ({"joints": [[1, 2]] * 15}, "person number 0: joints: expected 32 numbers, got 30"),
        ({"joints": [[1, 2, 3]] * 16}, "person number 0: joints: expected 16 pairs"),
        ({"joints_vis": "all"}, "person number 0: joints_vis: expected 16 numbers, got str"),
    ],
)
def test_refused(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    path = write(tmp_path / "a.json", [PERSON | change])
    with pytest.raises(DataError) as caught:
        read_mpii(path)
    assert str(caught.value).startswith(f"{path}: {message}")


def test_head_boxes(tmp_path: Path) -> None:
    io = pytest.importorskip("scipy.io")
    path = write(tmp_path / "mpii_val.json", [PERSON, PERSON | {"joints": [[-1, -1]] * 16}, PERSON])
    boxes = np.array([[[1, 2], [4, 6]], [[0, 0], [1, 1]], [[10, 10], [16, 18]]], np.float64)
    io.savemat(tmp_path / "mpii_gt_val.mat", {"headboxes_src": boxes.transpose(1, 2, 0)})
    records = read_annotations(path)
    assert records.ids.tolist() == [0, 2]
    np.testing.assert_allclose(records.head_sizes, [3, 6], rtol=1e-6)  # 0.6 of diagonals 5 and 10
    assert records.head_boxes.tolist() == [[1, 2, 4, 6], [10, 10, 16, 18]]
    other = tmp_path / "heads.mat"
    io.savemat(other, {"headboxes_src": boxes[:2].transpose(1, 2, 0)})
    with pytest.raises(DataError, match=r"heads\.mat: headboxes_src: expected shape \(2, 2, 3\).*got \(2, 2, 2\)"):
        read_mpii(path, head_boxes=other)


def _structure(tmp_path: Path, **changes: Any) -> Path:
    io = pytest.importorskip("scipy.io")
    points = [{"id": 9, "x": 30.0, "y": 5.0}, {"id": 0, "x": 31.0, "y": 90.0, "is_visible": "0"}]
    points.append({"id": 5, "x": 40.0, "y": 91.0, "is_visible": 1})
    person = {
        **dict(zip(("x1", "y1", "x2", "y2"), (20.0, 1.0, 23.0, 5.0), strict=True)),
        "scale": 0.5,
        "objpos": {"x": 33.0, "y": 50.0},
        "annopoints": {"point": np.array(points, object)},
        **changes,
    }
    bystander = {"x1": 1.0, "y1": 1.0, "x2": 2.0, "y2": 2.0}
    photos = [
        {"image": {"name": "000000012.jpg"}, "annorect": np.array([person, bystander], object)},
        {"image": {"name": "000000013.jpg"}, "annorect": np.zeros((0, 0))},
        {"image": {"name": "000000014.jpg"}, "annorect": person},
    ]
    path = tmp_path / "mpii_human_pose_v1_u12_1.mat"
    io.savemat(path, {"RELEASE": {"annolist": np.array(photos, object), "img_train": np.array([1, 0, 1])}})
    return path


def test_the_structure_of_its_authors(tmp_path: Path) -> None:
    records = read_annotations(_structure(tmp_path), split="train")
    assert records.skeleton is MPII16
    assert records.ids.tolist() == [0, 1]
    assert records.image_ids.tolist() == [12, 14]
    assert np.flatnonzero(records.visible[0]).tolist() == [0, 5, 9]
    assert records.visible[0, [0, 5, 9]].tolist() == [1, 2, 2]
    assert records.keypoints[0, 9].tolist() == [30, 5]
    np.testing.assert_allclose(records.boxes[0], [33 - 51, 50 + 7.5 - 51, 33 + 49, 50 + 7.5 + 49])
    np.testing.assert_allclose(records.head_sizes, 3, rtol=1e-6)
    assert records.skipped == {"no keypoints": 1}
    with pytest.raises(DataError, match="split: no part is named 'test'; there are train"):
        read_annotations(tmp_path / "mpii_human_pose_v1_u12_1.mat", split="test")


def test_structures_that_are_damaged(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"000000012\.jpg: objpos, scale, x1 to y2: expected finite numbers"):
        read_mpii(_structure(tmp_path, scale=np.nan))
    for change in ({"scale": 9e300}, {"x1": 9e300}, {"objpos": {"x": 9e300, "y": 1.0}}):
        with pytest.raises(DataError, match="expected finite numbers"):
            read_mpii(_structure(tmp_path, **change))
    for number in (-1, 16):
        with pytest.raises(DataError, match=rf"000000012\.jpg: annopoints: id: expected 0 to 15, got {number}"):
            read_mpii(_structure(tmp_path, annopoints={"point": {"id": number, "x": 1.0, "y": 1.0}}))
    for point in ({"id": 3}, {"id": np.inf, "x": 1.0, "y": 1.0}, {"id": "one", "x": 1.0, "y": 1.0}):
        with pytest.raises(DataError, match=r"000000012\.jpg: annopoints: not a keypoint"):
            read_mpii(_structure(tmp_path, annopoints={"point": point}))
    with pytest.raises(DataError, match="annopoints: expected finite numbers"):
        read_mpii(_structure(tmp_path, annopoints={"point": {"id": 3, "x": 9e300, "y": 1.0}}))
    assert read_mpii(_structure(tmp_path, objpos=np.zeros((0, 0)))).skipped == {"no box": 2, "no keypoints": 1}
    other = tmp_path / "other.mat"
    pytest.importorskip("scipy.io").savemat(other, {"x": 1})
    with pytest.raises(DataError, match=r"other\.mat: expected a structure RELEASE with annolist, got x"):
        read_mpii(other)
    for annolist in (5, "five", np.arange(3), {"image": 7}, {"annorect": 1}):
        pytest.importorskip("scipy.io").savemat(other, {"RELEASE": {"annolist": annolist}})
        with pytest.raises(DataError, match=r"other\.mat: annolist: number 0: not a photo"):
            read_mpii(other)
    other.write_bytes(b"no MATLAB file" * 20)
    with pytest.raises(DataError, match=r"other\.mat: not a MATLAB file"):
        read_mpii(other)
    with pytest.raises(DataError, match=r"gone\.mat: no such file"):
        read_mpii(tmp_path / "gone.mat")


def test_without_scipy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "scipy.io", None)
    with pytest.raises(DataError, match="needs SciPy: pip install scipy"):
        read_mpii(tmp_path / "any.mat")


def test_the_two_meanings_of_a_scale(data: Path, tmp_path: Path) -> None:
    content = json.loads((data / "reader_figures.json").read_text())["mpii_trb"]["file"]
    path = write(tmp_path / "trb.json", content)
    side = np.diff(read_mpii_trb(path).boxes[:, [0, 2]])[:, 0]
    person = next(a for a in content["annotations"] if a["id"] == read_mpii_trb(path).ids[0])
    assert side[0] == pytest.approx(200 * person["scale"])
    records = read_mpii_trb(path, scale_is_factor=True)
    width = records.boxes[0, 2] - records.boxes[0, 0]
    assert width * 1.25 * person["scale"] == pytest.approx(256)  # the padded box fills a crop of 256 pixels
    np.testing.assert_allclose(records.boxes[0, :2] + width / 2, person["center"], atol=1e-3)
    del content["annotations"][1]["center"]
    with pytest.raises(DataError, match=r"trb\.json: annotation 49: center: expected 2 numbers, got nothing"):
        read_mpii_trb(write(path, content))
