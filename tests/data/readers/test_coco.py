"""COCO files into records: what is kept, what is left out and counted, what is refused."""

from __future__ import annotations

import copy
import json
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastpose.data.readers import read_annotations, read_coco
from fastpose.data.records import DataError, PathTable, PoseRecords
from fastpose.skeletons import COCO17, LSP14, Skeleton

NAMES = ["head", "left_hand", "right_hand"]


def small() -> dict[str, Any]:
    """Three photos, two people on the second listed, one on the first."""
    return {
        "images": [
            {"id": 20, "file_name": "b.jpg", "width": 100, "height": 80},
            {"id": 10, "file_name": "sub/a.jpg", "width": 60, "height": 50},
            {"id": 30, "file_name": "nobody.jpg", "width": 10, "height": 10},
        ],
        "categories": [{"id": 1, "name": "doll", "keypoints": NAMES, "skeleton": [[1, 2], [1, 3]]}],
        "annotations": [
            {
                "id": 1,
                "image_id": 10,
                "category_id": 1,
                "iscrowd": 0,
                "num_keypoints": 2,
                "area": 300.5,
                "bbox": [5, 6, 20, 30],
                "keypoints": [7, 8, 2, 0, 0, 0, 9.5, 10.25, 1],
            },
            {
                "id": 2,
                "image_id": 20,
                "category_id": 1,
                "iscrowd": 0,
                "num_keypoints": 1,
                "bbox": [-10, 70.5, 200, 30],
                "keypoints": [1, 2, 2, 0, 0, 0, 0, 0, 0],
            },
            {
                "id": 3,
                "image_id": 10,
                "category_id": 1,
                "area": 12,
                "bbox": [1, 1, 4, 4],
                "keypoints": [2, 2, 2, 3, 3, 2, 4, 4, 2],
            },
        ],
    }


def write(folder: Path, content: Any, name: str = "people.json") -> Path:
    path = folder / name
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def changed(**changes: Any) -> dict[str, Any]:
    """The small file with other values in its first annotation; None takes the key away."""
    content = copy.deepcopy(small())
    for key, value in changes.items():
        if value is None:
            content["annotations"][0].pop(key)
        else:
            content["annotations"][0][key] = value
    return content


# --- what comes out -----------------------------------------------------------------------------------------------
def test_records(tmp_path: Path) -> None:
    records = read_coco(write(tmp_path, small()))
    assert len(records) == 3
    assert records.ids.tolist() == [2, 1, 3]  # by photo in the file's order, then by annotation
    assert records.image_ids.tolist() == [20, 10, 30]
    assert records.image_index.tolist() == [0, 1, 1]
    assert list(records.image_paths) == [tmp_path / "b.jpg", tmp_path / "sub/a.jpg", tmp_path / "nobody.jpg"]
    assert records.image_sizes.tolist() == [[80, 100], [50, 60], [10, 10]]
    np.testing.assert_array_equal(records.boxes, np.float32([[0, 70.5, 99, 79], [5, 6, 25, 36], [1, 1, 5, 5]]))
    np.testing.assert_array_equal(records.keypoints[1], np.float32([[7, 8], [0, 0], [9.5, 10.25]]))
    np.testing.assert_array_equal(records.visible, [[2, 0, 0], [2, 0, 1], [2, 2, 2]])
    np.testing.assert_allclose(records.areas, [99 * 8.5 * 0.53, 300.5, 12])  # 0.53 of the box where there is no area
    assert records.scores.tolist() == [1, 1, 1]
    assert not records.ignore.any()
    assert records.skipped == {}
    assert records.source == str(tmp_path / "people.json")


def test_one_person(tmp_path: Path) -> None:
    records = read_coco(write(tmp_path, small()), tmp_path / "elsewhere")
    person = records[1]
    assert (person.id, person.image_id, person.image_path) == (1, 10, tmp_path / "elsewhere/sub/a.jpg")
    assert person.box.tolist() == [5, 6, 25, 36]
    assert (person.area, person.score, person.ignore) == (300.5, 1.0, False)
    assert [p.id for p in records] == [2, 1, 3]
    assert records[-1].id == 3
    with pytest.raises(IndexError, match="person 3 of 3"):
        records[3]


def test_only_flat_arrays(tmp_path: Path) -> None:
    """No Python object per person or photo, so that loader workers share the memory."""
    records = read_coco(write(tmp_path, small()))
    for name in ("image_index", "boxes", "keypoints", "visible", "areas", "ids", "scores", "ignore", "image_ids"):
        array = getattr(records, name)
        assert array.flags.c_contiguous
        assert array.dtype != object
    assert isinstance(records.image_paths, PathTable)
    again = pickle.loads(pickle.dumps(records))
    np.testing.assert_array_equal(again.keypoints, records.keypoints)
    assert list(again.image_paths) == list(records.image_paths)


