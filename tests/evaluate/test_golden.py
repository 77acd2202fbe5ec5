"""One evaluation whose right figures are known without our code: mirrored crops, detected boxes, doubles.

Where each keypoint must be found is worked out from the network's construction; what average precision that is worth
is pycocotools' word. So a wrong shift of the mirrored map, a wrong area in the suppression of doubles or a lost score
of a detection changes a figure.
"""

from __future__ import annotations

import contextlib
import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from sided_model import FACE, INPUT, photo_of, sided_model

from fastpose.data import read_annotations
from fastpose.evaluate import Evaluator
from fastpose.metrics.coco import AP_NAMES

# Small, so that doubles that lie a pixel apart are alike by the area of the crop and unlike by that of the box.
SIGMA = 0.0058
SIZE = (600, 560)


@dataclass
class Seen:
    """Somebody on a photo and the boxes that a detector found of them.

    Attributes:
        photo: Number of the photo.
        centre: (x, y) of the boxes and, to a few pixels, of the face.
        pixel: Pixels of the photo to one of the crop of the first box.
        brightness: Of the spots, and so the keypoints' scores.
        boxes: How many times as large as the first each box is, and its score.
        area: Annotated; None for clutter that the network takes for a face.
        wrong: Keypoints that are annotated far from where they are seen.
    """

    photo: int
    centre: tuple[float, float]
    pixel: float
    brightness: float
    boxes: tuple[tuple[float, float], ...]
    area: float | None
    wrong: tuple[str, ...] = ()

    def spots(self) -> dict[str, tuple[float, float]]:
        (x, y), step = self.centre, self.pixel
        places = {"nose": (3.0, 6.0), "left_eye": (21.0, -14.0), "right_eye": (-19.0, -13.0)}
        return {name: (x + step * dx, y + step * dy) for name, (dx, dy) in places.items()}

    def found(self, times: float) -> np.ndarray:
        """Where the keypoints must be found in a crop so many times as large: [3, 2].

        A map has every fourth pixel of the crop, x = 4 j. Of the mirrored crop, turned back, column j has the pixel
        4 j + 3; moved right by one column, 4 j - 1. A spot is seen there one pixel too far to the right, and half a
        pixel in the average of both.
        """
        places = np.array(list(self.spots().values()))
        places[:, 0] += 0.5 * self.pixel * times
        return places

    def box(self, times: float) -> list[float]:
        """A narrow box, xywh, whose crop (1.25 times as high, and as wide as the input's shape asks) is 3:4."""
        height = times * self.pixel * INPUT[0] / 1.25
        width = height / 8
        return [self.centre[0] - width / 2, self.centre[1] - height / 2, width, height]


PEOPLE = (
    # Found twice: the second pose lies a pixel beside the first one and is suppressed.
    Seen(0, (280.0, 300.0), 2.0, 0.6, ((1.0, 0.9), (2.0, 0.85)), 64_500.0),
    Seen(1, (150.0, 200.0), 1.0, 0.8, ((1.0, 0.8),), 9_000.0),
    # One keypoint of three is wrong: an OKS of two thirds, right up to 0.65.
    Seen(1, (400.0, 300.0), 2.0, 0.8, ((1.0, 0.5),), 64_500.0, wrong=("nose",)),
    # The brightest of all, in the detector's eyes nobody.
    Seen(2, (280.0, 300.0), 2.0, 1.0, ((1.0, 0.3),), None),
)


@pytest.fixture
def golden(tmp_path: Path) -> tuple[Path, Path]:
    """The annotation file and that of the detections."""
    images, people, detections = [], [], []
    for photo in range(3):
        here = [seen for seen in PEOPLE if seen.photo == photo]
        spots = [(name, *at, 7 * s.pixel, s.brightness) for s in here for name, at in s.spots().items()]
        cv2.imwrite(str(tmp_path / f"{photo}.png"), photo_of(SIZE, spots))
        images.append({"id": photo, "file_name": f"{photo}.png", "height": SIZE[0], "width": SIZE[1]})
        for seen in here:
            detections += [
                {"image_id": photo, "category_id": 1, "bbox": seen.box(t), "score": score} for t, score in seen.boxes
            ]
            if seen.area is None:
                continue
            points = {name: [x, y, 2] for name, (x, y) in zip(FACE.keypoints, seen.found(1.0).tolist(), strict=True)}
            for name in seen.wrong:
                points[name] = [5.0, 5.0, 2]
            people.append(
                {"id": len(people) + 1, "image_id": photo, "category_id": 1, "iscrowd": 0, "num_keypoints": 3}
                | {"bbox": seen.box(1.0), "area": seen.area, "keypoints": [v for p in points.values() for v in p]}
            )
    category = {"id": 1, "name": "person", "keypoints": list(FACE.keypoints), "skeleton": []}
    truth, boxes = tmp_path / "truth.json", tmp_path / "boxes.json"
    truth.write_text(json.dumps({"images": images, "annotations": people, "categories": [category]}))
    boxes.write_text(json.dumps(detections))
    return truth, boxes


def pycocotools_figures(truth: Path, results: list[dict[str, Any]]) -> list[float]:
    tools, evaluations = pytest.importorskip("pycocotools.coco"), pytest.importorskip("pycocotools.cocoeval")
    with contextlib.redirect_stdout(io.StringIO()):
        known = tools.COCO(str(truth))
        evaluation = evaluations.COCOeval(known, known.loadRes(results), "keypoints")
        evaluation.params.kpt_oks_sigmas = np.full(3, SIGMA)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return [float(value) for value in evaluation.stats]


def test_an_evaluation_is_what_was_worked_out(golden: tuple[Path, Path]) -> None:
    truth, boxes = golden
    expected = []
    for seen in PEOPLE:
        times, score = seen.boxes[0]  # its doubles are suppressed
        values = np.concatenate([seen.found(times), np.ones((3, 1))], 1).ravel().tolist()
        entry = {"image_id": seen.photo, "category_id": 1, "keypoints": values, "score": score * seen.brightness}
        expected.append(entry)
    figures = pycocotools_figures(truth, expected)
    assert 0.6 < figures[0] < 0.9  # neither perfect nor nothing

    evaluator = Evaluator(
        read_annotations(truth, detections=boxes), "coco_ap", annotations=truth, batch_size=2, sigmas=[SIGMA] * 3
    )
    assert len(evaluator) == 5
    model = sided_model()
    found = evaluator.predict(model)
    measured = evaluator.measure(found, model)
    assert [measured[name] for name in AP_NAMES] == pytest.approx(figures, abs=1e-9)
    wanted = np.stack([seen.found(times) for seen in PEOPLE for times, _ in seen.boxes])
    scale = np.array([seen.pixel * times for seen in PEOPLE for times, _ in seen.boxes])
    assert (np.abs(found.keypoints - wanted).max((1, 2)) < 0.15 * scale).all()
    results = evaluator.results(found, model.spec)
    assert len(results) == 4
    np.testing.assert_allclose(sorted(results.scores), sorted(entry["score"] for entry in expected), rtol=0.12)
    assert evaluator(model) == measured
