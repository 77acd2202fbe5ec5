"""Labels, photo store and data set: mixing, matching, correcting, and photos that cannot be read."""

import json
from dataclasses import replace

import cv2
import numpy as np
import pytest

from fastpose.data.dataset import PhotoStore, PoseDataset, Source
from fastpose.data.labels import LabelCleaning, clean_labels, match_keypoints, read_teacher
from fastpose.data.records import DataError, PoseRecords
from fastpose.data.synthetic import render_scene, synthetic_records
from fastpose.skeletons import COCO17, LSP14


def records(count, skeleton=COCO17, photos=None, visible=2):
    joints = skeleton.num_keypoints
    rng = np.random.default_rng(count)
    return PoseRecords(
        skeleton=skeleton,
        image_paths=photos or [f"{i}.jpg" for i in range(count)],
        image_ids=np.arange(count),
        image_sizes=np.zeros((count, 2)),
        image_index=np.arange(count),
        boxes=np.tile([0, 0, 60, 60], (count, 1)),
        keypoints=rng.uniform(0, 60, (count, joints, 2)),
        visible=np.full((count, joints), visible),
        areas=np.full(count, 3600),
        ids=np.arange(count) + 100,
        scores=np.ones(count),
        ignore=np.zeros(count, bool),
        source="test",
    )


def test_store_decodes_once_within_its_budget(tmp_path):
    for name in "ab":
        cv2.imwrite(str(tmp_path / f"{name}.png"), np.full((10, 10, 3), 7, np.uint8))
    store = PhotoStore([tmp_path / "a.png", tmp_path / "b.png"], budget=300)
    first = store.read(0)
    assert first.shape == (10, 10, 3)
    assert store.read(0) is first
    assert store.read(1) is not store.read(1)  # over the budget: decoded anew
    assert store.is_ready(0)
    assert not store.is_ready(1)


def test_store_names_what_it_cannot_read(tmp_path):
    (tmp_path / "cut.jpg").write_bytes(b"\xff\xd8\xff\xe0 not a photo")
    store = PhotoStore([tmp_path / "cut.jpg", tmp_path / "gone.jpg"], budget=1000)
    assert store.read(0) is None
    assert store.read(1) is None
    assert "cut.jpg" in store.failed[0]
    assert "gone.jpg" in store.failed[1]


def turned_photo(path, height, width, orientation=6):
    """A JPEG that is stored so large, and whose EXIF turns it."""
    data = cv2.imencode(".jpg", np.zeros((height, width, 3), np.uint8))[1].tobytes()
    exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0" + bytes([orientation]) + bytes(6)
    path.write_bytes(data[:2] + b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif + data[2:])


@pytest.mark.parametrize("step", [1, 2, 4])
def test_labels_on_the_stored_pixels_of_a_turned_photo(tmp_path, step):
    turned_photo(tmp_path / "stored.jpg", 30, 71)
    turned_photo(tmp_path / "upright.jpg", 30, 71)
    turned_photo(tmp_path / "half.jpg", 30, 71, orientation=3)
    turned_photo(tmp_path / "unknown.jpg", 30, 71)
    cv2.imwrite(str(tmp_path / "plain.jpg"), np.zeros((71, 30, 3), np.uint8))  # the file's two numbers are exchanged
    names = ("stored", "upright", "half", "unknown", "plain")
    sizes = np.int32([[30, 71], [71, 30], [30, 71], [0, 0], [30, 71]])
    people = replace(records(5, photos=[tmp_path / f"{name}.jpg" for name in names]), image_sizes=sizes)
    store = PoseDataset([Source(people)], COCO17).photos
    found = [store.read(n) if step == 1 else store.read_reduced(n, step) for n in range(5)]
    assert [photo is None for photo in found] == [True, False, False, False, False]
    said = "stored.jpg: is 30x71 once it is turned as its EXIF says; its annotations are of 71x30"
    assert store.failed == {0: f"{tmp_path}/{said}"}


def test_rendered_scenes_are_photos_too():
    scenes = synthetic_records(2, seed=5, size=(64, 48))
    data = PoseDataset([Source(scenes)], COCO17, cache=10**6)
    picture, _ = render_scene(6, size=(64, 48))
    np.testing.assert_array_equal(data.photos.read(1), picture)


def test_epoch_shows_everybody_by_repeats():
    data = PoseDataset([Source(records(10), repeats=2.5), Source(records(4))], COCO17)
    assert data.epoch_length == 29
    order = data.epoch_order(seed=1, epoch=0)
    counts = np.bincount(order, minlength=14)
    assert sorted(counts[:10]) == [2] * 5 + [3] * 5
    assert (counts[10:] == 1).all()
    np.testing.assert_array_equal(order, data.epoch_order(1, 0))
    assert (order != data.epoch_order(1, 1)).any()
    assert (order != data.epoch_order(2, 0)).any()


def test_photos_of_several_sources_stay_apart():
    data = PoseDataset([Source(records(3)), Source(records(2))], COCO17)
    np.testing.assert_array_equal(data.photo, [0, 1, 2, 3, 4])


def test_people_that_teach_nothing_are_left_out():
    nobody = records(3)
    some = PoseDataset([Source(nobody, weights=np.float32([[0] * 17, [1] * 17, [0] * 17]))], COCO17)
    np.testing.assert_array_equal(some.photo, [1])
    with pytest.raises(ValueError, match="nobody"):
        PoseDataset([Source(records(3, visible=0))], COCO17)


