"""The people that a detector finds on the photos of a data set, and what they are measured by."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from fastpose.codecs import build_codec
from fastpose.data.readers import read_annotations, read_photos
from fastpose.data.records import PoseRecords
from fastpose.data.synthetic import synthetic_records
from fastpose.detection import BatchDetector, Detections
from fastpose.detection.batch import Photo
from fastpose.evaluate import (
    Evaluator,
    Predictions,
    best_of_photos,
    box_results,
    detect_people,
    read_annotated_boxes,
    truth_of_boxes,
)
from fastpose.metrics import score_boxes
from fastpose.skeletons import COCO17
from fastpose.spec import PoseSpec


class Pending:
    def __init__(self, found: list[Detections]) -> None:
        self.found = found

    def read(self) -> list[Detections]:
        return self.found


class Reader(BatchDetector):
    """Finds what the first pixel of a photo says: the number of boxes, their scores falling from 0.9 to 0.05."""

    threshold = 0.5

    def __init__(self) -> None:
        self.calls: list[tuple[int, float | None]] = []

    def submit(self, images: Sequence[Photo], threshold: float | None = None) -> Pending:
        self.calls.append((len(images), threshold))
        least = self.threshold if threshold is None else threshold
        found = []
        for image in images:
            count = int(image[0, 0, 0])
            scores = np.linspace(0.9, 0.05, count) if count > 1 else np.full(count, 0.9)
            boxes = np.tile([10.0, 10.0, 40.0, 60.0], (count, 1)) + np.arange(count)[:, None]
            found.append(Detections(boxes, scores)[scores >= least])
        return Pending(found)


def photos(folder: Path, counts: Sequence[int | None]) -> PoseRecords:
    """Photos for `Reader`, of which a None is no photo; nobody is annotated."""
    for number, count in enumerate(counts):
        picture = np.zeros((80, 100, 3), np.uint8)
        picture[0, 0] = count or 0
        cv2.imwrite(str(folder / f"{number}.png"), picture)
        if count is None:
            (folder / f"{number}.png").write_bytes(b"no photo")
    images = [{"id": 10 + n, "file_name": f"{n}.png", "width": 100, "height": 80} for n in range(len(counts))]
    (folder / "truth.json").write_text(json.dumps({"images": images, "annotations": []}))
    return read_photos(folder / "truth.json")


def test_boxes_come_photo_by_photo_and_unsure_ones_too(tmp_path: Path) -> None:
    people, detector, steps = photos(tmp_path, [2, 0, 3, 1, 0]), Reader(), []
    found = detect_people(detector, people, batch_size=2, on_photos=steps.append)
    assert detector.calls == [(2, 0.01), (2, 0.01), (1, 0.01)]
    assert steps == [2, 2, 1]
    assert found.records.image_index.tolist() == [0, 0, 2, 2, 2, 3]
    assert found.records.scores.tolist() == pytest.approx([0.9, 0.05, 0.9, 0.475, 0.05, 0.9])
    assert (found.failed, found.records.skipped) == ([], {})
    results = box_results(found.records)
    assert results.image_ids.tolist() == [10, 10, 12, 12, 12, 13]
    assert results.boxes_xywh[1].tolist() == [11, 11, 30, 50]
    assert len(detect_people(detector, people, least=0.5).records) == 3
    assert len(detect_people(detector, people, most=1).records) == 3


def test_the_best_boxes_of_each_photo() -> None:
    people = synthetic_records(3, size=(64, 64))
    found = people.with_boxes([2, 0, 2, 2, 0], np.tile([0, 0, 9, 9], (5, 1)), [0.1, 0.5, 0.9, 0.4, 0.6])
    assert best_of_photos(found, 2).ids.tolist() == [1, 2, 3, 4]
    assert best_of_photos(found, 1).ids.tolist() == [2, 4]
    assert len(best_of_photos(people.with_boxes([], [], []), 1)) == 0


def test_false_boxes_of_photos_without_anybody(tmp_path: Path) -> None:
    people, detector = photos(tmp_path, [2, 0, 3, 1, 0]), Reader()
    truth = read_annotated_boxes(tmp_path / "truth.json", people)
    found = detect_people(detector, people).records
    figures = score_boxes(truth, box_results(found), detector.threshold).figures(None)
    assert figures.pop("false_boxes") == 3 / 5
    assert set(figures.values()) == {-1.0}


def test_photos_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    found = detect_people(Reader(), photos(tmp_path, [1, None, 1]), batch_size=1)
    assert found.records.image_index.tolist() == [0, 2]
    (reason,) = found.failed
    assert "1.png" in reason
    with pytest.raises(ValueError, match=r"no photo can be read: .*0\.png"):
        detect_people(Reader(), photos(tmp_path, [None, None]))


def test_processes_share_the_photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each looks at its own, and all get all boxes; one has nothing to do."""
    people = photos(tmp_path, [2, 3, None])
    alone, parts = detect_people(Reader(), people), []

    class One:
        rank, size = 0, 4

        def gather(self, part: Any) -> list[Any]:
            parts.append(part)
            return parts

    monkeypatch.setattr("fastpose.evaluate.boxes.World", One)
    seen = []
    for One.rank in range(4):
        detector = Reader()
        together = detect_people(detector, people)
        seen.append(sum(count for count, _ in detector.calls))
    assert seen == [1, 1, 0, 0]
    assert together.records.boxes.tolist() == alone.records.boxes.tolist()
    assert together.records.image_index.tolist() == alone.records.image_index.tolist()
    assert together.failed == alone.failed


