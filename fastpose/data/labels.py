"""Labels of several sources brought together: keypoints matched by name, and noisy labels held against a teacher's.

Labels made by a crowd have misplaced points, limbs with left and right exchanged, and gaps. A network that was trained
elsewhere makes other mistakes, so where the two disagree and the network is sure, the label is more likely wrong.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from ..skeletons import Skeleton, match_skeletons
from .readers.files import read_json
from .records import DataError, PoseRecords

__all__ = ["LabelCleaning", "clean_labels", "label_weights", "match_keypoints", "read_teacher"]

Array = NDArray[Any]


@dataclass(frozen=True)
class LabelCleaning:
    """How a second file of keypoints corrects the labels of a data set.

    The file is a JSON object: annotation id (as text) → K triples [x, y, score], ordered as the data set's skeleton.
    Distances are in torsos (left shoulder to right hip, or the other diagonal).

    Attributes:
        file: The file; relative to the data root.
        sure: The teacher's point counts where its score is at least this.
        disagree: Label and teacher disagree where they are farther apart than this.
        on_disagreement: What becomes of a label with which a sure teacher disagrees: ``replace`` takes the teacher's
            point, ``drop`` trains neither, ``keep`` leaves the label.
        doubt: Weight of a label with which an *unsure* teacher disagrees; 1 trusts the label fully, 0 drops it.
        unswap: First exchange the left and right label of a pair where that makes both agree with the teacher.
        fill: Take a sure teacher's point where there is no label.
        replace_weight: Weight of replaced labels in the loss.
        fill_weight: Weight of filled labels in the loss.
        blend: Where the two agree, move the label this fraction of the way to the teacher's point: 0 keeps the label,
            0.5 takes the middle, which averages the small errors of both.

    Raises:
        ValueError: A number is out of its range.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid", "allow_inf_nan": False}

    file: str
    sure: float = 0.6
    disagree: float = 0.3
    on_disagreement: Literal["replace", "drop", "keep"] = "replace"
    doubt: float = 1.0
    replace_weight: float = 1.0
    unswap: bool = True
    fill: bool = True
    fill_weight: float = 1.0
    blend: float = 0.0

    def __post_init__(self) -> None:
        for name in ("sure", "doubt", "blend"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name}: expected a number between 0 and 1, got {getattr(self, name)}")
        for name in ("disagree", "replace_weight", "fill_weight"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name}: expected a number above 0, got {getattr(self, name)}")


def read_teacher(file: str | Path, records: PoseRecords) -> NDArray[np.float32]:
    """The teacher's points for the people of a data set.

    Args:
        file: JSON object, annotation id as text → K triples [x, y, score], pixels of the photo.
        records: N people; their ``ids`` are looked up.

    Returns:
        float32 [N, K, 3]; zeros for a person that the file does not know.

    Raises:
        DataError: Not such a file, or an entry has not K triples.
    """
    entries = read_json(file)
    if not isinstance(entries, dict):
        raise DataError(f"{file}: expected an object of annotation id → keypoints, got {type(entries).__name__}")
    joints = records.skeleton.num_keypoints
    points = np.zeros((len(records), joints, 3), np.float32)
    found = 0
    for person, identity in enumerate(records.ids.tolist()):
        entry = entries.get(str(identity))
        if entry is None:
            continue
        try:
            triples = np.asarray(entry, np.float32)
        except (TypeError, ValueError):
            triples = np.empty(0, np.float32)
        if triples.shape != (joints, 3) or not np.isfinite(triples).all():
            raise DataError(f"{file}: entry {identity}: expected {joints} triples [x, y, score]")
        points[person] = triples
        found += 1
    if len(records) and not found:
        raise DataError(f"{file}: knows none of the {len(records)} people of {records.source}; are the ids those?")
    return points


def label_weights(records: PoseRecords) -> NDArray[np.float32]:
    """Weight [N, K] of each label in the loss: where annotated, seen or hidden, 1 or what the set says, else 0."""
    visible = (records.visible > 0).astype(np.float32)
    return visible if records.weights is None else visible * records.weights


def torso_lengths(keypoints: Array, present: Array, boxes: Array, skeleton: Skeleton) -> NDArray[np.float32]:
    """A length [N] to hold errors against: the longer torso diagonal, at least a sixth of the box's longer side."""
    lengths = (boxes[:, 2:] - boxes[:, :2]).max(axis=1) / 6
    for shoulder, hip in (("left_shoulder", "right_hip"), ("right_shoulder", "left_hip")):
        if shoulder in skeleton.keypoints and hip in skeleton.keypoints:
            a, b = skeleton.index(shoulder), skeleton.index(hip)
            diagonal = np.linalg.norm(keypoints[:, a] - keypoints[:, b], axis=-1)
            lengths = np.maximum(lengths, np.where(present[:, a] & present[:, b], diagonal, 0))
    return lengths.astype(np.float32)


