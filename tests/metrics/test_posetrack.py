"""PoseTrack's AP by joint: worked out by hand, and equal to reference figures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastpose.metrics import METRICS, coco_results, posetrack_ap, read_results, read_truth
from fastpose.metrics.posetrack import POSETRACK_PARTS
from fastpose.skeletons import POSETRACK18_17


def frames(count: int = 2) -> dict[str, Any]:
    """Two people a frame, 300 pixels apart, with heads of 30 pixels (so 15 are near), without ears."""
    people = []
    for i in range(2 * count):
        points = np.random.default_rng(i).uniform(0, 100, (17, 2)) + np.array([300 * (i % 2), 0])
        values = np.concatenate([points, np.ones((17, 1))], 1)
        values[list(POSETRACK18_17.indices(("left_ear", "right_ear")))] = 0
        people.append(
            {"id": i + 1, "image_id": i // 2, "bbox": [0, 0, 9, 9], "bbox_head": [0, 0, 30, 40]}
            | {"keypoints": values.ravel().tolist()}
        )
    return {"images": [{"id": i} for i in range(count)], "annotations": people}


def poses(content: dict[str, Any], score: float = 0.9) -> list[dict[str, Any]]:
    result = []
    for person in content["annotations"]:
        values = np.array(person["keypoints"]).reshape(17, 3)
        values[:, 2] = score
        result.append({"image_id": person["image_id"], "keypoints": values.ravel().tolist(), "score": score})
    return result


def moved(pose: dict[str, Any], by: float, names: tuple[str, ...] = POSETRACK18_17.keypoints) -> dict[str, Any]:
    values = np.array(pose["keypoints"]).reshape(17, 3)
    values[list(POSETRACK18_17.indices(names)), 0] += by
    return pose | {"keypoints": values.ravel().tolist()}


def test_perfect_poses() -> None:
    values = posetrack_ap(frames(), poses(frames()))
    assert set(values) == {"AP", *POSETRACK_PARTS, *(n for part in POSETRACK_PARTS.values() for n in part)}
    assert len(values) == 1 + 7 + 15
    assert list(values.values()) == pytest.approx([1.0] * 23)


def test_half_a_head_is_near() -> None:
    content = frames()
    results = [moved(pose, 15.0, ("left_knee",)) for pose in poses(content)]
    assert posetrack_ap(content, results)["left_knee"] == pytest.approx(1.0)
    results = [moved(pose, 15.01, ("left_knee",)) for pose in poses(content)]
    values = posetrack_ap(content, results)
    assert values["left_knee"] == 0.0
    assert values["knee"] == pytest.approx(0.5)
    assert values["AP"] == pytest.approx(14 / 15)


def test_doubles_are_wrong_and_rank_by_their_scores() -> None:
    content = frames(1)
    doubles = [moved(pose, 1.0) for pose in poses(content, 0.5)]
    first, second = poses(content)
    assert posetrack_ap(content, [first, second, *doubles])["AP"] == pytest.approx(1.0)  # wrong ones come last
    worse = [pose | {"keypoints": moved(pose, 40.0, ("nose",))["keypoints"]} for pose in poses(content, 0.95)]
    values = posetrack_ap(content, [first, second, *worse])
    assert values["nose"] == pytest.approx(0.5)  # behind two that are wrong: precision of a half


def test_a_joint_that_is_not_predicted_is_missing_and_not_wrong() -> None:
    content = frames()
    results = poses(content)
    values = np.array(results[0]["keypoints"]).reshape(17, 3)
    values[POSETRACK18_17.index("nose")] = 0
    results[0]["keypoints"] = values.ravel().tolist()
    assert posetrack_ap(content, results)["nose"] == pytest.approx(3 / 4)


def test_what_is_ignored() -> None:
    content = frames()
    content["annotations"] = content["annotations"][:3]  # nobody on the right of the second frame
    results = poses(frames())
    assert posetrack_ap(content, results[:3])["AP"] == pytest.approx(1.0)
    values = np.array(results[3]["keypoints"]).reshape(17, 3)
    values[:, 2] = 0.95  # surer than those that are right
    results[3]["keypoints"] = values.ravel().tolist()
    assert posetrack_ap(content, results)["AP"] < 0.9
    content["images"][1] |= {"ignore_regions_x": [[290, 410, 410, 290]], "ignore_regions_y": [[-9, -9, 110, 110]]}
    assert posetrack_ap(content, results)["AP"] == pytest.approx(1.0)
    content["images"].append({"id": 9})  # a frame without annotations
    assert posetrack_ap(content, [*results, results[0] | {"image_id": 9}])["AP"] == pytest.approx(1.0)


def test_frames_count_by_their_weights() -> None:
    content = frames(3)
    results = poses(content)[:4]
    metric = METRICS["posetrack_ap"]
    truth = read_truth(content, POSETRACK18_17, optional=metric.optional)
    scores = metric.score(truth, read_results(results, 17))
    assert scores.figures(None)["AP"] == pytest.approx(2 / 3)
    assert scores.figures(np.array([1, 0, 3]))["AP"] == pytest.approx(1 / 4)
    assert np.isnan(scores.figures(np.array([0, 0, 0]))["AP"])


def test_a_person_without_a_head_box_is_an_error() -> None:
    content = frames()
    del content["annotations"][1]["bbox_head"]
    with pytest.raises(ValueError, match="annotations: 2: expected bbox_head"):
        posetrack_ap(content, poses(content))


@pytest.mark.shared
def test_equal_to_the_reference(shared: Path) -> None:
    entries = json.loads((shared / "reference" / "metrics.json").read_text())
    entries = [e for e in entries if e["metric"]["type"] == "PoseTrack18Metric"]
    assert len(entries) == 2
    names = {"Head": "head", "Shou": "shoulder", "Elb": "elbow", "Wri": "wrist", "Hip": "hip", "Knee": "knee"}
    for entry in entries:
        people = entry["predictions"]
        results = coco_results(
            [p["image_id"] for p in people],
            [p["keypoints"] for p in people],
            [p["keypoint_scores"] for p in people],
            [p["bbox_score"] for p in people],
            [p["area"] for p in people],
            POSETRACK18_17.sigmas,
            ids=[p["id"] for p in people],
        )
        truth = shared / "data" / "samples" / "posetrack18" / "annotations" / "test_posetrack18_val.json"
        values = posetrack_ap(truth, results)
        got = {f"posetrack18/{short} AP": 100 * values[name] for short, name in (names | {"Ankl": "ankle"}).items()}
        got["posetrack18/AP"] = 100 * values["AP"]
        assert got == pytest.approx(entry["values"], abs=1e-4)
