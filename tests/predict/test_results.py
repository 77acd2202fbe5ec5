"""Poses: rows stay together, and every export says the same."""

from __future__ import annotations

import dataclasses
import json
import sys
import types
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from fastpose.data.images import ImageError
from fastpose.predict import Poses
from fastpose.skeletons import COCO17, LSP14, Skeleton


def poses(count=2, skeleton=COCO17, size=(100, 200), **changes):
    rng = np.random.default_rng(count)
    joints = skeleton.num_keypoints
    lower = rng.uniform(0, 50, (count, 2))
    return dataclasses.replace(
        Poses(
            keypoints=rng.uniform(0, 100, (count, joints, 2)).astype(np.float32),
            scores=rng.uniform(0, 1, (count, joints)).astype(np.float32),
            boxes=np.concatenate([lower, lower + rng.uniform(10, 40, (count, 2))], axis=1).astype(np.float32),
            box_scores=rng.uniform(0.5, 1, count).astype(np.float32),
            image_size=size,
            skeleton=skeleton,
        ),
        **changes,
    )


def test_people_can_be_picked():
    three = poses(3, track_ids=np.array([7, 8, 9]), path=Path("a.jpg"))
    assert len(three) == 3
    for number, one in enumerate(three):
        assert len(one) == 1
        np.testing.assert_array_equal(one.keypoints[0], three.keypoints[number])
        np.testing.assert_array_equal(one.track_ids, [7 + number])
        assert one.path == Path("a.jpg")
    np.testing.assert_array_equal(three[-1].boxes, three.boxes[2:])
    np.testing.assert_array_equal(three[1:].scores, three.scores[1:])
    np.testing.assert_array_equal(three[three.box_scores > 2].keypoints, np.zeros((0, 17, 2)))
    np.testing.assert_array_equal(three[[2, 0]].track_ids, [9, 7])
    with pytest.raises(IndexError, match="person 3 of 3"):
        three[3]
    with pytest.raises(dataclasses.FrozenInstanceError):
        three.path = None
    assert repr(three[:1]) == "Poses(1 person, coco17, photo 200x100, a.jpg)"


def test_numpy_has_points_and_scores():
    two = poses()
    assert two.numpy().shape == (2, 17, 3)
    assert two.numpy().dtype == np.float32
    np.testing.assert_array_equal(two.numpy()[..., :2], two.keypoints)
    np.testing.assert_array_equal(two.numpy()[..., 2], two.scores)


def test_dictionary_is_the_json_that_is_promised():
    two = poses(path=Path("photos/a.jpg"))
    entry = json.loads(json.dumps(two.to_dict()))
    assert set(entry) == {"file", "people"}
    assert entry["file"] == str(Path("photos/a.jpg"))
    assert len(entry["people"]) == 2
    for number, person in enumerate(entry["people"]):
        assert set(person) == {"keypoints", "box", "score"}
        np.testing.assert_allclose(person["keypoints"], two.numpy()[number], atol=0.006)
        np.testing.assert_allclose(person["box"], two.boxes[number], atol=0.006)
        assert person["score"] == pytest.approx(two.box_scores[number] * two.scores[number].mean(), abs=1e-4)
    assert poses().to_dict()["file"] is None
    assert poses(0).to_dict() == {"file": None, "people": []}


def test_coco_results():
    two = poses()
    results = two.to_coco(image_id=785, category_id=3)
    assert [result["image_id"] for result in results] == [785, 785]
    assert results[0]["category_id"] == 3
    assert len(results[0]["keypoints"]) == 51
    np.testing.assert_allclose(np.reshape(results[1]["keypoints"], (17, 3)), two.numpy()[1], atol=0.006)
    x, y, width, height = results[0]["bbox"]
    np.testing.assert_allclose([x, y, x + width, y + height], two.boxes[0], atol=0.02)
    json.dumps(results)
    assert poses(0).to_coco(1) == []