def clean_labels(
    records: PoseRecords, teacher_points: Array, settings: LabelCleaning
) -> tuple[NDArray[np.float32], NDArray[np.float32], dict[str, int]]:
    """Labels corrected by a teacher.

    Args:
        records: N people with their labels.
        teacher_points: [N, K, 3] x, y (pixels of the photo), score.
        settings: The rules.

    Returns:
        keypoints: float32 [N, K, 2].
        weights: float32 [N, K].
        counts: How many labels were ``unswapped``, ``replaced``, ``dropped``, ``doubted``, ``filled``, ``blended``.
    """
    keypoints, weights = records.keypoints.copy(), label_weights(records)
    points, sure = teacher_points[..., :2], teacher_points[..., 2] >= settings.sure
    limit = settings.disagree * torso_lengths(points, sure, records.boxes, records.skeleton)[:, None]
    counts = {}

    if settings.unswap:
        swapped = np.zeros(weights.shape, bool)
        for left, right in records.skeleton.flip_pair_indices:
            pair, mirrored = [left, right], [right, left]
            both = (weights[:, pair] > 0).all(1) & sure[:, pair].all(1)
            wrong = (np.linalg.norm(keypoints[:, pair] - points[:, pair], axis=-1) > limit).all(1)
            right_way = (np.linalg.norm(keypoints[:, mirrored] - points[:, pair], axis=-1) <= limit).all(1)
            people = np.flatnonzero(both & wrong & right_way)
            keypoints[people[:, None], pair] = keypoints[people[:, None], mirrored]
            swapped[people[:, None], pair] = True
        counts["unswapped"] = int(swapped.sum())

    distance = np.linalg.norm(keypoints - points, axis=-1)
    labelled, known = weights > 0, teacher_points[..., 2] > 0
    apart = labelled & known & (distance > limit)
    agree = labelled & sure & ~apart

    if settings.blend > 0:
        keypoints[agree] += np.float32(settings.blend) * (points[agree] - keypoints[agree])
        counts["blended"] = int(agree.sum())
    if settings.on_disagreement == "replace":
        keypoints[apart & sure] = points[apart & sure]
        weights[apart & sure] = settings.replace_weight
        counts["replaced"] = int((apart & sure).sum())
    elif settings.on_disagreement == "drop":
        weights[apart & sure] = 0
        counts["dropped"] = int((apart & sure).sum())
    if settings.doubt < 1:
        weights[apart & ~sure] *= settings.doubt
        counts["doubted"] = int((apart & ~sure).sum())
    if settings.fill:
        empty = ~labelled & sure
        keypoints[empty] = points[empty]
        weights[empty] = settings.fill_weight
        counts["filled"] = int(empty.sum())
    return keypoints, weights, counts


def match_keypoints(
    keypoints: Array, weights: Array, source: Skeleton, target: Skeleton
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Labels of one skeleton in the order of another, matched by :func:`fastpose.skeletons.match_skeletons`.

    Args:
        keypoints: [N, K, 2] in the order of ``source``.
        weights: [N, K].
        source: The data set's skeleton.
        target: The model's skeleton.

    Returns:
        keypoints: float32 [N, K', 2]; weights: float32 [N, K'], 0 for keypoints that the data set does not have, the
        smaller one where a keypoint is the middle of two.

    Raises:
        ValueError: The skeletons have no name in common.
    """
    match = match_skeletons(source, target)
    if not match:
        raise ValueError(f"skeleton: {source.name!r} and {target.name!r} have no keypoint name in common")
    pairs = [(origin, origin) if isinstance(origin, str) else origin for origin in match.values()]
    first, second = (list(source.indices(pair[side] for pair in pairs)) for side in (0, 1))
    to = list(target.indices(match))
    new_keypoints = np.zeros((len(keypoints), target.num_keypoints, 2), np.float32)
    new_weights = np.zeros((len(keypoints), target.num_keypoints), np.float32)
    new_keypoints[:, to] = (keypoints[:, first] + keypoints[:, second]) / 2
    new_weights[:, to] = np.minimum(weights[:, first], weights[:, second])
    return new_keypoints, new_weights
