"""Poses: rows stay together, and every export says the same."""

from __future__ import annotations

import dataclasses
import json
import sys
import types
from importlib import resources
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from click.testing import CliRunner

from fastpose.cli import main
from fastpose.data.images import ImageError
from fastpose.predict import Poses
from fastpose.predict import draw as draw_module
from fastpose.predict.results import JSON_VERSION
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
    assert set(entry) == {"version", "file", "image_size", "skeleton", "keypoint_names", "people"}
    assert entry["file"] == str(Path("photos/a.jpg"))
    assert (entry["version"], entry["image_size"], entry["skeleton"]) == (1, [100, 200], "coco17")
    assert entry["keypoint_names"] == list(COCO17.keypoints)
    assert len(entry["people"]) == 2
    for number, person in enumerate(entry["people"]):
        assert set(person) == {"keypoints", "box", "box_score", "score"}
        np.testing.assert_allclose(person["keypoints"], two.numpy()[number], atol=0.006)
        np.testing.assert_allclose(person["box"], two.boxes[number], atol=0.006)
        sure = two.scores[number][two.scores[number] > 0.2]  # as for published figures
        assert person["box_score"] == pytest.approx(two.box_scores[number], abs=1e-4)
        assert person["score"] == pytest.approx(two.box_scores[number] * sure.mean(), abs=1e-4)
    assert poses().to_dict()["file"] is None
    assert poses(path="https://example.org/a.jpg").to_dict()["file"] == "https://example.org/a.jpg"
    assert poses(0).to_dict()["people"] == []
    known = poses(track_ids=np.array([7, 8]), visibility=np.full((2, 17), 0.25, np.float32)).to_dict()["people"]
    assert [person["track_id"] for person in known] == [7, 8]
    assert known[1]["visibility"] == [0.25] * 17


