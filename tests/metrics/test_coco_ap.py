"""COCO AP and the scoring and suppression before it: worked out by hand, and equal to reference figures."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastpose.metrics import METRICS, coco_ap, coco_results, crowdpose_ap, read_results, read_truth, score_poses
from fastpose.metrics.coco import AP_NAMES
from fastpose.skeletons import COCO17, CROWDPOSE14


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


def hard(seed: int, photos: int = 40, category_ids: tuple[int, ...] = (1,)) -> tuple[dict[str, Any], list[Any]]:
    """People of all sizes, crowds, some without keypoints; poses with equal scores, doubled, missing, more than 20."""
    rng = np.random.default_rng(seed)
    annotations: list[dict[str, Any]] = []
    results: list[dict[str, Any]] = []
    for photo in range(photos):
        for _ in range(rng.integers(0, 12 if photo else 40)):
            corner, size = rng.uniform(0, 500, 2), np.exp(rng.uniform(np.log(15), np.log(300)))
            points, visible = corner + rng.normal(0, size / 4, (17, 2)), rng.integers(0, 3, 17)
            visible[:] = 0 if rng.random() < 0.1 else visible
            category = int(rng.choice(category_ids))
            person = {"id": len(annotations) + 1, "image_id": photo, "category_id": category}
            person |= {"iscrowd": int(rng.random() < 0.1), "num_keypoints": int((visible > 0).sum())}
            person |= {"bbox": [*(corner - size / 2).tolist(), size, size], "area": size * size * 0.6}
            annotations.append(person | {"keypoints": np.c_[points, visible].round(1).ravel().tolist()})
            for _ in range(rng.integers(0, 4)):
                pose = points + rng.normal(0, size * 0.03 * rng.exponential(), (17, 2))
                values = np.c_[pose, rng.random(17)].ravel().tolist()
                score = round(float(rng.random()), 1)
                results.append({"image_id": photo, "category_id": category, "keypoints": values, "score": score})
    categories = [{"id": i, "name": str(i)} for i in category_ids]
    return {"images": [{"id": i} for i in range(photos)], "annotations": annotations, "categories": categories}, results


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("category_ids", [(1,), (1, 2, 7)])
def test_equal_to_pycocotools(seed: int, category_ids: tuple[int, ...], capsys: pytest.CaptureFixture[str]) -> None:
    tools, evaluations = pytest.importorskip("pycocotools.coco"), pytest.importorskip("pycocotools.cocoeval")
    content, results = hard(seed, category_ids=category_ids)
    known = tools.COCO()
    known.dataset = copy.deepcopy(content)
    known.createIndex()
    evaluation = evaluations.COCOeval(known, known.loadRes(copy.deepcopy(results)), "keypoints")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    capsys.readouterr()  # it prints
    assert 0.1 < evaluation.stats[0] < 0.9
    np.testing.assert_allclose(list(coco_ap(content, results).values()), evaluation.stats, rtol=0, atol=1e-12)


def test_weights_are_copies_of_the_photos() -> None:
    content, results = hard(7, photos=12)
    times = np.random.default_rng(0).multinomial(12, np.full(12, 1 / 12))
    assert (times == 0).any()
    assert times.max() > 1
    many: dict[str, Any] = {"images": [], "annotations": [], "categories": content["categories"]}
    poses = []
    for photo in range(12):
        for copy_number in range(times[photo]):
            identity = {"image_id": photo + 100 * copy_number}
            many["images"].append({"id": identity["image_id"]})
            for person in content["annotations"]:
                if person["image_id"] == photo:
                    many["annotations"].append(person | identity | {"id": len(many["annotations"]) + 1})
            poses += [pose | identity for pose in results if pose["image_id"] == photo]
    weighed = METRICS["coco_ap"].score(read_truth(content, COCO17), read_results(results, 17)).figures(times)
    # Copies of one photo tie, so their order may differ from that of copies apart: precision moves by a hair.
    assert list(weighed.values()) == pytest.approx(list(coco_ap(many, poses).values()), abs=0.02)
    assert weighed["AR"] == pytest.approx(coco_ap(many, poses)["AR"])


def test_a_person_of_id_0_is_found_like_any_other() -> None:
    content = truth()
    content["annotations"][0]["id"] = 0
    assert coco_ap(content, perfect(truth()))["AP"] == pytest.approx(1.0)


def test_crowding() -> None:
    """Three photos, one a class; nothing is found on the hard one, and 0.2 is medium already."""
    content = truth(6)
    for entry, index in zip(content["images"], (0.0, 0.2, 0.9), strict=True):
        entry["crowdIndex"] = index
    del content["annotations"][0]["area"]
    values = crowdpose_ap(content, perfect(truth(4)), sigmas=COCO17.sigmas)
    assert [values[f"AP_{level}"] for level in ("easy", "medium", "hard")] == pytest.approx([1.0, 1.0, 0.0])
    assert values["AR"] == pytest.approx(2 / 3)
    del content["images"][1]["crowdIndex"]
    with pytest.raises(ValueError, match="image 1 has no crowdIndex"):
        crowdpose_ap(content, perfect(truth(4)), sigmas=COCO17.sigmas)


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
        ([[1, 2]], "results: number 0: expected an object, got list"),
        (changed(keypoints=7), "results: number 1: expected 51 keypoint values, got int"),
        (changed(score="high"), "results: number 1 has a value that is not a number"),
        (changed(score=float("nan")), "results: number 1 has a value that is not finite"),
        (changed(keypoints=[float("inf")] * 51), "results: number 1 has a value that is not finite"),
    ):
        with pytest.raises(ValueError, match=message):
            coco_ap(content, results)
    for change, message in (
        ({"id": 2}, "annotations: id 2 occurs twice"),
        ({"id": None}, "annotations: number 0: id: expected an integer, got None"),
        ({"image_id": "9"}, "annotations: 1: image_id: expected an integer, got '9'"),
        ({"category_id": "1"}, "annotations: 1: category_id: expected an integer, got '1'"),
        ({"iscrowd": "0"}, "annotations: 1: iscrowd: expected 0 or 1, got '0'"),
        ({"num_keypoints": "0"}, "annotations: 1: num_keypoints: expected a number, got '0'"),
        ({"area": "much"}, "annotations: 1 has a value that is not a number"),
        ({"image_id": 9}, "annotations: 1 is of image_id 9, which images does not list"),
        ({"bbox": None}, "annotations: 1: bbox: expected 4 numbers, got None"),
        ({"bbox": [0, 0, 1]}, r"annotations: 1: bbox: expected 4 numbers, got \[0, 0, 1\]"),
        ({"keypoints": [float("nan")] * 51}, "annotations: 1 has a value that is not finite"),
    ):
        people = [content["annotations"][0] | change, *content["annotations"][1:]]
        with pytest.raises(ValueError, match=message):
            coco_ap(content | {"annotations": people}, perfect(content))
    for images, message in (
        ([{}], "images: number 0: id: expected an integer, got None"),
        ([7], "images: number 0: expected an object, got int"),
        ("photos", "images: expected a list, got str"),
    ):
        with pytest.raises(ValueError, match=message):
            coco_ap(content | {"images": images}, perfect(content))
    with pytest.raises(ValueError, match="images: id 0 occurs twice"):
        coco_ap(content | {"images": content["images"] + content["images"][:1]}, perfect(content))
    with pytest.raises(ValueError, match="annotations: expected an object"):
        coco_ap({}, perfect(content))
    with pytest.raises(ValueError, match="annotations: none of them has keypoints"):
        coco_ap(content | {"annotations": []}, perfect(content))
    with pytest.raises(ValueError, match=r"sigmas: expected one per annotated keypoint \(17, annotation 1\), got 14"):
        coco_ap(content, perfect(content), sigmas=[0.1] * 14)
    (tmp_path / "cut.json").write_text('{"images": [')
    (tmp_path / "deep.json").write_text("[" * 100_000)
    (tmp_path / "zero.json").symlink_to("/dev/zero")
    for path in (tmp_path / f"{name}.json" for name in ("cut", "absent", "deep", "zero")):
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


@pytest.mark.shared
def test_crowdpose_equal_to_the_reference(shared: Path) -> None:
    (entry,) = (
        e for e in json.loads((shared / "reference" / "metrics.json").read_text()) if e["dataset"] == "crowdpose"
    )
    people = entry["predictions"]
    results = coco_results(
        [p["image_id"] for p in people],
        [p["keypoints"] for p in people],
        [p["keypoint_scores"] for p in people],
        [p["bbox_score"] for p in people],
        [p["area"] for p in people],
        CROWDPOSE14.sigmas,
        ids=[p["id"] for p in people],
    )
    values = crowdpose_ap(shared / "data" / "samples" / "crowdpose" / "test_crowdpose.json", results)
    np.testing.assert_allclose(list(values.values()), list(entry["values"].values()), atol=1e-4)
