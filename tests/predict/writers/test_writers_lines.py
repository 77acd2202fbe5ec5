"""JSON Lines and CSV: streams that are whole up to their last line, whatever happens."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import warnings
from importlib import resources
from pathlib import Path

import numpy as np
import pytest

import fastpose
from fastpose.predict import Poses, open_writer, read_jsonl
from fastpose.predict.writers.long_csv import CSV_COLUMNS
from fastpose.skeletons import COCO17, LSP14, Skeleton


def same(read: Poses, written: Poses) -> None:
    np.testing.assert_allclose(read.keypoints, written.keypoints, atol=0.0051)
    np.testing.assert_allclose(read.scores, written.scores, atol=0.000051)
    np.testing.assert_allclose(read.boxes, written.boxes, atol=0.0051)
    np.testing.assert_allclose(read.box_scores, written.box_scores, atol=0.000051)
    for name in ("keypoints", "scores", "boxes", "box_scores"):
        assert getattr(read, name).dtype == getattr(written, name).dtype
        assert getattr(read, name).shape == getattr(written, name).shape
    for name in ("track_ids", "visibility"):
        assert (getattr(read, name) is None) == (getattr(written, name) is None or len(written) == 0)
        if getattr(read, name) is not None:
            np.testing.assert_allclose(getattr(read, name), getattr(written, name), atol=0.000051)
    for name in ("image_size", "skeleton", "path", "dropped", "error", "frame", "time"):
        assert getattr(read, name) == getattr(written, name)


# ---- Poses.from_dict
def test_from_dict_is_the_inverse_of_to_dict(make_frame):
    visible = np.linspace(0, 1, 34, dtype=np.float32).reshape(2, 17)
    frames = [
        make_frame(0),
        make_frame(1, [5, -1], visibility=visible),
        make_frame(2, 0),
        make_frame(3, [], error="cut.jpg: is empty", dropped=("row 0 is not finite",), image_size=(0, 0)),
        make_frame(4, 1, LSP14, frame=None, time=None),
        make_frame(5, path="https://example.org/a.jpg"),
        make_frame(6, path=None, skeleton=Skeleton.from_names("mine", ["Left Eye", "Right Eye"])),
    ]
    for written in frames:
        entry = json.loads(json.dumps(written.to_dict()))
        read = Poses.from_dict(entry)
        same(read, written)
        again = read.to_dict()
        for person, before in zip(again["people"], entry["people"], strict=True):
            assert person.pop("score") == pytest.approx(before.pop("score"), abs=2e-4)  # of scores that are rounded
        assert again == entry


def test_a_skeleton_of_a_known_name_with_other_points_is_not_the_known_one(make_frame):
    odd = Skeleton.from_names("coco17", ["a", "b"])
    assert Poses.from_dict(make_frame(0, skeleton=odd).to_dict()).skeleton.keypoints == ("a", "b")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 2}, "expected version 1, got 2"),
        ({"people": 3}, "people: expected a list of objects, got 3"),
        ({"people": [5]}, "people: expected a list of objects"),
        ({"people": [{}]}, r"people\[0\]: keypoints: expected 17 x 3 finite numbers, got None"),
        ({"keypoint_names": "nose"}, "keypoint_names: expected a list of texts, got 'nose'"),
        ({"keypoint_names": ["nose"]}, r"people\[0\]: keypoints: expected 1 x 3 finite numbers"),
        ({"keypoint_names": []}, "keypoints is empty"),
        ({"skeleton": None}, "skeleton: expected a name, got None"),
        ({"image_size": [1]}, r"image_size: expected \[height, width\] in pixels, got \[1\]"),
        ({"file": 7}, "file: expected a name or null, got 7"),
        ({"frame": -1}, "frame: expected a whole number from 0, got -1"),
        ({"time": "now"}, "time: expected seconds, got 'now'"),
        ({"dropped": [1]}, "dropped: expected a list of texts"),
        ({"error": 1}, "error: expected a text, got 1"),
    ],
)
def test_what_is_no_such_data_is_refused(make_frame, change, message):
    with pytest.raises(ValueError, match=message) as error:
        Poses.from_dict(make_frame(0).to_dict() | change, name="a.jsonl: line 3")
    assert str(error.value).startswith("a.jsonl: line 3: ")


def test_people_that_differ_are_refused(make_frame):
    for key, value, message in (
        ("box", [1, 2, 3], "box: expected 4 finite numbers"),
        ("box_score", None, "box_score: expected a number, got None"),
        ("box_score", 1e300, "box_score: expected a number, got 1e"),
        ("keypoints", [[1, 2, 3], [4]], "keypoints: expected 17 x 3 finite numbers"),
        ("track_id", 1.5, "track_id: expected a number, got 1.5"),
    ):
        entry = make_frame(0, [1, 2]).to_dict()
        entry["people"][1][key] = value
        with pytest.raises(ValueError, match=rf"^poses: people\[1\]: {message}"):
            Poses.from_dict(entry)
    del entry["people"][1]["track_id"]
    with pytest.raises(ValueError, match="track_id: expected of everybody or of nobody, got 1 of 2"):
        Poses.from_dict(entry)
    with pytest.raises(ValueError, match="boxes alone are no poses"):
        Poses.from_dict({"version": 1, "people": [], "file": None, "image_size": [1, 1]})
    with pytest.raises(ValueError, match="expected an object, got list"):
        Poses.from_dict([])


# ---- JSON Lines
def test_lines_are_frames_and_come_back(make_frame, tmp_path):
    frames = [make_frame(0, [1, 2]), make_frame(1, []), make_frame(2, [2], path=Path("bad\udcff.mp4"))]
    file = tmp_path / "new" / "a.jsonl"
    with open_writer(file, skeleton=COCO17) as writer:
        for number, frame in enumerate(frames, 1):
            writer.write(frame)
            assert file.read_bytes().count(b"\n") == number  # at once
    for read, written in zip(read_jsonl(file), frames, strict=True):
        same(read, written)
    writer.close()  # again


def test_a_line_fits_the_schema(make_frame, tmp_path):
    jsonschema = pytest.importorskip("jsonschema")
    schema = json.loads((resources.files("fastpose.predict") / "poses.schema.json").read_text())
    line_schema = {**schema, "$ref": "#/$defs/photo"}
    del line_schema["type"], line_schema["items"]
    visible = np.ones((2, 17), np.float32)
    with open_writer(tmp_path / "a.jsonl", skeleton=COCO17) as writer:
        for frame in (make_frame(0), make_frame(1, [3, 4], visibility=visible), make_frame(2, 0, error="x")):
            writer.write(frame)
    for line in (tmp_path / "a.jsonl").read_text().splitlines():
        jsonschema.validate(json.loads(line), line_schema, jsonschema.Draft202012Validator)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**json.loads(line), "time": "x"}, line_schema, jsonschema.Draft202012Validator)


def test_a_cut_last_line_ends_the_frames_and_is_said(make_frame, tmp_path):
    file = tmp_path / "a.ndjson"
    with open_writer(file, skeleton=COCO17) as writer:
        for number in range(3):
            writer.write(make_frame(number))
    whole = file.read_bytes()
    file.write_bytes(whole[:-1])  # nothing but the line break is missing
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert [poses.frame for poses in read_jsonl(file)] == [0, 1, 2]
    for cut in (2, 50, 400):
        file.write_bytes(whole[:-cut])
        with pytest.warns(UserWarning, match=r"a.ndjson: line 3 is cut short: the frames before it were read"):
            assert [poses.frame for poses in read_jsonl(file)] == [0, 1]
    file.write_bytes(whole.replace(b'"frame": 1', b'"frame": }', 1))
    with pytest.raises(ValueError, match=r"a.ndjson: line 2: not valid JSON"):
        list(read_jsonl(file))
    file.write_bytes(whole.replace(b'"frame": 1', b'"frame": []', 1))
    with pytest.raises(ValueError, match=r"a.ndjson: line 2: frame: expected a whole number"):
        list(read_jsonl(file))
    with pytest.raises(OSError, match="No such file"):
        list(read_jsonl(tmp_path / "none.jsonl"))


@pytest.mark.skipif(os.name != "posix", reason="signals as POSIX has them")
@pytest.mark.parametrize("name", ["a.jsonl", "a.csv"])
def test_a_kill_loses_at_most_one_frame(tmp_path, name):
    script = (
        "import sys, numpy as np\n"
        "from fastpose.predict import Poses, open_writer\n"
        "from fastpose.skeletons import COCO17\n"
        "one = np.ones((1, 17), np.float32)\n"
        "writer = open_writer(sys.argv[1], skeleton=COCO17)\n"
        "for frame in range(10**9):\n"
        "    writer.write(Poses(np.ones((1, 17, 2), np.float32), one, one[:, :4], one[:, 0], (9, 9), COCO17,\n"
        "                       frame=frame))\n"
        "    print(frame, flush=True)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path / name)],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(Path(fastpose.__file__).parents[1])},
    )
    for _ in range(50):
        process.stdout.readline()
    process.send_signal(signal.SIGKILL)
    said = 50 + len(process.stdout.read().split())  # frames that were written, as the process said
    process.wait()
    process.stdout.close()
    if name == "a.jsonl":
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            frames = [poses.frame for poses in read_jsonl(tmp_path / name)]
    else:
        with (tmp_path / name).open(newline="") as file:
            rows = [row for row in csv.DictReader(file) if row["score"]]
        frames = sorted({int(row["frame"]) for row in rows})
    assert frames == list(range(len(frames)))
    assert len(frames) in (said, said + 1)


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv"])
def test_a_full_disk_leaves_whole_frames_and_names_the_file(make_frame, tmp_path, file_limit, name):
    with open_writer(tmp_path / name, skeleton=COCO17) as writer:
        for number in range(3):
            writer.write(make_frame(number))
        before = (tmp_path / name).read_bytes()
        with file_limit(len(before) + 100), pytest.raises(OSError, match="too large") as error:
            writer.write(make_frame(3))
        assert error.value.filename == str(tmp_path / name)
        assert (tmp_path / name).read_bytes() == before
        writer.write(make_frame(4))  # there is place again
    assert (tmp_path / name).read_bytes().startswith(before)
    if name == "a.jsonl":
        assert [poses.frame for poses in read_jsonl(tmp_path / name)] == [0, 1, 2, 4]


# ---- CSV
def test_csv_is_a_row_a_keypoint(make_frame, tmp_path):
    visible = np.linspace(0, 1, 17, dtype=np.float32)[None]
    frames = [
        make_frame(0, [7, 8]),
        make_frame(1, []),
        make_frame(2, [8], visibility=visible),
        make_frame(3, 1, frame=None, time=None, path=Path('odd, "name"\n.jpg')),
    ]
    with open_writer(tmp_path / "a.csv", skeleton=COCO17) as writer:
        assert (tmp_path / "a.csv").read_text() == ",".join(CSV_COLUMNS) + "\n"  # always
        for frame in frames:
            writer.write(frame)
    with (tmp_path / "a.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == CSV_COLUMNS
    assert len(rows) == 4 * 17
    first = rows[17 + 5]  # the second person's left shoulder
    assert {key: first[key] for key in CSV_COLUMNS[:6]} == {
        "file": "clip.mp4",
        "frame": "0",
        "time": "0.0",
        "person": "1",
        "track_id": "8",
        "keypoint": "left_shoulder",
    }
    values = [float(first[key]) for key in ("x", "y", "score")]
    np.testing.assert_allclose(values, frames[0].numpy()[1, 5], atol=0.0051)
    assert first["visibility"] == ""
    assert rows[34]["frame"] == "2"
    assert float(rows[50]["visibility"]) == 1
    assert (rows[-1]["frame"], rows[-1]["time"], rows[-1]["track_id"]) == ("", "", "")
    assert rows[-1]["file"] == 'odd, "name"\\n.jpg'


# ---- all
def test_the_name_tells_the_form(make_frame, tmp_path):
    with open_writer(tmp_path / "a.csv", "jsonl", skeleton=COCO17) as writer:
        writer.write(make_frame(0))
    assert len(list(read_jsonl(tmp_path / "a.csv"))) == 1
    for name in ("a.txt", "a", "a.json"):
        with pytest.raises(ValueError, match=rf"{name}: the name tells no format, expected jsonl \(.jsonl .ndjson\), "):
            open_writer(tmp_path / name, skeleton=COCO17)
    with pytest.raises(ValueError, match=r"form: expected one of jsonl, csv.*got 'bvh'"):
        open_writer(tmp_path / "a.csv", "bvh", skeleton=COCO17)
    with pytest.raises(IsADirectoryError) as error:
        open_writer(tmp_path, "csv", skeleton=COCO17)
    assert error.value.filename == str(tmp_path)


def test_other_keypoints_and_what_is_not_finite_are_refused(make_frame, tmp_path):
    with open_writer(tmp_path / "a.jsonl", skeleton=COCO17) as writer:
        with pytest.raises(ValueError, match=r"a.jsonl: frame 3 has the keypoints of lsp14, expected those of coco17"):
            writer.write(make_frame(3, skeleton=LSP14))
        for name in ("keypoints", "scores"):
            frame = make_frame(4)
            getattr(frame, name)[1, 3] = np.nan
            with pytest.raises(ValueError, match=r"a.jsonl: frame 4 has keypoints or scores that are not finite"):
                writer.write(frame)
    assert (tmp_path / "a.jsonl").read_bytes() == b""
