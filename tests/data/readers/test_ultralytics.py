"""Ultralytics' layout: YAML, folders, fractions of the photo."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml

from fastpose.data import DataError, read_annotations
from fastpose.skeletons import COCO17, Skeleton

SETTINGS = {
    "path": "set",
    "train": "images/train",
    "val": ["images/val", "more.txt"],
    "kpt_shape": [3, 3],
    "flip_idx": [0, 2, 1],
    "names": {0: "person"},
}


def photo(path: Path, height: int, width: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.zeros((height, width, 3), np.uint8))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Three photos to train on, one of them empty and one damaged; two to validate on."""
    root = tmp_path / "set"
    for name, size in (("train/b.jpg", (50, 100)), ("train/a.png", (80, 40)), ("val/c.jpg", (10, 10))):
        photo(root / "images" / name, *size)
    photo(root / "other" / "d.jpg", 20, 20)
    (root / "images/train/z.jpg").write_bytes(b"\xff\xd8\xff damaged")
    (root / "more.txt").write_text("./other/d.jpg\n\n")
    label(root, "train/b", "0 0.5 0.5 0.2 0.4 0.5 0.5 2 0.25 0.5 1 0 0 0")
    return write(tmp_path, SETTINGS)


def label(root: Path, name: str, text: str) -> None:
    path = root / "labels" / f"{name}.txt"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def write(folder: Path, settings: dict[str, Any]) -> Path:
    path = folder / "toys.yaml"
    path.write_text(yaml.safe_dump(settings))
    return path


def test_marks_of_windows_and_folders_that_lie_elsewhere(file: Path) -> None:
    root = file.parent / "set"
    for text in (root / "labels/train/b.txt", root / "more.txt"):
        text.write_bytes(b"\xef\xbb\xbf" + text.read_bytes())
    # Roboflow writes this whether or not the folders lie beside the file.
    write(file.parent, SETTINGS | {"train": "../images/train"})
    assert len(read_annotations(file, split="train")) == 1
    assert [path.name for path in read_annotations(file, split="val").image_paths] == ["c.jpg", "d.jpg"]
    (file.parent / "images/train").mkdir(parents=True)  # what the name says comes first
    assert len(read_annotations(file, split="train").image_paths) == 0


def test_records(file: Path) -> None:
    records = read_annotations(file, split="train")
    root = file.parent / "set" / "images" / "train"
    assert list(records.image_paths) == [root / "a.png", root / "b.jpg", root / "z.jpg"]
    assert records.image_sizes.tolist() == [[80, 40], [50, 100], [0, 0]]
    assert (records.image_index.tolist(), records.ids.tolist()) == ([1], [1])
    np.testing.assert_allclose(records.boxes, [[40, 15, 60, 35]], rtol=1e-6)
    np.testing.assert_allclose(records.keypoints[0], [[50, 25], [25, 25], [0, 0]], rtol=1e-6)
    assert records.visible[0].tolist() == [2, 1, 0]
    assert records.skeleton.keypoints == ("keypoint_0", "keypoint_1", "keypoint_2")
    assert records.skeleton.flip_index == (0, 2, 1)
    assert records.skipped == {"unreadable photo": 1}
    val = read_annotations(file, split="val")
    assert [path.name for path in val.image_paths] == ["c.jpg", "d.jpg"]
    assert len(val) == 0


def test_names_and_skeletons(file: Path) -> None:
    folder = file.parent
    named = write(folder, SETTINGS | {"kpt_names": {0: ["beak", "left_wing", "right_wing"]}})
    assert read_annotations(named, split="train").skeleton.flip_pairs == (("left_wing", "right_wing"),)
    mine = Skeleton.from_names("bird", ["x", "y", "z"])
    assert read_annotations(named, split="train", skeleton=mine).skeleton is mine
    with pytest.raises(DataError, match="kpt_shape: expected 17 keypoints, got 3"):
        read_annotations(named, split="train", skeleton=COCO17)
    coco = SETTINGS | {"kpt_shape": [17, 3], "flip_idx": list(COCO17.flip_index)}
    assert read_annotations(write(folder, coco), split="val").skeleton is COCO17


def test_without_flip_idx(file: Path) -> None:
    folder, settings = file.parent, {key: value for key, value in SETTINGS.items() if key != "flip_idx"}
    named = write(folder, settings | {"kpt_names": {0: ["nose", "left_eye", "right_eye"]}})
    assert read_annotations(named, split="train").skeleton.flip_index == (0, 2, 1)
    letters = write(folder, settings | {"kpt_names": ["nose", "eyeL", "eyeR"]})
    assert read_annotations(letters, split="train").skeleton.flip_index == (0, 2, 1)
    assert not read_annotations(write(folder, settings), split="train").skeleton.mirror_known
    none = write(folder, SETTINGS | {"flip_idx": [0, 1, 2]})
    assert read_annotations(none, split="train").skeleton.flip_pairs == ()
    spelled = [name.replace("_", " ").title() for name in COCO17.keypoints]
    coco = write(folder, settings | {"kpt_shape": [17, 3], "kpt_names": spelled})
    assert read_annotations(coco, split="val").skeleton is COCO17


