"""Kinds of errors on poses whose errors were planted, and the figure of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastpose.metrics import read_results, read_truth
from fastpose.metrics.errors import ERROR_KINDS, PoseErrors, pose_errors
from fastpose.metrics.plots import plot_errors
from fastpose.skeletons import COCO17

# Pixels from the truth at which a point of this part is similar by the number given: people are 100 x 100 pixels.
AREA = 10000.0


def distance(part: str, similarity: float) -> float:
    return float(np.sqrt(-np.log(similarity) * 8 * AREA) * COCO17.sigmas[COCO17.index(part)])


def people() -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Two people on a photo, every keypoint 200 pixels from any other, and their perfect poses."""
    annotations, results = [], []
    for person in range(2):
        points = np.stack([np.arange(17) * 200.0, np.full(17, 1000.0 * person)], 1)
        values = np.concatenate([points, np.full((17, 1), 2)], 1)
        annotations.append(
            {"id": person + 1, "image_id": 0, "category_id": 1, "iscrowd": 0, "num_keypoints": 17}
            | {"bbox": [0, 0, 100, 100], "area": AREA, "keypoints": values.ravel().tolist()}
        )
        results.append({"image_id": 0, "category_id": 1, "score": 0.9, "keypoints": values.ravel().tolist()})
    return {"images": [{"id": 0}], "annotations": annotations}, results


def errors_of(content: dict[str, Any], results: list[dict[str, Any]]) -> PoseErrors:
    return pose_errors(read_truth(content, COCO17), read_results(results, 17))


def move(pose: dict[str, Any], name: str, x: float, y: float) -> None:
    k = COCO17.index(name)
    pose["keypoints"][3 * k : 3 * k + 2] = x, y


def place(pose: dict[str, Any], name: str) -> np.ndarray:
    k = COCO17.index(name)
    return np.array(pose["keypoints"][3 * k : 3 * k + 2])


def kinds(errors: PoseErrors, name: str) -> dict[str, int]:
    row = errors.counts[COCO17.index(name)].tolist()
    return {kind: n for kind, n in zip(ERROR_KINDS, row, strict=True) if n}


def test_planted_errors() -> None:
    content, results = people()
    first, second = results
    at = {name: place(first, name) for name in COCO17.keypoints}
    move(first, "left_knee", *(at["left_knee"] + [distance("left_knee", 0.86), 0]))
    move(first, "right_knee", *(at["right_knee"] + [0, distance("right_knee", 0.84)]))
    move(first, "left_hip", *at["right_hip"])
    move(first, "left_wrist", *place(second, "left_wrist"))
    move(first, "right_wrist", *place(second, "left_wrist"))  # the opposite one of somebody else
    move(first, "nose", *(at["nose"] + [0, 500]))
    move(first, "left_ankle", *at["left_knee"])  # another part: neither inversion nor swap
    errors = errors_of(content, results)
    assert kinds(errors, "left_knee") == {"good": 2}
    assert kinds(errors, "right_knee") == {"good": 1, "jitter": 1}
    assert kinds(errors, "left_hip") == {"good": 1, "inversion": 1}
    assert kinds(errors, "left_wrist") == {"good": 1, "swap": 1}
    assert kinds(errors, "right_wrist") == {"good": 1, "swap": 1}
    assert kinds(errors, "nose") == {"good": 1, "miss": 1}
    assert kinds(errors, "left_ankle") == {"good": 1, "miss": 1}
    assert errors.counts.sum() == 34
    assert (errors.matched, errors.missed, errors.surplus) == (2, 0, 0)
    assert errors.similarity[COCO17.index("right_knee")] == pytest.approx(0.92)
    assert errors.shares()["all"] == pytest.approx(
        {"good": 28 / 34, "jitter": 1 / 34, "inversion": 1 / 34, "swap": 2 / 34, "miss": 2 / 34}
    )


def test_the_nearer_of_two_explanations() -> None:
    content, results = people()
    own = place(results[0], "right_hip")
    other = own + np.array([distance("left_hip", 0.8), 0])
    values = content["annotations"][1]["keypoints"]
    values[3 * COCO17.index("left_hip") : 3 * COCO17.index("left_hip") + 2] = other.tolist()
    move(results[0], "left_hip", *(own + np.array([distance("left_hip", 0.98), 0])))
    assert kinds(errors_of(content, results), "left_hip")["inversion"] == 1
    move(results[0], "left_hip", *other)
    assert kinds(errors_of(content, results), "left_hip")["swap"] == 1


def test_who_is_counted() -> None:
    content, results = people()
    content["annotations"][0]["keypoints"][2] = 0  # a nose without an annotation
    values = np.array(results[0]["keypoints"]).reshape(17, 3) + np.array([0, 5000, 0])
    results.append(results[0] | {"keypoints": values.ravel().tolist()})
    content["annotations"].append(content["annotations"][1] | {"id": 3, "iscrowd": 1})
    content["annotations"][1]["area"] = 2000.0
    errors = errors_of(content, results)
    assert (errors.matched, errors.missed, errors.surplus) == (2, 0, 1)
    assert errors.counts.sum() == 33
    assert {size: int(table.sum()) for size, table in errors.by_size.items()} == {"medium": 17, "large": 16}
    errors = errors_of(content, results[:1])
    assert (errors.matched, errors.missed, errors.surplus) == (1, 1, 0)


def test_figure(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    import cv2

    content, results = people()
    errors = errors_of(content, results)
    plot_errors(errors, tmp_path / "errors.png", title="two people")
    picture = cv2.imread(str(tmp_path / "errors.png"))
    dark_blue = (np.abs(picture.astype(int) - [0x72, 0x4F, 0x1B]).max(2) < 3).mean()
    assert dark_blue > 0.3  # everything is good
    content["annotations"] = content["annotations"][:1]
    far = [results[0] | {"keypoints": (np.array(results[0]["keypoints"]) + 1e5).tolist()}]
    with pytest.raises(ValueError, match="nothing to show"):
        plot_errors(errors_of(content, far), tmp_path / "none.png")
