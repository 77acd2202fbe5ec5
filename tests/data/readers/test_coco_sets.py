"""Sets that differ from COCO in a detail: equal to the reference, told from the file, bad values refused."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastpose.data import DataError, PoseRecords, concatenate, read_annotations
from fastpose.data.labels import label_weights
from fastpose.data.readers.coco_sets import COCO_SETS
from fastpose.skeletons import COCO17, get_skeleton

FIGURES = (
    *("ap10k", "atrw", "coco_wholebody", "coco_wholebody_face", "coco_wholebody_hand", "deepfashion_upper"),
    *("freihand", "humanart21", "rhd2d", "wflw", "zebra"),
)
WHOLE_BODIES = {
    "coco_wholebody": "coco_wholebody133",
    "coco_wholebody_face": "coco_wholebody_face68",
    "coco_wholebody_hand": "coco_wholebody_hand21",
    "ubody": "coco_wholebody133",
}


@pytest.fixture(scope="module")
def figures(data: Path) -> Any:
    """Tiny files, and what MMPose 1.3.2 makes of them."""
    return json.loads((data / "wider_reader_figures.json").read_text())


def write(path: Path, content: Any) -> Path:
    path.write_text(json.dumps(content))
    return path


def visible_of(records: PoseRecords) -> Any:
    """Flags as MMPose has them: at most 1, and less where a network is not sure."""
    return np.minimum(records.visible, 1) if records.weights is None else label_weights(records)


@pytest.mark.parametrize("name", FIGURES)
def test_equal_to_the_figures(figures: Any, tmp_path: Path, name: str) -> None:
    figure = figures["sets"][name]
    records = read_annotations(write(tmp_path / "all.json", figures["files"][figure["file"]]), format=name)
    people = figure["people"]
    skeleton = WHOLE_BODIES.get(name) or COCO_SETS[name].skeleton.name
    assert records.skeleton is get_skeleton(skeleton)
    assert records.ids.tolist() == [p["id"] for p in people]
    assert records.image_ids[records.image_index].tolist() == [p["image_id"] for p in people]
    assert [p.image_path.name for p in records] == [p["image"] for p in people]
    np.testing.assert_allclose(records.boxes, [p["box"] for p in people], atol=1e-5)
    keypoints = np.float32([p["keypoints"] for p in people]).reshape(records.keypoints.shape)
    np.testing.assert_array_equal(records.keypoints, keypoints)
    np.testing.assert_array_equal(visible_of(records), np.float32([p["visible"] for p in people]))
    if people[0]["area"] is not None:
        np.testing.assert_allclose(records.areas, [p["area"] for p in people], rtol=1e-6)


@pytest.mark.parametrize("name", sorted(COCO_SETS))
def test_every_set_of_the_table(tmp_path: Path, name: str) -> None:
    layout = COCO_SETS[name]
    count = len(layout.names or layout.skeleton.keypoints)
    points = np.stack([np.arange(1, count + 1), np.arange(count) % 50 + 2.5, np.arange(count) % 3], 1)
    person = {
        "id": 7,
        "image_id": 3,
        "bbox": [-4, 5, 20, 30],
        "center": [30, 40],
        "scale": 0.25,
        layout.keypoints: points.ravel().tolist(),
    }
    images = [{"id": 3, "file_name": "a.png", "height": 300, "width": 200}]
    path = write(tmp_path / "set.json", {"images": images, "annotations": [person]})
    records = read_annotations(path, format=name)
    assert records.skeleton is layout.skeleton
    wanted = {"bbox": [0, 5, 16, 35], "scale": [5, 15, 55, 65]}.get(layout.box, [0, 0, layout.box, layout.box])
    assert records.boxes.tolist() == [wanted]
    kept = points[[(layout.names or layout.skeleton.keypoints).index(point) for point in layout.skeleton.keypoints]]
    np.testing.assert_array_equal(records.keypoints[0], kept[:, :2])
    np.testing.assert_array_equal(records.visible[0], kept[:, 2])
    assert records.weights is None
    assert records.annotated.all()
    person[layout.keypoints].pop()
    with pytest.raises(DataError, match=rf"set\.json: annotation 7: {layout.keypoints}: expected {3 * count} numbers"):
        read_annotations(write(path, {"images": images, "annotations": [person]}), format=name)


def test_told_from_the_file(figures: Any, tmp_path: Path) -> None:
    path = tmp_path / "told.json"
    told = {"freihand": "coco_wholebody_hand21", "humanart21": "humanart17"}  # those must be asked for
    for name, content in figures["files"].items():
        wanted = told.get(name) or WHOLE_BODIES.get(name) or COCO_SETS[name].skeleton.name
        assert read_annotations(write(path, content)).skeleton.name == wanted
    zebra = figures["files"]["zebra"]
    assert read_annotations(write(path, zebra)).boxes[1, 0] == 3.25  # no photos of 160 pixels: the box as it stands
    small = copy.deepcopy(zebra)
    for image in small["images"]:
        image |= {"height": 160, "width": 160}
    assert read_annotations(write(path, small)).boxes[1].tolist() == [0, 0, 160, 160]


@pytest.mark.parametrize(
    ("points", "extra", "name"),
    [
        (68, {"center": [5, 5], "scale": 1}, "300w68"),
        (68, {}, "300wlp68"),
        (98, {"center": [5, 5], "scale": 1}, "wflw98"),
        (19, {"center": [5, 5], "scale": 1}, "aflw19"),
        (29, {}, "cofw29"),
        (106, {}, "lapa106"),
        (136, {}, "halpe136"),
    ],
)
def test_sets_without_names_are_told_by_their_number(
    tmp_path: Path, points: int, extra: dict[str, Any], name: str
) -> None:
    person = {"id": 1, "image_id": 1, "bbox": [1, 2, 3, 4], "keypoints": [1, 2, 2] * points} | extra
    content = {
        "images": [{"id": 1, "file_name": "a.jpg"}],
        "annotations": [person],
        "categories": [{"id": 1, "name": "person" if points == 136 else "face", "keypoints": []}],
    }
    path = write(tmp_path / "a.json", content)
    assert read_annotations(path).skeleton.name == name
    content["categories"][0]["name"] = "cup"
    with pytest.raises(DataError, match="the categories do not name the keypoints"):
        read_annotations(write(path, content))


def test_species_are_read_all_or_one_by_one(figures: Any, tmp_path: Path) -> None:
    path = write(tmp_path / "ap10k.json", figures["files"]["ap10k"])
    assert read_annotations(path).ids.tolist() == [6, 5]
    assert read_annotations(path, category="other").ids.tolist() == [6]
    with pytest.raises(DataError, match=r"no category is named 'zebra'.*'thing' \(1\), 'other' \(2\)"):
        read_annotations(path, category="zebra")


# --- whole bodies and their parts ---------------------------------------------------------------------------------
def test_validity_flags(figures: Any, tmp_path: Path) -> None:
    records = read_annotations(write(tmp_path / "whole.json", figures["files"]["coco_wholebody"]))
    first, second = records.annotated  # annotations 6 and 5
    assert [first[a:b].all() for a, b in ((0, 17), (17, 23), (23, 91), (91, 112), (112, 133))] == [1, 1, 0, 0, 1]
    assert [first[a:b].any() for a, b in ((0, 17), (17, 23), (23, 91), (91, 112), (112, 133))] == [1, 1, 0, 0, 1]
    assert second[:112].all()
    assert not second[112:].any()
    assert records.weights is None
    body = records.to_skeleton(COCO17)
    np.testing.assert_array_equal(body.keypoints, records.keypoints[:, :17])


def test_labels_of_a_network_count_as_it_is_sure(figures: Any, tmp_path: Path) -> None:
    path = write(tmp_path / "whole.json", figures["files"]["coco_wholebody"])
    hands = read_annotations(path, format="coco_wholebody_hand")
    assert hands.weights is not None
    assert set(np.unique(hands.weights)) == {0, 0.0625, 0.25, 1}
    np.testing.assert_array_equal(hands.visible > 0, hands.weights > 0)
    np.testing.assert_array_equal(label_weights(hands), hands.weights)
    turned = hands.to_skeleton(get_skeleton("rhd21"))
    np.testing.assert_array_equal(turned.weights[:, 4], hands.weights[:, 1])  # type: ignore[index]
    sure = hands.select([0])
    both = concatenate([turned, hands.to_skeleton(turned.skeleton).select([0]), _without_weights(turned)])
    assert both.weights is not None
    np.testing.assert_array_equal(both.weights[-len(turned) :], 1)
    assert label_weights(both)[-len(turned) :].max() == 1
    assert len(sure.weights) == 1  # type: ignore[arg-type]


def _without_weights(records: PoseRecords) -> PoseRecords:
    return PoseRecords(**{**vars(records), "weights": None})


def test_hands_and_faces_that_nobody_labelled_are_counted(figures: Any, tmp_path: Path) -> None:
    content = copy.deepcopy(figures["files"]["coco_wholebody"])
    path = write(tmp_path / "whole.json", content)
    hands, faces = (read_annotations(path, format=f"coco_wholebody_{part}") for part in ("hand", "face"))
    assert (len(hands), hands.skipped, hands.ids.tolist()) == (4, {"no keypoints": 2}, [0, 1, 2, 3])
    assert (len(faces), faces.skipped) == (2, {"no keypoints": 1})
    content["annotations"][2]["iscrowd"] = 1
    write(path, content)
    hands, faces = (read_annotations(path, format=f"coco_wholebody_{part}") for part in ("hand", "face"))
    assert (len(hands), hands.skipped) == (2, {"no keypoints": 2, "crowd": 2})
    assert (len(faces), faces.skipped) == (1, {"no keypoints": 1, "crowd": 1})
    found = write(tmp_path / "found.json", [{"image_id": 10, "category_id": 1, "bbox": [1, 2, 3, 4], "score": 0.5}])
    for part in ("hand", "face"):
        records = read_annotations(path, format=f"coco_wholebody_{part}", detections=found)
        assert (records.boxes.tolist(), records.skipped) == ([[1, 2, 4, 6]], {})


@pytest.mark.parametrize(
    ("name", "key", "value", "said"),
    [
        ("coco_wholebody", "foot_kpts", [1, 2], "annotation 5: foot_kpts: expected 18 numbers, got 2"),
        ("coco_wholebody", "face_valid", "yes", "annotation 5: face_valid: expected true or false, got 'yes'"),
        ("coco_wholebody_face", "face_kpts", [1e40] * 204, "annotation 5: face_kpts: expected finite numbers"),
        ("coco_wholebody_face", "face_valid", None, "annotation 5: face_valid: expected true or false, got None"),
        ("coco_wholebody_hand", "lefthand_kpts", None, "annotation 5: lefthand_kpts: expected 63 numbers, got nothing"),
        ("coco_wholebody_hand", "lefthand_box", [1, 2, 3], "annotation 5: lefthand_box: expected 4 numbers, got 3"),
        ("coco_wholebody_hand", "image_id", "a", "annotation 5: image_id: expected an integer, got 'a'"),
        ("wflw", "scale", None, "annotation 5: scale: expected finite numbers, got .None."),
        ("wflw", "center", None, "annotation 5: center: expected 2 numbers, got nothing"),
    ],
)
def test_errors_name_the_entry_as_the_file_does(
    figures: Any, tmp_path: Path, name: str, key: str, value: Any, said: str
) -> None:
    content = copy.deepcopy(figures["files"][figures["sets"][name]["file"]])
    content["annotations"][0][key] = value
    with pytest.raises(DataError, match=rf"all\.json: {said}"):
        read_annotations(write(tmp_path / "all.json", content), format=name)


ODD = (None, True, -1, 1e40, 10**30, "x", [], {}, [[]], [None], {"a": 1}, 2**31, ["a"] * 51)


def places(content: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to everything in a file, of lists only the beginning."""
    if path:
        yield path
    items = (
        content.items() if isinstance(content, dict) else enumerate(content[:2]) if isinstance(content, list) else ()
    )
    for key, value in items:
        yield from places(value, (*path, key))


