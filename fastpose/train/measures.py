"""Which metric belongs to which data set, and how a list of results becomes its figures."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..data.readers.coco import category_with_keypoints
from ..data.records import PoseRecords
from ..metrics.coco import coco_figures, coco_matches, crowd_figures
from ..metrics.coco_files import read_content
from ..metrics.pck import LIMB_KEYPOINTS, lsp_pck
from ..metrics.pckh import jhmdb_pck, mpii_pckh, trb_accuracy
from ..metrics.posetrack import posetrack_figures, posetrack_matches
from ..skeletons import JHMDB15, LSP14, MPII16, MPII_TRB40, POSETRACK18_17, Skeleton

__all__ = [
    "AP_METRICS",
    "METRICS",
    "Scores",
    "annotation_content",
    "default_metric",
    "read_predictions",
    "score_results",
    "write_predictions",
]

METRICS = {
    "coco_ap": "AP",
    "crowdpose_ap": "AP",
    "posetrack_ap": "AP",
    "mpii_pckh": "PCKh@0.5",
    "trb_accuracy": "mean",
    "jhmdb_pck": "PCK@0.2",
    "pck": "PCK@0.2",
}
"""Names of the metrics and the figure that decides in each."""

AP_METRICS = ("coco_ap", "crowdpose_ap", "posetrack_ap")
"""Those that rank poses and need no annotated person to each; the others compare person by person."""

_BY_SKELETON = {
    MPII16.keypoints: "mpii_pckh",
    MPII_TRB40.keypoints: "trb_accuracy",
    JHMDB15.keypoints: "jhmdb_pck",
    LSP14.keypoints: "pck",
    POSETRACK18_17.keypoints: "posetrack_ap",
}

Result = Mapping[str, Any]


@dataclass(frozen=True)
class Scores:
    """A metric of some results.

    Attributes:
        figures: Called with [I] how often each photo counts, or None for once; returns the figures by name.
        photos: I.
        unpredicted: People of whom the results say nothing, which counts as wrong (not in average precision, whose
            recall says it).
    """

    figures: Callable[[NDArray[np.int64] | None], dict[str, float]]
    photos: int
    unpredicted: int = 0


def default_metric(records: PoseRecords, predicted: Skeleton | None = None) -> str:
    """The metric that is published for a data set.

    Args:
        records: The people.
        predicted: Keypoints of the network; where it lacks some of the data's, limbs are what is left to compare.

    Returns:
        A name of ``METRICS``.
    """
    name = _BY_SKELETON.get(records.skeleton.keypoints)
    if name is None:
        name = "crowdpose_ap" if records.crowd_index is not None else "coco_ap"
    if predicted is not None and not set(records.skeleton.keypoints) <= set(predicted.keypoints):
        return "pck"
    return name


def annotation_content(path: Path | None, records: PoseRecords) -> Mapping[str, Any]:
    """Annotations in COCO's format: those of the file or folder where that is one, else the records written so.

    Of several categories those of the one that is read.
    """
    if records.skeleton.keypoints == JHMDB15.keypoints and (records.visible > 0).any():
        path = None  # its reader moves boxes and keypoints by one pixel
    if path is not None and path.is_dir():
        parts = [read_content(file) for file in sorted(path.glob("*.json"))]
        if parts and all(_is_coco(part) for part in parts):
            return {key: [entry for part in parts for entry in part[key]] for key in ("images", "annotations")}
    elif path is not None and path.suffix.lower() not in (".mat", ".yaml", ".yml"):
        content = read_content(path)
        if _is_coco(content):
            return _one_category(path, content)
    if not (records.visible > 0).any():
        raise ValueError(f"annotations: nobody has annotated keypoints in {path or records.source}")
    images = [{"id": i} for i in records.image_ids.tolist()]
    if records.crowd_index is not None:
        images = [e | {"crowdIndex": c} for e, c in zip(images, records.crowd_index.tolist(), strict=True)]
    points = np.concatenate([records.keypoints, records.visible[..., None]], -1).reshape(len(records), -1)
    boxes = np.concatenate([records.boxes[:, :2], records.boxes[:, 2:] - records.boxes[:, :2]], 1)
    people = [
        {"id": row + 1, "image_id": image, "bbox": box, "area": area, "keypoints": keypoints, "iscrowd": int(ignore)}
        for row, (image, box, area, keypoints, ignore) in enumerate(
            zip(
                records.image_ids[records.image_index].tolist(),
                boxes.tolist(),
                records.areas.tolist(),
                points.tolist(),
                records.ignore.tolist(),
                strict=True,
            )
        )
    ]
    return {"images": images, "annotations": people}


def _one_category(path: Path, content: Mapping[str, Any]) -> Mapping[str, Any]:
    chosen = category_with_keypoints(path, content)
    if chosen is None:
        return content
    number = chosen.get("id")
    own = [entry for entry in content["annotations"] if entry.get("category_id", number) == number]
    return {**content, "annotations": own}


def _is_coco(content: Any) -> bool:
    return isinstance(content, Mapping) and "images" in content and "annotations" in content


def read_predictions(path: Path) -> list[Result]:
    """Results of a file (a list in COCO's format) or of a folder (PoseTrack's, one file a video).

    Raises:
        ValueError: It cannot be read, is not of such a format, or there is nothing in it.
    """
    if not path.is_dir():
        content = read_content(path)
        entries = content.get("annotations") if isinstance(content, Mapping) else content
    else:
        entries = []
        for file in sorted(path.glob("*.json")):
            content = read_content(file)
            if not isinstance(content, Mapping) or not isinstance(content.get("annotations"), list):
                raise ValueError(f"{file}: expected an object with annotations, got {type(content).__name__}")
            entries += content["annotations"]
    if not isinstance(entries, list) or not all(isinstance(entry, Mapping) for entry in entries):
        raise ValueError(f"{path}: expected a list of poses")
    if not entries:
        raise ValueError(f"{path}: empty, there is nothing to evaluate")
    return [_with_scores(entry) for entry in entries]


def _with_scores(entry: Result) -> Result:
    """PoseTrack states the keypoints' scores apart from their coordinates."""
    scores, points = entry.get("scores"), entry.get("keypoints")
    if not isinstance(scores, list) or not all(isinstance(score, int | float) for score in scores):
        return entry
    if not scores or not isinstance(points, list) or len(points) != 3 * len(scores):
        return entry
    values = list(points)
    values[2::3] = scores
    return {"score": float(np.mean(scores)), **entry, "keypoints": values}


