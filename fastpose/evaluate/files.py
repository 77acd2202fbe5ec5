"""Predictions as their data set's evaluation server takes them: COCO's list, PoseTrack's folder, MPII's ``.mat``."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..data.readers.files import read_mat
from ..data.records import DataError
from ..files import atomic_write
from ..metrics import PoseResults, Truth, read_results, result_entries
from ..metrics.coco_files import read_content
from ..metrics.truth import positions
from ..metrics.wholebody_files import split_parts
from ..skeletons import MPII16, POSETRACK18_17, Skeleton
from ..skeletons.wholebody import COCO_WHOLEBODY133

__all__ = ["read_predictions", "scored_entries", "write_predictions"]

Result = Mapping[str, Any]


def read_predictions(path: Path, truth: Truth, *, with_ids: bool = False) -> PoseResults:
    """Poses of a file or folder that :func:`write_predictions` wrote, or anybody else in that format.

    Args:
        path: A list in COCO's format, MPII's ``preds`` (``.mat``), or PoseTrack's folder (one file a video).
        truth: The annotated people, whose keypoints they are.
        with_ids: Read the ``id`` of each entry of a list: the annotated person that it is of.

    Returns:
        The poses.

    Raises:
        ValueError: It cannot be read (a .mat file not without SciPy), is not of such a format, or there is nothing in
            it.
    """
    if path.suffix.lower() == ".mat":
        return _read_mat(path, truth)
    if path.is_dir():
        entries: Any = []
        for file in sorted(path.glob("*.json")):
            content = read_content(file)
            if not isinstance(content, Mapping) or not isinstance(content.get("annotations"), list):
                raise ValueError(f"{file}: expected an object with annotations, got {type(content).__name__}")
            entries += content["annotations"]
    else:
        content = read_content(path)
        entries = content.get("annotations") if isinstance(content, Mapping) else content
    if not isinstance(entries, list) or not all(isinstance(entry, Mapping) for entry in entries):
        raise ValueError(f"{path}: expected a list of poses")
    if not entries:
        raise ValueError(f"{path}: empty, there is nothing to evaluate")
    return read_results(
        scored_entries(entries),
        truth.skeleton.num_keypoints,
        category_id=int(truth.category_ids[0]),
        with_ids=with_ids,
    )


def scored_entries(entries: Sequence[Result]) -> list[Result]:
    """Poses as COCO's lists state them: x, y and score of each keypoint.

    Args:
        entries: They may be PoseTrack's, which state the scores apart (``scores``); there a keypoint of three zeros is
            none, whatever its score.

    Returns:
        The same poses. Those without scores keep what they say, and have no ``scores``; those with them have a
        ``score``, the mean if none is stated.

    Raises:
        ValueError: Scores are not one number a keypoint.
    """
    return [_scored(number, entry) for number, entry in enumerate(entries)]


def _scored(number: int, entry: Result) -> Result:
    scores, points = entry.get("scores"), entry.get("keypoints")
    if not scores:
        return {key: value for key, value in entry.items() if key != "scores"}
    if not isinstance(points, list):
        return entry  # which is said of it later
    fitting = isinstance(scores, list) and set(map(type, scores)) <= {int, float}
    if not fitting or 3 * len(scores) != len(points):
        raise ValueError(
            f"results: number {number}: scores: expected {len(points) // 3} numbers, one a keypoint, got {scores!r:.80}"
        )
    values = list(points)
    xs, ys, flags = points[0::3], points[1::3], points[2::3]
    if 0 in xs:
        scores = [s if x or y or flag else 0.0 for x, y, flag, s in zip(xs, ys, flags, scores, strict=True)]
    values[2::3] = scores
    return {"score": sum(scores) / len(scores), **entry, "keypoints": values}


def write_predictions(
    path: Path, results: PoseResults, skeleton: Skeleton, annotations: Path, *, category_id: int = 1
) -> None:
    """Write poses.

    Args:
        path: A file for a list in COCO's format; with the suffix ``.mat`` MPII's ``preds``, [N, 16, 2] in the order of
            its annotation file, pixels counted from 1 and 0 where nobody was predicted; a name without suffix, where
            the keypoints are PoseTrack's, for its folder with one file a video.
        results: The poses.
        skeleton: What their keypoints are.
        annotations: PoseTrack's annotation file or folder, which says what the videos are.
        category_id: Written to the entries of a list.

    Raises:
        ImportError: A .mat file is asked for and SciPy is not installed.
        ValueError: A folder is asked for and the annotations do not say which file a photo is; or a .mat file, and the
            results are not of MPII's keypoints and people.
    """
    if path.suffix.lower() == ".mat":
        atomic_write(path, _mat(results, skeleton))
    elif not path.suffix and skeleton.keypoints == POSETRACK18_17.keypoints:
        _write_videos(path, results, annotations)
    else:
        entries = result_entries(results, category_id=category_id)
        if skeleton.keypoints == COCO_WHOLEBODY133.keypoints:
            entries = list(map(split_parts, entries))
        atomic_write(path, (json.dumps(entries) + "\n").encode())


def _write_videos(path: Path, results: PoseResults, annotations: Path) -> None:
    files = sorted(annotations.glob("*.json")) if annotations.is_dir() else [annotations]
    videos: dict[str, list[Mapping[str, Any]]] = {}
    for file in files:
        for image in read_content(file)["images"]:
            if not isinstance(image.get("file_name"), str):
                raise ValueError(f"{file}: image {image.get('id')} has no file_name, which names its video")
            videos.setdefault(Path(image["file_name"]).parent.name or "video", []).append(image)
    of_frame: dict[int, list[Result]] = {}
    for entry in result_entries(results):
        of_frame.setdefault(entry["image_id"], []).append(entry)
    category = {"supercategory": "person", "id": 1, "name": "person", "keypoints": list(POSETRACK18_17.keypoints)}
    path.mkdir(parents=True, exist_ok=True)
    for video, images in videos.items():
        poses = [
            {
                "image_id": image["id"],
                "track_id": entry.get("track_id", track),
                "keypoints": entry["keypoints"],
                "scores": entry["keypoints"][2::3],
                "score": entry["score"],
            }
            for image in images
            for track, entry in enumerate(of_frame.get(image["id"], []))
        ]
        frames = [{"id": image["id"], "file_name": image["file_name"]} for image in images]
        document = {"images": frames, "categories": [category], "annotations": poses}
        atomic_write(path / f"{video}.json", (json.dumps(document) + "\n").encode())


def _mat(results: PoseResults, skeleton: Skeleton) -> bytes:
    try:
        from scipy.io import savemat
    except ImportError:
        raise ImportError("writing .mat files needs SciPy: pip install scipy") from None
    if skeleton.keypoints != MPII16.keypoints:
        raise ValueError(f"predictions: a .mat file holds MPII's 16 keypoints of each person, got {skeleton.name!r}")
    if results.ids is None:  # as after the suppression of doubles
        raise ValueError("predictions: a .mat file has a row for each person; these poses do not say of whom they are")
    preds = np.zeros((1 + int(results.ids.max(initial=-1)), *results.keypoints.shape[1:]))
    preds[results.ids] = results.keypoints + 1.0
    file = io.BytesIO()
    savemat(file, {"preds": preds})
    return file.getvalue()


def _read_mat(path: Path, truth: Truth) -> PoseResults:
    try:
        preds = np.asarray(read_mat(path).get("preds"), np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        said = f"{error}" if isinstance(error, DataError) else f"{path}: preds: expected numbers"
        raise ValueError(said) from None
    joints = truth.skeleton.num_keypoints
    preds = preds[None] if preds.shape == (joints, 2) else preds  # one person's, without the axis of people
    if preds.ndim != 3 or preds.shape[1:] != (joints, 2):
        raise ValueError(f"{path}: preds: expected shape [N, {joints}, 2], got {preds.shape}")
    if not np.isfinite(preds).all():
        raise ValueError(f"{path}: preds: there is a value that is not finite")
    ids = np.flatnonzero(preds.any((1, 2)))  # zeros stand for nobody
    order = np.argsort(truth.ids)
    place = positions(truth.ids[order], ids)
    ids, place = ids[place >= 0], place[place >= 0]  # rows of people whom the annotations leave out say nothing
    if not len(ids):
        raise ValueError(f"{path}: preds: of none of the annotated people; there is nothing to evaluate")
    return PoseResults(
        image_ids=truth.image_ids[truth.image[order[place]]],
        keypoints=preds[ids] - 1.0,
        keypoint_scores=np.ones((len(ids), joints)),
        scores=np.ones(len(ids)),
        ids=ids,
    )
