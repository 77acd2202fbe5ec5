"""Files of boxes: their forms, which boxes are those of a photo, and which are taken."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastpose.data import DataError, read_annotations
from fastpose.data.readers import DetectionFile

BOX = [1.0, 2.0, 4.0, 6.0]
PHOTO = Path("folder/000000000785.jpg")


def write(folder: Path, content: Any) -> Path:
    path = folder / "boxes.json"
    path.write_text(json.dumps(content))
    return path


def found(file: DetectionFile, photo: str | Path = PHOTO) -> list[list[float]]:
    return file.find(Path(photo)).boxes.tolist()


@pytest.mark.parametrize(
    "form",
    [
        [BOX],
        {"000000000785.jpg": [BOX]},
        {"folder/000000000785.jpg": [BOX], "other/000000000785.jpg": []},
        [{"file": "elsewhere/000000000785.jpg", "boxes": [BOX]}],
        [{"file": "000000000785.jpg", "people": [{"box": BOX, "keypoints": []}]}],
        {"file": "000000000785.jpg", "people": [{"box": BOX, "keypoints": []}]},
        [{"image_id": 785, "bbox": [1, 2, 3, 4]}],
        {
            "images": [{"id": 5, "file_name": "000000000785.jpg"}],
            "annotations": [{"image_id": 5, "bbox": [1, 2, 3, 4]}],
        },
    ],
)
def test_forms(tmp_path: Path, form: Any) -> None:
    file = DetectionFile(write(tmp_path, form))
    boxes = file.find(PHOTO)
    assert (boxes.boxes.tolist(), boxes.scores.tolist(), boxes.classes.tolist()) == ([BOX], [1.0], [-1])
    assert (boxes.boxes.dtype, boxes.scores.dtype, len(boxes), len(file)) == (np.float32, np.float32, 1, 1)
    assert file.image_id(PHOTO) == (5 if isinstance(form, dict) and "images" in form else None)
    assert file.skipped == {}


def test_scores_and_classes(tmp_path: Path) -> None:
    rows = [[*BOX, 0.5, 0], [0, 0, 9, 9, 0.875, 56], [0, 0, 5, 5, 0.25, 0]]
    for form in (rows, {"785.jpg": rows}, [{"file": "785.jpg", "boxes": rows}]):
        file = DetectionFile(write(tmp_path, form), min_score=0.3)
        boxes = file.find(Path("785.jpg"))
        assert (boxes.boxes.tolist(), boxes.scores.tolist(), boxes.classes.tolist()) == ([BOX], [0.5], [0])
        assert file.skipped == {"other category": 1, "low score": 1}
        chairs = DetectionFile(write(tmp_path, form), category="56").find(Path("785.jpg"))
        assert (chairs.scores.tolist(), chairs.classes.tolist(), chairs.rows.tolist()) == ([0.875], [56], [1])
    plain = DetectionFile(write(tmp_path, [row[:5] for row in rows])).find(PHOTO)
    assert (plain.scores.tolist(), plain.classes.tolist()) == ([0.5, 0.875, 0.25], [-1] * 3)
    own = [{"file": "a.jpg", "people": [{"box": BOX, "score": 0.1, "box_score": 0.75}, {"box": BOX, "score": 0.1}]}]
    assert DetectionFile(write(tmp_path, own)).find(Path("a.jpg")).scores.tolist() == [0.75, 1.0]


def test_a_chair_is_no_person(tmp_path: Path) -> None:
    results = [
        {"image_id": 785, "category_id": 62, "bbox": [0, 0, 9, 9], "score": 0.9},
        {"image_id": 785, "category_id": 1, "bbox": [1, 2, 3, 4], "score": 0.5},
        {"image_id": 785, "category_id": 1, "bbox": [1, 2, 0, 4], "score": 0.5},
        {"image_id": 786, "category_id": 62, "bbox": [1, 2, 3, 4], "score": 0.5},
    ]
    path = write(tmp_path, results)
    file = DetectionFile(path)
    assert found(file) == [BOX]
    assert found(file, "786.jpg") == []  # somebody looked at it, and found nobody
    assert file.skipped == {"other category": 2, "empty box": 1}
    assert found(DetectionFile(path, category=62)) == [[0, 0, 9, 9]]
    assert found(DetectionFile(path, person_id=62)) == [[0, 0, 9, 9]]
    with pytest.raises(DataError, match="category: no box is of category 3; there are 1, 62"):
        DetectionFile(path, category=3)
    with pytest.raises(DataError, match="category: names none; expected its number, got 'chair'"):
        DetectionFile(path, category="chair")


def test_categories_of_annotations(tmp_path: Path) -> None:
    content: dict[str, Any] = {
        "images": [{"id": 1, "file_name": "a.jpg"}],
        "categories": [{"id": 3, "name": "cat", "keypoints": ["nose"]}, {"id": 7, "name": "person"}],
        "annotations": [
            {"image_id": 1, "category_id": 3, "bbox": [0, 0, 5, 5]},
            {"image_id": 1, "category_id": 7, "bbox": [1, 2, 3, 4]},
            {"image_id": 1, "category_id": 7, "bbox": [1, 2, 8, 8], "iscrowd": 1},
            {"image_id": 1, "category_id": 7, "bbox": [1, 2, 9, 9], "num_keypoints": 0},
        ],
    }
    path = write(tmp_path, content)
    assert found(DetectionFile(path), "a.jpg") == [BOX]
    assert found(DetectionFile(path, category="cat"), "a.jpg") == [[0, 0, 5, 5]]
    assert found(DetectionFile(path, category="3"), "a.jpg") == [[0, 0, 5, 5]]
    content["categories"] = [{"id": 3, "name": "cat"}, {"id": 7, "name": "dog"}]
    with pytest.raises(DataError, match=r"choose one with category: 'cat' \(3\), 'dog' \(7\)"):
        DetectionFile(write(tmp_path, content))


def test_photos_of_the_same_name_are_told_apart_by_their_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two, three = ([[0, 0, side, side]] for side in (1, 2, 3))
    path = write(tmp_path, {"a/1.jpg": one, "b/1.jpg": two, "x/b/1.jpg": three, "2.jpg": one})
    (tmp_path / "a").mkdir()
    monkeypatch.chdir(tmp_path / "a")
    boxes = DetectionFile(path)
    for photo, expected in (("/d/a/1.jpg", one), ("/d/b/1.jpg", two), ("x/b/1.jpg", three), ("1.jpg", one)):
        assert boxes.find(Path(photo), only=False).boxes.tolist() == expected
    assert found(boxes, "/elsewhere/2.jpg") == one
    with pytest.raises(DataError, match=r"1\.jpg: .* names several photos that it may be \(a/1\.jpg, b/1\.jpg"):
        boxes.find(Path("/d/c/1.jpg"), only=True)


def test_a_number_is_no_name_where_the_file_states_names(tmp_path: Path) -> None:
    images = [{"id": 5, "file_name": "x/8.jpg"}, {"id": 6, "file_name": "y/8.jpg"}]
    annotations = [{"image_id": 5, "bbox": [1, 2, 3, 4]}, {"image_id": 6, "bbox": [5, 6, 7, 8]}]
    boxes = DetectionFile(write(tmp_path, {"images": images, "annotations": annotations}))
    assert found(boxes, "/d/y/8.jpg") == [[5, 6, 12, 14]]
    assert boxes.image_id(Path("/d/y/8.jpg")) == 6
    with pytest.raises(DataError, match="has no boxes for it"):
        boxes.find(Path("5.jpg"), only=True)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (3, "expected a list or an object of boxes, got int"),
        ([{"image_id": 3}], "detection number 0: bbox: expected 4 numbers, got nothing"),
        ([{"image_id": "3", "bbox": BOX}], "detection number 0: image_id: expected an integer, got '3'"),
        ([{"image_id": 3, "bbox": [1, 2, 9e300, 4]}], "detection number 0: bbox: expected finite numbers"),
        ([{"image_id": 3, "bbox": BOX, "score": "high"}], "detection number 0: score: expected numbers"),
        ([{"file": "b.jpg"}], "photo number 0: expected a list of boxes, got nothing"),
        ([{"boxes": [BOX]}], "photo number 0: file: expected a string, got nothing"),
        ([{"file": "b.jpg", "people": [{"keypoints": []}]}], "photo number 0: expected x1, y1, x2, y2"),
        ([[1, 2, 3]], "box number 0: expected x1, y1, x2, y2, and perhaps a score and a class, got 3 numbers"),
        ({"b.jpg": [1, 2, 3, 4]}, r"b\.jpg: number 0: box: expected 4 numbers, got int"),
        ({"b.jpg": [BOX, [1, 2, 3, 4, 5]]}, r"b\.jpg: number 1: box: expected 4 numbers, got 5"),
        ({"other.jpg": []}, r"785\.jpg: .* has no boxes for it"),
        ([{"image_id": 3, "bbox": BOX}], "has no boxes for it"),
        ({"images": [{"id": 1}], "annotations": []}, "images: number 0: file_name: expected a string, got nothing"),
    ],
)
def test_files_that_cannot_be_used(tmp_path: Path, content: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        DetectionFile(write(tmp_path, content)).find(PHOTO)


def test_a_list_is_for_one_photo(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is a list of boxes for one photo; for several it must name them"):
        DetectionFile(write(tmp_path, [BOX])).find(PHOTO, only=False)


@pytest.mark.parametrize(
    "form",
    [
        [
            {"image_id": 10, "category_id": 1, "bbox": [1, 2, 3, 4], "score": 0.5},
            {"image_id": 10, "category_id": 3, "bbox": [9, 9, 9, 9]},
        ],
        {"sub/a.jpg": [[*BOX, 0.5]]},
        [{"file": "sub/a.jpg", "people": [{"box": BOX, "box_score": 0.5}]}],
        {
            "images": [{"id": 77, "file_name": "sub/a.jpg"}],
            "annotations": [{"image_id": 77, "bbox": [1, 2, 3, 4], "score": 0.5}],
        },
    ],
)
def test_every_form_serves_a_data_set(tmp_path: Path, form: Any) -> None:
    content = {
        "images": [{"id": 20, "file_name": "b.jpg"}, {"id": 10, "file_name": "sub/a.jpg"}],
        "categories": [{"id": 1, "name": "person", "keypoints": ["nose"]}],
        "annotations": [],
    }
    (tmp_path / "people.json").write_text(json.dumps(content))
    records = read_annotations(tmp_path / "people.json", detections=write(tmp_path, form))
    assert (records.image_index.tolist(), records.boxes.tolist()) == ([1], [BOX])
    assert records.scores.tolist() == [0.5]
    assert records.skipped == (
        {"other category": 1} if isinstance(form, list) and "image_id" in form[0] else {"photo without boxes": 1}
    )
    with pytest.raises(DataError, match="names none of the photos"):
        read_annotations(tmp_path / "people.json", detections=write(tmp_path, {"c.jpg": [BOX]}))
    with pytest.raises(DataError, match="is a list of boxes for one photo"):
        read_annotations(tmp_path / "people.json", detections=write(tmp_path, [BOX]))
    assert len(read_annotations(tmp_path / "people.json", detections=write(tmp_path, []))) == 0
