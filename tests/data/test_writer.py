"""What is written as COCO's JSON is read back the same."""

import json

import cv2
import numpy as np
import pytest

from fastpose.data import concatenate, read_annotations, write_coco
from fastpose.data.synthetic import render_scene, synthetic_records
from fastpose.skeletons import Skeleton

STICK = Skeleton.from_names("stick", ["head", "left_hand", "right_hand"], links=[("head", "left_hand")])
ORIGIN = {"head": ("left_ear", "right_ear"), "left_hand": "left_wrist", "right_hand": "right_wrist"}


def same(found, expected):
    for name in ("boxes", "visible", "areas", "ids", "image_ids", "image_sizes", "image_index", "ignore"):
        np.testing.assert_allclose(getattr(found, name), getattr(expected, name), rtol=1e-6, err_msg=name)
    seen = expected.visible > 0
    np.testing.assert_allclose(found.keypoints[seen], expected.keypoints[seen], rtol=1e-6)


def test_rendered_scenes_with_keypoints_of_ones_own(tmp_path):
    records = synthetic_records(3, seed=7, size=(96, 80), people=2).to_skeleton(STICK, ORIGIN)
    write_coco(records, tmp_path / "set" / "a.json", tmp_path / "set" / "photos")
    found = read_annotations(tmp_path / "set" / "a.json")
    same(found, records)
    assert (found.skeleton.name, found.skeleton.keypoints) == ("stick", STICK.keypoints)
    assert found.skeleton.flip_pairs == (("left_hand", "right_hand"),)
    assert found.skeleton.links == STICK.links
    picture = cv2.imread(str(found.image_paths[1]))
    np.testing.assert_array_equal(picture, render_scene(8, (96, 80), 2)[0])


def test_photos_of_sets_that_were_put_together(tmp_path):
    parts = []
    for name, seed in (("one", 1), ("two", 2)):
        write_coco(synthetic_records(2, seed, size=(64, 48)), tmp_path / name / "a.json", tmp_path / name)
        parts.append(read_annotations(tmp_path / name / "a.json"))
    both = concatenate(parts)
    write_coco(both, tmp_path / "both.json", tmp_path / "both")
    found = read_annotations(tmp_path / "both.json")
    np.testing.assert_allclose(found.keypoints, both.keypoints, rtol=1e-6)
    assert found.ids.tolist() == found.image_ids.tolist() == [1, 2, 3, 4]
    pictures = [cv2.imread(str(path)) for path in found.image_paths]
    for number, seed in enumerate((1, 2, 2, 3)):
        np.testing.assert_array_equal(pictures[number], render_scene(seed, (64, 48), 1)[0])
    # Photos may stay where they are.
    write_coco(both, tmp_path / "elsewhere" / "names.json")
    assert list(read_annotations(tmp_path / "elsewhere" / "names.json").image_paths) == list(both.image_paths)


def test_scenes_need_a_folder(tmp_path):
    with pytest.raises(ValueError, match="images: expected a folder to paint the rendered scenes into"):
        write_coco(synthetic_records(1), tmp_path / "a.json")


def test_ignored_people_are_crowds(tmp_path):
    records = synthetic_records(2, seed=1, size=(64, 48))
    records.ignore[1] = True
    write_coco(records, tmp_path / "a.json", tmp_path)
    content = json.loads((tmp_path / "a.json").read_text())
    assert [entry["iscrowd"] for entry in content["annotations"]] == [0, 1]
    assert read_annotations(tmp_path / "a.json").skipped == {"crowd": 1}


def painted(folder, seed):
    write_coco(synthetic_records(2, seed, size=(64, 48)), folder / "a.json", folder)
    return read_annotations(folder / "a.json")


def test_photos_that_lie_there_already_stay(tmp_path):
    records = painted(tmp_path, 1)
    before = [path.read_bytes() for path in records.image_paths]
    write_coco(records, tmp_path / "b.json", tmp_path)
    found = read_annotations(tmp_path / "b.json")
    assert list(found.image_paths) == list(records.image_paths)
    assert [path.read_bytes() for path in found.image_paths] == before


def test_a_photo_of_the_set_is_never_replaced(tmp_path):
    one, two = painted(tmp_path / "one", 1), painted(tmp_path / "two", 2)
    before = [path.read_bytes() for path in two.image_paths]
    with pytest.raises(ValueError, match=r"one.000001.png would replace .*two.000001.png, which is another photo"):
        write_coco(concatenate([one, two]), tmp_path / "both.json", tmp_path / "two")
    assert [path.read_bytes() for path in two.image_paths] == before
    assert not (tmp_path / "both.json").exists()


def test_sizes_that_the_records_do_not_know_are_those_of_the_photos(tmp_path):
    records = painted(tmp_path, 1)
    records.image_sizes[1] = 0
    write_coco(records, tmp_path / "b.json")
    assert read_annotations(tmp_path / "b.json").image_sizes.tolist() == [[64, 48]] * 2


def test_what_cannot_be_written_leaves_the_old_file(tmp_path):
    records = painted(tmp_path, 1)
    before = (tmp_path / "a.json").read_bytes()
    records.areas[0] = np.nan
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_coco(records, tmp_path / "a.json")
    assert (tmp_path / "a.json").read_bytes() == before
    assert not list(tmp_path.glob(".*.tmp"))