def score_results(
    metric: str,
    records: PoseRecords,
    results: Sequence[Result],
    *,
    content: Mapping[str, Any] | None = None,
    sigmas: ArrayLike | None = None,
    use_area: bool = True,
) -> Scores:
    """Prepare a metric of results.

    Args:
        metric: A name of ``METRICS``.
        records: The people, those that were left out of the prediction included.
        results: ``image_id``, ``keypoints`` (x, y, score of each of the data's) and ``score`` of each pose; outside of
            average precision also ``id``, the annotated person that it is of, unless there is one person a photo.
        content: Annotations in COCO's format, for average precision.
        sigmas: [K] of the OKS; by default the skeleton's.
        use_area: Take the annotated areas; otherwise 0.53 of the annotated box.

    Returns:
        The scores.

    Raises:
        ValueError: There are no results, one is not what the metric asks for, or the data lack something that it needs.
    """
    if metric in AP_METRICS:
        annotations = content if content is not None else annotation_content(None, records)
        if metric == "posetrack_ap":
            tracks = posetrack_matches(annotations, results)
            return Scores(lambda times: posetrack_figures(tracks, times), len(tracks.annotated))
        deviations = records.skeleton.sigmas if sigmas is None else sigmas
        matches = coco_matches(annotations, results, sigmas=deviations, use_area=use_area and metric != "crowdpose_ap")
        summarise = crowd_figures if metric == "crowdpose_ap" else coco_figures
        return Scores(lambda times: summarise(matches, times), len(matches.truth.image_ids))
    points, unpredicted = _by_person(records, results)
    compare = _comparison(metric, records, points)
    index = records.image_index

    def figures(times: NDArray[np.int64] | None) -> dict[str, float]:
        return compare(None if times is None else times[index])

    return Scores(figures, len(records.image_ids), unpredicted)


def _comparison(
    metric: str, records: PoseRecords, points: NDArray[np.float64]
) -> Callable[[NDArray[np.int64] | None], dict[str, float]]:
    """The figures of predicted keypoints [N, K, 2], called with how often each person counts."""
    truth, visible = records.keypoints, records.visible
    if metric == "pck":
        # LSP's rule, by which 1 is a point that a network filled in; sets that mark nothing with 2 mean annotated by 1.
        marked = visible if (visible == 2).any() else visible * np.uint8(2)

        def limbs(times: NDArray[np.int64] | None) -> dict[str, float]:
            result = lsp_pck(points, truth, marked, records.skeleton, weights=times)
            return {"PCK@0.2": result.mean, **dict(zip(LIMB_KEYPOINTS, result.per_joint.tolist(), strict=True))}

        return limbs
    if metric == "jhmdb_pck":
        return lambda times: jhmdb_pck(points, truth, visible, records.boxes, weights=times)
    heads = records.head_sizes
    if heads is None or not np.isfinite(heads).any():
        raise ValueError(f"{metric}: the annotations have no head boxes ({records.source})")
    measure = mpii_pckh if metric == "mpii_pckh" else trb_accuracy
    return lambda times: measure(points, truth, visible, heads, weights=times)


