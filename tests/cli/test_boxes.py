"""Files of boxes: their forms, and which boxes are those of a photo."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fastpose.cli.boxes import BoxFile, parse_boxes


def test_photos_of_the_same_name_are_told_apart_by_their_folders(tmp_path, monkeypatch):
    one, two, three = ([[0, 0, side, side]] for side in (1, 2, 3))
    (tmp_path / "boxes.json").write_text(json.dumps({"a/1.jpg": one, "b/1.jpg": two, "x/b/1.jpg": three, "2.jpg": one}))
    (tmp_path / "a").mkdir()
    monkeypatch.chdir(tmp_path / "a")
    boxes = BoxFile(tmp_path / "boxes.json")
    for photo, expected in (("/d/a/1.jpg", one), ("/d/b/1.jpg", two), ("x/b/1.jpg", three), ("1.jpg", one)):
        assert boxes.find(Path(photo), only=False) == expected
    assert boxes.find(Path("/elsewhere/2.jpg"), only=False) == one
    with pytest.raises(ValueError, match=r"1\.jpg: .* names several photos that it may be \(a/1\.jpg, b/1\.jpg"):
        boxes.find(Path("/d/c/1.jpg"), only=True)


def test_a_number_is_no_name_where_the_file_states_names(tmp_path):
    images = [{"id": 5, "file_name": "x/8.jpg"}, {"id": 6, "file_name": "y/8.jpg"}]
    annotations = [{"image_id": 5, "bbox": [1, 2, 3, 4]}, {"image_id": 6, "bbox": [5, 6, 7, 8]}]
    (tmp_path / "coco.json").write_text(json.dumps({"images": images, "annotations": annotations}))
    boxes = BoxFile(tmp_path / "coco.json")
    assert boxes.find(Path("/d/y/8.jpg"), only=True) == [[5, 6, 12, 14]]
    assert boxes.image_id(Path("/d/y/8.jpg")) == 6
    with pytest.raises(ValueError, match="has no boxes for it"):
        boxes.find(Path("5.jpg"), only=True)


@pytest.mark.parametrize(
    ("change", "boxes"), [({"iscrowd": "0"}, 1), ({"iscrowd": "1"}, 0), ({"num_keypoints": "0"}, 0),
                          ({"num_keypoints": None}, 1)]
)  # fmt: skip
def test_numbers_as_text_count_as_these_numbers(tmp_path, change, boxes):
    annotation = {"image_id": 1, "bbox": [1, 2, 3, 4], **change}
    content = {"images": [{"id": 1, "file_name": "b.jpg"}], "annotations": [annotation]}
    (tmp_path / "coco.json").write_text(json.dumps(content))
    assert len(BoxFile(tmp_path / "coco.json").find(Path("b.jpg"), only=True)) == boxes


def test_forms_of_box_files(tmp_path):
    path = tmp_path / "boxes.json"
    photo = Path("folder/000000000785.jpg")
    box = [1.0, 2.0, 4.0, 6.0]
    forms = [
        [box],
        {"000000000785.jpg": [box]},
        {"folder/000000000785.jpg": [box], "other/000000000785.jpg": []},
        [{"file": "elsewhere/000000000785.jpg", "boxes": [box]}],
        [{"file": "000000000785.jpg", "people": [{"box": box, "keypoints": []}]}],
        [{"image_id": 785, "bbox": [1, 2, 3, 4], "score": 0.9}],
        {
            "images": [{"id": 5, "file_name": "000000000785.jpg"}],
            "annotations": [{"image_id": 5, "bbox": [1, 2, 3, 4]}],
        },
    ]
    for form in forms:
        path.write_text(json.dumps(form))
        boxes = parse_boxes([str(path)])
        assert isinstance(boxes, BoxFile)
        assert boxes.find(photo, only=True) == [box]
    assert BoxFile(path).image_id(photo) == 5
    path.write_text(json.dumps(forms[5]))
    assert BoxFile(path, min_score=0.95).find(photo, only=True) == []
    assert parse_boxes([]) is None
    assert parse_boxes(["1,2,4,6"]) == [box]
    with pytest.raises(ValueError, match="or a JSON file, got 'typo'"):
        parse_boxes(["typo"])
