"""Metrics of whole bodies, faces, hands, animals and clothes: worked out by hand, and equal to reference figures."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastpose.metrics import (
    METRICS,
    PoseResults,
    Truth,
    auc,
    box_pck,
    coco_ap,
    coco_results,
    epe,
    face_nme,
    face_sizes,
    nme,
    wholebody_ap,
)
from fastpose.metrics.coco import AP_NAMES
from fastpose.metrics.wholebody_files import WHOLEBODY_PARTS
from fastpose.skeletons import COCO17, COCO_WHOLEBODY133, COFW29, get_skeleton

CARRIED = Path(__file__).resolve().parents[1] / "data" / "wider_metric_figures.json"
SKELETONS = {
    "coco_wholebody": "coco_wholebody133",
    "coco_wholebody_hand": "coco_wholebody_hand21",
    "coco_wholebody_face": "coco_wholebody_face68",
    "wflw": "wflw98",
    "300w": "300w68",
    "cofw": "cofw29",
    "lapa": "lapa106",
    "aflw": "aflw19",
    "onehand10k": "onehand10k21",
    "rhd2d": "rhd21",
    "freihand": "freihand21",
    "ap10k": "ap10k17",
    "animalpose": "animalpose20",
    "animalkingdom": "animalkingdom23",
    "locust": "locust35",
    "zebra": "zebra9",
    "deepfashion_full": "deepfashion_full8",
    "deepfashion2": "deepfashion2_294",
    "halpe": "halpe136",
    "ochuman": "ochuman17",
}
FILES = {
    "coco_wholebody": "coco/test_coco_wholebody.json",
    "ap10k": "ap10k/test_ap10k.json",
    "animalpose": "animalpose/test_animalpose.json",
    "ochuman": "ochuman/test_ochuman.json",
}


# --- mean errors and shares ---------------------------------------------------------------------------------------
def test_mean_error_by_hand() -> None:
    truth = np.zeros((3, 2, 2))
    predicted = np.array([[[3, 4], [0, 10]], [[6, 8], [np.nan, 0]], [[1, 0], [1, 0]]], float)
    visible = [[2, 1], [1, 0], [1, 1]]
    # 5 / 10, 10 / 10 and 10 / 20; the third has no length.
    assert nme(predicted, truth, visible, [10, 20, 0]) == pytest.approx(2 / 3)
    assert nme(predicted, truth, visible, [10, 20, np.nan], weights=[0, 3, 1]) == pytest.approx(0.5)
    assert nme(predicted, truth, visible, [10, 20, 0], weights=[2, 1, 9]) == pytest.approx(
        (0.5 + 1 + 0.5 + 1 + 0.5) / 5
    )
    assert np.isnan(nme(predicted, truth, np.zeros((3, 2)), [1, 1, 1]))
    assert np.isnan(nme(predicted, truth, np.ones((3, 2)), [1, 1, 1]))
    assert epe(predicted, truth, visible) == pytest.approx((5 + 10 + 10 + 1 + 1) / 5)
    assert epe(predicted, truth, visible, weights=[1, 0, 2]) == pytest.approx((5 + 10 + 1 + 1 + 1 + 1) / 6)
    with pytest.raises(ValueError, match=r"norm: expected shape \(3,\), got \(2,\)"):
        nme(predicted, truth, visible, [1, 1])
    with pytest.raises(ValueError, match=r"weights: expected shape \(3,\), got \(1,\)"):
        epe(predicted, truth, visible, weights=[1])


def test_weights_are_repetitions() -> None:
    rng = np.random.default_rng(0)
    truth, visible = rng.uniform(0, 60, (5, 21, 2)), rng.integers(0, 2, (5, 21))
    predicted, times = truth + rng.normal(0, 12, truth.shape), np.array([0, 2, 1, 3, 1])
    boxes = np.concatenate([np.zeros((5, 2)), rng.uniform(40, 90, (5, 2))], 1)
    again = np.repeat(np.arange(5), times)
    weighted = box_pck(predicted, truth, visible, boxes, weights=times)
    assert weighted == pytest.approx(box_pck(predicted[again], truth[again], visible[again], boxes[again]))
    assert weighted["AUC"] == pytest.approx(auc(predicted, truth, visible, weights=times))
    assert weighted != pytest.approx(box_pck(predicted, truth, visible, boxes))


def test_the_longer_side_of_the_box() -> None:
    truth = np.zeros((2, 1, 2))
    predicted = truth + np.array([0, 9.9])
    boxes = [[10, 0, 60, 100], [0, 0, 99, 20]]  # within 0.1 of 100 pixels, not within 0.1 of 99
    assert box_pck(predicted, truth, np.ones((2, 1)), boxes)["PCK@0.1"] == pytest.approx(0.5)
    with pytest.raises(ValueError, match=r"boxes: expected shape \(2, 4\), got \(1, 4\)"):
        box_pck(predicted, truth, np.ones((2, 1)), boxes[:1])


@pytest.mark.parametrize(
    ("name", "ends"),
    [
        *(("300w68", (36, 45)), ("300wlp68", (36, 45)), ("coco_wholebody_face68", (36, 45)), ("cofw29", (8, 9))),
        *(("wflw98", (60, 72)), ("lapa106", (66, 79)), ("horse22", (0, 1)), ("aflw19", None)),
    ],
)
def test_what_a_face_is_divided_by(name: str, ends: tuple[int, int] | None) -> None:
    skeleton = get_skeleton(name)
    rng = np.random.default_rng(1)
    truth, boxes = rng.uniform(0, 100, (2, skeleton.num_keypoints, 2)), np.array([[0, 0, 70, 50], [5, 5, 25, 95]])
    visible = np.ones(truth.shape[:2])
    if ends is None:
        assert face_sizes(truth, visible, boxes, skeleton).tolist() == [70, 90]
        return
    expected = np.hypot(*(truth[:, ends[0]] - truth[:, ends[1]]).T)
    np.testing.assert_allclose(face_sizes(truth, visible, boxes, skeleton), expected)
    visible[1, ends[1]] = 0
    np.testing.assert_allclose(face_sizes(truth, visible, boxes, skeleton), [expected[0], np.nan])


def test_errors_of_faces_name_what_is_wrong() -> None:
    points = np.zeros((1, 17, 2))
    with pytest.raises(ValueError, match=r"face_nme: knows by what to divide errors on 300w68, .*, not on 'coco17'"):
        face_nme(points, points, np.ones((1, 17)), np.ones((1, 4)), COCO17)
    with pytest.raises(ValueError, match=r"expected \[N, 29, 2\], \[N, 29\] and \[N, 4\] \(cofw29\), got \(1, 17, 2\)"):
        face_nme(points, points, np.ones((1, 17)), np.ones((1, 4)), COFW29)


def truth_of(skeleton: str, people: int) -> Truth:
    rng = np.random.default_rng(2)
    count = get_skeleton(skeleton).num_keypoints
    return Truth(
        skeleton=get_skeleton(skeleton),
        image_ids=np.arange(people),
        category_ids=np.ones(1, np.int64),
        ids=np.arange(people) + 100,
        image=np.arange(people),
        category=np.zeros(people, np.int64),
        keypoints=rng.uniform(0, 100, (people, count, 2)),
        visible=np.full((people, count), 2, np.uint8),
        boxes_xywh=np.tile([0.0, 0.0, 100.0, 60.0], (people, 1)),
        areas=np.full(people, 6000.0),
        ignore=np.zeros(people, bool),
        crowd=np.zeros(people, bool),
    )


def poses_of(truth: Truth, offset: float, rows: Any = slice(None)) -> PoseResults:
    return PoseResults(
        truth.image_ids[truth.image][rows],
        truth.keypoints[rows] + (offset, 0),
        np.ones(truth.visible.shape)[rows],
        np.ones(len(truth.ids))[rows],
        truth.ids[rows],
    )


def test_nobody_has_no_distance() -> None:
    """People without a prediction are wrong in shares, left out of mean errors, and counted in both."""
    hands = truth_of("freihand21", 4)
    scores = METRICS["box_pck"].score(hands, poses_of(hands, 3.0, slice(3)))
    figures = scores.figures(None)
    assert scores.unpredicted == 1
    assert (figures["PCK@0.2"], figures["EPE"]) == pytest.approx((0.75, 3.0))
    assert scores.figures(np.array([1, 0, 0, 1]))["PCK@0.2"] == pytest.approx(0.5)
    faces = truth_of("aflw19", 4)
    scores = METRICS["face_nme"].score(faces, poses_of(faces, 3.0, slice(3)))
    assert (scores.figures(None), scores.unpredicted) == ({"NME": pytest.approx(0.03)}, 1)
    assert np.isnan(scores.figures(np.array([0, 0, 0, 1]))["NME"])


def test_less_error_is_better() -> None:
    assert METRICS["face_nme"].better(0.03, 0.04)
    assert not METRICS["face_nme"].better(0.04, 0.04)
    assert METRICS["box_pck"].better(0.9, 0.8)
    assert not METRICS["coco_ap"].better(0.8, 0.9)


# --- whole bodies -------------------------------------------------------------------------------------------------
KEYS = ("keypoints", "foot_kpts", "face_kpts", "lefthand_kpts", "righthand_kpts")
PEERS_NAMES = ("body", "foot", "face", "lefthand", "righthand")


def split(points: np.ndarray, third: np.ndarray) -> dict[str, list[float]]:
    values = np.concatenate([points, third[:, None]], 1)
    ends = np.cumsum(list(WHOLEBODY_PARTS.values()))[:-1]
    return {key: part.ravel().tolist() for key, part in zip(KEYS, np.split(values, ends), strict=True)}


def whole_people(seed: int = 0, photos: int = 30) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """People of all sizes with and without each part, crowds; poses with equal scores, doubled, missing."""
    rng = np.random.default_rng(seed)
    sigmas = np.asarray(COCO_WHOLEBODY133.sigmas)[:, None]
    starts = np.cumsum([0, *WHOLEBODY_PARTS.values()])
    people: list[dict[str, Any]] = []
    results: list[dict[str, Any]] = []
    for photo in range(photos):
        for _ in range(rng.integers(0, 5 if photo else 25)):
            corner, side = rng.uniform(0, 400, 2), float(np.exp(rng.uniform(np.log(25), np.log(300))))
            points, visible = corner + rng.uniform(0, side, (133, 2)), rng.integers(0, 3, 133)
            for a, b in itertools.pairwise(starts.tolist()):
                visible[a:b] = 0 if rng.random() < 0.3 else visible[a:b]
            person = {"id": len(people) + 1, "image_id": photo, "category_id": 1, "iscrowd": int(rng.random() < 0.1)}
            person |= {"bbox": [*corner.tolist(), side, side], "area": 0.6 * side * side}
            people.append(person | {"num_keypoints": int((visible[:17] > 0).sum())} | split(points, visible))
            for _ in range(rng.integers(0, 4)):
                pose = points + rng.normal(0, side * rng.exponential(1.5), (133, 2)) * sigmas
                sure = rng.random(133)
                silent = rng.integers(0, 12)  # one part of a few poses is not said
                if silent < 5:
                    sure[starts[silent] : starts[silent + 1]] = 0
                entry = {"image_id": photo, "category_id": 1, "score": round(float(rng.random()), 1)}
                results.append(entry | split(pose, sure))
    categories = [{"id": 1, "name": "person"}]
    return {"images": [{"id": i} for i in range(photos)], "annotations": people, "categories": categories}, results


def xtcocotools_figures(truth: dict[str, Any], results: list[dict[str, Any]], folder: Path) -> dict[str, list[float]]:
    tools, evaluations = pytest.importorskip("xtcocotools.coco"), pytest.importorskip("xtcocotools.cocoeval")
    files = folder / "truth.json", folder / "results.json"
    for file, content in zip(files, (truth, results), strict=True):
        file.write_text(json.dumps(content))
    sigmas, starts = np.asarray(COCO_WHOLEBODY133.sigmas), np.cumsum([0, *WHOLEBODY_PARTS.values()])
    figures = {}
    with contextlib.redirect_stdout(io.StringIO()):
        known = tools.COCO(str(files[0]))
        poses = known.loadRes(str(files[1]))
        for number, name in enumerate((*PEERS_NAMES, "wholebody")):
            part = slice(None) if name == "wholebody" else slice(starts[number], starts[number + 1])
            evaluation = evaluations.COCOeval(known, poses, f"keypoints_{name}", sigmas[part])
            evaluation.evaluate()
            evaluation.accumulate()
            evaluation.summarize()
            figures[name] = [float(value) for value in evaluation.stats]
    return figures


def by_part(values: dict[str, float]) -> dict[str, list[float]]:
    prefixes = {"wholebody": "", **dict(zip(PEERS_NAMES, (f"{part} " for part in WHOLEBODY_PARTS), strict=True))}
    return {name: [values[prefix + figure] for figure in AP_NAMES] for name, prefix in prefixes.items()}


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.filterwarnings("ignore:.*score")
def test_all_six_equal_to_xtcocotools(seed: int, tmp_path: Path) -> None:
    truth, results = whole_people(seed)
    ours = by_part(wholebody_ap(truth, results))
    theirs = xtcocotools_figures(truth, results, tmp_path)
    for name, figures in theirs.items():
        assert 0.05 < figures[0] < 0.95
        np.testing.assert_allclose(ours[name], figures, rtol=0, atol=1e-12, err_msg=name)


def test_all_six_are_what_they_were() -> None:
    """Figures of xtcocotools, for machines without it."""
    carried = json.loads(CARRIED.read_text())["six evaluations"]
    ours = by_part(wholebody_ap(*whole_people()))
    assert set(ours) == set(carried)
    for name, figures in carried.items():
        np.testing.assert_allclose(ours[name], figures, rtol=0, atol=1e-9, err_msg=name)


def test_parts_that_are_not_annotated_need_not_be_found() -> None:
    truth, _ = whole_people()
    person = truth["annotations"][0] | {"iscrowd": 0, "image_id": 1, "area": 2e4, "bbox": [0, 0, 200, 200]}
    points = np.random.default_rng(0).uniform(0, 200, (133, 2))
    visible = np.full(133, 2)
    visible[91:112] = 0
    content = truth | {"annotations": [person | split(points, visible)]}
    result = {"image_id": 1, "score": 0.5, **split(points, np.ones(133))}
    values = wholebody_ap(content, [result])
    assert (values["left hand AP"], values["right hand AP"], values["AP"]) == pytest.approx((-1.0, 1.0, 1.0))
    worse = points.copy()
    worse[23:91] += 60.0  # the face: 68 of 112 keypoints
    values = wholebody_ap(content, [result | split(worse, np.ones(133))])
    assert values["face AP"] == 0.0
    assert (values["body AP"], values["foot AP"], values["AP"]) == pytest.approx((1.0, 1.0, 0.0))


def test_one_key_or_five() -> None:
    truth, results = whole_people()
    flat = [
        {key: value for key, value in entry.items() if key not in KEYS}
        | {"keypoints": [value for key in KEYS for value in entry[key]]}
        for entry in results
    ]
    assert wholebody_ap(truth, flat) == wholebody_ap(truth, results)


def test_bad_whole_bodies() -> None:
    truth, results = whole_people()
    with pytest.raises(ValueError, match="results: number 1: face_kpts: expected 204 numbers, got 3"):
        wholebody_ap(truth, [results[0], results[1] | {"face_kpts": [1, 2, 3]}])
    lacking = {key: value for key, value in truth["annotations"][0].items() if key != "lefthand_kpts"}
    with pytest.raises(ValueError, match="annotations: number 0: lefthand_kpts: expected 63 numbers, got NoneType"):
        wholebody_ap(truth | {"annotations": [lacking]}, results)
    body = truth_of("ochuman17", 2)
    with pytest.raises(ValueError, match="wholebody_ap: expected the keypoints of coco_wholebody133, got 'ochuman17'"):
        METRICS["wholebody_ap"].score(body, poses_of(body, 0.0))


def test_drawn_photos_of_whole_bodies() -> None:
    """Photos that are drawn twice count as if they were there twice."""
    truth = truth_of("coco_wholebody133", 3)
    scores = METRICS["wholebody_ap"].score(truth, poses_of(truth, 0.0, slice(2)))
    assert scores.figures(None)["AR"] == pytest.approx(2 / 3)
    assert scores.figures(np.array([2, 1, 0]))["right hand AR"] == pytest.approx(1.0)
    assert scores.figures(np.array([0, 1, 3]))["face AR"] == pytest.approx(1 / 4)


# --- reference figures --------------------------------------------------------------------------------------------
def measured(kind: str, entry: dict[str, Any], people: list[dict[str, Any]]) -> dict[str, float]:
    """Figures of predictions beside the people that they are of, through the data set's own metric."""
    skeleton = get_skeleton(SKELETONS[entry["dataset"]])
    metric = METRICS[kind]
    assert any(skeleton.keypoints == own.keypoints for own in metric.skeletons)
    boxes, count = np.array([p["bbox"][0] for p in people], float), len(people)
    visible = np.array([p["keypoints_visible"][0] for p in people]).reshape(count, -1)
    truth = dataclasses.replace(
        truth_of(skeleton.name, count),
        ids=np.array([p["id"] for p in people]),
        keypoints=np.array([p["keypoints"][0] for p in people], float),
        visible=(visible > 0).astype(np.uint8),
        boxes_xywh=np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], 1),
    )
    found = entry["predictions"]
    results = PoseResults(
        np.arange(count),
        np.array([p["keypoints"] for p in found], float),
        np.ones(visible.shape),
        np.ones(count),
        np.array([p["id"] for p in found]),
    )
    return metric.score(truth, results).figures(None)