def _by_person(records: PoseRecords, results: Sequence[Result]) -> tuple[NDArray[np.float64], int]:
    """[N, K, 2] predicted keypoints, NaN for people without any, and how many those are."""
    if not results:
        raise ValueError("results: empty, there is nothing to evaluate")
    joints = records.skeleton.num_keypoints
    ids, photos = records.ids.tolist(), records.image_ids[records.image_index].tolist()
    row_of = {identity: position for position, identity in enumerate(ids)}
    alone: dict[int, int | None] = {}
    for position, photo in enumerate(photos):
        alone[photo] = None if photo in alone else position
    points = np.full((len(records), joints, 2), np.nan)
    taken: set[int] = set()
    for number, entry in enumerate(results):
        where = f"results: number {number}"
        key = entry["id"] if "id" in entry else entry.get("image_id")
        known = row_of if "id" in entry else alone
        row = known.get(key) if isinstance(key, int) else None
        if row is None:
            why = f"id {key!r:.80}" if "id" in entry else f"image_id {key!r:.80} and no id"
            raise ValueError(f"{where} has {why}, which is not one annotated person")
        if row in taken:
            raise ValueError(f"{where} is of annotation {ids[row]}, of which there is one already")
        taken.add(row)
        values = entry.get("keypoints")
        if not isinstance(values, Sequence) or len(values) != 3 * joints:
            got = len(values) if isinstance(values, Sequence) else type(values).__name__
            raise ValueError(f"{where}: expected {3 * joints} keypoint values, got {got}")
        try:
            pose = np.array(values, np.float64).reshape(joints, 3)
        except (TypeError, ValueError):
            raise ValueError(f"{where} has a value that is not a number") from None
        if not np.isfinite(pose).all():
            raise ValueError(f"{where} has a value that is not finite")
        points[row] = pose[:, :2]
    return points, len(records) - len(taken)


def write_predictions(path: Path, results: Sequence[Result], content: Mapping[str, Any] | None) -> None:
    """Write results as their data set's evaluation server takes them.

    Args:
        path: A file for a list in COCO's format; with the suffix ``.mat`` MPII's ``preds``, [N, 16, 2] in the order of
            its annotation file, pixels counted from 1 and 0 where nobody was predicted; a name without suffix for
            PoseTrack's folder with one file a video.
        results: The poses.
        content: PoseTrack's annotations, which say what the videos are; None writes a list.

    Raises:
        ImportError: A .mat file is asked for and SciPy is not installed.
        ValueError: A folder is asked for and the annotations do not say which file a photo is; or a .mat file, and the
            results are not of MPII's keypoints and people.
    """
    from ..files import atomic_write

    if path.suffix == ".mat":
        atomic_write(path, _mpii_mat(results))
        return
    if content is None or path.suffix:
        atomic_write(path, (json.dumps(list(results)) + "\n").encode())
        return
    of_frame: dict[int, list[Result]] = {}
    for entry in results:
        of_frame.setdefault(entry["image_id"], []).append(entry)
    videos: dict[str, list[Mapping[str, Any]]] = {}
    for image in content["images"]:
        if not isinstance(image.get("file_name"), str):
            raise ValueError(f"annotations: image {image.get('id')} has no file_name, which names its video")
        videos.setdefault(Path(image["file_name"]).parent.name or "video", []).append(image)
    category = {"supercategory": "person", "id": 1, "name": "person", "keypoints": list(POSETRACK18_17.keypoints)}
    path.mkdir(parents=True, exist_ok=True)
    for video, images in videos.items():
        poses = [
            {
                "image_id": image["id"],
                "track_id": track,
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


def _mpii_mat(results: Sequence[Result]) -> bytes:
    try:
        from scipy.io import savemat
    except ImportError:
        raise ImportError("writing .mat files needs SciPy: pip install scipy") from None
    joints = MPII16.num_keypoints
    if not all("id" in entry and len(entry["keypoints"]) == 3 * joints for entry in results):
        raise ValueError("predictions: a .mat file holds MPII's 16 keypoints of each person, got others")
    preds = np.zeros((1 + max((entry["id"] for entry in results), default=-1), joints, 2))
    for entry in results:
        preds[entry["id"]] = np.reshape(entry["keypoints"], (joints, 3))[:, :2] + 1
    file = io.BytesIO()
    savemat(file, {"preds": preds})
    return file.getvalue()
