"""``fastpose eval --track``: tracks of a file, and of a model and a tracker, from end to end."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from posetrack_files import head_model, predictions, write_sequence

from fastpose.cli import main
from fastpose.evaluate import read_sequences, read_tracks, score_sequences
from fastpose.metrics import PoseTrackScores


class ByPlace:
    """Gives people on the left half 0, and those on the right 1."""

    def update(self, keypoints: Any, scores: Any, boxes: Any, box_scores: Any, time: float) -> Any:
        return (boxes[:, 0] > 115).astype(np.int64)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two sequences in ``annotations``, what somebody predicted in ``said``, and a model that knows three joints."""
    first = write_sequence(tmp_path, 1, [(60.0, 80.0), (260.0, 80.0)], [(4.0, 0.0), (-4.0, 0.0)])
    second = write_sequence(tmp_path, 2, [(60.0, 80.0)], [(5.0, 0.0)])
    (tmp_path / "said").mkdir()
    exchanged = predictions(first)
    for pose in exchanged["annotations"][4:]:
        pose["track_id"] = 1 - pose["track_id"]
    for name, content in (("1", exchanged), ("2", predictions(second))):
        (tmp_path / "said" / f"{name}.json").write_text(json.dumps(content))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setattr("fastpose.cli.eval_tracking.find_model", lambda name: head_model())
    monkeypatch.setattr("fastpose.cli.eval_tracking.new_tracker", lambda skeleton, sure_box: ByPlace)
    return tmp_path


def fastpose(*words: object) -> Result:
    return CliRunner().invoke(main, ["eval", *map(str, words)])


def rows(output: str) -> dict[str, list[str]]:
    """First cell → the others of the tables' rows; the last one of a name."""
    cells = [[cell.strip() for cell in line.strip("│").split("│")] for line in output.splitlines() if "│" in line]
    return {row[0]: row[1:] for row in cells}


def test_tracks_of_files(folder: Path) -> None:
    said = ("--predictions", "said", "--data", "annotations", "--json", "report.json")
    done = fastpose("--tracking", *said)
    assert done.exit_code == 0, done.output
    assert done.stdout.startswith("said on annotations: tracks of 2 sequences, 12 labelled frames, 18 people")
    table = rows(done.stdout)
    sequences = read_sequences(folder / "annotations")
    scores = score_sequences(sequences, read_tracks(folder / "said", sequences))
    total = PoseTrackScores.join(scores.values())
    expected, people = total.by_joint(), total.people.figures()
    assert (expected["nose"]["switches"], people["switches"]) == (2, 2)
    assert table["nose"][0] == f"{expected['nose']['MOTA']:.4f}" == f"{1 - 2 / 15:.4f}"
    assert table["nose"][5:] == ["2", "0"]
    assert table["right_knee"] == ["-", "0.0000", "-", "-", "-", "0", "0"]  # is nowhere annotated
    assert table["people"][0] == f"{1 - 2 / 18:.4f}"
    assert table["000001_drawn"][5:] == ["0.6667", "2", "0"]  # IDF1: 8 of 12
    assert table["all"][5] == f"{people['IDF1']:.4f}" == f"{14 / 18:.4f}"
    assert f"people: IDF1 {14 / 18:.4f}, IDP {14 / 18:.4f}, IDR {14 / 18:.4f}" in done.stdout
    report = json.loads((folder / "report.json").read_text())
    assert report["figures"] == {name: pytest.approx(value) for name, value in expected["total"].items()} | {
        "IDF1": pytest.approx(14 / 18)
    }
    assert report["joints"]["nose"]["switches"] == 2
    assert report["joints"]["right_knee"]["MOTA"] is None
    assert report["people"]["MOTA"] == pytest.approx(1 - 2 / 18)
    assert report["sequences"]["000002_drawn"]["people"]["IDF1"] == 1.0
    assert (report["model"], report["predictions"], report["absent_joints"]) == (None, "said", [])
    assert fastpose("--track", *said).stdout.splitlines()[3:] == done.stdout.splitlines()[3:]


def test_tracks_of_a_model(folder: Path) -> None:
    words = ("--track", "--data", "annotations", "--images", ".", "--json", "report.json", "--no-flip-test")
    done = fastpose("heads", *words, "--save-predictions", "out")
    assert done.exit_code == 0, done.output
    assert "heads on annotations: tracks of 2 sequences, in annotated boxes, flip test off, 12 labelled" in done.stdout
    table = rows(done.stdout)
    assert table["nose"][0] == table["of 3"][0] == table["people"][0] == table["all"][5] == "1.0000"
    assert "the keypoints lack right_shoulder, left_shoulder" in done.stderr
    assert "the mean of the other 3 joints stands in the row 'of 3'" in done.stderr
    report = json.loads((folder / "report.json").read_text())
    assert (report["model"], report["boxes"], report["flip_test"]) == ("heads", "annotated boxes", False)
    assert report["settings"]["fps"] == 25.0
    assert len(report["absent_joints"]) == 12
    # What is written says the same when it is read.
    assert sorted(file.name for file in (folder / "out").iterdir()) == ["000001_drawn.json", "000002_drawn.json"]
    again = fastpose("--track", "--data", "annotations", "--predictions", "out", "--json", "again.json")
    assert again.exit_code == 0, again.output
    other = json.loads((folder / "again.json").read_text())
    assert other["figures"] == pytest.approx(report["figures"], nan_ok=True)
    assert other["people"] == pytest.approx(report["people"])