def published_as(entry: dict[str, Any]) -> tuple[str, dict[str, str]]:
    """The metric of an evaluation, and MMPose's names of its figures → ours."""
    first = entry["metrics"][0]
    if first["type"] == "NME":
        return "face_nme", {"NME": "NME"}
    name = {0.2: "box_pck", 0.1: "box_pck_10", 0.05: "box_pck_5"}[first["thr"]]
    return name, {"PCK": METRICS[name].figure, "AUC": "AUC", "EPE": "EPE"}


def check(entry: dict[str, Any], people: list[dict[str, Any]]) -> None:
    kind, names = published_as(entry)
    got = measured(kind, entry, people)
    for name, value in entry["values"].items():
        assert got[names[name]] == pytest.approx(value, rel=1e-5, abs=1e-6), (entry["dataset"], name)


@pytest.mark.parametrize("entry", json.loads(CARRIED.read_text())["people"], ids=lambda entry: entry["dataset"])
def test_equal_to_carried_figures(entry: dict[str, Any]) -> None:
    check(entry, entry["people"])


@pytest.mark.shared
def test_equal_to_all_reference_figures(shared: Path) -> None:
    sets = json.loads((shared / "reference" / "datasets_wider.json").read_text())
    entries = json.loads((shared / "reference" / "metrics_wider.json").read_text())
    assert len(entries) == 21
    seen = 0
    for entry in entries:
        people = sets[entry["dataset"]]["records"]
        if entry["dataset"] not in FILES:
            check(entry, people)
            seen += 1
            continue
        (options,), found = entry["metrics"], entry["predictions"]
        skeleton = get_skeleton(SKELETONS[entry["dataset"]])
        species = {person["id"]: person["category_id"] for person in people}
        results = coco_results(
            *([p[key] for p in found] for key in ("image_id", "keypoints", "keypoint_scores", "bbox_score", "area")),
            skeleton.sigmas,
            ids=[p["id"] for p in found],
            category_ids=[species[p["id"]] for p in found],
            score_mode=options.get("score_mode", "bbox_keypoint"),
            nms=options.get("nms_mode", "oks_nms"),
            nms_threshold=options.get("nms_thr", 0.9),
        )
        file = shared / "data" / "samples" / FILES[entry["dataset"]]
        whole = options["type"] == "CocoWholeBodyMetric"
        values = wholebody_ap(file, results) if whole else coco_ap(file, results, sigmas=skeleton.sigmas)
        got = [values[name] for name in AP_NAMES]
        np.testing.assert_allclose(got, list(entry["values"].values()), atol=1e-6, err_msg=entry["dataset"])
        seen += 1
    assert seen == 21