def test_select(tmp_path: Path) -> None:
    records = read_coco(write(tmp_path, small()))
    assert records.select([2, 0]).ids.tolist() == [3, 2]
    assert records.select(records.areas < 100).ids.tolist() == [3]
    nobody = records.select([])
    assert (len(nobody), nobody.boxes.shape, nobody.keypoints.shape) == (0, (0, 4), (0, 3, 2))
    assert len(nobody.image_paths) == 3


def test_paths_of_any_name() -> None:
    names = ["ordinary.jpg", "mit Umlaut ü.png", "日本/写真.jpg", "", "odd\udcff.jpg"]
    table = PathTable(names)
    assert list(table) == [Path(name) for name in names]
    assert table[-2:] == [Path(""), Path("odd\udcff.jpg")]
    with pytest.raises(IndexError):
        table[5]
    assert len(PathTable([])) == 0


def test_records_check_their_shapes(tmp_path: Path) -> None:
    records = read_coco(write(tmp_path, small()))
    fields = {**vars(records)}
    with pytest.raises(ValueError, match="boxes: expected shape"):
        PoseRecords(**{**fields, "boxes": records.boxes[:2]})
    with pytest.raises(ValueError, match="image_index: expected 0 to 2, got 0 to 3"):
        PoseRecords(**{**fields, "image_index": [0, 1, 3]})


# --- skeletons ----------------------------------------------------------------------------------------------------
def test_a_skeleton_of_its_own(tmp_path: Path) -> None:
    skeleton = read_coco(write(tmp_path, small())).skeleton
    assert skeleton.name == "doll"
    assert skeleton.keypoints == tuple(NAMES)
    assert skeleton.flip_pairs == (("left_hand", "right_hand"),)
    assert skeleton.links == (("head", "left_hand"), ("head", "right_hand"))


@pytest.mark.parametrize("known", [COCO17, LSP14])
def test_known_skeletons_are_recognised(tmp_path: Path, known: Skeleton) -> None:
    content = small()
    content["categories"][0]["keypoints"] = list(known.keypoints)
    content["annotations"] = []
    records = read_coco(write(tmp_path, content))
    assert records.skeleton is known
    assert records.keypoints.shape == (0, known.num_keypoints, 2)


def test_keypoints_are_put_into_the_skeletons_order_by_name(tmp_path: Path) -> None:
    wanted = Skeleton.from_names("two", ["right_hand", "head"])
    records = read_coco(write(tmp_path, small()), skeleton=wanted)
    np.testing.assert_array_equal(records.keypoints[1], np.float32([[9.5, 10.25], [7, 8]]))
    assert records.visible[1].tolist() == [1, 2]
    with pytest.raises(DataError, match=r"no keypoint named tail.*head, left_hand, right_hand"):
        read_coco(write(tmp_path, small()), skeleton=Skeleton.from_names("cat", ["head", "tail"]))


def test_names_may_be_spelled_in_another_way(tmp_path: Path) -> None:
    content = small()
    content["categories"][0]["keypoints"] = ["HEAD", "Left Hand", "hand-R"]
    wanted = Skeleton.from_names("two", ["right_hand", "head"])
    records = read_coco(write(tmp_path, content), skeleton=wanted)
    np.testing.assert_array_equal(records.keypoints[1], np.float32([[9.5, 10.25], [7, 8]]))
    assert not records.skeleton.sigmas_known
    content["categories"][0]["keypoints"] = [name.replace("_", " ").title() for name in COCO17.keypoints]
    content["annotations"] = []
    assert read_coco(write(tmp_path, content)).skeleton is COCO17


def test_without_names_the_skeleton_must_be_given(tmp_path: Path) -> None:
    content = small()
    del content["categories"]
    with pytest.raises(DataError, match=r'expected "keypoints": \[names\]'):
        read_coco(write(tmp_path, content))
    skeleton = Skeleton.from_names("three", ["a", "b", "c"])
    assert read_coco(write(tmp_path, content), skeleton=skeleton).skeleton is skeleton


def test_without_boxes(tmp_path: Path) -> None:
    records = read_coco(write(tmp_path, changed(bbox=None)))
    assert records.ids.tolist() == [2, 1, 3]
    # Labelled from (7, 8) to (9.5, 10.25): a tenth and 4 pixels more on every side.
    np.testing.assert_allclose(records.boxes[1], [2.75, 3.775, 13.75, 14.475])
    assert records.areas[1] == 300.5
    assert read_coco(write(tmp_path, changed(bbox=None, keypoints=[0] * 9))).ids.tolist() == [2, 3]


