"""All formats through one door: told from the file, equal to the reference, refused where nothing fits."""

from __future__ import annotations

import copy
import json
import re
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastpose.data import DataError, PoseRecords, list_formats, read_annotations
from fastpose.data.readers.coco_sets import COCO_SETS
from fastpose.skeletons import AIC14, COCO17, CROWDPOSE14, EXLPOSE14, JHMDB15, LSP14, Skeleton, get_skeleton

SKELETON = {
    "aic": "aic14",
    "coco": "coco17",
    "crowdpose": "crowdpose14",
    "exlpose": "exlpose14",
    "humanart": "humanart17",
    "jhmdb": "jhmdb15",
    "mpii": "mpii16",
    "mpii_trb": "mpii_trb40",
    "posetrack18": "posetrack18_17",
}


def write(path: Path, content: Any) -> Path:
    path.write_text(json.dumps(content))
    return path


@pytest.fixture
def figures(data: Path) -> Any:
    """A tiny file of each format, and what MMPose 1.3.2 makes of it."""
    return json.loads((data / "reader_figures.json").read_text())


def assert_equal_people(records: PoseRecords, people: list[dict[str, Any]]) -> None:
    assert records.ids.tolist() == [p["id"] for p in people]
    assert records.image_ids[records.image_index].tolist() == [p["image_id"] for p in people]
    np.testing.assert_array_equal(records.boxes, np.float32([p["box"] for p in people]))
    keypoints = np.float32([p["keypoints"] for p in people]).reshape(records.keypoints.shape)
    np.testing.assert_array_equal(records.keypoints, keypoints)
    np.testing.assert_array_equal(np.minimum(records.visible, 1), [p["visible"] for p in people])
    if people[0]["area"] is not None:
        np.testing.assert_array_equal(records.areas, np.float32([p["area"] for p in people]))


@pytest.mark.parametrize("name", sorted(SKELETON))
def test_equal_to_the_figures(figures: Any, tmp_path: Path, name: str) -> None:
    path = write(tmp_path / "people.json", figures[name]["file"])
    records = read_annotations(path)
    assert records.skeleton is get_skeleton(SKELETON[name])
    assert [p.image_path for p in records] == [tmp_path / p["image"] for p in figures[name]["people"]]
    assert_equal_people(records, figures[name]["people"])
    asked = read_annotations(path, tmp_path / "photos", format=name)
    np.testing.assert_array_equal(asked.keypoints, records.keypoints)
    assert asked[0].image_path.parent == tmp_path / "photos"


def test_what_only_some_sets_have(figures: Any, tmp_path: Path) -> None:
    read = {name: read_annotations(write(tmp_path / "people.json", figures[name]["file"])) for name in SKELETON}
    extras = ("head_boxes", "head_sizes", "track_ids", "crowd_index")
    present = {name: {e for e in extras if getattr(records, e) is not None} for name, records in read.items()}
    assert {name: found for name, found in present.items() if found} == {
        "crowdpose": {"crowd_index"},
        "jhmdb": {"track_ids"},
        "mpii_trb": {"head_boxes", "head_sizes"},
        "posetrack18": {"head_boxes", "head_sizes", "track_ids"},
    }
    np.testing.assert_array_equal(read["crowdpose"].crowd_index, np.float32([0.25, 0.8]))
    assert read["posetrack18"].track_ids.tolist() == [1, 0]
    np.testing.assert_array_equal(read["posetrack18"].head_boxes, [[5, 6, 12.5, 15.25]] * 2)
    np.testing.assert_allclose(read["posetrack18"].head_sizes, 0.6 * np.hypot(7.5, 9.25), rtol=1e-6)
    np.testing.assert_allclose(read["mpii_trb"].head_sizes, 6.0, rtol=1e-6)  # 0.6 of the diagonal of 6 by 8
    ears = [3, 4]
    assert not read["posetrack18"].annotated[:, ears].any()
    assert np.delete(read["posetrack18"].annotated, ears, axis=1).all()
    assert all(records.annotated.all() for name, records in read.items() if name != "posetrack18")


@pytest.mark.parametrize("name", ["aic", "coco", "crowdpose", "exlpose", "humanart", "jhmdb", "posetrack18"])
def test_detected_boxes(figures: Any, tmp_path: Path, name: str) -> None:
    path = write(tmp_path / "people.json", figures[name]["file"])
    found = write(tmp_path / "found.json", [{"image_id": 10, "category_id": 1, "bbox": [1, 2, 3, 4.5], "score": 0.5}])
    records = read_annotations(path, detections=found)
    assert records.skeleton is get_skeleton(SKELETON[name])
    assert (records.boxes.tolist(), records.scores.tolist()) == ([[1, 2, 4, 6.5]], [0.5])
    assert records[0].image_path.name == "a.jpg"
    write(found, [{"image_id": 11, "category_id": 1, "bbox": [1, 2, 3, 4], "score": 0.5}])
    with pytest.raises(DataError, match=r"found\.json: detection number 0: image_id 11 is not in the annotation file"):
        read_annotations(path, detections=found)