@pytest.fixture
def schema():
    """A function that raises where what it is given is not what poses.schema.json promises."""
    jsonschema = pytest.importorskip("jsonschema")
    content = json.loads((resources.files("fastpose.predict") / "poses.schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(content)
    return lambda report: jsonschema.validate(report, content, jsonschema.Draft202012Validator)


def test_json_fits_its_schema(schema):
    tracked = poses(3, path=Path("a.jpg"), track_ids=np.arange(3), visibility=np.ones((3, 17), np.float32))
    troubled = poses(0, dropped=("row 0 is not finite",), error="a.jpg: is empty", image_size=(0, 0))
    report = [some.to_dict() for some in (poses(), tracked, poses(0), poses(1, LSP14), troubled)]
    assert (report[-1]["dropped"], report[-1]["error"]) == (["row 0 is not finite"], "a.jpg: is empty")
    assert report[0]["version"] == JSON_VERSION
    schema(json.loads(json.dumps(report)))
    for key in report[0]:
        with pytest.raises(Exception, match=f"'{key}' is a required property"):
            schema([{name: value for name, value in report[0].items() if name != key}])
    for wrong in ({"version": 2}, {"people": [{}]}, {"image_size": [1]}, {"file": 5}, {"keypoint_names": []}):
        with pytest.raises(Exception, match="Failed validating"):
            schema([report[0] | wrong])


def test_the_command_line_writes_what_the_schema_says_and_reads_it_again(schema, tmp_path):
    photo, first, second = tmp_path / "a.png", tmp_path / "1.json", tmp_path / "2.json"
    cv2.imwrite(str(photo), np.full((100, 200, 3), 90, np.uint8))
    for boxes, out in (("20,10,120,90", first), (str(first), second)):
        result = CliRunner().invoke(main, ["predict", str(photo), "--boxes", boxes, "--json", str(out)])
        assert result.exit_code == 0, result.output
        schema(json.loads(out.read_text()))
    assert json.loads(first.read_text()) == json.loads(second.read_text())


def test_the_page_shows_json_that_fits_the_schema(schema):
    page = (Path(__file__).parents[2] / "docs" / "poses.md").read_text(encoding="utf-8")
    example = json.loads(page.split("```json\n")[1].split("```")[0])
    schema(example)
    person = example[0]["people"][0]
    assert len(person["keypoints"]) == len(example[0]["keypoint_names"])


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


def test_the_page_can_be_run(tmp_path, monkeypatch):
    page = (Path(__file__).parents[2] / "docs" / "poses.md").read_text(encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    cv2.imwrite("photo.jpg", np.random.default_rng(0).integers(0, 256, (480, 640, 3), dtype=np.uint8))
    names = {}
    for block in page.split("```python\n")[1:]:
        exec(block.split("```")[0], names)
    np.testing.assert_array_equal(names["same"].keypoints, names["poses"].keypoints)
    assert names["scored"].box_scores.tolist() == pytest.approx([0.9])
    assert names["schema"]["type"] == "array"


# Names of the fields that supervision had until 0.28, and has from 0.29 on.
_OLD = ("xy", "class_id", "confidence", "data")
_NEW = ("xy", "class_id", "keypoint_confidence", "detection_confidence", "visible", "data")


def test_openpose_of_other_spellings():
    spelled = [name.replace("left_", "L ").replace("right_", "R ").title() for name in COCO17.keypoints]
    assert spelled[5] == "L Shoulder"
    other = poses(skeleton=Skeleton.from_names("spelled", spelled))
    assert other.to_openpose() == poses().to_openpose()


@pytest.mark.parametrize("names", [_OLD, _NEW])
def test_supervision_old_and_new(monkeypatch, names):
    made = dataclasses.make_dataclass("KeyPoints", names)
    monkeypatch.setitem(sys.modules, "supervision", types.SimpleNamespace(KeyPoints=made))
    visibility = np.linspace(0, 1, 34, dtype=np.float32).reshape(2, 17)
    two = poses(track_ids=np.array([7, 8]), visibility=visibility)
    found = two.to_supervision()
    np.testing.assert_array_equal(found.xy, two.keypoints)
    np.testing.assert_array_equal(getattr(found, names[2]), two.scores)
    assert found.class_id.shape == (2,)
    np.testing.assert_array_equal(found.data["xyxy"], two.boxes)
    np.testing.assert_array_equal(found.data["tracker_id"], [7, 8])
    if names is _NEW:
        np.testing.assert_array_equal(found.detection_confidence, two.box_scores)
        np.testing.assert_array_equal(found.visible, visibility >= 0.5)
        assert found.visible.dtype == bool
        assert poses().to_supervision().visible is None
    assert "tracker_id" not in poses().to_supervision().data


@pytest.mark.filterwarnings("error::FutureWarning", "error::DeprecationWarning")
def test_supervision_itself():
    supervision = pytest.importorskip("supervision", minversion="0.29")
    for count in (0, 1, 3):
        visibility = np.linspace(0, 1, count * 17, dtype=np.float32).reshape(count, 17)
        some = poses(count, track_ids=np.arange(count) - 1, visibility=visibility)
        found = some.to_supervision()
        assert isinstance(found, supervision.KeyPoints)
        assert len(found) == count
    np.testing.assert_array_equal(found.xy, some.keypoints)
    np.testing.assert_array_equal(found.keypoint_confidence, some.scores)
    np.testing.assert_array_equal(found.detection_confidence, some.box_scores)
    np.testing.assert_array_equal(found.visible, visibility >= 0.5)
    sure = some.box_scores > some.box_scores.min()
    people = found[sure]  # all fields are picked together
    np.testing.assert_array_equal(people.data["xyxy"], some.boxes[sure])
    np.testing.assert_array_equal(people.data["tracker_id"], some.track_ids[sure])
    boxes = found.as_detections()  # of people of whom something can be seen
    np.testing.assert_array_equal(boxes.confidence, some.box_scores[visibility.max(1) >= 0.5])
    np.testing.assert_array_equal(boxes.data["tracker_id"], some.track_ids[visibility.max(1) >= 0.5])
    image = np.zeros((100, 200, 3), np.uint8)
    assert supervision.VertexAnnotator().annotate(image.copy(), found).any()


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
    encoded = cv2.imencode(".png", image)[1].tobytes()
    for same in (image[..., 0], np.dstack([image, image[..., 0]]), torch.from_numpy(image), encoded):
        np.testing.assert_array_equal(poses().plot(same), drawn)
    with pytest.raises(TypeError, match=r"image: expected a path, or uint8 pixels .* got float32"):
        poses().plot(image.astype(np.float32))


def test_every_method_has_nothing_to_say_of_nobody(monkeypatch):
    made = dataclasses.make_dataclass("KeyPoints", _NEW)
    monkeypatch.setitem(sys.modules, "supervision", types.SimpleNamespace(KeyPoints=made))
    monkeypatch.setattr(draw_module, "show_image", lambda image: None)
    image = np.full((100, 200, 3), 90, np.uint8)
    tracked = poses(3, track_ids=np.arange(3), visibility=np.ones((3, 17), np.float32))
    for nobody in (tracked[[]], tracked[np.zeros(3, bool)], tracked[np.array([])], tracked[3:], poses(0)):
        arguments = {"to_coco": (1,), "plot": (image,), "show": (image,)}
        found = {
            name: getattr(nobody, name)(*arguments.get(name, ()))
            for name, member in vars(Poses).items()
            if callable(member) and not name.startswith("_")
        }
        assert found["to_dict"]["people"] == found["to_coco"] == found["to_openpose"]["people"] == []
        assert found["numpy"].shape == (0, 17, 3)
        assert len(found["to_supervision"].xy) == 0
        np.testing.assert_array_equal(found["plot"], image)
        assert nobody.person_scores.shape == (0,)
        assert (list(nobody), len(nobody), len(nobody[:])) == ([], 0, 0)
        assert repr(nobody) == "Poses(0 people, coco17, photo 200x100)"


def test_people_can_be_picked_by_lists_of_truth():
    assert len(poses(3)[[True, False, True]]) == 2
    with pytest.raises(IndexError):
        poses(3)[[True, False]]


# --- notebooks and screens -----------------------------------------------------------------------------------------
def test_notebooks_show_the_drawing(tmp_path):
    path = tmp_path / "photo.png"
    image = np.full((100, 200, 3), 90, np.uint8)
    cv2.imwrite(str(path), image)
    two = poses(path=path)
    shown = cv2.imdecode(np.frombuffer(two._repr_jpeg_(), np.uint8), cv2.IMREAD_COLOR)
    assert np.abs(shown.astype(int) - two.plot()).mean() < 4
    path.unlink()
    assert two._repr_jpeg_() is None
    assert poses()._repr_jpeg_() is None
    assert poses(path="https://example.org/a.jpg")._repr_jpeg_() is None  # nothing is fetched for it


def test_large_photos_are_shown_smaller():
    wide = draw_module.encode_preview(np.zeros((300, 5000, 3), np.uint8))
    assert cv2.imdecode(np.frombuffer(wide, np.uint8), cv2.IMREAD_COLOR).shape == (77, 1280, 3)


def test_show_in_a_notebook(monkeypatch):
    shown = []
    display = types.SimpleNamespace(Image=lambda data, format: (format, data), display=shown.append)
    shell = types.SimpleNamespace(kernel=True)
    monkeypatch.setitem(sys.modules, "IPython", types.SimpleNamespace(get_ipython=lambda: shell))
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    assert poses().show(np.zeros((100, 200, 3), np.uint8), boxes=True) is None
    [(kind, data)] = shown
    assert kind == "jpeg"
    assert cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR).any()


def test_show_on_a_screen(monkeypatch, tmp_path):
    image = np.zeros((100, 200, 3), np.uint8)
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    with pytest.raises(RuntimeError, match=r"neither a notebook nor a screen here .* plot\(out=FILE\)"):
        poses().show(image)
    viewer = tmp_path / "xdg-open"
    viewer.write_text("#!/bin/sh\n")
    viewer.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    opened = []
    monkeypatch.setattr("subprocess.Popen", lambda command, **_: opened.append(command))
    poses().show(image)
    [(command, file)] = opened
    assert command == "xdg-open"
    np.testing.assert_array_equal(cv2.imread(file), poses().plot(image))


def test_plot_says_what_is_missing(tmp_path):
    with pytest.raises(ValueError, match="these poses come from no file"):
        poses().plot()
    for call in (poses(path="https://a.org/b.jpg").plot, lambda: poses().plot("https://a.org/b.jpg")):
        with pytest.raises(ValueError, match=r"expected a file or pixels to draw on, got the address https://a"):
            call()
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