@pytest.mark.parametrize("name", ["coco_wholebody", "coco_wholebody_face", "coco_wholebody_hand", "wflw", "rhd2d"])
@pytest.mark.filterwarnings("error")
def test_nothing_odd_gets_past_the_checks(figures: Any, tmp_path: Path, name: str) -> None:
    """Whatever stands somewhere: it is read, left out, or a DataError that names the file."""
    path, whole = tmp_path / "all.json", figures["files"][figures["sets"][name]["file"]]
    refused = 0
    for place in places(whole):
        for odd in ODD:
            content = copy.deepcopy(whole)
            inside = content
            for key in place[:-1]:
                inside = inside[key]
            inside[place[-1]] = odd
            write(path, content)
            for asked in (name, None):
                try:
                    read_annotations(path, format=asked)
                except DataError as error:
                    assert str(path) in str(error)  # noqa: PT017 - only some are refused
                    refused += 1
    assert refused > 100


# --- against the reference figures --------------------------------------------------------------------------------
SAMPLES = {
    "animalkingdom": "ak/test_animalkingdom.json",
    "deepfashion2": "deepfasion2/deepfasion2.json",
    "humanart21": "humanart/test_humanart.json",
    "rhd2d": "rhd/test_rhd.json",
    **{f"deepfashion_{part}": "fld/test_fld.json" for part in ("full", "lower", "upper")},
    **{f"coco_wholebody{part}": "coco/test_coco_wholebody.json" for part in ("", "_face", "_hand")},
}
WIDER = [
    *(
        "300w",
        "300wlp",
        "aflw",
        "animalkingdom",
        "animalpose",
        "ap10k",
        "atrw",
        "coco_wholebody",
        "coco_wholebody_face",
    ),
    *("coco_wholebody_hand", "cofw", "deepfashion2", "deepfashion_full", "deepfashion_lower"),
    *(
        "deepfashion_upper",
        "fly",
        "freihand",
        "halpe",
        "horse10",
        "humanart21",
        "lapa",
        "locust",
        "macaque",
        "mhp",
        "ochuman",
    ),
    *("onehand10k", "rhd2d", "wflw", "zebra"),
]