def test_photos_without_annotations(tmp_path: Path) -> None:
    content = small()
    del content["annotations"]
    content["categories"] = [{"id": 3, "name": "cat"}, {"id": 1, "name": "person"}]
    path = write(tmp_path, content)
    found = [{"image_id": 10, "category_id": category, "bbox": [1, 2, 3, 4], "score": 0.5} for category in (1, 3)]
    records = read_annotations(path, detections=write(tmp_path, found, "found.json"))
    assert (len(records), records.skeleton, len(records.image_paths)) == (1, COCO17, 3)
    assert not records.annotated.any()
    assert records.skipped == {"other category": 1}
    assert read_annotations(path, detections=tmp_path / "found.json", skeleton=LSP14).skeleton is LSP14
    with pytest.raises(DataError, match="lists photos without annotations; give detections"):
        read_annotations(path)


def test_categories(tmp_path: Path) -> None:
    content = small()
    content["categories"].append({"id": 2, "name": "cat", "keypoints": ["nose", "tail"]})
    content["annotations"][2] |= {"category_id": 2, "keypoints": [1, 1, 2, 3, 3, 2]}
    path = write(tmp_path, content)
    with pytest.raises(DataError, match=r"several categories.*doll.*cat"):
        read_coco(path)
    cats = read_coco(path, category="cat")
    assert (cats.ids.tolist(), cats.skeleton.keypoints) == ([3], ("nose", "tail"))
    assert cats.skipped == {"other category": 2}
    for wanted in ("cat", 2, "2"):
        assert read_annotations(path, category=wanted).ids.tolist() == [3]
    with pytest.raises(DataError, match=r"no category is named 'dog', or has that id; there are 'doll' \(1\), 'cat'"):
        read_coco(path, category="dog")
    with pytest.raises(DataError, match=r"category: not all have the same keypoints; choose one of 'doll' \(1\)"):
        read_coco(path, category="all")
    content["categories"][1]["keypoints"], content["annotations"][2]["keypoints"] = NAMES, [1, 1, 2] * 3
    assert read_coco(write(tmp_path, content), category="all").ids.tolist() == [2, 1, 3]
    write(tmp_path, content)
    with pytest.raises(DataError, match=r"category: this format \(humanart\) has no categories"):
        read_annotations(path, format="humanart", category="cat")


# --- left out and counted -----------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"iscrowd": 1}, "crowd"),
        ({"num_keypoints": 0}, "no keypoints"),
        ({"keypoints": [0] * 9}, "no keypoints"),
        ({"keypoints": [-3, -4, 2] * 3}, "no keypoints"),
        ({"num_keypoints": None, "keypoints": [5, 5, 0] * 3}, "no keypoints"),
        ({"keypoints": None}, "no keypoints"),
        ({"bbox": None, "keypoints": None}, "no box"),
        ({"bbox": [5, 6, 0, 30]}, "empty box"),
        ({"bbox": [5, 6, 20, -30]}, "empty box"),
        ({"bbox": [70, 6, 20, 30]}, "empty box"),  # beside the photo
        ({"image_id": 99}, "unknown image"),
        ({"category_id": 7}, "other category"),
    ],
)
def test_left_out_and_counted(tmp_path: Path, changes: dict[str, Any], reason: str) -> None:
    records = read_coco(write(tmp_path, changed(**changes)))
    assert records.ids.tolist() == [2, 3]
    assert records.skipped == {reason: 1}


def test_ignored_people_can_be_kept(tmp_path: Path) -> None:
    records = read_coco(write(tmp_path, changed(iscrowd=1)), keep_ignored=True)
    assert records.ids.tolist() == [2, 1, 3]
    assert records.ignore.tolist() == [False, True, False]
    records = read_coco(write(tmp_path, changed(num_keypoints=0)), keep_ignored=True)
    assert records.ignore.tolist() == [False, True, False]


def test_photos_without_a_size_are_not_cut(tmp_path: Path) -> None:
    content = small()
    del content["images"][0]["width"], content["images"][0]["height"]
    records = read_coco(write(tmp_path, content))
    assert records.boxes[0].tolist() == [-10, 70.5, 190, 100.5]
    assert records.image_sizes[0].tolist() == [0, 0]