def test_keypoints_are_matched_by_name():
    source = records(2, LSP14)
    data = PoseDataset([Source(source)], COCO17)
    theirs, ours = LSP14.index("left_knee"), COCO17.index("left_knee")
    np.testing.assert_array_equal(data.keypoints[:, ours], source.keypoints[:, theirs])
    assert (data.weights[:, COCO17.index("nose")] == 0).all()
    assert data.weights.sum() == 24  # the 12 limbs of two people
    other = type(COCO17)("other", ("tip", "tail"))
    with pytest.raises(ValueError, match="no keypoint name in common"):
        match_keypoints(np.zeros((1, 2, 2)), np.ones((1, 2)), other, COCO17)


@pytest.fixture
def taught():
    """One person with torso diagonals of 50 px; the teacher is sure of everything and agrees with every label."""
    own = records(1)
    for name, point in (
        ("left_shoulder", (40, 0)),
        ("right_shoulder", (0, 0)),
        ("left_hip", (40, 30)),
        ("right_hip", (0, 30)),
    ):
        own.keypoints[0, COCO17.index(name)] = point
    teacher = np.concatenate([own.keypoints, np.ones((1, 17, 1), np.float32)], -1)
    return own, teacher


def index(*names):
    return [COCO17.index(name) for name in names]


def test_agreement_changes_nothing(taught):
    own, teacher = taught
    teacher[..., 0] += 5  # a tenth of the torso
    keypoints, weights, counts = clean_labels(own, teacher, LabelCleaning("t"))
    np.testing.assert_array_equal(keypoints, own.keypoints)
    assert (weights == 1).all()
    assert counts == {"unswapped": 0, "replaced": 0, "filled": 0}


def test_blend_moves_labels_part_of_the_way(taught):
    own, teacher = taught
    teacher[..., 0] += 4
    keypoints, _, counts = clean_labels(own, teacher, LabelCleaning("t", blend=0.25))
    np.testing.assert_allclose(keypoints - own.keypoints, np.broadcast_to([1, 0], (1, 17, 2)), atol=1e-5)
    assert counts["blended"] == 17


def test_exchanged_limbs_are_put_right(taught):
    own, teacher = taught
    pair = index("left_wrist", "right_wrist")
    own.keypoints[0, pair] = [[10, 100], [60, 100]]
    teacher[0, pair, :2] = [[60, 100], [10, 101]]
    keypoints, _, counts = clean_labels(own, teacher, LabelCleaning("t"))
    np.testing.assert_array_equal(keypoints[0, pair], [[60, 100], [10, 100]])
    assert counts["unswapped"] == 2
    assert counts["replaced"] == 0
    keypoints, _, counts = clean_labels(own, teacher, LabelCleaning("t", unswap=False))
    np.testing.assert_array_equal(keypoints[0, pair], [[60, 100], [10, 101]])
    assert counts["replaced"] == 2


def test_disagreement_by_policy(taught):
    own, teacher = taught
    (sure_wrist, unsure_ankle) = index("left_wrist", "right_ankle")
    teacher[0, [sure_wrist, unsure_ankle], 1] += 20  # 0.4 torso
    teacher[0, unsure_ankle, 2] = 0.2
    keypoints, weights, _ = clean_labels(own, teacher, LabelCleaning("t", replace_weight=0.7, doubt=0.25))
    np.testing.assert_array_equal(keypoints[0, sure_wrist], teacher[0, sure_wrist, :2])
    np.testing.assert_array_equal(keypoints[0, unsure_ankle], own.keypoints[0, unsure_ankle])
    assert weights[0, sure_wrist] == np.float32(0.7)
    assert weights[0, unsure_ankle] == 0.25
    _, weights, counts = clean_labels(own, teacher, LabelCleaning("t", on_disagreement="drop"))
    assert weights[0, sure_wrist] == 0
    assert weights.sum() == 16
    assert counts["dropped"] == 1
    keypoints, weights, _ = clean_labels(own, teacher, LabelCleaning("t", on_disagreement="keep"))
    np.testing.assert_array_equal(keypoints, own.keypoints)
    assert (weights == 1).all()


def test_gaps_are_filled_where_the_teacher_is_sure(taught):
    own, teacher = taught
    sure, unsure = index("nose", "left_ear")
    own.visible[0, [sure, unsure]] = 0
    teacher[0, unsure, 2] = 0.1
    keypoints, weights, counts = clean_labels(own, teacher, LabelCleaning("t", fill_weight=0.5))
    np.testing.assert_array_equal(keypoints[0, sure], teacher[0, sure, :2])
    assert weights[0, sure] == 0.5
    assert weights[0, unsure] == 0
    assert counts["filled"] == 1
    _, weights, _ = clean_labels(own, teacher, LabelCleaning("t", fill=False))
    assert weights[0, sure] == 0


def test_teacher_file(tmp_path):
    own = records(3)
    file = tmp_path / "teacher.json"
    file.write_text(json.dumps({"101": [[1, 2, 0.5]] * 17}))
    points = read_teacher(file, own)
    assert (points[1] == [1, 2, 0.5]).all()
    assert not points[[0, 2]].any()
    for text, said in (
        ("[1]", "object"),
        ('{"5": 1}', "knows none"),
        ('{"100": [[1, 2]]}', "entry 100"),
        ("{", "JSON"),
    ):
        file.write_text(text)
        with pytest.raises(DataError, match=said):
            read_teacher(file, own)
    with pytest.raises(DataError, match="gone"):
        read_teacher(tmp_path / "gone.json", own)


@pytest.mark.parametrize("values", [{"sure": 1.5}, {"doubt": -0.1}, {"disagree": 0.0}, {"blend": 2.0}])
def test_wrong_teacher_settings_are_named(values):
    with pytest.raises(ValueError, match=next(iter(values))):
        LabelCleaning("t", **values)
