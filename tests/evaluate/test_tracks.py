"""PoseTrack18's sequences and predicted tracks read from files, and poses given to a tracker."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from posetrack_files import head_model, predictions, write_sequence

from fastpose.data.readers import read_annotations
from fastpose.evaluate import (
    Evaluator,
    PredictedTracks,
    follow_people,
    read_sequences,
    read_tracks,
    score_sequences,
)
from fastpose.metrics import PoseTrackScores
from fastpose.skeletons import COCO17, POSETRACK18_17


@pytest.fixture
def content(tmp_path: Path) -> dict[str, Any]:
    """Two people who pass each other, in ``annotations/000001_drawn.json``."""
    return write_sequence(tmp_path, 1, [(60.0, 80.0), (260.0, 80.0)], [(4.0, 0.0), (-4.0, 0.0)])


@pytest.fixture
def tracks(tmp_path: Path, content: dict[str, Any]) -> Callable[[Any], PredictedTracks]:
    """Reads what is given as predictions of the sequence."""

    def read(said: Any) -> PredictedTracks:
        (tmp_path / "said.json").write_text(json.dumps(said))
        return read_tracks(tmp_path / "said.json", read_sequences(tmp_path / "annotations"))

    return read


def mota(folder: Path, said: PredictedTracks) -> float:
    scores = score_sequences(read_sequences(folder / "annotations"), said)
    return PoseTrackScores.join(scores.values()).by_joint()["total"]["MOTA"]


def with_entry(content: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """The same with another third person."""
    content["annotations"][3] |= changes
    return content


# The truth


def test_a_file_or_a_folder_of_one_file_a_sequence(tmp_path: Path, content: dict[str, Any]) -> None:
    second = write_sequence(tmp_path, 2, [(60.0, 80.0)], [(5.0, 0.0)], unlabelled=[0, 3])
    by_folder = read_sequences(tmp_path / "annotations")
    assert [sequence.name for sequence in by_folder] == ["000001_drawn", "000002_drawn"]
    assert by_folder[1].labelled.tolist() == [False, True, True, False, True, True]
    assert by_folder[1].files[2] == "images/val/000002_drawn/000002.png"
    assert by_folder[0].truth.track_ids is not None
    assert by_folder[0].truth.track_ids.tolist() == [0, 1] * 6
    whole = {key: content[key] + second[key] for key in ("images", "annotations")}
    (tmp_path / "val.json").write_text(json.dumps(whole | {"categories": content["categories"]}))
    for one, other in zip(by_folder, read_sequences(tmp_path / "val.json"), strict=True):
        assert one.name == other.name
        np.testing.assert_array_equal(one.truth.image_ids, other.truth.image_ids)
        np.testing.assert_array_equal(one.truth.keypoints, other.truth.keypoints)
    # Where files say no folder the sequence has the name of the file, or of the video.
    for image in content["images"]:
        image["file_name"] = Path(image["file_name"]).name
    (tmp_path / "val.json").write_text(json.dumps(content))
    assert [sequence.name for sequence in read_sequences(tmp_path / "val.json")] == ["000001"]
    for image in content["images"]:
        del image["vid_id"]
    (tmp_path / "val.json").write_text(json.dumps(content))
    assert [sequence.name for sequence in read_sequences(tmp_path / "val.json")] == ["val"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda c: [], "expected an object with images and annotations"),
        (lambda c: {"annolist": []}, "expected an object with images and annotations"),
        (lambda c: c | {"categories": []}, "expected the keypoints of PoseTrack18 (nose, head_bottom"),
        (lambda c: c | {"categories": [{"keypoints": list(COCO17.keypoints)}]}, "right_ankle), got nose, left_eye"),
        (lambda c: c | {"categories": c["categories"] * 2}, "categories: expected one with keypoints, got 2"),
        (lambda c: c | {"categories": [{"keypoints": [1, 2]}]}, "keypoints: expected a list of names, got [1, 2]"),
        (lambda c: c | {"images": "none"}, "images: expected a list of objects"),
        (lambda c: c | {"annotations": []}, "000001_drawn: annotations: none of them has keypoints"),
        (lambda c: with_entry(c, track_id=None), "track_id: expected an integer, got None"),
        (lambda c: with_entry(c, bbox_head=None), "expected bbox_head"),
        (lambda c: with_entry(c, image_id=5), "is of image_id 5, which images does not list"),
    ],
)
def test_what_is_no_truth(tmp_path: Path, content: dict[str, Any], change: Callable[[Any], Any], said: str) -> None:
    file = tmp_path / "changed.json"
    file.write_text(json.dumps(change(content)))
    with pytest.raises(ValueError, match=f"^{re.escape(str(file))}: .*{re.escape(said)}"):
        read_sequences(file)


def test_what_occurs_in_two_files(tmp_path: Path, content: dict[str, Any]) -> None:
    (tmp_path / "annotations" / "again.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match="sequence 000001_drawn occurs in two files"):
        read_sequences(tmp_path / "annotations")
    for image in content["images"]:
        image["file_name"] = image["file_name"].replace("000001_drawn", "other")
    (tmp_path / "annotations" / "again.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match="image id 10000010000 occurs in two files"):
        read_sequences(tmp_path / "annotations")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="no file"):
        read_sequences(tmp_path / "empty")


# Predictions


def test_the_truth_as_prediction(tmp_path: Path, content: dict[str, Any], tracks: Any) -> None:
    said = tracks(predictions(content))
    assert (said.absent, said.unscored, sum(said.left_out.values())) == ((), 0, 0)
    assert mota(tmp_path, said) == 1.0
    assert mota(tmp_path, tracks(predictions(content)["annotations"])) == 1.0  # as a list


def test_keypoints_are_found_by_name(tmp_path: Path, content: dict[str, Any], tracks: Any) -> None:
    said = predictions(content)
    names = ["Head top", "nose", "left_eye", "head_bottom"]
    columns = [POSETRACK18_17.index(name) for name in ("head_top", "nose", "left_ear", "head_bottom")]
    for entry in said["annotations"]:
        entry["keypoints"] = np.array(entry["keypoints"]).reshape(17, 3)[columns].ravel().tolist()
        entry["scores"] = [0.9] * 4
    said["categories"] = [{"id": 1, "name": "person", "keypoints": names}]
    read = tracks(said)
    assert len(read.absent) == 12
    assert "right_knee" in read.absent
    assert mota(tmp_path, read) == 1.0
    said["categories"] = [{"id": 1, "name": "person", "keypoints": ["a", "b", "left_ear", "d"]}]
    with pytest.raises(ValueError, match="none of the measured joints is among the keypoints: a, b, left_ear, d"):
        tracks(said)


def test_frames_are_found_by_their_files(tmp_path: Path, content: dict[str, Any], tracks: Any) -> None:
    """Who numbers frames in another way says which file each is."""
    said = copy.deepcopy(predictions(content))
    first = said["images"][0]["id"]
    for image in said["images"]:
        image |= {"id": image["id"] - first, "file_name": "/elsewhere/" + image["file_name"]}
    for entry in said["annotations"]:
        entry["image_id"] -= first
    assert mota(tmp_path, tracks(said)) == 1.0
    for image in said["images"]:
        del image["file_name"]
    with pytest.raises(ValueError, match="number 0 is of image_id 0, which is not annotated"):
        tracks(said)


def test_a_keypoint_of_zeros_is_none_whatever_its_score(tmp_path: Path, content: dict[str, Any], tracks: Any) -> None:
    said = predictions(content)
    for entry in said["annotations"]:
        entry["keypoints"][:3] = [0, 0, 0]
    (sequence,) = read_sequences(tmp_path / "annotations")
    scores = score_sequences([sequence], tracks(said))["000001_drawn"]
    nose = scores.by_joint()["nose"]
    assert scores.joints.found.sum() == 2 * 10  # of two joints, on five frames that count
    assert (nose["recall"], nose["MOTA"]) == (0.0, 0.0)  # missing, and not false


def test_what_is_left_out_is_counted(tmp_path: Path, content: dict[str, Any]) -> None:
    second = write_sequence(tmp_path, 2, [(60.0, 80.0)], [(5.0, 0.0)], unlabelled=[1])
    (tmp_path / "said").mkdir()
    said = predictions(content)
    said["images"] = said["images"][:-2]
    said["annotations"] = said["annotations"][:-4]
    for entry in said["annotations"]:
        del entry["scores"]
    (tmp_path / "said" / "a.json").write_text(json.dumps(said))
    other = predictions(second)
    surplus = other["annotations"][0] | {"image_id": second["images"][1]["id"]}
    other["annotations"].append(surplus)
    (tmp_path / "said" / "b.json").write_text(json.dumps(other))
    sequences = read_sequences(tmp_path / "annotations")
    read = read_tracks(tmp_path / "said", sequences)
    assert read.left_out == {
        "frame that the predictions do not list": 2,
        "pose on a frame where nobody is annotated": 1,
    }
    assert read.unscored == 8
    scores = score_sequences(sequences, read)
    assert scores["000001_drawn"].people.figures()["misses"] == 4
    assert scores["000002_drawn"].people.figures()["MOTA"] == 1.0


def test_a_sequence_must_be_spoken_of(tmp_path: Path, content: dict[str, Any], tracks: Any) -> None:
    second = write_sequence(tmp_path, 2, [(60.0, 80.0)], [(5.0, 0.0)])
    said = predictions(content)
    with pytest.raises(ValueError, match="nothing is said of sequence 000002_drawn"):
        tracks(said)
    said["images"] = said["images"] + second["images"]  # looked at, and nobody was found
    read = tracks(said)
    assert len(read.poses[1]) == 0
    scores = score_sequences(read_sequences(tmp_path / "annotations"), read)
    assert scores["000002_drawn"].people.figures()["recall"] == 0.0
    tracks({"images": said["images"], "annotations": []})  # nor anybody anywhere


def test_one_skeleton_in_all_files(tmp_path: Path, content: dict[str, Any]) -> None:
    second = write_sequence(tmp_path, 2, [(60.0, 80.0)], [(5.0, 0.0)])
    (tmp_path / "said").mkdir()
    other = predictions(second) | {"categories": [{"id": 1, "name": "person", "keypoints": list(COCO17.keypoints)}]}
    for name, said in (("a", predictions(content)), ("b", other)):
        (tmp_path / "said" / f"{name}.json").write_text(json.dumps(said))
    with pytest.raises(ValueError, match=r"b.json: results: expected the keypoints of the other files \(nose, head_bo"):
        read_tracks(tmp_path / "said", read_sequences(tmp_path / "annotations"))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda pose: pose.pop("track_id"), "number 2: track_id: expected an integer, got None"),
        (lambda pose: pose.update(track_id="a"), "number 2: track_id: expected an integer, got 'a'"),
        (lambda pose: pose.update(image_id=3), "number 2 is of image_id 3, which is not annotated"),
        (lambda pose: pose.pop("image_id"), "number 2 has no image_id"),
        (lambda pose: pose.update(keypoints=[1, 2, 1], scores=[1]), "number 2: expected 51 keypoint values, got 3"),
        (lambda pose: pose.update(scores=[0.5]), "number 2: scores: expected 17 numbers, one a keypoint, got [0.5]"),
        (lambda pose: pose["scores"].__setitem__(4, "a"), "number 2: scores: expected 17 numbers, one a keypoint"),
        (lambda pose: pose["keypoints"].__setitem__(4, float("nan")), "value that is not finite"),
        (lambda pose: pose.update(keypoints={}), "number 2: expected 51 keypoint values, got dict"),
    ],
)
def test_what_is_no_prediction(content: dict[str, Any], tracks: Any, change: Callable[[Any], Any], said: str) -> None:
    whole = predictions(content)
    change(whole["annotations"][2])
    with pytest.raises(ValueError, match=f"said.json: .*{re.escape(said)}"):
        tracks(whole)


@pytest.mark.parametrize("whole", [{}, {"annotations": 3}, 5, [3], {"annolist": []}])
def test_what_is_no_file_of_predictions(content: dict[str, Any], tracks: Any, whole: Any) -> None:
    with pytest.raises(ValueError, match=r"said\.json: results: expected an object with images and"):
        tracks(whole)


def test_a_track_is_once_on_a_frame(tmp_path: Path, content: dict[str, Any], tracks: Any) -> None:
    said = predictions(content)
    said["annotations"][3]["track_id"] = 0
    with pytest.raises(ValueError, match="sequence 000001_drawn: results: track_id 0 is twice on image 10000010001"):
        mota(tmp_path, tracks(said))


# A model and a tracker


class ByPlace:
    """Gives people on the left half 0, and those on the right 1; nobody on the first frame."""

    seen: ClassVar[list[tuple[float, int]]] = []

    def __init__(self) -> None:
        self.frames = 0

    def update(self, keypoints: Any, scores: Any, boxes: Any, box_scores: Any, time: float) -> Any:
        self.seen.append((time, len(keypoints)))
        assert keypoints.shape == (len(boxes), 3, 2)
        assert scores.shape == (len(box_scores), 3)
        self.frames += 1
        ids = (keypoints[:, 0, 0] > 160).astype(np.int64)
        return ids if self.frames > 1 else np.full(len(ids), -1)


@pytest.fixture
def evaluator(tmp_path: Path, content: dict[str, Any]) -> Evaluator:
    write_sequence(tmp_path, 2, [(60.0, 80.0)], [(5.0, 0.0)], unlabelled=[2])
    return Evaluator(read_annotations(tmp_path / "annotations", tmp_path), "posetrack_ap", workers=0)


def test_a_tracker_sees_the_frames_of_each_sequence_in_order(tmp_path: Path, evaluator: Evaluator) -> None:
    model, sequences = head_model(), read_sequences(tmp_path / "annotations")
    found = evaluator.predict(model)
    ByPlace.seen = []
    tracks = follow_people(evaluator, found, model.spec, sequences, ByPlace, fps=10.0, every_frame=False)
    times = [0.0, 0.1, 0.2, 0.3, 0.4, 0.5]
    assert ByPlace.seen == [(time, 2) for time in times] + [(time, 1) for time in times if time != 0.2]
    assert tracks.left_out == {"pose that the tracker gave to nobody": 3}
    assert len(tracks.absent) == 12
    scores = score_sequences(sequences, tracks)
    figures = PoseTrackScores.join(scores.values()).people.figures()
    assert (figures["people"], figures["found"], figures["false"]) == (17, 14, 0)
    assert (figures["switches"], figures["recall"]) == (0, 14 / 17)
    assert scores["000001_drawn"].by_joint()["nose"]["MOTP_of_matches"] > 0.9
    ByPlace.seen = []
    follow_people(evaluator, found, model.spec, sequences, ByPlace)
    assert (2 / 25, 0) in ByPlace.seen  # somebody has looked at the unlabelled frame, and nobody was there


def test_keypoints_below_a_score_are_not_measured(tmp_path: Path, evaluator: Evaluator) -> None:
    model, sequences = head_model(), read_sequences(tmp_path / "annotations")
    found = evaluator.predict(model)
    found.scores[:, 1] = 0.1
    tracks = follow_people(evaluator, found, model.spec, sequences, ByPlace)
    nose, top = POSETRACK18_17.indices(("nose", "head_top"))
    assert not tracks.poses[0].keypoints[:, top].any()
    assert not tracks.poses[0].keypoint_scores[:, top].any()
    assert tracks.poses[0].keypoints[:, nose].all()
    tracks = follow_people(evaluator, found, model.spec, sequences, ByPlace, keypoint_threshold=0.05)
    assert tracks.poses[0].keypoints[:, top].all()


def test_doubles_are_suppressed_before(tmp_path: Path, evaluator: Evaluator) -> None:
    records = evaluator.records
    twice = np.repeat(np.arange(len(records)), 2)
    doubled = Evaluator(records.select(twice), "posetrack_ap", people=records, workers=0)
    model, sequences = head_model(), read_sequences(tmp_path / "annotations")
    ByPlace.seen = []
    follow_people(doubled, doubled.predict(model), model.spec, sequences, ByPlace, every_frame=False)
    assert {count for _, count in ByPlace.seen[:6]} == {2}
    doubled.nms = "none"
    ByPlace.seen = []
    follow_people(doubled, doubled.predict(model), model.spec, sequences, ByPlace, every_frame=False)
    assert {count for _, count in ByPlace.seen[:6]} == {4}


def test_a_model_without_any_of_the_joints(tmp_path: Path, evaluator: Evaluator) -> None:
    model = head_model()
    found = evaluator.predict(model)
    from spot_model import SPOTS

    with pytest.raises(ValueError, match="'spots' has none of PoseTrack's joints"):
        follow_people(evaluator, found, model.spec.replace(skeleton=SPOTS), [], ByPlace)