def test_two_numbers_a_keypoint_and_several_classes(file: Path) -> None:
    folder = file.parent
    label(folder / "set", "train/b", "1 0.5 0.5 0.2 0.4 0.5 0.5 -1 -1 0 0\n0 0.5 0.5 0.2 0.4 0.5 0.5 0 0 0 0\n")
    flat = SETTINGS | {"kpt_shape": [3, 2], "names": ["dog", "person"]}
    records = read_annotations(write(folder, flat), split="train")
    assert records.visible.tolist() == [[2, 0, 2]]
    assert records.skipped["other category"] == 1
    pets = write(folder, flat | {"names": ["dog", "cat"]})
    with pytest.raises(DataError, match=r"names: no class is 'person'; choose one with category: 'dog' \(0\), 'cat'"):
        read_annotations(pets, split="train")
    for cat in ("cat", 1, "1"):
        assert read_annotations(pets, split="train", category=cat).skipped["other category"] == 1


def test_photos_that_are_turned(tmp_path: Path) -> None:
    from fastpose.data.images import read_image, read_image_size

    path = tmp_path / "turned.jpg"
    photo(path, 30, 70)
    assert read_image_size(path) == (30, 70)
    stored = path.read_bytes()
    exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
    path.write_bytes(stored[:2] + b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif + stored[2:])
    assert read_image_size(path) == read_image(path).shape[:2] == (70, 30)
    photo(tmp_path / "plain.png", 12, 34)
    photo(tmp_path / "plain.bmp", 12, 34)
    assert read_image_size(tmp_path / "plain.png") == read_image_size(tmp_path / "plain.bmp") == (12, 34)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0 0.5 0.5", r"b\.txt: line 1: expected 14 numbers, got 3"),
        ("\n0 0.5 0.5 0.2 0.4 0.5 0.5 2 0.25 0.5 1 0 0 zero", r"b\.txt: line 2: expected numbers"),
        ("0 0.5 0.5 0.2 0.4 0.5 nan 2 0.25 0.5 1 0 0 0", r"b\.txt: line 1: expected finite numbers"),
        ("0 0.5 0.5 0.2 0.4 9e300 0.5 2 0.25 0.5 1 0 0 0", r"b\.txt: line 1: expected finite numbers"),
        ("0 50 25 20 20 0.5 0.5 2 0.25 0.5 1 0 0 0", r"b\.txt: line 1: expected a box in fractions"),
    ],
)
def test_labels_are_checked(file: Path, text: str, message: str) -> None:
    label(file.parent / "set", "train/b", text)
    with pytest.raises(DataError, match=message):
        read_annotations(file, split="train")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kpt_shape": [3]}, r"kpt_shape: expected \[K, 2\] or \[K, 3\], got \[3\]"),
        ({"kpt_shape": None}, r"kpt_shape: expected"),
        ({"kpt_shape": [10**9, 3]}, r"kpt_shape: expected"),
        ({"flip_idx": 5}, r"flip_idx: expected"),
        ({"flip_idx": [1, 2, 0]}, r"flip_idx: expected the numbers 0 to 2, pairs exchanged"),
        ({"kpt_names": {0: ["a"]}}, r"kpt_names: expected 3 different names, got"),
        ({"train": "images/nowhere"}, r"no folder or list of photos at .*nowhere"),
        ({"train": ["images/train", "images/train"]}, r"a\.png is listed twice"),
    ],
)
def test_settings_are_checked(file: Path, change: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_annotations(write(file.parent, SETTINGS | change), split="train")


def test_files_that_are_no_settings(file: Path) -> None:
    with pytest.raises(DataError, match="split: no part is named 'test'; there are train, val"):
        read_annotations(file, split="test")
    file.write_text("a: [")
    with pytest.raises(DataError, match=r"toys\.yaml: not valid YAML"):
        read_annotations(file, split="train")
    file.write_text("- 5")
    with pytest.raises(DataError, match="with kpt_shape"):
        read_annotations(file, split="train")
    with pytest.raises(DataError, match=r"gone\.yaml: no such file"):
        read_annotations(file.with_name("gone.yaml"), split="train")


def test_people_without_a_box_or_keypoints(file: Path) -> None:
    rows = ["0 0.5 0.5 0 0.4 0.5 0.5 2 0.25 0.5 1 0 0 0", "0 0.5 0.5 0.2 0.4 0.5 0.5 0 0.25 0.5 0 0 0 0"]
    label(file.parent / "set", "train/b", "\n".join(rows))
    records = read_annotations(file, split="train")
    assert (len(records), records.skipped) == (0, {"unreadable photo": 1, "empty box": 1, "no keypoints": 1})