def test_boxes_that_are_found(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A detector that finds the left half of each frame; and the same boxes in a file."""
    monkeypatch.setattr(
        "fastpose.cli.eval_run.find_detector", lambda name, **options: lambda photo: [[15, 35, 105, 125, 0.8]]
    )
    words = ("--track", "--images", ".", "--json", "report.json")
    done = fastpose("heads", *words, "--data", "annotations", "--detector", "half")
    assert done.exit_code == 0, done.output
    assert "in boxes of half, flip test on" in done.stdout
    report = json.loads((folder / "report.json").read_text())
    assert 0 < report["people"]["recall"] < 1
    assert report["people"]["found"] == 12
    content = json.loads((folder / "annotations" / "000001_drawn.json").read_text())
    (folder / "one.json").write_text(json.dumps(content))
    found = [
        {"image_id": image["id"], "category_id": 1, "bbox": [15, 35, 90, 90], "score": 0.8}
        for image in content["images"]
    ]
    (folder / "boxes.json").write_text(json.dumps(found))
    done = fastpose("heads", *words, "--data", "one.json", "--detections", "boxes.json")
    assert done.exit_code == 0, done.output
    assert "in boxes of boxes.json" in done.stdout
    other = json.loads((folder / "report.json").read_text())
    assert other["people"] == pytest.approx(report["sequences"]["000001_drawn"]["people"])
    monkeypatch.setattr("fastpose.cli.eval_run.find_detector", lambda name, **options: lambda photo: [])
    done = fastpose("heads", *words, "--data", "annotations", "--detector", "blind")
    assert done.exit_code == 0, done.output
    assert rows(done.stdout)["people"] == ["0.0000", "-", "-", "0.0000", "-", "0", "0"]


def test_what_is_left_out_is_said(folder: Path) -> None:
    said = json.loads((folder / "said" / "2.json").read_text())
    said["images"].pop()
    said["annotations"].pop()
    del said["annotations"][0]["scores"]
    (folder / "said" / "2.json").write_text(json.dumps(said))
    done = fastpose("--track", "--predictions", "said", "--data", "annotations")
    assert done.exit_code == 0, done.output
    assert "left out: frame that the predictions do not list: 1" in done.stderr
    assert "1 poses state no scores of their keypoints" in done.stderr


def test_a_photo_that_cannot_be_read(folder: Path) -> None:
    (folder / "images" / "val" / "000002_drawn" / "000003.png").write_bytes(b"no photo")
    done = fastpose("heads", "--track", "--data", "annotations", "--images", ".", "--json", "report.json")
    assert done.exit_code == 0, done.output
    assert done.stderr.count("000003.png") == 1
    report = json.loads((folder / "report.json").read_text())
    assert report["sequences"]["000002_drawn"]["people"]["misses"] == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--predictions", "said", "--metric", "pck"), "--metric does not go with --track"),
        (("--predictions", "said", "--bootstrap", 9), "--bootstrap does not go with --track"),
        (("--detector", "half", "--boxes-only"), "--boxes-only does not go with --track"),
        (("--predictions", "said", "--fps", 9), "--fps goes with MODEL"),
        (("--predictions", "said", "--format", "coco"), "sequences of PoseTrack18, got --format coco"),
        (("--save-predictions", "out.json"), "tracks are written to PoseTrack's folder; expected no suffix"),
    ],
)
def test_options_that_do_not_go_together(folder: Path, words: tuple[object, ...], said: str) -> None:
    done = fastpose("--track", "--data", "annotations", *words)
    assert done.exit_code == 2
    assert said in " ".join(done.stderr.split())


@pytest.mark.parametrize("words", [("--fps", 9), ("--keypoint-threshold", 0.1)])
def test_options_of_tracks_alone(folder: Path, words: tuple[object, ...]) -> None:
    done = fastpose("--data", "annotations", *words)
    assert done.exit_code == 2
    assert f"{words[0]} goes with --track" in done.stderr


def test_an_error_is_one_line(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "said" / "2.json").unlink()
    with pytest.raises(SystemExit) as stop:
        main(["eval", "--track", "--predictions", "said", "--data", "annotations"])
    assert stop.value.code == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "said: nothing is said of sequence 000002_drawn" in line


def test_the_tracker_of_the_package(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    monkeypatch.chdir(folder)
    monkeypatch.setattr("fastpose.cli.eval_tracking.find_model", lambda name: head_model())
    done = fastpose("heads", "--track", "--data", "annotations", "--images", ".")
    assert done.exit_code == 0, done.output
    assert rows(done.stdout)["people"] == ["1.0000", "1.0000", "1.0000", "1.0000", "-", "0", "0"]
