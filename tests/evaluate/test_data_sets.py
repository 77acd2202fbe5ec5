"""Each data set's own metric, from its annotation file and arrays of results."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from invented import content, records, results, score

from fastpose.codecs import build_codec
from fastpose.data.readers import read_annotations
from fastpose.evaluate import (
    Evaluator,
    Predictions,
    default_metric,
    read_annotated,
    read_predictions,
    truth_of_records,
    write_predictions,
)
from fastpose.metrics import METRICS, read_results, result_entries
from fastpose.skeletons import (
    AIC14,
    ANIMALKINGDOM23,
    AP10K17,
    COCO17,
    COCO_WHOLEBODY133,
    CROWDPOSE14,
    FREIHAND21,
    HALPE26,
    JHMDB15,
    LSP14,
    MPII16,
    MPII_TRB40,
    POSETRACK18_17,
    Skeleton,
    get_skeleton,
)
from fastpose.spec import PoseSpec


def test_each_data_set_has_its_metric() -> None:
    for skeleton, metric in (
        (COCO17, "coco_ap"),
        (AIC14, "coco_ap"),
        (CROWDPOSE14, "coco_ap"),
        (LSP14, "pck"),
        (MPII16, "mpii_pckh"),
        (MPII_TRB40, "trb_accuracy"),
        (JHMDB15, "jhmdb_pck"),
        (POSETRACK18_17, "posetrack_ap"),
    ):
        assert default_metric(records(skeleton)) == metric
    for metric, names in {
        "wholebody_ap": "coco_wholebody133",
        "face_nme": "300w68 300wlp68 coco_wholebody_face68 aflw19 cofw29 wflw98 lapa106 horse22",
        "box_pck": "coco_wholebody_hand21 onehand10k21 freihand21 rhd21 fly32 locust35 zebra9 deepfashion_full8 "
        "deepfashion_upper6 deepfashion_lower4 deepfashion2_294 halpe136",
        "box_pck_10": "halpe26",
        "box_pck_5": "animalkingdom23",
        "coco_ap": "ap10k17 animalpose20 macaque17 atrw15 ochuman17 humanart21",
    }.items():
        assert {default_metric(records(get_skeleton(name))) for name in names.split()} == {metric}, names
    assert default_metric(records(CROWDPOSE14, crowd_index=[0.1, 0.5, 0.9])) == "crowdpose_ap"
    assert default_metric(records(LSP14), COCO17) == "pck"
    assert default_metric(records(COCO17), LSP14) == "pck"


@pytest.mark.parametrize(
    ("metric", "skeleton", "more"),
    [
        ("coco_ap", COCO17, {}),
        ("crowdpose_ap", CROWDPOSE14, {"crowd_index": [0.1, 0.5, 0.9]}),
        ("mpii_pckh", MPII16, {"head_sizes": [1000.0] * 3}),  # a head beside which the offset of 1 is nothing
        ("trb_accuracy", MPII_TRB40, {"head_sizes": [10.0] * 3}),
        ("jhmdb_pck", JHMDB15, {}),
        ("pck", LSP14, {}),
        ("wholebody_ap", COCO_WHOLEBODY133, {}),
        ("box_pck", FREIHAND21, {}),
        ("box_pck_10", HALPE26, {}),
        ("box_pck_5", ANIMALKINGDOM23, {}),
    ],
)
def test_the_truth_is_perfect(metric: str, skeleton: Skeleton, more: dict[str, Any]) -> None:
    data = records(skeleton, **more)
    scores = score(metric, data, results(data))
    assert scores.figures(None)[METRICS[metric].figure] == pytest.approx(1.0)
    assert scores.photos == 3
    assert scores.figures(np.array([0, 2, 1]))[METRICS[metric].figure] == pytest.approx(1.0)


def test_limbs_of_sets_that_do_not_tell_hidden_from_seen() -> None:
    data = records(COCO17)
    for visible in (2, 1):
        told = dataclasses.replace(data, visible=np.full_like(data.visible, visible))
        assert score("pck", told, results(told)).figures(None)["PCK@0.2"] == 1.0
    told.visible[0, 0] = 2  # now 1 is what a network filled in, and there is no torso
    assert np.isnan(score("pck", told, results(told)).figures(None)["PCK@0.2"])


@pytest.mark.shared
@pytest.mark.parametrize(
    ("file", "metric"),
    [
        ("coco/test_coco.json", "coco_ap"),
        ("humanart/test_humanart.json", "coco_ap"),
        ("aic/test_aic.json", "coco_ap"),
        ("crowdpose/test_crowdpose.json", "crowdpose_ap"),
        ("jhmdb/test_jhmdb_sub1.json", "jhmdb_pck"),
        ("mpii/test_mpii.json", "mpii_pckh"),
        ("mpii/test_mpii_trb.json", "trb_accuracy"),
        ("posetrack18/annotations/test_posetrack18_val.json", "posetrack_ap"),
        ("posetrack18/annotations/val", "posetrack_ap"),
    ],
)
def test_official_files(shared: Path, file: str, metric: str) -> None:
    """The annotated keypoints are perfect predictions of every data set, by its own metric."""
    path = shared / "data" / "samples" / file
    data = read_annotations(path)
    if metric in ("mpii_pckh", "trb_accuracy") and data.head_sizes is None:  # samples without the head boxes
        data = dataclasses.replace(data, head_sizes=np.full(len(data), 50.0))
    evaluator = Evaluator(data, annotations=path)
    assert evaluator.metric.name == metric
    spec = PoseSpec(skeleton=data.skeleton, input_size=(64, 64), codec=build_codec("gaussian", heatmap_size=(16, 16)))
    people = evaluator.records
    found = Predictions(people.keypoints, np.ones(people.visible.shape, np.float32), np.ones(len(people), bool))
    found.keypoints[people.visible == 0] = 0
    found.scores[people.visible == 0] = 0
    scores = evaluator.score(evaluator.results(found, spec))
    assert scores.figures(None)[evaluator.metric_name] == pytest.approx(1.0)
    assert scores.photos == len(data.image_ids)


def test_people_without_a_result_are_wrong_and_counted() -> None:
    data = records(JHMDB15)
    scores = score("jhmdb_pck", data, results(data).select([0, 1]))
    assert scores.unpredicted == 1
    assert scores.figures(None)["PCK@0.2"] == pytest.approx(2 / 3)
    assert scores.figures(np.array([1, 0, 1]))["PCK@0.2"] == pytest.approx(1 / 2)


def test_results_without_ids() -> None:
    data = records(LSP14)
    assert score("pck", data, results(data, ids=False)).figures(None)["PCK@0.2"] == 1.0
    crowded = records(LSP14, people=4)
    with pytest.raises(ValueError, match="number 0 has image_id 10 and no id, which is not one annotated person"):
        score("pck", crowded, results(crowded, ids=False))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"id": [7]}, r"results: number 1: id: expected an integer, got \[7\]"),
        ({"id": 7}, "results: number 1 has id 7, which is not one annotated person"),
        ({"id": 100}, "results: number 1 is of annotation 100, of which there is one already"),
        ({"keypoints": [1.0]}, "results: number 1: expected 42 keypoint values, got 1"),
        ({"keypoints": None}, "results: number 1 has no keypoints"),
        ({"keypoints": [float("nan")] * 42}, "results: number 1 has a value that is not finite"),
        ({"keypoints": ["a"] * 42}, "results: number 1 has a value that is not a number"),
        ({"image_id": 7}, "results: number 1 is of image_id 7, which is not annotated"),
    ],
)
def test_bad_results(change: dict[str, Any], message: str) -> None:
    data = records(LSP14)
    entries = result_entries(results(data))
    entries[1] |= change
    with pytest.raises(ValueError, match=message):
        score("pck", data, read_results(entries, 14, with_ids=True))
    with pytest.raises(ValueError, match="results: empty"):
        score("pck", data, results(data.select([])))


def test_without_head_boxes_there_is_no_pckh() -> None:
    data = records(MPII16)
    with pytest.raises(ValueError, match="mpii_pckh: the annotations have no head boxes"):
        score("mpii_pckh", data, results(data))


def test_the_truth_comes_from_files_in_cocos_format_and_from_records_else(tmp_path: Path) -> None:
    data = records(COCO17, crowd_index=[0.0, 0.5, 1.0])
    own = read_annotated(None, data)
    assert own.boxes_xywh[0].tolist() == [0, 0, 90, 90]
    assert own.crowd_index is not None
    assert own.crowd_index.tolist() == [0.0, 0.5, 1.0]
    whole = content(data)
    for number, name in enumerate("ab"):
        people = whole["annotations"][number : number + 1]
        (tmp_path / f"{name}.json").write_text(
            json.dumps({"images": whole["images"][number : number + 1], "annotations": people})
        )
    assert read_annotated(tmp_path, data).image_ids.tolist() == [10, 11]
    (tmp_path / "list.json").write_text("[]")
    assert read_annotated(tmp_path / "list.json", data).image_ids.tolist() == [10, 11, 12]
    with pytest.raises(ValueError, match="nobody has annotated keypoints"):
        read_annotated(None, dataclasses.replace(data, visible=data.visible * 0))


def test_photos_need_not_stand_in_the_order_of_their_ids() -> None:
    data = dataclasses.replace(records(LSP14), image_ids=np.array([30, 10, 20]))
    assert truth_of_records(data).image.tolist() == [2, 0, 1]
    assert score("pck", data, results(data, ids=False)).figures(None)["PCK@0.2"] == 1.0
    worse = results(data)
    worse.keypoints[0] += 1000  # the photo of id 30, the last one
    assert score("pck", data, worse).figures(np.array([1, 1, 0]))["PCK@0.2"] == 1.0
    assert score("pck", data, worse).figures(np.array([0, 0, 1]))["PCK@0.2"] == 0.0


@pytest.mark.parametrize("others", [17, 20])
@pytest.mark.parametrize("number", [1, 3])
def test_other_categories_are_nobody_to_find(tmp_path: Path, others: int, number: int) -> None:
    data = records(COCO17)
    whole = content(data)
    animal = {"id": 9, "image_id": 10, "category_id": 2, "bbox": [0, 0, 50, 50], "keypoints": [5, 5, 2] * others}
    whole["annotations"] = [*(a | {"category_id": number} for a in whole["annotations"]), animal]
    whole["images"] = [i | {"file_name": f"{i['id']}.jpg"} for i in whole["images"]]
    whole["categories"] = [
        {"id": number, "name": "person", "keypoints": list(COCO17.keypoints)},
        {"id": 2, "name": "horse", "keypoints": [f"k{i}" for i in range(others)]},
    ]
    file = tmp_path / "both.json"
    file.write_text(json.dumps(whole))
    evaluator = Evaluator(read_annotations(file), annotations=file)
    spec = PoseSpec(COCO17, (256, 192), build_codec("gaussian", heatmap_size=(64, 48), sigma=2.0))
    assert perfect(evaluator, spec)["AP"] == pytest.approx(1)


def test_average_precision_where_the_reader_moves_pixels(tmp_path: Path, data: Path) -> None:
    whole = json.loads((data / "reader_figures.json").read_text())["jhmdb"]["file"]
    file = tmp_path / "Sub1_test.json"
    file.write_text(json.dumps(whole))
    evaluator = Evaluator(read_annotations(file), "coco_ap", annotations=file)
    spec = PoseSpec(JHMDB15, (256, 256), build_codec("gaussian", heatmap_size=(64, 64), sigma=2.0))
    assert perfect(evaluator, spec)["AP"] == pytest.approx(1)


def perfect(evaluator: Evaluator, spec: PoseSpec) -> dict[str, float]:
    """The figures of somebody who knows the truth."""
    people = evaluator.records
    known = Predictions(people.keypoints, np.ones(people.visible.shape, np.float32), np.ones(len(people), bool))
    return evaluator.score(evaluator.results(known, spec)).figures(None)


def test_species_are_measured_one_by_one(tmp_path: Path) -> None:
    """AP-10K: average precision is over the species in which there is somebody, of a model's poses and of a file's."""
    data = records(AP10K17)
    whole = content(data)
    whole["categories"] = [{"id": i, "name": f"animal {i}", "keypoints": list(AP10K17.keypoints)} for i in (1, 2, 3)]
    for entry, category in zip(whole["annotations"], (1, 3, 3), strict=True):
        entry["category_id"] = category
    file = tmp_path / "animals.json"
    file.write_text(json.dumps(whole))
    spec = PoseSpec(skeleton=AP10K17, input_size=(64, 64), codec=build_codec("gaussian", heatmap_size=(16, 16)))
    found = Predictions(data.keypoints.copy(), np.ones(data.visible.shape, np.float32), np.ones(3, bool))
    found.keypoints[1] += 500  # one of the two of the second species
    figures = []
    for category in ("all", None):
        evaluator = Evaluator(data, annotations=file, category=category)
        poses = evaluator.results(found, spec)
        assert poses.category_ids is not None
        assert poses.category_ids.tolist() == [1, 3, 3]
        figures.append(evaluator.score(poses).figures(None))
    assert figures[0] == figures[1]
    assert (figures[0]["AP"], figures[0]["AR"]) == pytest.approx(((1 + 0.25) / 2, (1 + 0.5) / 2), abs=0.01)
    again = tmp_path / "poses.json"
    write_predictions(again, poses, AP10K17, file)
    assert evaluator.score(read_predictions(again, evaluator.truth)).figures(None) == figures[0]
    # Boxes of a detector do not say what animal is in them: then all are of one kind.
    boxes = data.with_boxes(data.image_index, data.boxes, np.ones(3))
    evaluator = Evaluator(boxes, annotations=file, people=data)
    assert evaluator.score(evaluator.results(found, spec)).figures(None)["AR"] == pytest.approx(2 / 3)


def test_whole_bodies_in_the_official_layout(tmp_path: Path) -> None:
    data = records(COCO_WHOLEBODY133)
    whole, spans = content(data), np.cumsum([0, 17, 6, 68, 21, 21]) * 3
    keys = ("keypoints", "foot_kpts", "face_kpts", "lefthand_kpts", "righthand_kpts")
    for entry in whole["annotations"]:
        values = entry["keypoints"]
        entry |= {key: values[a:b] for key, a, b in zip(keys, spans[:-1], spans[1:], strict=True)}
    file, predictions = tmp_path / "wholebody.json", tmp_path / "poses.json"
    file.write_text(json.dumps(whole))
    evaluator = Evaluator(data, annotations=file)
    assert (evaluator.metric.name, evaluator.metric_name) == ("wholebody_ap", "AP")
    spec = PoseSpec(
        skeleton=COCO_WHOLEBODY133, input_size=(64, 64), codec=build_codec("gaussian", heatmap_size=(16, 16))
    )
    found = Predictions(data.keypoints.copy(), np.ones(data.visible.shape, np.float32), np.ones(3, bool))
    found.keypoints[2, 91:112] += 500  # a left hand
    poses = evaluator.results(found, spec)
    figures = evaluator.score(poses).figures(None)
    assert (figures["left hand AR"], figures["right hand AR"]) == pytest.approx((2 / 3, 1.0))
    write_predictions(predictions, poses, COCO_WHOLEBODY133, file)
    (first, *_) = json.loads(predictions.read_text())
    assert [len(first[key]) for key in keys] == [51, 18, 204, 63, 63]
    assert evaluator.score(read_predictions(predictions, evaluator.truth)).figures(None) == pytest.approx(figures)