def test_openpose_order_and_neck():
    two = poses(track_ids=np.array([4, 5]))
    content = two.to_openpose()
    json.dumps(content)
    assert content["people"][1]["person_id"] == [5]
    points = np.reshape(content["people"][0]["pose_keypoints_2d"], (18, 3))
    coco = two.numpy()[0]
    # OpenPose's COCO model: 0 nose, 1 neck, 2 right shoulder, 4 right wrist, 8 right hip, 13 left ankle, 17 left ear.
    for place, name in ((0, "nose"), (2, "right_shoulder"), (4, "right_wrist"), (8, "right_hip"), (13, "left_ankle")):
        np.testing.assert_allclose(points[place], coco[COCO17.index(name)], atol=1e-3)
    np.testing.assert_allclose(points[17], coco[COCO17.index("left_ear")], atol=1e-3)
    np.testing.assert_allclose(points[1, :2], (coco[5, :2] + coco[6, :2]) / 2, atol=1e-3)
    assert points[1, 2] == pytest.approx(min(coco[5, 2], coco[6, 2]), abs=1e-4)


def test_openpose_of_another_skeleton():
    points = np.reshape(poses(1, LSP14).to_openpose()["people"][0]["pose_keypoints_2d"], (18, 3))
    np.testing.assert_array_equal(points[0], 0)  # no nose
    np.testing.assert_allclose(points[1], poses(1, LSP14).numpy()[0, LSP14.index("neck")], atol=1e-3)
    with pytest.raises(ValueError, match="none of OpenPose's points"):
        poses(1, Skeleton("other", ("a", "b"))).to_openpose()


@pytest.mark.parametrize("name", ["confidence", "keypoint_confidence"])
def test_supervision_under_both_of_its_names(monkeypatch, name):
    made = dataclasses.make_dataclass("KeyPoints", ["xy", "class_id", name])
    monkeypatch.setitem(sys.modules, "supervision", types.SimpleNamespace(KeyPoints=made))
    two = poses()
    found = two.to_supervision()
    np.testing.assert_array_equal(found.xy, two.keypoints)
    np.testing.assert_array_equal(getattr(found, name), two.scores)
    assert found.class_id.shape == (2,)


def test_supervision_is_optional(monkeypatch):
    monkeypatch.setitem(sys.modules, "supervision", None)
    with pytest.raises(ImportError, match="pip install supervision"):
        poses().to_supervision()


def test_plot_reads_draws_and_writes(tmp_path):
    path = tmp_path / "photo.png"
    image = np.full((100, 200, 3), 90, np.uint8)
    assert cv2.imwrite(str(path), image)
    two = poses(path=path)
    drawn = two.plot()
    assert drawn.shape == image.shape
    assert (drawn != image).any()
    np.testing.assert_array_equal(two.plot(image), drawn)
    assert (image == 90).all()
    np.testing.assert_array_equal(two.plot(str(path), out=tmp_path / "out.png"), drawn)
    np.testing.assert_array_equal(cv2.imread(str(tmp_path / "out.png")), drawn)
    assert (two.plot(boxes=True) != drawn).any()
    np.testing.assert_array_equal(poses(0).plot(image), image)


def test_plot_takes_every_kind_of_photo():
    image = np.full((100, 200, 3), 90, np.uint8)
    drawn = poses().plot(image)
    for same in (image[..., 0], np.dstack([image, image[..., 0]]), torch.from_numpy(image)):
        np.testing.assert_array_equal(poses().plot(same), drawn)
    with pytest.raises(TypeError, match=r"image: expected a path, or uint8 pixels .* got float32"):
        poses().plot(image.astype(np.float32))


def test_plot_says_what_is_missing(tmp_path):
    with pytest.raises(ValueError, match="these poses come from no file"):
        poses().plot()
    with pytest.raises(ValueError, match="expected the photo of size"):
        poses().plot(np.zeros((9, 9, 3), np.uint8))
    with pytest.raises(ImageError, match="no such file"):
        poses(path=tmp_path / "gone.jpg").plot()
    image = np.zeros((100, 200, 3), np.uint8)
    with pytest.raises(ValueError, match=r"cannot write a picture of format '.xyz'"):
        poses().plot(image, out=tmp_path / "out.xyz")
    with pytest.raises(OSError, match="No such file"):
        poses().plot(image, out=tmp_path / "nowhere" / "out.png")
    assert list(tmp_path.iterdir()) == []
