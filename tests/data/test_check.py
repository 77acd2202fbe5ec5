"""What looks wrong with a data set: each mistake is made on purpose in a set without any."""

from __future__ import annotations

import json
import os
import tracemalloc
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from fastpose.data import PoseRecords, read_annotations
from fastpose.data.check import check_records, odd_flip_pairs, swapped_pairs
from fastpose.data.photos import load_image
from fastpose.data.synthetic import synthetic_records
from fastpose.skeletons import COCO17, Skeleton

SAMPLES = (
    "aic/test_aic.json",
    "coco/test_coco.json",
    "crowdpose/test_crowdpose.json",
    "humanart/test_humanart.json",
    "jhmdb/test_jhmdb_sub1.json",
    "mpii/test_mpii.json",
    "mpii/test_mpii_trb.json",
    "posetrack18/annotations/test_posetrack18_val.json",
)


def swap(records: PoseRecords, name: str) -> PoseRecords:
    a, b = next(pair for pair in records.skeleton.flip_pairs if name in pair)
    columns = list(records.skeleton.indices([a, b]))
    keypoints, visible = records.keypoints.copy(), records.visible.copy()
    keypoints[:, columns], visible[:, columns] = keypoints[:, columns[::-1]], visible[:, columns[::-1]]
    return replace(records, keypoints=keypoints, visible=visible)


@pytest.fixture(scope="module")
def scenes() -> PoseRecords:
    return synthetic_records(80)


@pytest.fixture
def written(tmp_path) -> PoseRecords:
    """Three scenes of two people each, as files."""
    records = synthetic_records(3, 5, (96, 128), people=2)
    paths = []
    for number, path in enumerate(records.image_paths):
        paths.append(tmp_path / f"{number}.jpg")
        cv2.imwrite(str(paths[-1]), load_image(path))
    return replace(records, image_paths=paths, ids=np.arange(6) + 100)


def test_good_scenes_have_no_swapped_pair(scenes):
    assert swapped_pairs(scenes) == []


@pytest.mark.parametrize("part", ["ear", "shoulder", "elbow", "wrist", "hip", "knee", "ankle"])
def test_a_swapped_pair_is_named(scenes, part):
    [found] = swapped_pairs(swap(scenes, f"left_{part}"))
    assert found.names == (f"left_{part}", f"right_{part}")
    assert found.agreement < 0.15
    assert found.people > 50


def test_several_swapped_pairs_are_named(scenes):
    found = swapped_pairs(swap(swap(scenes, "left_hip"), "left_wrist"))
    assert {pair.names[0] for pair in found} == {"left_hip", "left_wrist"}


def test_few_people_say_nothing(scenes):
    assert swapped_pairs(swap(scenes.select(np.arange(7)), "left_hip")) == []
    assert swapped_pairs(scenes.select([])) == []


def test_turned_people_make_no_difference(scenes):
    turned = replace(scenes, keypoints=scenes.keypoints[..., ::-1] * np.float32([1, -1]))
    assert swapped_pairs(turned) == []
    assert [pair.names[0] for pair in swapped_pairs(swap(turned, "left_knee"))] == ["left_knee"]


def test_a_person_whose_sides_disagree(scenes):
    row = int(np.flatnonzero((scenes.visible > 0).all(1))[0])
    before = check_records(scenes).people["left and right disagree"]
    keypoints = scenes.keypoints.copy()
    # Seen from the front, shoulders exchanged.
    pose = np.array([[0, 0]] + [[side * (2 + k % 5), k * 10] for k in range(1, 9) for side in (1, -1)], np.float32)
    keypoints[row] = pose * 3 + 60
    a, b = COCO17.indices(["left_shoulder", "right_shoulder"])
    keypoints[row, [a, b]] = keypoints[row, [b, a]] + np.float32([[-90, 0], [90, 0]])
    report = check_records(replace(scenes, keypoints=keypoints))
    assert row in report.people["left and right disagree"]
    assert row not in before
    assert any("left_shoulder/right_shoulder" in reason for reason in report.suspicious[row])


def test_odd_flip_pairs():
    assert odd_flip_pairs(COCO17) == []
    assert odd_flip_pairs(Skeleton("numbers", ("0", "1"), (("0", "1"),))) == []
    names = ("left_a", "right_a", "left_b", "right_b")
    wrong = Skeleton("wrong", names, (("left_a", "right_b"), ("left_b", "right_a")))
    assert [line.split(";")[0] for line in odd_flip_pairs(wrong)] == [
        "left_a and right_a are no flip pair",
        "left_b and right_b are no flip pair",
    ]


def test_a_good_set(written):
    report = check_records(written, decode=True)
    assert report.people_per_photo == {2: 3}
    np.testing.assert_array_equal(report.labelled, (written.visible > 0).sum(0))
    np.testing.assert_array_equal(report.visible, (written.visible == 2).sum(0))
    assert report.missing == report.unreadable == report.resized == []
    assert not any(len(report.people[reason]) for reason in report.people if "disagree" not in reason)


