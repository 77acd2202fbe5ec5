"""AP of boxes: equal to pycocotools, and worked out by hand."""

from __future__ import annotations

import contextlib
import copy
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastpose.metrics import BoxResults, box_ap, read_box_results, read_box_truth, score_boxes
from fastpose.metrics.boxes import BOX_NAMES, false_boxes
from fastpose.metrics.coco_files import read_content


def reference(
    content: dict[str, Any], found: list[dict[str, Any]], category_ids: list[int] | None = None
) -> list[float]:
    """What pycocotools says of boxes."""
    tools, evaluations = pytest.importorskip("pycocotools.coco"), pytest.importorskip("pycocotools.cocoeval")
    with contextlib.redirect_stdout(io.StringIO()):
        known = tools.COCO()
        known.dataset = copy.deepcopy(content)
        known.createIndex()
        evaluation = evaluations.COCOeval(known, known.loadRes(copy.deepcopy(found)), "bbox")
        if category_ids is not None:
            evaluation.params.catIds = category_ids
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return list(map(float, evaluation.stats))


def draw(seed: int, category_ids: tuple[int, ...] = (1,)) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """People of all sizes, crowds, photos without anybody or without detections; tied scores, over 100 on a photo."""
    rng = np.random.default_rng(seed)
    people: list[dict[str, Any]] = []
    found: list[dict[str, Any]] = []

    def see(photo: int, category: int, box: np.ndarray) -> None:
        score = round(float(rng.random()), 1)
        found.append({"image_id": photo, "category_id": category, "bbox": box.tolist(), "score": score})

    for photo in range(24):
        count = 0 if photo % 6 == 5 else 100 if photo == 3 else rng.integers(0, 12)
        for _ in range(count):
            category = int(rng.choice(category_ids))
            box = np.r_[rng.uniform(0, 200, 2), np.exp(rng.uniform(2.3, 5.3, 2))]
            area = float(box[2:].prod() * rng.uniform(0.3, 1))
            person = {"id": len(people) + 1, "image_id": photo, "category_id": category, "bbox": box.tolist()}
            people.append(person | {"area": area, "iscrowd": int(rng.random() < 0.1)})
            for _ in range(0 if photo % 6 == 4 else rng.integers(0, 4)):
                see(photo, category, box + rng.normal(0, 0.06, 4) * np.r_[box[2:], box[2:]])
        for _ in range(rng.integers(0, 4)):  # nobody is there
            see(photo, int(rng.choice(category_ids)), np.r_[rng.uniform(0, 200, 2), np.exp(rng.uniform(2.3, 5.3, 2))])
    images = [{"id": photo} for photo in rng.permutation(24).tolist()]
    categories = [{"id": number, "name": str(number)} for number in category_ids]
    return {"images": images, "annotations": people, "categories": categories}, found


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("category_ids", [(1,), (1, 2, 7)])
def test_equal_to_pycocotools(seed: int, category_ids: tuple[int, ...]) -> None:
    content, found = draw(seed, category_ids)
    assert max(np.bincount([entry["image_id"] for entry in found])) > 100
    expected = reference(content, found)
    assert 0.1 < expected[0] < 0.9
    values = box_ap(content, found)
    assert tuple(values) == BOX_NAMES
    np.testing.assert_allclose(list(values.values()), expected, rtol=0, atol=1e-9)


def test_one_category_of_several() -> None:
    content, found = draw(0, (1, 2, 7))
    values = list(box_ap(content, found, category_id=2).values())
    np.testing.assert_allclose(values, reference(content, found, [2]), rtol=0, atol=1e-9)


@pytest.mark.parametrize("seed", range(40))
def test_tiny_sets_equal_pycocotools(seed: int) -> None:
    """One or two photos, a few boxes on a grid, so that overlaps and scores tie."""
    rng = np.random.default_rng(seed)

    def box() -> list[float]:
        return [*(rng.integers(0, 4, 2) * 10.0).tolist(), *(rng.integers(1, 6, 2) * 10.0).tolist()]

    people = [
        {"id": number + 1, "image_id": int(rng.integers(2)), "category_id": 1, "bbox": box()}
        | {"area": float(rng.choice([500, 1024, 2000, 9216, 20000])), "iscrowd": int(rng.random() < 0.2)}
        for number in range(rng.integers(0, 5))
    ]
    found = [
        {"image_id": int(rng.integers(2)), "category_id": 1, "bbox": box(), "score": float(rng.choice([0.3, 0.6]))}
        for _ in range(rng.integers(1, 8))
    ]
    content = {"images": [{"id": 0}, {"id": 1}], "annotations": people, "categories": [{"id": 1, "name": "person"}]}
    np.testing.assert_allclose(list(box_ap(content, found).values()), reference(content, found), rtol=0, atol=1e-9)


def test_nothing_found_and_nobody_there() -> None:
    content, found = draw(1)
    nothing = box_ap(content, [])
    assert set(nothing.values()) == {0.0}
    content["annotations"] = []
    assert set(box_ap(content, found).values()) == {-1.0} == set(box_ap(content, []).values())