def test_boxes_of_a_callable_are_cut_sorted_and_counted(tmp_path: Path) -> None:
    rows = [
        [-5, -5, 50, 50, 0.2, 0], [20, 20, 200, 200, 0.7, 0], [30, 30, 30, 50, 0.9, 0], [40, 40, 20, 60, 0.9, 0],
        [float("nan"), 0, 10, 10, 0.9, 0], [0, 0, 10, 10, 0.9, 3],
    ]  # fmt: skip
    people = photos(tmp_path, [0])
    found = detect_people(lambda photo: rows, people).records
    assert found.boxes.tolist() == [[20, 20, 100, 80], [0, 0, 50, 50]]
    assert found.skipped == {"unusable box": 3}
    assert detect_people(lambda photo: rows, people, person_class=3).records.boxes.tolist() == [[0, 0, 10, 10]]
    assert detect_people(lambda photo: [[0, 0, 10, 10]], people).records.scores.tolist() == [1.0]
    unsure = detect_people(lambda photo: [[0, 0, 10, 10, float("nan")], [0, 0, 10, 10, 0.5]], people).records
    assert unsure.boxes.tolist() == [[0, 0, 10, 10]]
    assert unsure.skipped == {"unusable box": 1}
    with pytest.raises(TypeError, match="detector: boxes: got None"):
        detect_people(lambda photo: None, people)


def person(number: int, photo: int, box: Sequence[float], **more: Any) -> dict[str, Any]:
    points = np.c_[np.random.default_rng(number).uniform(10, 60, (17, 2)), np.full(17, 2)].round(2).ravel().tolist()
    entry = {"id": number, "image_id": photo, "category_id": 1, "bbox": list(box), "area": box[2] * box[3] * 0.6}
    return entry | {"iscrowd": 0, "keypoints": points, "num_keypoints": 17} | more


def test_the_truth_of_boxes_has_people_without_keypoints_and_crowds(tmp_path: Path) -> None:
    photos(tmp_path, [1, 1])
    content = json.loads((tmp_path / "truth.json").read_text())
    chair = {"id": 4, "image_id": 11, "category_id": 62, "bbox": [0, 0, 9, 9], "area": 81}
    content["categories"] = [
        {"id": 1, "name": "person", "keypoints": list(COCO17.keypoints)}, {"id": 62, "name": "chair"}
    ]  # fmt: skip
    content["annotations"] = [
        person(1, 10, (10, 10, 30, 50)), person(2, 10, (0, 0, 9, 9), keypoints=[0] * 51, num_keypoints=0),
        person(3, 11, (0, 0, 90, 70), iscrowd=1), chair,
    ]  # fmt: skip
    (tmp_path / "truth.json").write_text(json.dumps(content))
    people = read_annotations(tmp_path / "truth.json")
    truth = read_annotated_boxes(tmp_path / "truth.json", people)
    assert truth.ids.tolist() == [1, 2, 3]
    assert truth.ignore.tolist() == truth.crowd.tolist() == [False, False, True]
    chairs = read_annotated_boxes(tmp_path / "truth.json", people, "chair")
    assert chairs.ids.tolist() == [4]
    assert truth_of_boxes(people).ids.tolist() == [1]  # what other formats say
    # Boxes alone, as COCO's instances files have them.
    for entry in content["annotations"]:
        entry.pop("keypoints", None)
    del content["categories"][0]["keypoints"]
    (tmp_path / "boxes.json").write_text(json.dumps(content))
    found = detect_people(Reader(), read_photos(tmp_path / "boxes.json")).records
    boxes = read_annotated_boxes(tmp_path / "boxes.json", found)
    assert boxes.boxes_xywh.tolist() == truth.boxes_xywh.tolist()
    figures = score_boxes(boxes, box_results(found)).figures(None)
    assert (figures["AP"], figures["AR@100"]) == (pytest.approx(51 / 101), 0.5)


def test_a_list_of_photos_does_not_say_that_nobody_is_there(tmp_path: Path) -> None:
    people = photos(tmp_path, [0])
    content = json.loads((tmp_path / "truth.json").read_text())
    del content["annotations"]
    (tmp_path / "info.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"info\.json does not say who is on the photos"):
        read_annotated_boxes(tmp_path / "info.json", people)


def test_poses_are_measured_on_the_boxes_against_the_annotated_people() -> None:
    """Without an annotation file: the truth is in the records, the boxes are a detector's."""
    people = synthetic_records(3, size=(128, 128))
    found = people.with_boxes([0, 1, 1], people.boxes[[0, 1, 1]] + 3, [0.9, 0.8, 0.3])
    evaluator = Evaluator(found, "coco_ap", people=people)
    assert len(evaluator) == 3
    spec = PoseSpec(COCO17, (256, 192), build_codec("gaussian", heatmap_size=(64, 48), sigma=2.0))
    points = people.keypoints[[0, 1, 1]] + np.array([0, 0, 500])[:, None, None]
    exact = Predictions(points.astype(np.float32), np.ones((3, 17), np.float32), np.ones(3, bool))
    figures = evaluator.score(evaluator.results(exact, spec)).figures(None)
    assert figures["AR"] == pytest.approx(2 / 3)
    assert figures["AP"] == pytest.approx(67 / 101)