@pytest.mark.shared
@pytest.mark.parametrize("name", WIDER)
def test_equal_to_the_reference(shared: Path, name: str) -> None:
    reference = json.loads((shared / "reference" / "datasets_wider.json").read_text())
    assert sorted(reference) == WIDER
    wanted, people = reference[name]["meta"], reference[name]["records"]
    path = shared / "data" / "samples" / SAMPLES.get(name, f"{name}/test_{name}.json")
    records = read_annotations(path, shared / "data" / "samples" / "coco" if name == "halpe" else None, format=name)
    skeleton = records.skeleton
    names = [wanted["keypoint_id2name"][key] for key in sorted(wanted["keypoint_id2name"], key=int)]
    assert list(skeleton.keypoints) == names
    # MMPose has one point of DeepFashion2's vests change places with another, and that one with itself.
    turned = [140 if i == 140 else j for i, j in enumerate(wanted["flip_indices"])]
    assert list(skeleton.flip_index) == (
        [136 if i == 140 else j for i, j in enumerate(turned)] if name == "deepfashion2" else wanted["flip_indices"]
    )
    np.testing.assert_array_equal(np.float32(skeleton.joint_weights), np.float32(wanted["dataset_keypoint_weights"]))
    if wanted["sigmas"]:
        np.testing.assert_array_equal(np.float32(skeleton.sigmas), np.float32(wanted["sigmas"]))
    assert records.ids.tolist() == [p["id"] for p in people]
    assert records.image_ids[records.image_index].tolist() == [p["img_id"] for p in people]
    found = zip(records, people, strict=True)
    assert all(str(mine.image_path).endswith(theirs["img_path"]) for mine, theirs in found)
    np.testing.assert_allclose(records.boxes, [p["bbox"][0] for p in people], rtol=0, atol=1e-4)
    # The one sample of DeepFashion is of whole-body clothes; the others have fewer of the same landmarks.
    own = reference["deepfashion_full" if name.startswith("deepfashion_") else name]["meta"]["keypoint_id2name"]
    columns = [list(own.values()).index(point) for point in skeleton.keypoints]
    keypoints, visible = (
        np.float32([p[key][0] for p in people])[:, columns] for key in ("keypoints", "keypoints_visible")
    )
    np.testing.assert_array_equal(records.keypoints, keypoints)
    np.testing.assert_array_equal(visible_of(records), visible)
    if "area" in people[0]:
        np.testing.assert_array_equal(records.areas, np.float32([p["area"] for p in people]))


@pytest.mark.shared
def test_links_and_halves_of_the_reference(shared: Path) -> None:
    reference = json.loads((shared / "reference" / "datasets_wider.json").read_text())
    for name, wanted in reference.items():
        skeleton = get_skeleton(WHOLE_BODIES.get(name) or COCO_SETS[name].skeleton.name)
        assert sorted(map(sorted, skeleton.link_indices)) == sorted(map(sorted, wanted["meta"]["skeleton_links"])), name
        assert sorted(skeleton.lower_body_indices) == sorted(wanted["meta"]["lower_body_ids"]), name
