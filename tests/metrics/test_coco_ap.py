"""COCO AP and the scoring and suppression before it: worked out by hand, and equal to reference figures."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastpose.metrics import coco_ap, coco_results, score_poses
from fastpose.metrics.coco import AP_NAMES
from fastpose.skeletons import COCO17


def truth(count: int = 4, keypoints: int = 17, seed: int = 0) -> dict[str, Any]:
    """Two people a photo, 10,000 square pixels each, far apart."""
    rng = np.random.default_rng(seed)
    people = []
    for i in range(count):
        points = rng.uniform(0, 100, (keypoints, 2)) + np.array([500 * (i % 2), 0])
        values = np.concatenate([points, np.full((keypoints, 1), 2)], 1)
        people.append(
            {
                "id": i + 1,
                "image_id": i // 2,
                "category_id": 1,
                "iscrowd": 0,
                "num_keypoints": keypoints,
                "bbox": [500 * (i % 2), 0, 100, 100],
                "area": 10000,
                "keypoints": values.reshape(-1).tolist(),
            }
        )
    images = [{"id": i, "width": 640, "height": 200} for i in range((count + 1) // 2)]
    return {"images": images, "annotations": people, "categories": [{"id": 1, "name": "person"}]}


def perfect(content: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {"image_id": a["image_id"], "category_id": 1, "keypoints": list(a["keypoints"]), "score": 0.9}
        for a in content["annotations"]
    ]


# --- average precision --------------------------------------------------------------------------------------------
def test_perfect_poses() -> None:
    values = coco_ap(truth(), perfect(truth()))
    assert tuple(values) == AP_NAMES
    assert values["AP"] == pytest.approx(1.0)
    assert values["AR"] == pytest.approx(1.0)
    assert values["AP_large"] == pytest.approx(1.0)
    assert values["AP_medium"] == -1.0  # nobody is of that size


def test_half_of_the_people_found() -> None:
    values = coco_ap(truth(), perfect(truth())[:2])
    assert values["AR"] == pytest.approx(0.5)
    assert values["AP"] == pytest.approx(51 / 101)  # full precision up to a recall of 0.5, of 101 points of recall


def test_the_oks_decides() -> None:
    """Every point off by d such that the OKS is 0.8: correct up to that threshold, 7 of 10."""
    content = truth(keypoints=3)
    results = perfect(content)
    sigma = 0.1
    distance = np.sqrt(-np.log(0.8 + 1e-9) * 8 * sigma**2 * 10000)
    for entry in results:
        for k in range(3):
            entry["keypoints"][3 * k] += distance
    values = coco_ap(content, results, sigmas=[sigma] * 3)
    assert values["AP"] == pytest.approx(0.7)
    assert (values["AP50"], values["AP75"]) == (pytest.approx(1.0), pytest.approx(1.0))
    # Without the annotated areas a person counts 0.53 of the box: 0.8 ^ (1 / 0.53) = 0.656, correct up to 0.65.
    assert coco_ap(content, results, sigmas=[sigma] * 3, use_area=False)["AP"] == pytest.approx(0.4)


def test_crowds_and_people_without_keypoints_are_not_asked_for() -> None:
    content = truth()
    content["annotations"][0]["iscrowd"] = 1
    content["annotations"][1] |= {"num_keypoints": 0, "keypoints": [0] * 51}
    content["annotations"].append({"id": 99, "image_id": 0, "category_id": 1, "bbox": [0, 0, 5, 5]})  # a box only
    assert coco_ap(content, perfect(truth())[2:])["AP"] == pytest.approx(1.0)


def test_files_in_and_inputs_untouched(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content, results = truth(), perfect(truth())
    for entry in content["annotations"]:
        del entry["num_keypoints"], entry["iscrowd"]  # completed on the way
    before = copy.deepcopy((content, results))
    (tmp_path / "truth.json").write_text(json.dumps(content))
    (tmp_path / "results.json").write_text(json.dumps(results))
    values = coco_ap(tmp_path / "truth.json", str(tmp_path / "results.json"))
    assert values == coco_ap(content, results)
    assert values["AP"] == pytest.approx(1.0)
    assert (content, results) == before
    assert capsys.readouterr().out == ""


def test_other_category_ids() -> None:
    content, results = truth(), perfect(truth())
    for entry in content["annotations"]:
        entry["category_id"] = 5
    content["categories"] = [{"id": 5, "name": "person"}]
    for entry in results:
        del entry["category_id"]
    assert coco_ap(content, results)["AP"] == pytest.approx(1.0)


def test_errors_name_what_is_wrong(tmp_path: Path) -> None:
    content = truth()

    def changed(**changes: Any) -> list[dict[str, Any]]:
        results = perfect(content)
        results[1] = {k: v for k, v in (results[1] | changes).items() if v is not None}
        return results

    for results, message in (
        ([], "results: empty"),
        ({}, "results: expected a list of poses, got dict"),
        (changed(image_id=77), "results: number 1 is of image_id 77"),
        (changed(score=None), "results: number 1 has no score"),
        (changed(keypoints=[1, 2, 3]), "results: number 1: expected 51 keypoint values, got 3"),
        (changed(score=float("nan")), "results: number 1 has a value that is not finite"),
        (changed(keypoints=[float("inf")] * 51), "results: number 1 has a value that is not finite"),
    ):
        with pytest.raises(ValueError, match=message):
            coco_ap(content, results)
    with pytest.raises(ValueError, match="annotations: expected an object"):
        coco_ap({}, perfect(content))
    with pytest.raises(ValueError, match="annotations: none of them has keypoints"):
        coco_ap(content | {"annotations": []}, perfect(content))
    with pytest.raises(ValueError, match=r"sigmas: expected one per annotated keypoint \(17, annotation 1\), got 14"):
        coco_ap(content, perfect(content), sigmas=[0.1] * 14)
    (tmp_path / "cut.json").write_text('{"images": [')
    for path in (tmp_path / "cut.json", tmp_path / "absent.json"):
        with pytest.raises(ValueError, match=rf"{path.name}: cannot be read as JSON"):
            coco_ap(path, perfect(content))


# --- scores -------------------------------------------------------------------------------------------------------
def test_scores_by_hand() -> None:
    points, boxes = [[0.5, 0.1, 0.9], [0.1, 0.2, 0.0]], [0.5, 1.0]
    np.testing.assert_array_equal(score_poses(points, boxes, "bbox"), [0.5, 1.0])
    np.testing.assert_allclose(score_poses(points, boxes, "keypoint"), [0.5, 0.1])
    np.testing.assert_allclose(score_poses(points, boxes, "bbox_keypoint"), [0.5 * 0.7, 0.0])  # above 0.2 only
    np.testing.assert_allclose(score_poses(points, boxes, "bbox_keypoint", threshold=0.05), [0.25, 0.15])
    np.testing.assert_allclose(score_poses(points, boxes, "bbox_rle"), [0.5 + 0.5 + 0.9, 1.0 + 0.1 + 0.2])
    assert score_poses(np.zeros((0, 17)), []).shape == (0,)
    with pytest.raises(ValueError, match=r"mode: expected bbox.*got 'best'"):
        score_poses(points, boxes, "best")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="box_scores"):
        score_poses(points, [1.0])


# --- results ------------------------------------------------------------------------------------------------------
def doubles() -> dict[str, Any]:
    """The same pose three times on one photo, once on another."""
    points = np.random.default_rng(0).uniform(0, 100, (17, 2))
    return {
        "image_ids": [7, 7, 3, 7],
        "keypoints": np.stack([points, points + 0.5, points, points]),
        "keypoint_scores": np.full((4, 17), 0.5),
        "box_scores": [0.3, 0.9, 0.1, 0.2],
        "areas": np.full(4, 1e4),
        "sigmas": COCO17.sigmas,
    }


def test_results_are_ready_for_json() -> None:
    results = coco_results(**doubles(), nms="none", score_mode="bbox", category_id=2)
    assert json.loads(json.dumps(results)) == results
    assert [r["score"] for r in results] == [0.3, 0.9, 0.1, 0.2]
    assert {r["category_id"] for r in results} == {2}
    assert len(results[0]["keypoints"]) == 51
    assert results[0]["keypoints"][2::3] == [0.5] * 17


def test_suppression_within_a_photo() -> None:
    results = coco_results(**doubles(), nms="oks_nms")
    assert [(r["image_id"], r["score"]) for r in results] == [(7, 0.9 * 0.5), (3, 0.1 * 0.5)]
    soft = coco_results(**doubles(), nms="soft_oks_nms", score_mode="bbox", soft_nms_limit=2)
    assert sorted((r["image_id"], r["score"]) for r in soft) == [(3, 0.1), (7, 0.3), (7, 0.9)]  # scores as they were


def test_of_one_id_the_first_is_kept() -> None:
    results = coco_results(**doubles(), ids=[5, 4, 5, 5], nms="none", score_mode="bbox")
    assert [(r["image_id"], r["score"]) for r in results] == [(3, 0.1), (7, 0.9), (7, 0.3)]


@pytest.mark.parametrize("nms", ["none", "oks_nms", "soft_oks_nms"])
def test_nobody(nms: Any) -> None:
    arguments = (np.zeros(0, int), np.zeros((0, 17, 2)), np.zeros((0, 17)), [], [], COCO17.sigmas)
    assert coco_results(*arguments, nms=nms) == []


def test_results_check_their_arguments() -> None:
    for change, message in (
        ({"nms": "hard"}, "nms: expected none, oks_nms or soft_oks_nms, got 'hard'"),
        ({"keypoints": np.zeros((4, 16, 2))}, "keypoints"),
        ({"ids": [1, 2]}, "ids: expected shape"),
        ({"areas": np.ones(4)[:3]}, "areas"),
    ):
        with pytest.raises(ValueError, match=message):
            coco_results(**(doubles() | change))


# --- reference figures --------------------------------------------------------------------------------------------
FILES = {
    "coco": "coco/test_coco.json",
    "humanart": "humanart/test_humanart.json",
    "aic": "aic/test_aic.json",
    "posetrack18": "posetrack18/annotations/test_posetrack18_val.json",
}


@pytest.mark.shared
@pytest.mark.parametrize("dataset", FILES)
def test_equal_to_the_reference(shared: Path, dataset: str) -> None:
    meta = json.loads((shared / "reference" / "datasets.json").read_text())[dataset]["meta"]
    entries = json.loads((shared / "reference" / "metrics.json").read_text())
    entries = [e for e in entries if e["dataset"] == dataset and e["metric"]["type"] == "CocoMetric"]
    assert len(entries) == (15 if dataset == "coco" else 1)
    for entry in entries:
        options, people = entry["metric"], entry["predictions"]
        columns = {k: np.array([p[k] for p in people]) for k in ("id", "image_id", "bbox_score", "area")}
        results = coco_results(
            columns["image_id"],
            np.array([p["keypoints"] for p in people]),
            np.array([p["keypoint_scores"] for p in people]),
            columns["bbox_score"],
            columns["area"],
            meta["sigmas"],
            ids=columns["id"],
            score_mode=options.get("score_mode", "bbox_keypoint"),
            score_threshold=options.get("keypoint_score_thr", 0.2),
            nms=options.get("nms_mode", "oks_nms"),
            nms_threshold=options.get("nms_thr", 0.9),
        )
        values = coco_ap(
            shared / "data" / "samples" / FILES[dataset],
            results,
            sigmas=meta["sigmas"],
            use_area=options.get("use_area", True),
        )
        np.testing.assert_allclose(
            list(values.values()), list(entry["values"].values()), atol=1e-6, err_msg=str(options)
        )