# --- refused ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"keypoints": [1, 2, 2]}, "annotation 1: keypoints: expected 9 numbers, got 3"),
        ({"keypoints": "many"}, "annotation 1: keypoints: expected 9 numbers, got str"),
        ({"keypoints": [float("nan"), 2, 2] * 3}, "annotation 1: keypoints: expected finite numbers"),
        ({"keypoints": [1, 2, "2"] * 3}, None),
        ({"keypoints": [1, 2, {}] * 3}, "annotation 1: keypoints: expected numbers"),
        ({"bbox": [1, 2, 3]}, "annotation 1: bbox: expected 4 numbers, got 3"),
        ({"bbox": [1, 2, float("inf"), 3]}, "annotation 1: bbox: expected finite numbers"),
        ({"bbox": [1, 2, 10**400, 3]}, "annotation 1: bbox: expected numbers"),
        ({"area": float("nan")}, "annotation 1: area: expected finite numbers"),
        ({"id": 3}, "annotation 3: the id occurs twice"),
        ({"id": None}, "annotation number 0: id: expected an integer, got nothing"),
        ({"id": "one"}, "annotation one: id: expected an integer, got 'one'"),
        ({"image_id": 1.5}, "annotation 1: image_id: expected an integer, got 1.5"),
        ({"category_id": "1"}, "annotation 1: category_id: expected an integer, got '1'"),
        ({"iscrowd": "0"}, "annotation 1: iscrowd: expected 0 or 1, got '0'"),
        ({"num_keypoints": "0"}, "annotation 1: num_keypoints: expected a number, got '0'"),
    ],
)
def test_refused(tmp_path: Path, changes: dict[str, Any], message: str | None) -> None:
    path = write(tmp_path, changed(**changes))
    if message is None:  # numbers as text are understood
        assert read_coco(path).visible[1].tolist() == [2, 2, 2]
        return
    with pytest.raises(DataError) as caught:
        read_coco(path)
    assert str(caught.value).startswith(f"{path}: {message}")


def test_files_that_are_no_annotation_files(tmp_path: Path) -> None:
    whole = json.dumps(small())
    for content, message in (
        (whole[: len(whole) // 2], "not valid JSON"),
        ("", "not valid JSON"),
        ("[1, 2]", "expected an object with images and annotations, got a list"),
        ("{}", None),
        ('{"images": {}, "annotations": []}', "images: expected a list, got an object"),
        ('{"images": [5], "annotations": []}', "images: number 0: expected an object, got int"),
        ("[" * 100000, "nested too deeply"),
        ('{"images": ' + "[" * 500 + "]" * 500 + "}", "nested too deeply"),
    ):
        path = write(tmp_path, content)
        with pytest.raises(DataError, match=message):
            read_coco(path, skeleton=COCO17)
    with pytest.raises(DataError, match=r"absent\.json: no such file"):
        read_coco(tmp_path / "absent.json")
    with pytest.raises(DataError, match="is a folder, expected a file"):
        read_coco(tmp_path)
    binary = tmp_path / "photo.json"
    binary.write_bytes(b"\xff\xd8\xff\xe0")
    with pytest.raises(DataError, match="not a JSON text file"):
        read_coco(binary)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with a name here")
@pytest.mark.parametrize("name", ["people.json", "people.mat", "people.yaml"])
def test_a_pipe_is_not_waited_for(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / name)
    with pytest.raises(DataError, match="is a pipe, expected a regular file"):
        read_annotations(tmp_path / name, split="train" if name.endswith("yaml") else None)


def test_a_message_is_one_short_line(tmp_path: Path) -> None:
    content = small()
    content["images"][0] |= {"id": "x" * 1_000_000 + "\n"}
    with pytest.raises(DataError) as caught:
        read_coco(write(tmp_path, content))
    assert str(caught.value).startswith(str(tmp_path))
    assert len(str(caught.value)) < 1100
    assert "\n" not in str(caught.value)
    content["images"][0] |= {"id": 20, "file_name": "\ud800.jpg"}
    with pytest.raises(DataError, match=r"\\ud800\.jpg: is no file name"):
        read_coco(write(tmp_path, content))


def test_images_are_checked(tmp_path: Path) -> None:
    for change, message in (
        ({"id": 10}, "image 10: the id occurs twice"),
        ({"file_name": None}, "image 20: file_name: expected a string, got nothing"),
        ({"width": -5}, "image 20: width: expected a number of pixels, got -5"),
        ({"width": True}, "image 20: width: expected a number of pixels, got True"),
        ({"height": 80.5}, "image 20: height: expected a number of pixels, got 80.5"),
    ):
        content = small()
        content["images"][0] |= change
        with pytest.raises(DataError, match=message):
            read_coco(write(tmp_path, content))


# --- detections ---------------------------------------------------------------------------------------------------
def test_detections(tmp_path: Path) -> None:
    found = [
        {"image_id": 10, "category_id": 1, "bbox": [-2, 3, 10, 20.5], "score": 0.25},
        {"image_id": 10, "category_id": 3, "bbox": [1, 1, 5, 5], "score": 0.9},
        {"image_id": 20, "category_id": 1, "bbox": [1, 1, 0, 5], "score": 0.9},
        {"image_id": 20, "category_id": 1, "bbox": [1, 1, 500, 5], "score": 0.75},
    ]
    records = read_coco(write(tmp_path, small()), detections=write(tmp_path, found, "found.json"))
    assert records.image_index.tolist() == [1, 0]
    assert records.boxes.tolist() == [[-2, 3, 8, 23.5], [1, 1, 501, 6]]  # as the detector gave them
    assert records.scores.tolist() == [0.25, 0.75]
    assert records.ids.tolist() == [0, 1]
    assert not records.visible.any()
    assert records.skipped == {"other category": 1, "empty box": 1}
    assert records.source.endswith("found.json")


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"image_id": 11}, "detection number 0: image_id 11 is not in the annotation file"),
        ({"bbox": [1, 2, 3]}, "detection number 0: bbox: expected 4 numbers, got 3"),
        ({"bbox": [1, 2, float("nan"), 3]}, "detection number 0: bbox: expected finite numbers"),
        ({"score": None}, "detection number 0: score: expected"),
        ({"category_id": "1"}, "detection number 0: category_id: expected an integer, got '1'"),
    ],
)
def test_detections_are_checked(tmp_path: Path, entry: dict[str, Any], message: str) -> None:
    found = [{"image_id": 10, "category_id": 1, "bbox": [1, 2, 3, 4], "score": 0.5} | entry]
    with pytest.raises(DataError, match=message):
        read_coco(write(tmp_path, small()), detections=write(tmp_path, found, "found.json"))
    with pytest.raises(DataError, match="expected a list or an object of boxes, got int"):
        read_coco(write(tmp_path, small()), detections=write(tmp_path, 3, "found.json"))


