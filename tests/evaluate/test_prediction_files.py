"""Predictions written and read again: COCO's list, PoseTrack's folder, MPII's ``.mat``."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from invented import content, records, results, score

from fastpose.evaluate import read_predictions, truth_of_records, write_predictions
from fastpose.metrics import METRICS, read_truth
from fastpose.skeletons import COCO17, MPII16, POSETRACK18_17


def test_posetracks_folder(tmp_path: Path) -> None:
    data, metric = records(POSETRACK18_17), METRICS["posetrack_ap"]
    whole = content(data, bbox_head=[0, 0, 30, 40])
    for image in whole["images"]:
        image["file_name"] = f"images/val/video{image['id'] % 2}/1.jpg"
    (tmp_path / "truth.json").write_text(json.dumps(whole))
    tracks = np.array([4, 9, 4])
    poses = dataclasses.replace(results(data, ids=False), scores=np.ones(3), track_ids=tracks)
    write_predictions(tmp_path / "out", poses, POSETRACK18_17, tmp_path / "truth.json")
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == ["video0.json", "video1.json"]
    video = json.loads((tmp_path / "out" / "video0.json").read_text())
    assert [image["id"] for image in video["images"]] == [10, 12]
    assert {"image_id", "track_id", "keypoints", "scores"} <= set(video["annotations"][0])
    assert [entry["track_id"] for entry in video["annotations"]] == [4, 4]
    truth = read_truth(whole, POSETRACK18_17, optional=metric.optional)
    back = read_predictions(tmp_path / "out", truth)
    assert metric.score(truth, back).figures(None) == metric.score(truth, poses).figures(None)
    del whole["images"][0]["file_name"]
    (tmp_path / "truth.json").write_text(json.dumps(whole))
    with pytest.raises(ValueError, match="image 10 has no file_name"):
        write_predictions(tmp_path / "out", poses, POSETRACK18_17, tmp_path / "truth.json")


def test_posetracks_keypoint_of_zeros_is_none(tmp_path: Path) -> None:
    """Whatever its score, as PoseTrack's own code has it; it is missing then, and not wrong."""
    data, metric = records(POSETRACK18_17), METRICS["posetrack_ap"]
    whole = content(data, bbox_head=[0, 0, 30, 40])
    nose = POSETRACK18_17.index("nose")
    poses = [
        {"image_id": entry["image_id"], "track_id": 0, "keypoints": list(entry["keypoints"]), "scores": [0.5] * 17}
        for entry in whole["annotations"]
    ]
    poses[0]["keypoints"][3 * nose : 3 * nose + 3] = [0, 0, 0]
    poses[0]["scores"][nose] = 0.9
    (tmp_path / "said.json").write_text(json.dumps({"annotations": poses}))
    truth = read_truth(whole, POSETRACK18_17, optional=metric.optional)
    back = read_predictions(tmp_path / "said.json", truth)
    assert metric.score(truth, back).figures(None)["nose"] == pytest.approx(2 / 3)
    poses[0]["scores"] = [0.5]
    (tmp_path / "said.json").write_text(json.dumps({"annotations": poses}))
    with pytest.raises(ValueError, match="results: number 0: scores: expected 17 numbers, one a keypoint"):
        read_predictions(tmp_path / "said.json", truth)


def test_mpiis_file_and_back(tmp_path: Path) -> None:
    scipy = pytest.importorskip("scipy.io")
    data = dataclasses.replace(records(MPII16, head_sizes=[10.0] * 3), ids=np.array([3, 0, 1]))
    poses = results(data)
    poses.keypoints[1] += 4  # wrong at 0.1 of the head, right at 0.5
    file = tmp_path / "pred.mat"
    write_predictions(file, poses, MPII16, tmp_path)
    preds = scipy.loadmat(file)["preds"]
    assert preds.shape == (4, 16, 2)
    np.testing.assert_allclose(preds[[3, 0, 1]], poses.keypoints + 1)
    assert not preds[2].any()
    back = read_predictions(file, truth_of_records(data), with_ids=True)
    figures = score("mpii_pckh", data, poses).figures(None)
    assert score("mpii_pckh", data, back).figures(None) == figures
    assert figures["PCKh@0.1"] < 0.5 < figures["PCKh@0.5"]
    alone = dataclasses.replace(data.select([1]), ids=np.array([0]))
    write_predictions(file, results(alone), MPII16, tmp_path)
    assert score("mpii_pckh", alone, read_predictions(file, truth_of_records(alone))).unpredicted == 0
    # A file of everybody, read beside data that leave somebody out.
    write_predictions(file, poses, MPII16, tmp_path)
    few = data.select([0, 2])
    assert score("mpii_pckh", few, read_predictions(file, truth_of_records(few))).unpredicted == 0


def test_mpiis_file_refuses_what_it_cannot_hold(tmp_path: Path) -> None:
    scipy = pytest.importorskip("scipy.io")
    file, data = tmp_path / "pred.mat", records(MPII16)
    with pytest.raises(ValueError, match="MPII's 16 keypoints"):
        write_predictions(file, results(records(COCO17)), COCO17, tmp_path)
    with pytest.raises(ValueError, match="do not say of whom they are"):
        write_predictions(file, results(data, ids=False), MPII16, tmp_path)
    for content_of_file, said in (
        ({"preds": np.zeros((4, 14, 2))}, r"preds: expected shape \[N, 16, 2\], got \(4, 14, 2\)"),
        ({"preds": np.full((101, 16, 2), np.nan)}, "a value that is not finite"),
        ({"preds": np.zeros((200, 16, 2))}, "of none of the annotated people"),
        ({"joints": np.zeros(1)}, r"preds: expected shape \[N, 16, 2\], got \(\)"),
        ({"preds": "text"}, "preds: expected numbers"),
    ):
        scipy.savemat(file, content_of_file)
        with pytest.raises(ValueError, match=said):
            read_predictions(file, truth_of_records(data))
    file.write_bytes(b"MATLAB 5.0 MAT-file")
    with pytest.raises(ValueError, match=r"pred\.mat: .*MATLAB"):
        read_predictions(file, truth_of_records(data))


def test_posetracks_scores_stand_apart(tmp_path: Path) -> None:
    data = records(POSETRACK18_17)
    scores = np.linspace(0, 1, 17).tolist()
    entry = {"image_id": 10, "keypoints": [5.0] * 51, "scores": scores}
    (tmp_path / "video.json").write_text(json.dumps({"annotations": [entry]}))
    read = read_predictions(tmp_path, truth_of_records(data))
    assert read.keypoint_scores[0].tolist() == scores
    assert read.scores.tolist() == [0.5]


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
    truth = truth_of_records(records(COCO17))
    (tmp_path / "results.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_predictions(tmp_path / "results.json", truth)
    with pytest.raises(ValueError, match=r"results\.json: (cannot be read|expected an object with annotations)"):
        read_predictions(tmp_path, truth)