@pytest.mark.parametrize("decode", [False, True])
def test_rendered_scenes_are_there(decode):
    report = check_records(synthetic_records(2, 7, (96, 128)), decode=decode)
    assert report.missing == report.unreadable == report.resized == []
    assert report.people_per_photo == {1: 2}


def test_photos(written):
    paths = list(written.image_paths)
    data = paths[0].read_bytes()
    paths[0].write_bytes(data[: len(data) * 2 // 3])
    paths[1].unlink()
    sizes = written.image_sizes.copy()
    sizes[2] = sizes[2][::-1]
    report = check_records(replace(written, image_sizes=sizes))
    assert report.missing == [str(paths[1])]
    assert report.unreadable == []
    assert report.resized == [f"{paths[2]}: stated 96x128, is 128x96 (turned by a quarter)"]
    [line] = check_records(written, decode=True).unreadable
    assert "cut short" in line
    paths[0].write_bytes(b"no photo")
    assert len(check_records(written).unreadable) == 1


def test_boxes_and_keypoints(written):
    boxes, keypoints, visible = written.boxes.copy(), written.keypoints.copy(), written.visible.copy()
    boxes[0, 2] = boxes[0, 0]
    boxes[1] = [200, 10, 220, 50]
    boxes[2, 0] = -5
    k = int(np.flatnonzero(visible[3])[0])
    keypoints[3, k] = [300, 20]
    visible[4] = 0
    report = check_records(replace(written, boxes=boxes, keypoints=keypoints, visible=visible))
    rows = {reason: found.tolist() for reason, found in report.people.items()}
    assert rows["box without area"] == [0]
    assert rows["box outside the photo"] == [1]
    assert rows["box partly outside the photo"] == [2]
    assert rows["keypoint outside the photo"] == [3]
    assert rows["keypoint outside the box"] == [1, 3]
    assert rows["no keypoints"] == [4]
    assert f"{COCO17.keypoints[k]} outside the photo" in report.suspicious[3]
    assert 2 not in report.suspicious
    content = report.to_dict(limit=1)
    assert len(content["suspicious"]["first"]) == 1
    assert content["suspicious"]["count"] == len(report.suspicious)
    assert content["people_with"]["no keypoints"] == 1


def test_doubles(written):
    keypoints, visible = written.keypoints.copy(), written.visible.copy()
    keypoints[1], visible[1] = keypoints[0] + 0.1, visible[0]
    report = check_records(replace(written, keypoints=keypoints, visible=visible))
    assert report.people["double"].tolist() == [1]
    assert "double of 100" in report.suspicious[1]
    # The same pose on another photo is nobody's double.
    keypoints[1], visible[1] = written.keypoints[1], written.visible[1]
    keypoints[2], visible[2] = keypoints[0], visible[0]
    assert not len(check_records(replace(written, keypoints=keypoints, visible=visible)).people["double"])


def test_a_crowd_on_one_photo():
    """Each with each would be 205 GiB for the 234,466 people of one set of sporting crowds."""
    count = 20_000
    rng = np.random.default_rng(0)
    corner = rng.uniform(0, 50_000, (count, 2))
    points = corner[:, None] + rng.uniform(0, 50, (count, 17, 2))
    points[7_000], corner[7_000] = points[300], corner[300]
    records = PoseRecords(
        COCO17,
        ["crowd.jpg"],
        np.ones(1),
        np.zeros((1, 2)),
        image_index=np.zeros(count),
        boxes=np.concatenate([corner, corner + 60], 1),
        keypoints=points,
        visible=np.full((count, 17), 2),
        areas=np.full(count, 1900),
        ids=np.arange(count),
        scores=np.ones(count),
        ignore=np.zeros(count),
    )
    tracemalloc.start()
    report = check_records(records)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert report.people["double"].tolist() == [7_000]
    assert "double of 300" in report.suspicious[7_000]
    assert peak < 200e6


def test_names_in_a_report_are_text(tmp_path):
    scenes = synthetic_records(1, 5, (96, 128))
    name = os.fsdecode(os.fsencode(tmp_path) + b"/\xff\n.jpg")
    report = check_records(replace(scenes, image_paths=[Path(name)], source=name))
    text = json.dumps(report.to_dict(), ensure_ascii=False).encode()  # fails on half a character
    assert json.loads(text)["photos_missing"]["first"] == [f"{tmp_path}/\\xff\\n.jpg"]


@pytest.mark.shared
@pytest.mark.parametrize("name", SAMPLES)
def test_samples_raise_no_false_alarm(shared, name):
    report = check_records(read_annotations(shared / "data" / "samples" / name))
    assert report.swapped == []
    assert report.odd_pairs == []
    assert not len(report.people["double"])


@pytest.mark.shared
def test_a_swapped_pair_of_a_sample(shared):
    records = read_annotations(shared / "data" / "samples" / "coco" / "test_coco.json")
    for name in ("left_shoulder", "left_hip", "left_knee"):
        assert [pair.names[0] for pair in swapped_pairs(swap(records, name))] == [name]