# --- against the reference figures --------------------------------------------------------------------------------
@pytest.mark.shared
@pytest.mark.parametrize("name", ["coco", "coco_det"])
def test_equal_to_the_reference(shared: Path, name: str) -> None:
    folder = shared / "data" / "samples" / "coco"
    wanted = json.loads((shared / "reference" / "datasets.json").read_text())[name]
    detections = folder / "test_coco_det_AP_H_56.json" if name == "coco_det" else None
    records = read_coco(folder / "test_coco.json", detections=detections)
    people = wanted["records"]
    assert records.skeleton is COCO17
    assert list(records.skeleton.flip_index) == wanted["meta"]["flip_indices"]
    assert len(records) == wanted["n"]
    assert records.ids.tolist() == [p["id"] for p in people]
    assert records.image_ids[records.image_index].tolist() == [p["img_id"] for p in people]
    assert all(
        r.image_path.is_file() and str(r.image_path).endswith(p["img_path"])
        for r, p in zip(records, people, strict=True)
    )
    np.testing.assert_array_equal(records.boxes, np.float32([p["bbox"][0] for p in people]))
    np.testing.assert_array_equal(records.scores, np.float32([p["bbox_score"][0] for p in people]))
    np.testing.assert_array_equal(records.keypoints, np.float32([p["keypoints"][0] for p in people]))
    if name == "coco":
        np.testing.assert_array_equal(np.minimum(records.visible, 1), [p["keypoints_visible"][0] for p in people])
        np.testing.assert_array_equal(records.areas, np.float32([p["area"] for p in people]))
        assert records.skipped == {"no keypoints": 2}
    else:  # the reference calls the missing keypoints of a detection visible; here nothing is annotated
        assert not records.visible.any()


@pytest.mark.shared
@pytest.mark.parametrize(
    ("name", "people", "skeleton"),
    [("train", 8500, LSP14), ("val", 1000, LSP14), ("train_coco17", 8500, COCO17), ("val_coco17", 1000, COCO17)],
)
def test_leeds_sports_pose(shared: Path, name: str, people: int, skeleton: Skeleton) -> None:
    records = read_coco(shared / "data" / "lspet" / f"lspet_{name}.json")
    assert (len(records), records.skeleton, records.skipped) == (people, skeleton, {})
    assert all(records[i].image_path.is_file() for i in range(0, people, 97))
    assert set(np.unique(records.visible)) == ({0, 2} if skeleton is LSP14 else {0, 1, 2})
