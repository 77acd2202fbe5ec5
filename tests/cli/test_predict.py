"""``fastpose predict``: what is written, and what is said of bad input."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from fastpose.models import create_model, save_model


def failed(result, *parts):
    """Whether a call ended with code 2 and one line on stderr that says all of the parts."""
    assert result.exit_code == 2, result.output
    assert result.stderr.count("\n") == 1, result.stderr
    assert result.stderr.startswith("Error: ")
    for part in parts:
        assert part in result.stderr, result.stderr
    return True


def test_json_of_one_photo(run, photos):
    result = run("7.png", "--boxes", "10,5,60,75", "--boxes", "50,5,110,75", "--json", "out.json")
    assert result.exit_code == 0, result.output
    assert result.stderr == ""
    [entry] = json.loads((photos / "out.json").read_text())
    assert set(entry) == {"version", "file", "image_size", "skeleton", "keypoint_names", "people"}
    assert entry["file"] == "7.png"
    assert [person["box"] for person in entry["people"]] == [[10, 5, 60, 75], [50, 5, 110, 75]]
    for person in entry["people"]:
        assert set(person) == {"keypoints", "box", "box_score", "score"}
        assert np.shape(person["keypoints"]) == (17, 3)
        assert np.isfinite(person["keypoints"]).all()


def test_pictures_of_several_photos(run, photos):
    result = run("7.png", "b.jpg", "--boxes", "boxes.json", "--out", "drawn", "--json", "out.json")
    assert result.exit_code == 0, result.output
    assert sorted(path.name for path in (photos / "drawn").iterdir()) == ["7_poses.png", "b_poses.jpg"]
    for name, shape in (("7_poses.png", (80, 120, 3)), ("b_poses.jpg", (100, 90, 3))):
        assert cv2.imread(str(photos / "drawn" / name)).shape == shape
    drawn, plain = cv2.imread(str(photos / "drawn" / "7_poses.png")), cv2.imread(str(photos / "7.png"))
    assert (drawn != plain).any()
    entries = json.loads((photos / "out.json").read_text())
    assert [(entry["file"], len(entry["people"])) for entry in entries] == [("7.png", 2), ("b.jpg", 1)]
    assert result.stdout.count("\n") == 2
    assert "7.png: 2 people" in result.stdout


def test_single_picture_and_folder(run, photos):
    assert run("7.png", "--boxes", "boxes.json", "--out", "one.png").exit_code == 0
    assert (photos / "one.png").is_file()
    assert run("7.png", "--boxes", "boxes.json", "--out", "new/folder").exit_code == 0
    assert (photos / "new" / "folder" / "7_poses.png").is_file()
    (photos / "sub").mkdir()
    (photos / "sub" / "7.png").write_bytes((photos / "7.png").read_bytes())
    assert run("7.png", "sub/7.png", "--boxes", "boxes.json", "--out", "both").exit_code == 0
    assert sorted(os.listdir(photos / "both")) == ["7_poses.png", "7_poses_2.png"]


def test_a_folder_stands_for_its_pictures(run, photos):
    folder = photos / "many"
    (folder / "below").mkdir(parents=True)
    for name in ("c.JPG", "a.jpg", ".hidden.jpg", "below/d.jpg"):
        (folder / name).write_bytes((photos / "b.jpg").read_bytes())
    (folder / "notes.txt").write_text("")
    result = run("many", "7.png", "--boxes", "whole", "--out", "drawn", "--json", "out.json")
    assert result.exit_code == 0, result.output
    assert [entry["file"] for entry in json.loads((photos / "out.json").read_text())] == [
        "many/a.jpg", "many/c.JPG", "7.png"
    ]  # fmt: skip
    assert sorted(os.listdir(photos / "drawn")) == ["7_poses.png", "a_poses.jpg", "c_poses.JPG"]
    (photos / "empty").mkdir()
    assert failed(run("empty"), "empty: there is no picture in this folder (.jpg, ")


def test_stdout_is_json_when_nothing_else_is_asked_for(run):
    result = run("7.png", "b.jpg", "--boxes", "boxes.json")
    assert [len(entry["people"]) for entry in json.loads(result.stdout)] == [2, 1]
    assert json.loads(run("7.png", "--boxes", "boxes.json", "--json", "-").stdout)[0]["file"] == "7.png"


def test_coco_results(run, photos):
    annotations = {
        "images": [{"id": 42, "file_name": "b.jpg"}],
        "annotations": [
            {"image_id": 42, "bbox": [10, 20, 30, 40], "iscrowd": 0},
            {"image_id": 42, "bbox": [0, 0, 90, 100], "iscrowd": 1},
        ],
    }
    (photos / "coco.json").write_text(json.dumps(annotations))
    [result] = json.loads(run("b.jpg", "--boxes", "coco.json", "--format", "coco").stdout)
    assert (result["image_id"], result["category_id"], result["bbox"]) == (42, 1, [10, 20, 30, 40])
    assert len(result["keypoints"]) == 51
    results = json.loads(run("b.jpg", "7.png", "--boxes", "boxes.json", "--format", "coco").stdout)
    assert [result["image_id"] for result in results] == [1, 7, 7]  # its place; the number of its name


def test_its_own_output_can_be_boxes_again(run, photos):
    run("7.png", "b.jpg", "--boxes", "boxes.json", "--json", "first.json")
    run("b.jpg", "7.png", "--boxes", "first.json", "--json", "second.json")
    first, second = (json.loads((photos / name).read_text()) for name in ("first.json", "second.json"))
    assert [entry["file"] for entry in second] == ["b.jpg", "7.png"]
    for a, b in zip(first, reversed(second), strict=True):
        for person, again in zip(a["people"], b["people"], strict=True):
            np.testing.assert_allclose(person["box"], again["box"], atol=1e-6)
            # Of a network that knows nothing an arg-max may jump, as the boxes are rounded to hundredths.
            assert np.median(np.abs(np.subtract(person["keypoints"], again["keypoints"]))) < 0.1


def test_flip_test_and_batch_size_are_passed_on(run):
    def points(*options):
        result = run("7.png", "--boxes", "boxes.json", *options)
        return np.array([person["keypoints"] for person in json.loads(result.stdout)[0]["people"]])

    np.testing.assert_allclose(points("--flip-test"), points(), atol=0.02)
    assert np.abs(points("--no-flip-test") - points()).max() > 0.5
    np.testing.assert_allclose(points("--batch-size", 1), points(), atol=0.02)


def test_a_photo_of_one_person(run):
    result = run("b.jpg", "--boxes", "whole")
    assert (result.exit_code, result.stderr) == (0, "")
    assert json.loads(result.stdout)[0]["people"][0]["box"] == [0, 0, 90, 100]


def test_nobody_in_the_photo(run, photos):
    (photos / "empty.json").write_text('{"b.jpg": []}')
    result = run("b.jpg", "--boxes", "empty.json", "--out", "o.png", "--json", "o.json")
    assert (result.exit_code, result.stderr) == (0, "")  # who says so need not be told
    assert [(e["file"], e["people"]) for e in json.loads((photos / "o.json").read_text())] == [("b.jpg", [])]
    assert cv2.imread(str(photos / "o.png")).shape == (100, 90, 3)


def test_exif_is_honoured(run, photos):
    image = cv2.imread(str(photos / "b.jpg"))
    data = cv2.imencode(".jpg", image)[1].tobytes()
    exif = b"Exif\0\0II*\0" + bytes([8, 0, 0, 0, 1, 0, 0x12, 1, 3, 0, 1, 0, 0, 0, 6, 0, 0, 0, 0, 0, 0, 0])
    (photos / "turned.jpg").write_bytes(data[:2] + b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif + data[2:])
    assert run("turned.jpg", "--boxes", "whole", "--out", "upright.png").exit_code == 0
    assert cv2.imread(str(photos / "upright.png")).shape == (90, 100, 3)


BAD_PHOTOS = {
    "missing.jpg": (None, "no such file"),
    "zero.jpg": (lambda data: b"", "is empty"),
    "cut.jpg": (lambda data: data[: len(data) // 2], "cut short"),
    "cut.png": (lambda data: data[:-20], "cut short"),
    "text.jpg": (lambda data: b"no image at all, but words", "no image"),
}


@pytest.mark.parametrize("name", BAD_PHOTOS)
def test_bad_photo(run, photos, name):
    change, reason = BAD_PHOTOS[name]
    if change:
        source = "7.png" if name.endswith(".png") else "b.jpg"
        (photos / name).write_bytes(change((photos / source).read_bytes()))
    assert failed(run(name, "--boxes", "1,1,9,9", "--out", "o.png", "--json", "o.json"), name, reason)
    assert not (photos / "o.png").exists()
    assert not (photos / "o.json").exists()


@pytest.mark.parametrize(
    ("box", "reason"),
    [
        ("5,5,5,50", "b.jpg: boxes: row 1 has no width"),
        ("5,nan,9,50", "b.jpg: boxes: row 1 is not finite"),
        ("500,5,600,50", "b.jpg: boxes: row 1 lies outside the photo of 90x100 pixels"),
        ("5,5,50", "--boxes: expected x1,y1,x2,y2 in pixels, got '5,5,50'"),
        ("a,b,c,d", "--boxes: expected x1,y1,x2,y2"),
    ],
)
def test_bad_box(run, photos, box, reason):
    assert failed(run("b.jpg", "--boxes", "1,1,50,50", "--boxes", box, "--out", "o.png"), reason)
    assert not (photos / "o.png").exists()


def test_bad_ones_among_good_ones(run, photos):
    (photos / "cut.jpg").write_bytes((photos / "b.jpg").read_bytes()[:300])
    boxes = json.loads((photos / "boxes.json").read_text())
    boxes["cut.jpg"] = [[1, 1, 9, 9]]
    boxes["out.jpg"] = [[500, 500, 510, 510]]
    (photos / "out.jpg").write_bytes((photos / "b.jpg").read_bytes())
    (photos / "boxes.json").write_text(json.dumps(boxes))
    result = run("cut.jpg", "7.png", "gone.jpg", "out.jpg", "b.jpg", "--boxes", "boxes.json", "--json", "o.json")
    assert result.exit_code == 2
    lines = result.stderr.splitlines()
    assert len(lines) == 3
    for line, part in zip(
        lines, ("cut.jpg: is cut short", "gone.jpg: no such file", "out.jpg: boxes: row 0"), strict=True
    ):
        assert line.startswith("Error: ")
        assert part in line
    found = json.loads((photos / "o.json").read_text())
    assert [entry["file"] for entry in found] == ["7.png", "out.jpg", "b.jpg"]
    assert found[1]["people"] == []
    assert "row 0 lies outside the photo" in found[1]["dropped"][0]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("{", "not valid JSON"),
        ("3", "expected a list or an object of boxes"),
        ('[{"image_id": 3}]', "bbox: expected 4 numbers, got nothing"),
        ('[{"file": "b.jpg"}]', "expected a list of boxes, got nothing"),
        ("[[1, 2, 3]]", "box number 0: expected x1, y1, x2, y2"),
        ('{"b.jpg": [1, 2, 3, 4]}', "box: expected 4 numbers, got int"),
        ('{"other.jpg": []}', "has no boxes for it"),
        ('[{"image_id": 3, "bbox": [1, 2, 3, 4]}]', "has no boxes for it"),
    ],
)
def test_bad_box_file(run, photos, content, reason):
    (photos / "bad.json").write_text(content)
    assert failed(run("b.jpg", "--boxes", "bad.json"), "bad.json", reason)


def test_bad_options(run, photos):
    assert failed(run("b.jpg", "--boxes", "gone.json"), "gone.json: no such file")
    assert failed(run(), "expected a PHOTO or a FOLDER, or --demo")
    assert failed(run("--demo", "b.jpg"), "--demo renders its own scene")
    assert failed(run("b.jpg", "7.png", "--boxes", "1,1,9,9"), "is for one photo")
    (photos / "list.json").write_text("[[1, 1, 9, 9]]")
    result = run("b.jpg", "7.png", "--boxes", "list.json")
    assert result.exit_code == 2
    assert "is a list of boxes for one photo" in result.stderr
    assert failed(run("b.jpg", "--frobnicate"), "--frobnicate")
    assert failed(run("b.jpg", "--batch-size", 0), "--batch-size")
    assert failed(run("b.jpg", "--device", "nowhere"), "device: 'nowhere'")


def test_bad_outputs(run, photos):
    before = sorted(os.listdir(photos))
    assert failed(run("b.jpg", "--out", "nowhere/o.png"), "nowhere/o.png: there is no folder nowhere")
    assert failed(run("b.jpg", "--json", "nowhere/o.json"), "there is no folder nowhere")
    assert failed(run("b.jpg", "--out", "o.docx"), "a picture's name ends in")
    assert failed(run("b.jpg", "--out", "b.jpg"), "b.jpg: is read or written already")
    assert failed(run("b.jpg", "7.png", "--out", "boxes.json"), "boxes.json is a file")
    assert failed(run("b.jpg", "--json", "."), "is a folder")
    assert failed(run("b.jpg", "--out", "same.png", "--json", "same.png"), "is read or written already")
    assert sorted(os.listdir(photos)) == before


@pytest.mark.parametrize("target", ["o.png", "o.json"])
def test_full_disk(run, photos, monkeypatch, target):
    def full(handle):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    (photos / target).write_text("as it was")
    before = sorted(os.listdir(photos))
    monkeypatch.setattr(os, "fsync", full)
    option = "--json" if target.endswith("json") else "--out"
    assert failed(run("b.jpg", "--boxes", "boxes.json", option, target), target, "cannot be written", "No space left")
    assert (photos / target).read_text() == "as it was"
    assert sorted(os.listdir(photos)) == before


def test_bad_models(run, photos, model):
    whole = Path(model).read_bytes()
    (photos / "cut.safetensors").write_bytes(whole[: len(whole) // 2])
    (photos / "zero.pth").write_bytes(b"")
    other = create_model("resnet18_slim", input_size=(64, 64), num_keypoints=3)
    torch.save(other.state_dict(), photos / "bare.pth")

    def said(name, *parts):
        return failed(run("b.jpg", "--boxes", "boxes.json", "--model", name, with_model=False), *parts)

    assert said("cut.safetensors", "cut.safetensors: damaged or cut short")
    assert said("zero.pth", "zero.pth")
    assert said("gone.safetensors", "gone.safetensors: cannot be read")
    assert said("bare.pth", "bare.pth", "does not say which network it is for")
    assert said("resnet99", "no model is named 'resnet99'")


def test_weights_of_another_network(run, photos, tmp_path):
    # A header that promises one network, with the tensors of another.
    import safetensors.torch

    network = create_model("resnet18_slim", input_size=(64, 64))
    save_model(network, tmp_path / "a.safetensors")
    with safetensors.safe_open(tmp_path / "a.safetensors", "pt") as file:
        header = file.metadata()
    other = create_model("resnet18_slim", input_size=(64, 64), num_keypoints=3).state_dict()
    safetensors.torch.save_file(other, tmp_path / "mixed.safetensors", header)
    result = run("b.jpg", "--boxes", "boxes.json", "--model", "mixed.safetensors", with_model=False)
    assert failed(result, "mixed.safetensors: not the weights of", "head.final_layer.weight")


def test_tracebacks_only_when_asked_for(run, photos, monkeypatch):
    from fastpose.data.images import ImageError

    assert failed(run("gone.jpg"), "gone.jpg: no such file")
    with pytest.raises(ImageError):
        run("gone.jpg", "--debug")
    monkeypatch.setenv("FASTPOSE_DEBUG", "1")
    with pytest.raises(ImageError):
        run("gone.jpg")


def test_as_a_process(photos, model):
    """Nothing but our line on stderr, also from libraries that write to it by themselves."""
    (photos / "cut.png").write_bytes((photos / "7.png").read_bytes()[:-30])
    command = [sys.executable, "-m", "fastpose", "predict", "--model", model, "--device", "cpu"]
    root = Path(__file__).resolve().parents[2]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(root), os.environ.get("PYTHONPATH", "")])}
    environment.pop("FASTPOSE_DEBUG", None)

    def process(*words):
        return subprocess.run(
            [*command, *words], cwd=photos, env=environment, capture_output=True, text=True, check=False
        )

    good = process("7.png", "--boxes", "boxes.json", "--out", "o.png", "--json", "o.json")
    assert (good.returncode, good.stderr) == (0, "")
    assert len(json.loads((photos / "o.json").read_text())[0]["people"]) == 2
    for words in (["cut.png"], ["7.png", "--boxes", "1,1,1,1"], ["7.png", "--json", "/dev/full/o.json"]):
        bad = process(*words)
        assert bad.returncode == 2
        assert bad.stdout == ""
        assert bad.stderr.startswith("Error: ")
        assert bad.stderr.count("\n") == 1
