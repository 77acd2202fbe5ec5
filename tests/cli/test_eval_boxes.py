"""``fastpose eval`` with boxes that are found: by a detector, or before and in a file."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from click.testing import CliRunner, Result

from fastpose.cli import main
from fastpose.detection import BatchDetector, Detections
from fastpose.metrics import box_ap

FOUND = {
    1: [([10, 10, 60, 80], 0.9), ([0, 0, 20, 20], 0.3)],
    2: [([12, 12, 58, 78], 0.8)],
    3: [([30, 30, 60, 60], 0.6), ([5, 5, 20, 40], 0.2)],  # nobody is there
}


class Known(BatchDetector):
    """Finds what `FOUND` says of the number in a photo's first pixel."""

    threshold = 0.5

    def submit(self, images: Sequence[Any], threshold: float | None = None) -> Any:
        rows = [FOUND.get(int(image[0, 0, 0]), []) for image in images]
        found = [
            Detections(np.float32([box for box, _ in row]).reshape(-1, 4), [score for _, score in row]) for row in rows
        ]
        least = self.threshold if threshold is None else threshold
        kept = [one[one.scores >= least] for one in found if one.scores is not None]
        return type("Pending", (), {"read": lambda self: kept})()


@pytest.fixture
def folder(tmp_path: Path, draw_set: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three photos, ``val.json`` with people on the first two, ``nobody.json`` with nobody, ``boxes.json``."""
    draw_set(tmp_path, "val", 3)
    content = json.loads((tmp_path / "val.json").read_text())
    del content["annotations"][2]
    for image in content["images"]:
        path = str(tmp_path / image["file_name"])
        picture = cv2.imread(path)
        picture[0, 0] = image["id"]
        cv2.imwrite(path, picture)
    boxes = [
        {"image_id": photo, "category_id": 1, "bbox": [x1, y1, x2 - x1, y2 - y1], "score": score}
        for photo, rows in FOUND.items()
        for (x1, y1, x2, y2), score in rows
    ]
    nobody = content | {"images": content["images"][2:], "annotations": []}
    photos = {key: content[key] for key in ("images", "categories")}
    for name, value in (("val", content), ("nobody", nobody), ("photos", photos), ("boxes", boxes)):
        (tmp_path / f"{name}.json").write_text(json.dumps(value))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("fastpose.cli.eval_run.find_detector", lambda source, **options: Known())
    return tmp_path


def fastpose(*words: object) -> Result:
    return CliRunner().invoke(main, ["eval", *map(str, words)])


def report(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "report.json").read_text())


def test_boxes_and_the_keypoints_in_them(folder: Path) -> None:
    done = fastpose("--detector", "known", "--data", "val.json", "--json", "report.json", "--bootstrap", 20)
    assert done.exit_code == 0, done.output
    assert "known on val.json: boxes, 5 on 3 photos, false ones from a score of 0.5 on" in done.stdout
    assert "on val.json: coco_ap, 5 people, flip test on" in done.stdout
    written = report(folder)
    boxes, figures = written["boxes"], written["boxes"]["figures"]
    expected = box_ap(folder / "val.json", folder / "boxes.json")
    assert 0.1 < expected["AP"] < 0.9
    assert figures.pop("false_boxes") == 1.0  # of photo 3; the one of 0.2 is none
    assert {name: -1.0 if value is None else value for name, value in figures.items()} == pytest.approx(expected)
    assert (boxes["photos"], boxes["photos_without_people"], boxes["people"], boxes["found"]) == (3, 1, 2, 5)
    assert boxes["threshold"] == 0.5
    assert set(boxes["intervals"]) == {*figures, "false_boxes"}
    assert written["settings"]["detector"] == "known"
    assert written["people"] == written["results"] == 5
    # With the annotated people's own boxes for detections the poses are those of the same boxes in a file.
    done = fastpose("--detections", "boxes.json", "--data", "val.json", "--json", "file.json")
    assert done.exit_code == 0, done.output
    other = json.loads((folder / "file.json").read_text())
    assert other["figures"] == pytest.approx(written["figures"])
    assert other["boxes"]["figures"] == pytest.approx(figures)
    assert "boxes.json on val.json: boxes, 5 on 3 photos" in done.stdout


def test_keypoints_of_the_best_boxes_only(folder: Path) -> None:
    done = fastpose("--detector", "known", "--data", "val.json", "--max-people", 1)
    assert "boxes, 5 on 3 photos" in done.stdout
    assert "coco_ap, 3 people" in done.stdout


def test_boxes_only(folder: Path) -> None:
    for source in ("--detector", "known"), ("--detections", "boxes.json"):
        done = fastpose(*source, "--boxes-only", "--data", "val.json", "--json", "report.json")
        assert done.exit_code == 0, done.output
        assert "coco_ap" not in done.output
        written = report(folder)
        assert written["boxes"]["figures"]["AP"] == pytest.approx(
            box_ap(folder / "val.json", folder / "boxes.json")["AP"]
        )
        assert (written["model"], written["metric"], written["figures"]) == (None, None, {})
        assert ("false_boxes" in written["boxes"]["figures"]) == (source[0] == "--detector")
    done = fastpose("--detections", "boxes.json", "--boxes-only", "--data", "val.json", "--detect-threshold", 0.1)
    assert "false_boxes │ 2.0000" in done.stdout


def test_boxes_of_a_file_without_keypoints(folder: Path) -> None:
    """As COCO's instances files are: 80 categories, no keypoints."""
    content = json.loads((folder / "val.json").read_text())
    for person in content["annotations"]:
        del person["keypoints"]
    chair = content["annotations"][0] | {"id": 9, "category_id": 62, "image_id": 3}
    content["annotations"].append(chair)
    content["categories"] = [{"id": 1, "name": "person"}, {"id": 62, "name": "chair"}]
    (folder / "instances.json").write_text(json.dumps(content))
    expected = box_ap(folder / "val.json", folder / "boxes.json")["AP"]
    for source in ("--detector", "known"), ("--detections", "boxes.json"):
        done = fastpose(*source, "--boxes-only", "--data", "instances.json", "--json", "report.json")
        assert done.exit_code == 0, done.output
        assert report(folder)["boxes"]["figures"]["AP"] == pytest.approx(expected)


def test_photos_without_anybody(folder: Path) -> None:
    done = fastpose("--detector", "known", "--data", "nobody.json", "--json", "report.json")
    assert done.exit_code == 0, done.output
    assert "false_boxes │ 1.0000" in done.stdout
    assert "nobody.json: nobody is annotated, so no keypoints are measured" in done.stderr
    boxes = report(folder)["boxes"]
    assert {name for name, value in boxes["figures"].items() if value is not None} == {"false_boxes"}
    done = fastpose("--detector", "known", "--data", "nobody.json", "--detect-threshold", 0.1)
    assert "false_boxes │ 2.0000" in done.stdout


def test_a_list_of_photos_gets_predictions(folder: Path) -> None:
    done = fastpose("--detector", "known", "--data", "photos.json")
    assert done.exit_code == 2
    assert "photos.json does not say who is on the photos" in done.stderr
    done = fastpose("--detector", "known", "--data", "photos.json", "--save-predictions", "poses.json")
    assert done.exit_code == 0, done.output
    assert "5 poses of 5 boxes" in done.stdout
    assert "boxes are not measured" in done.stderr
    assert len(json.loads((folder / "poses.json").read_text())) == 5


def test_nobody_found(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastpose.cli.eval_run.find_detector", lambda source, **options: lambda photo: [])
    done = fastpose("--detector", "blind", "--data", "val.json", "--json", "report.json")
    assert done.exit_code == 0, done.output
    assert "no box was found, so no keypoints are measured" in done.stderr
    assert report(folder)["boxes"]["figures"]["AP"] == 0.0
    assert report(folder)["boxes"]["figures"]["false_boxes"] == 0.0


def test_a_photo_that_cannot_be_read_is_named_once(folder: Path) -> None:
    (folder / "val0.png").write_bytes(b"no photo")
    done = fastpose("--detector", "known", "--data", "val.json", "--json", "report.json")
    assert done.exit_code == 0, done.output
    assert done.stderr.count("val0.png") == 1
    assert len(report(folder)["failed_photos"]) == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--boxes-only",), "--boxes-only goes with --detector or --detections"),
        (("--detect-threshold", 0.5), "--detect-threshold goes with --detector or --detections"),
        (("--person-class", 0, "--detections", "boxes.json"), "--person-class goes with --detector"),
        (("--detector", "known", "--detections", "boxes.json"), "expected either --detector or --detections"),
        (("resnet18_slim", "--detector", "known", "--boxes-only"), "expected either MODEL or --boxes-only"),
        (("--detector", "known", "--boxes-only", "--no-flip-test"), "--flip-test is about keypoints"),
        (("--detections", "boxes.json", "--max-people", 3), "--max-people goes with --detector"),
        (("--detector", "known", "--metric", "pck"), "--detector goes with average precision"),
        (("--detector", "known", "--predictions", "boxes.json"), "--detector goes with MODEL"),
    ],
)
def test_options_that_do_not_go_together(folder: Path, words: tuple[object, ...], said: str) -> None:
    done = fastpose(*words, "--data", "val.json")
    assert done.exit_code == 2
    assert said in done.stderr


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (lambda photo: None, "detector: boxes: got None"),
        (lambda photo: [[0, 0, 5, 5, 7.0]], "detector: scores: row 0 is 7"),
        (lambda photo: [][0], "detector: IndexError"),
    ],
)
def test_a_detector_that_fails_is_one_error(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], found: Any, said: str
) -> None:
    monkeypatch.setattr("fastpose.cli.eval_run.find_detector", lambda source, **options: found)
    with pytest.raises(SystemExit) as stop:
        main(["eval", "--detector", "bad", "--data", "val.json"])
    assert stop.value.code in (1, 2)
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert said in line