def test_recall_of_the_best_boxes_by_hand() -> None:
    """Two people on a photo, both found; the better box is a false one."""
    people = [
        {"id": n, "image_id": 1, "category_id": 1, "bbox": [100 * n, 0, 20, 20], "area": 400, "iscrowd": 0}
        for n in (1, 2)
    ]
    boxes = np.array([[300, 0, 20, 20], [100, 0, 20, 20], [200, 0, 20, 20]], float)
    values = box_ap(
        {"images": [{"id": 1}], "annotations": people}, BoxResults(np.ones(3, int), boxes, np.r_[0.9, 0.8, 0.7])
    )
    assert (values["AR@1"], values["AR@10"], values["AR_small"], values["AR_large"]) == (0.0, 1.0, 1.0, -1.0)
    assert values["AP"] == pytest.approx(2 / 3)  # the best precision from any recall on


def test_false_boxes_are_those_of_photos_without_people() -> None:
    person = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [0, 0, 9, 9], "area": 81}
    crowd = {"id": 2, "image_id": 2, "category_id": 1, "bbox": [0, 0, 9, 9], "area": 81, "iscrowd": 1}
    horse = {"id": 3, "image_id": 3, "category_id": 19, "bbox": [0, 0, 9, 9], "area": 81}
    content = {"images": [{"id": n} for n in range(1, 6)], "annotations": [person, crowd, horse]}
    truth = read_box_truth(content, category_id=1)
    rows = [(1, 0.9), (2, 0.9), (3, 0.5), (3, 0.4), (3, 0.39), (4, 0.8), (4, 0.01)]
    found = [{"image_id": n, "category_id": 1, "bbox": [50, 50, 9, 9], "score": score} for n, score in rows]
    found.append({"image_id": 4, "category_id": 19, "bbox": [50, 50, 9, 9], "score": 0.9})  # a horse may be there
    results = read_box_results(found)
    assert false_boxes(truth, results, 0.4) == 1.0  # three boxes on photos 3, 4 and 5
    assert false_boxes(truth, results, 0.4, weights=[1, 1, 0, 1, 3]) == 0.25
    assert np.isnan(false_boxes(truth, results, 0.4, weights=[1, 1, 0, 0, 0]))
    figures = score_boxes(truth, results, 0.4).figures
    assert figures(None)["false_boxes"] == 1.0
    assert figures(np.array([1, 1, 0, 1, 3]))["false_boxes"] == 0.25
    assert "false_boxes" not in score_boxes(truth, results).figures(None)


def test_an_area_that_is_not_stated_is_a_share_of_the_box() -> None:
    content, _ = draw(2)
    for person in content["annotations"]:
        del person["area"]
    truth = read_box_truth(content)
    assert truth.areas == pytest.approx(truth.boxes_xywh[:, 2:].prod(1) * 0.53)


def test_errors_name_what_is_wrong() -> None:
    content, found = draw(0)
    for change, message in (
        ({"image_id": 99}, "results: number 1 is of image_id 99, which is not annotated"),
        ({"score": None}, "results: number 1 has no score"),
        ({"bbox": [1, 2, 3]}, r"results: number 1: bbox: expected 4 numbers, got \[1, 2, 3\]"),
        ({"bbox": [1, 2, 3, float("nan")]}, "results: number 1 has a value that is not finite"),
        ({"category_id": "person"}, "category_id: expected an integer, got 'person'"),
    ):
        with pytest.raises(ValueError, match=message):
            box_ap(content, [found[0], found[1] | change])
    for change, message in (
        ({"bbox": None}, "annotations: 1: bbox: expected 4 numbers, got None"),
        ({"id": 2}, "annotations: id 2 occurs twice"),
        ({"iscrowd": "0"}, "annotations: 1: iscrowd: expected 0 or 1, got '0'"),
        ({"image_id": 99}, "annotations: 1 is of image_id 99, which images does not list"),
    ):
        people = [content["annotations"][0] | change, *content["annotations"][1:]]
        with pytest.raises(ValueError, match=message):
            box_ap(content | {"annotations": people}, found)
    with pytest.raises(ValueError, match="results: expected a list of boxes, got dict"):
        box_ap(content, {})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="annotations: expected an object with images and annotations"):
        box_ap({"images": []}, found)
    with pytest.raises(ValueError, match=r"results: boxes_xywh: expected shape \(2, 4\), got \(2, 5\)"):
        BoxResults(np.zeros(2, int), np.zeros((2, 5)), np.zeros(2))


@pytest.mark.shared
@pytest.mark.parametrize("seed", range(2))
def test_real_people_equal_pycocotools(shared: Path, seed: int) -> None:
    """COCO's people with their crowds, and boxes beside them as a detector gives them."""
    content = read_content(shared / "data" / "people" / "coco_val.json")
    rng = np.random.default_rng(seed)
    found = []
    for image in content["images"]:  # nobody is there
        for _ in range(rng.integers(0, 5)):
            box = [*rng.uniform(0, 300, 2).tolist(), *rng.uniform(5, 200, 2).tolist()]
            found.append({"image_id": image["id"], "category_id": 1, "bbox": box, "score": float(rng.beta(1, 4))})
    for person in content["annotations"]:
        box = np.array(person["bbox"])
        for _ in range(rng.integers(0, 4)):
            moved = box + rng.normal(0, 0.08, 4) * np.r_[box[2:], box[2:]]
            entry = {"image_id": person["image_id"], "category_id": 1, "bbox": moved.round(2).tolist()}
            found.append(entry | {"score": round(float(rng.beta(3, 2)), 2)})
    values = box_ap(content, json.loads(json.dumps(found)))
    np.testing.assert_allclose(list(values.values()), reference(content, found), rtol=0, atol=1e-9)