@pytest.mark.parametrize("name", ["mpii", "mpii_trb"])
def test_sets_without_detected_boxes(figures: Any, tmp_path: Path, name: str) -> None:
    path = write(tmp_path / "people.json", figures[name]["file"])
    with pytest.raises(DataError, match="detections"):
        read_annotations(path, detections=path)


@pytest.mark.parametrize("name", sorted(SKELETON))
def test_errors_name_file_and_entry(figures: Any, tmp_path: Path, name: str) -> None:
    content = figures[name]["file"]
    person = (content if isinstance(content, list) else content["annotations"])[0]
    points = "joints_vis" if name == "mpii" else "keypoints"
    person[points] = person[points][:-1]
    path = write(tmp_path / "people.json", content)
    with pytest.raises(DataError, match=rf"people\.json: (annotation|person) .*{points}: expected \d+ numbers"):
        read_annotations(path)
    person[points] = [float("nan"), *person[points]]
    with pytest.raises(DataError, match=rf"{points}: expected finite numbers"):
        read_annotations(write(path, content))
    text = path.read_text()
    path.write_text(text[: len(text) // 2])
    with pytest.raises(DataError, match=r"people\.json: not valid JSON"):
        read_annotations(path)


ODD = (None, True, -1, 1e40, 10**30, "x", [], {}, [[]], [None], {"a": 1}, [1, 2], 2**31, ["a"] * 51)


def places(content: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to everything in a file, of lists only the beginning."""
    if path:
        yield path
    items = (
        content.items() if isinstance(content, dict) else enumerate(content[:2]) if isinstance(content, list) else ()
    )
    for key, value in items:
        yield from places(value, (*path, key))


@pytest.mark.parametrize("name", sorted(SKELETON))
@pytest.mark.filterwarnings("error")
def test_nothing_odd_gets_past_the_checks(figures: Any, tmp_path: Path, name: str) -> None:
    """Whatever stands somewhere: it is read, left out, or a DataError that names the file."""
    path = tmp_path / "people.json"
    refused = 0
    for place in places(figures[name]["file"]):
        for odd in ODD:
            content = copy.deepcopy(figures[name]["file"])
            inside = content
            for key in place[:-1]:
                inside = inside[key]
            inside[place[-1]] = odd
            try:
                read_annotations(write(path, content))
            except DataError as error:
                assert str(path) in str(error)  # noqa: PT017 - only some are refused
                refused += 1
    assert refused > 100


def test_formats_that_cannot_be_told(tmp_path: Path) -> None:
    for content in ([], [{"x": 1}], {"persons": []}, 5):
        with pytest.raises(DataError, match=r"cannot tell the format; pass format, one of 300w, .*coco, .*ultralytics"):
            read_annotations(write(tmp_path / "what.json", content))
    with pytest.raises(DataError, match="these are detections"):
        read_annotations(write(tmp_path / "what.json", [{"image_id": 1, "bbox": [1, 2, 3, 4], "score": 1}]))
    with pytest.raises(DataError, match="cannot tell the format"):
        read_annotations(tmp_path / "..")
    with pytest.raises(ValueError, match="format: expected one of 300w, 300wlp"):
        read_annotations(tmp_path / "what.json", format="voc")
    with pytest.raises(DataError, match=r"gone\.json: no such file"):
        read_annotations(tmp_path / "gone.json")
    wider = {*COCO_SETS, "coco_wholebody", "coco_wholebody_face", "coco_wholebody_hand", "ubody"}
    assert set(SKELETON) | {"lsp", "ultralytics"} | wider == set(list_formats())


def test_a_skeleton_and_a_split_that_do_not_fit(figures: Any, tmp_path: Path) -> None:
    path = write(tmp_path / "people.json", figures["aic"]["file"])
    turned = Skeleton.from_names("limbs", list(reversed(AIC14.keypoints))[2:])
    records = read_annotations(path, skeleton=turned)
    np.testing.assert_array_equal(records.keypoints, read_annotations(path).keypoints[:, 11::-1])
    with pytest.raises(DataError, match="no keypoint named nose, left_eye"):
        read_annotations(path, skeleton=COCO17)
    with pytest.raises(DataError, match="split: no part is named 'val'; the file is not divided"):
        read_annotations(path, split="val")


def test_crowdpose_and_exlpose_name_keypoints_alike(figures: Any, tmp_path: Path) -> None:
    content = figures["exlpose"]["file"]
    path = write(tmp_path / "people.json", content)
    assert read_annotations(path).skeleton is EXLPOSE14
    assert read_annotations(path, format="crowdpose").skeleton is CROWDPOSE14
    content["images"][0]["crowdIndex"] = 0.5
    records = read_annotations(write(path, content))
    assert records.skeleton is CROWDPOSE14
    np.testing.assert_array_equal(records.crowd_index, [0.5, np.nan])


def test_folders(figures: Any, tmp_path: Path) -> None:
    folder = tmp_path / "jhmdb"
    folder.mkdir()
    for name in ("Sub1_train", "Sub1_test", "Sub3_test"):
        write(folder / f"{name}.json", figures["jhmdb"]["file"])
    assert read_annotations(folder, split="sub3_test").skeleton is JHMDB15
    with pytest.raises(DataError, match="split: no part is named ''; there are sub1_train, sub1_test, sub2_train"):
        read_annotations(folder)
    with pytest.raises(DataError, match=r"Sub2_train\.json: no such file"):
        read_annotations(folder, split="sub2_train")

    videos = tmp_path / "annotations" / "val"
    videos.mkdir(parents=True)
    write(videos / "001.json", figures["posetrack18"]["file"])
    other = figures["posetrack18"]["file"]
    for key in ("images", "annotations"):
        for entry in other[key]:
            entry["id"] += 1000
    for entry in other["annotations"]:
        entry["image_id"] += 1000
    write(videos / "002.json", other)
    (tmp_path / "b.jpg").touch()  # the first photo: two folders above the annotations
    both = read_annotations(videos)
    assert (len(both), len(both.image_paths), both.source) == (4, 4, str(videos))
    assert both.ids.tolist() == [6, 5, 1006, 1005]
    assert both[3].image_path == tmp_path / "a.jpg"
    assert both.skipped == {"crowd": 2, "no keypoints": 2}
    write(videos / "003.json", other)
    with pytest.raises(DataError, match=r"val: image id 10\d\d occurs in two files"):
        read_annotations(videos)


def test_aic_as_its_authors_publish_it(tmp_path: Path) -> None:
    points = [10, 20, 1, 11, 21, 2, 0, 0, 3, *[5, 6, 1] * 11]
    photo = {
        "image_id": "00ab",
        "url": "",
        "human_annotations": {"human2": [1, 2, 30, 40], "human1": [5, 5, 9, 5], "human3": [1, 1, 2, 2]},
        "keypoint_annotations": {
            "human2": list(points),
            "human1": list(points),
            "human3": [0, 0, 3] * 14,
        },
    }
    path = write(tmp_path / "aic.json", [photo])
    records = read_annotations(path)
    assert records.skeleton is AIC14
    assert records.visible[0].tolist() == [2, 1, 0] + [2] * 11
    assert records.keypoints[0, :3].tolist() == [[10, 20], [11, 21], [0, 0]]
    assert (records.boxes.tolist(), records.ids.tolist()) == ([[1, 2, 30, 40]], [1])
    assert records[0].image_path == tmp_path / "00ab.jpg"
    assert records.skipped == {"empty box": 1, "no keypoints": 1}
    with pytest.raises(DataError, match="photo 00ab: the id occurs twice"):
        read_annotations(write(path, [photo, photo]))
    with pytest.raises(DataError, match="COCO-style"):
        read_annotations(path, detections=path)
    photo["keypoint_annotations"]["human2"][2] = 7
    with pytest.raises(DataError, match=r"photo 00ab: human2: .*expected flags 1, 2 or 3"):
        read_annotations(write(path, [photo]))


def test_a_large_file_leaves_only_flat_arrays_behind(tmp_path: Path) -> None:
    people = 3000
    rng = np.random.default_rng(0)
    annotations = [
        {
            "id": i,
            "image_id": i // 2,
            "category_id": 1,
            "bbox": [1, 2, 300, 400],
            "segmentation": [[1.5] * 40],
            "keypoints": points,
        }
        for i, points in enumerate(rng.integers(0, 3, (people, 51)).tolist())
    ]
    images = [{"id": i, "file_name": f"{i:012d}.jpg", "width": 640, "height": 480} for i in range(people // 2)]
    categories = [{"id": 1, "name": "person", "keypoints": list(COCO17.keypoints)}]
    path = write(tmp_path / "a.json", {"images": images, "annotations": annotations, "categories": categories})
    del annotations, images
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        records = read_annotations(path)
        held = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert len(records) == people
    arrays = sum(v.nbytes for v in vars(records).values() if isinstance(v, np.ndarray))
    assert arrays < 240 * people
    assert held < arrays + 100 * people  # the paths and the table of their ends, nothing for each person


REFERENCE = {
    "crowdpose": "crowdpose/test_crowdpose.json",
    "aic": "aic/test_aic.json",
    "mpii": "mpii/test_mpii.json",
    "mpii_trb": "mpii/test_mpii_trb.json",
    "jhmdb": "jhmdb/test_jhmdb_sub1.json",
    "posetrack18": "posetrack18/annotations/test_posetrack18_val.json",
    "humanart": "humanart/test_humanart.json",
}


@pytest.mark.shared
@pytest.mark.parametrize("name", sorted(REFERENCE))
def test_equal_to_the_reference(shared: Path, name: str) -> None:
    wanted = json.loads((shared / "reference" / "datasets.json").read_text())[name]
    records = read_annotations(shared / "data" / "samples" / REFERENCE[name])
    people = [
        {
            "id": p["id"],
            "image_id": p["img_id"],
            "box": p["bbox"][0],
            "keypoints": p["keypoints"][0],
            "visible": p["keypoints_visible"][0],
            "area": np.ravel(p["area"])[0] if "area" in p else None,
        }
        for p in wanted["records"]
    ]
    assert len(records) == wanted["n"]
    assert_equal_people(records, people)
    pairs = zip(records, wanted["records"], strict=True)
    assert all(str(mine.image_path).endswith(theirs["img_path"]) for mine, theirs in pairs)
    if name != "humanart":  # whose names start in another folder
        assert all(person.image_path.is_file() for person in records)
    meta, skeleton = wanted["meta"], records.skeleton
    assert list(skeleton.keypoints) == list(meta["keypoint_id2name"].values())
    assert list(skeleton.flip_index) == meta["flip_indices"]
    np.testing.assert_array_equal(np.float32(skeleton.joint_weights), np.float32(meta["dataset_keypoint_weights"]))
    if meta["sigmas"]:
        np.testing.assert_array_equal(np.float32(skeleton.sigmas), np.float32(meta["sigmas"]))
    if "crowd_index" in wanted["records"][0]:
        index = np.float32([p["crowd_index"] for p in wanted["records"]])
        np.testing.assert_array_equal(records.crowd_index[records.image_index], index)


@pytest.mark.shared
@pytest.mark.parametrize(
    ("folder", "annotations", "detections", "count"),
    [
        ("crowdpose", "test_crowdpose.json", "test_crowdpose_det_AP_40.json", 6),
        ("humanart", "test_humanart.json", "test_humanart_det_AP_H_56.json", 13),
        ("posetrack18/annotations", "test_posetrack18_val.json", "test_posetrack18_human_detections.json", 278),
    ],
)
def test_detections_of_the_samples(shared: Path, folder: str, annotations: str, detections: str, count: int) -> None:
    place = shared / "data" / "samples" / folder
    records = read_annotations(place / annotations, detections=place / detections)
    assert len(records) == count
    assert (records.scores > 0).all()


def test_what_only_looks_like_a_known_set(figures: Any, tmp_path: Path) -> None:
    crowded = copy.deepcopy(figures["coco"]["file"])
    for image in crowded["images"]:
        image["crowdIndex"] = 0.5
    records = read_annotations(write(tmp_path / "crowded.json", crowded))
    assert records.skeleton is COCO17
    assert records.crowd_index is not None
    named = copy.deepcopy(figures["exlpose"]["file"])
    names = [name.replace("_", " ").capitalize() for name in LSP14.keypoints]
    named["categories"][0]["keypoints"] = names
    assert read_annotations(write(tmp_path / "named.json", named)).skeleton is LSP14


def test_the_page_of_data_sets_has_all_of_them() -> None:
    page = Path(__file__).parents[3] / "docs" / "data.md"
    table = page.read_text().split("## All sets")[1].split("## What comes out")[0]
    rows = [row.split("|")[1] for row in table.splitlines() if row.startswith("| `")][1:]
    named = [name for row in rows for name in re.findall(r"`(\w+)`", row)]
    names = [f"deepfashion{name}" if name.startswith("_") else name for name in named]
    assert sorted(names) == sorted({*list_formats()} - {"ultralytics"})
