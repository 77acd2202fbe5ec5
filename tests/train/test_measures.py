"""Each data set's own metric, from its annotation file and a list of results."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastpose.codecs import build_codec
from fastpose.data.readers import read_annotations
from fastpose.data.records import PoseRecords
from fastpose.metrics import posetrack_ap
from fastpose.skeletons import (
    AIC14,
    COCO17,
    CROWDPOSE14,
    JHMDB15,
    LSP14,
    MPII16,
    MPII_TRB40,
    POSETRACK18_17,
    Skeleton,
)
from fastpose.spec import PoseSpec
from fastpose.train.evaluate import Evaluator, Predictions
from fastpose.train.measures import (
    METRICS,
    annotation_content,
    default_metric,
    read_predictions,
    score_results,
    write_predictions,
)


def records(skeleton: Skeleton, people: int = 3, photos: int = 3, **more: Any) -> PoseRecords:
    rng = np.random.default_rng(0)
    return PoseRecords(
        skeleton=skeleton,
        image_paths=[Path(f"{i}.png") for i in range(photos)],
        image_ids=np.arange(photos) + 10,
        image_sizes=np.full((photos, 2), 100),
        image_index=np.arange(people) % photos,
        boxes=np.tile([0.0, 0.0, 90.0, 90.0], (people, 1)),
        keypoints=rng.uniform(0, 90, (people, skeleton.num_keypoints, 2)),
        visible=np.full((people, skeleton.num_keypoints), 2),
        areas=np.full(people, 4000.0),
        ids=np.arange(people) + 100,
        scores=np.ones(people),
        ignore=np.zeros(people, bool),
        **more,
    )


def results(data: PoseRecords, ids: bool = True) -> list[dict[str, Any]]:
    points = np.concatenate([data.keypoints, np.ones((*data.keypoints.shape[:2], 1))], -1)
    photos = data.image_ids[data.image_index].tolist()
    entries = [
        {"image_id": photo, "category_id": 1, "keypoints": row, "score": 0.5}
        for photo, row in zip(photos, points.reshape(len(data), -1).tolist(), strict=True)
    ]
    return [e | {"id": i} for e, i in zip(entries, data.ids.tolist(), strict=True)] if ids else entries


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
    ],
)
def test_the_truth_is_perfect(metric: str, skeleton: Skeleton, more: dict[str, Any]) -> None:
    data = records(skeleton, **more)
    scores = score_results(metric, data, results(data))
    assert scores.figures(None)[METRICS[metric]] == pytest.approx(1.0)
    assert scores.photos == 3
    assert scores.figures(np.array([0, 2, 1]))[METRICS[metric]] == pytest.approx(1.0)


def test_limbs_of_sets_that_do_not_tell_hidden_from_seen() -> None:
    data = records(COCO17)
    for visible in (2, 1):
        told = dataclasses.replace(data, visible=np.full_like(data.visible, visible))
        assert score_results("pck", told, results(told)).figures(None)["PCK@0.2"] == 1.0
    told.visible[0, 0] = 2  # now 1 is what a network filled in, and there is no torso
    assert np.isnan(score_results("pck", told, results(told)).figures(None)["PCK@0.2"])


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
    assert evaluator.metric == metric
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
    scores = score_results("jhmdb_pck", data, results(data)[:2])
    assert scores.unpredicted == 1
    assert scores.figures(None)["PCK@0.2"] == pytest.approx(2 / 3)
    assert scores.figures(np.array([1, 0, 1]))["PCK@0.2"] == pytest.approx(1 / 2)


def test_results_without_ids() -> None:
    data = records(LSP14)
    assert score_results("pck", data, results(data, ids=False)).figures(None)["PCK@0.2"] == 1.0
    crowded = records(LSP14, people=4)
    with pytest.raises(ValueError, match="number 0 has image_id 10 and no id, which is not one annotated person"):
        score_results("pck", crowded, results(crowded, ids=False))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"id": [7]}, r"results: number 1 has id \[7\], which is not one annotated person"),
        ({"id": 7}, "results: number 1 has id 7, which is not one annotated person"),
        ({"id": 100}, "results: number 1 is of annotation 100, of which there is one already"),
        ({"keypoints": [1.0]}, "results: number 1: expected 42 keypoint values, got 1"),
        ({"keypoints": None}, "results: number 1: expected 42 keypoint values, got NoneType"),
        ({"keypoints": [float("nan")] * 42}, "results: number 1 has a value that is not finite"),
        ({"keypoints": ["a"] * 42}, "results: number 1 has a value that is not a number"),
    ],
)
def test_bad_results(change: dict[str, Any], message: str) -> None:
    data = records(LSP14)
    entries = results(data)
    entries[1] |= change
    with pytest.raises(ValueError, match=message):
        score_results("pck", data, entries)
    with pytest.raises(ValueError, match="results: empty"):
        score_results("pck", data, [])


def test_without_head_boxes_there_is_no_pckh() -> None:
    data = records(MPII16)
    with pytest.raises(ValueError, match="mpii_pckh: the annotations have no head boxes"):
        score_results("mpii_pckh", data, results(data))


def test_annotations_from_records_and_from_files(tmp_path: Path) -> None:
    data = records(COCO17, crowd_index=[0.0, 0.5, 1.0])
    content = annotation_content(None, data)
    assert [image["crowdIndex"] for image in content["images"]] == [0.0, 0.5, 1.0]
    assert content["annotations"][0]["bbox"] == [0, 0, 90, 90]
    for name in "ab":
        part = {"images": [{"id": name}], "annotations": [{"id": name}]}
        (tmp_path / f"{name}.json").write_text(json.dumps(part))
    assert [image["id"] for image in annotation_content(tmp_path, data)["images"]] == ["a", "b"]
    (tmp_path / "list.json").write_text("[]")
    assert annotation_content(tmp_path / "list.json", data) == content
    with pytest.raises(ValueError, match="nobody has annotated keypoints"):
        annotation_content(None, dataclasses.replace(data, visible=data.visible * 0))


@pytest.mark.parametrize("others", [17, 20])
@pytest.mark.parametrize("number", [1, 3])
def test_other_categories_are_nobody_to_find(tmp_path: Path, others: int, number: int) -> None:
    data = records(COCO17)
    content = dict(annotation_content(None, data))
    animal = {"id": 9, "image_id": 10, "category_id": 2, "bbox": [0, 0, 50, 50], "keypoints": [5, 5, 2] * others}
    content["annotations"] = [*(a | {"category_id": number} for a in content["annotations"]), animal]
    content["images"] = [i | {"file_name": f"{i['id']}.jpg"} for i in content["images"]]
    content["categories"] = [
        {"id": number, "name": "person", "keypoints": list(COCO17.keypoints)},
        {"id": 2, "name": "horse", "keypoints": [f"k{i}" for i in range(others)]},
    ]
    file = tmp_path / "both.json"
    file.write_text(json.dumps(content))
    evaluator = Evaluator(read_annotations(file), annotations=file)
    spec = PoseSpec(COCO17, (256, 192), build_codec("gaussian", heatmap_size=(64, 48), sigma=2.0))
    assert perfect(evaluator, spec)["AP"] == pytest.approx(1)


def test_average_precision_where_the_reader_moves_pixels(tmp_path: Path, data: Path) -> None:
    content = json.loads((data / "reader_figures.json").read_text())["jhmdb"]["file"]
    file = tmp_path / "Sub1_test.json"
    file.write_text(json.dumps(content))
    evaluator = Evaluator(read_annotations(file), "coco_ap", annotations=file)
    spec = PoseSpec(JHMDB15, (256, 256), build_codec("gaussian", heatmap_size=(64, 64), sigma=2.0))
    assert perfect(evaluator, spec)["AP"] == pytest.approx(1)


def perfect(evaluator: Evaluator, spec: PoseSpec) -> dict[str, float]:
    """The figures of somebody who knows the truth."""
    people = evaluator.records
    known = Predictions(people.keypoints, np.ones(people.visible.shape, np.float32), np.ones(len(people), bool))
    return evaluator.score(evaluator.results(known, spec)).figures(None)


def test_posetracks_folder(tmp_path: Path) -> None:
    data = records(POSETRACK18_17)
    content = dict(annotation_content(None, data))
    content["images"] = [i | {"file_name": f"images/val/video{i['id'] % 2}/1.jpg"} for i in content["images"]]
    content["annotations"] = [a | {"bbox_head": [0, 0, 30, 40]} for a in content["annotations"]]
    entries = [e | {"score": 1.0} for e in results(data, ids=False)]
    write_predictions(tmp_path / "out", entries, content)
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == ["video0.json", "video1.json"]
    video = json.loads((tmp_path / "out" / "video0.json").read_text())
    assert [image["id"] for image in video["images"]] == [10, 12]
    assert {"image_id", "track_id", "keypoints", "scores"} <= set(video["annotations"][0])
    back = read_predictions(tmp_path / "out")
    assert posetrack_ap(content, back) == posetrack_ap(content, entries)
    del content["images"][0]["file_name"]
    with pytest.raises(ValueError, match="image 10 has no file_name"):
        write_predictions(tmp_path / "out", entries, content)


def test_mpiis_file(tmp_path: Path) -> None:
    scipy = pytest.importorskip("scipy.io")
    data = dataclasses.replace(records(MPII16), ids=np.array([3, 0, 1]))
    write_predictions(tmp_path / "pred.mat", results(data), None)
    preds = scipy.loadmat(tmp_path / "pred.mat")["preds"]
    assert preds.shape == (4, 16, 2)
    np.testing.assert_allclose(preds[[3, 0, 1]], data.keypoints + 1)
    assert not preds[2].any()
    with pytest.raises(ValueError, match="MPII's 16 keypoints"):
        write_predictions(tmp_path / "pred.mat", results(records(COCO17)), None)


def test_posetracks_scores_stand_apart(tmp_path: Path) -> None:
    entry = {"image_id": 1, "keypoints": [1, 2, 1, 3, 4, 1], "scores": [0.25, 0.75]}
    (tmp_path / "video.json").write_text(json.dumps({"annotations": [entry]}))
    (read,) = read_predictions(tmp_path)
    assert read["keypoints"] == [1, 2, 0.25, 3, 4, 0.75]
    assert read["score"] == 0.5


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]", "empty, there is nothing to evaluate"),
        ('[{"image_id": 1', "cannot be read as JSON"),
        ("{}", "expected a list of poses"),
        ("[1]", "expected a list of poses"),
    ],
)
def test_bad_files_of_predictions(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "results.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_predictions(tmp_path / "results.json")
    with pytest.raises(ValueError, match=r"results\.json: (cannot be read|expected an object with annotations)"):
        read_predictions(tmp_path)
