"""Tracks of PoseTrack18's sequences: true and predicted ones read, and measured sequence by sequence."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..metrics import PoseResults, PoseTrackScores, Truth, posetrack_tracking, read_results, read_truth
from ..metrics.coco_files import read_content
from ..metrics.posetrack import POSETRACK_JOINTS
from ..metrics.posetrack_tracking import TRACKING_NEEDS
from ..metrics.results import by_name
from ..skeletons import POSETRACK18_17
from ..skeletons.names import canonical_name
from .files import scored_entries

__all__ = [
    "PredictedTracks",
    "TrueSequence",
    "absent_joints",
    "joined",
    "read_sequences",
    "read_tracks",
    "score_sequences",
]

_NAMES = POSETRACK18_17.keypoints
_UNLISTED = "frame that the predictions do not list"
_UNLABELLED = "pose on a frame where nobody is annotated"


@dataclass(frozen=True, eq=False)
class TrueSequence:
    """One sequence of a data set.

    Attributes:
        name: That of its folder of frames, or of its file.
        truth: The annotated people; the frames are its photos, by ascending id.
        files: [I] the frames' names as the annotations state them; empty where they do not.
    """

    name: str
    truth: Truth
    files: list[str]

    @property
    def labelled(self) -> NDArray[np.bool_]:
        """[I] whether anybody is annotated on a frame."""
        return np.bincount(self.truth.image, minlength=len(self.truth.image_ids)) > 0


@dataclass(frozen=True, eq=False)
class PredictedTracks:
    """Poses with track ids on the frames of some sequences.

    Attributes:
        poses: Of each sequence, with PoseTrack's 17 keypoints; zeros where one is not predicted.
        absent: Measured joints that the predicted skeleton does not have.
        left_out: How many entries were not measured, by reason.
        unscored: Poses that state no scores of their keypoints, which average precision ranks by.
    """

    poses: list[PoseResults]
    absent: tuple[str, ...] = ()
    left_out: Mapping[str, int] = field(default_factory=dict)
    unscored: int = 0


def absent_joints(keypoints: Sequence[str]) -> tuple[str, ...]:
    """Those of the 15 measured joints that are not among these keypoints."""
    return tuple(name for name in POSETRACK_JOINTS if name not in keypoints)


def score_sequences(sequences: Sequence[TrueSequence], tracks: PredictedTracks) -> dict[str, PoseTrackScores]:
    """The scores by sequence; ``PoseTrackScores.join`` makes those of all.

    Raises:
        ValueError: As :func:`fastpose.metrics.posetrack_tracking`; the message names the sequence.
    """
    scores = {}
    for sequence, poses in zip(sequences, tracks.poses, strict=True):
        with _named(f"sequence {sequence.name}"):
            scores[sequence.name] = posetrack_tracking(sequence.truth, poses)
    return scores


# The truth


def read_sequences(path: Path) -> list[TrueSequence]:
    """The sequences of PoseTrack18 annotations.

    Args:
        path: A file, of one sequence or of several, or a folder of such files. Photos of one folder are one sequence,
            or else those of one ``vid_id``, or of one file.

    Returns:
        Them, by name.

    Raises:
        ValueError: A file is not of that format, nobody is annotated in a sequence, a person has no head box or track
            id, or a name or an image id occurs in two sequences.
    """
    found: list[TrueSequence] = []
    for file in _json_files(path):
        with _named(file):
            found += _sequences(file)
    for what, values in (
        ("sequence", Counter(sequence.name for sequence in found)),
        ("image id", Counter(np.concatenate([sequence.truth.image_ids for sequence in found]).tolist())),
    ):
        value, times = max(values.items(), key=lambda item: item[1])
        if times > 1:
            raise ValueError(f"{path}: {what} {value} occurs in two files")
    return sorted(found, key=lambda sequence: sequence.name)


def _sequences(file: Path) -> Iterator[TrueSequence]:
    content = read_content(file)
    if not isinstance(content, Mapping) or "images" not in content:
        raise ValueError("annotations: expected an object with images and annotations, as PoseTrack18's files are")
    names = _keypoint_names(content)
    if names != _NAMES:
        raise ValueError(
            f"annotations: expected the keypoints of PoseTrack18 ({', '.join(_NAMES)}), got {_text(names)}"
        )
    images = content.get("images")
    if not isinstance(images, list) or not all(isinstance(image, Mapping) for image in images):
        raise ValueError("images: expected a list of objects")
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for image in images:
        folder = Path(str(image.get("file_name", ""))).parent.name
        groups.setdefault(folder or str(image.get("vid_id", file.stem)), []).append(image)
    parts = _by_group(content.get("annotations"), groups)
    for name, group in groups.items():
        with _named(name):
            part = {"images": group, "annotations": parts[name]}
            truth = read_truth(part, POSETRACK18_17, optional=TRACKING_NEEDS)
        files = {image["id"]: str(image.get("file_name", "")) for image in group}
        yield TrueSequence(name, truth, [files[number] for number in truth.image_ids.tolist()])


def _by_group(people: Any, groups: Mapping[str, list[Mapping[str, Any]]]) -> dict[str, Any]:
    """The annotations of each group of images; what is none of any group's is left to the first, to be told of."""
    if len(groups) < 2 or not isinstance(people, list):
        return dict.fromkeys(groups, people)
    of_image = {str(image.get("id")): name for name, group in groups.items() for image in group}
    parts: dict[str, Any] = {name: [] for name in groups}
    for entry in people:
        number = entry.get("image_id") if isinstance(entry, Mapping) else None
        parts[of_image.get(str(number), min(groups))].append(entry)
    return parts


# Predictions


def read_tracks(path: Path, sequences: Sequence[TrueSequence]) -> PredictedTracks:
    """Predicted tracks on the frames of these sequences.

    Args:
        path: A file, or a folder of them, in PoseTrack18's layout: ``images`` (``id``, ``file_name``), ``annotations``
            (``image_id``, ``track_id``, ``keypoints``, ``scores``), ``categories`` with the names of the keypoints, by
            which they are found; without names they are PoseTrack's 17. Or a list of such annotations.
        sequences: Whose frames they are. A frame is found by its id, or else by the name of its file.

    Returns:
        The poses.

    Raises:
        ValueError: A file cannot be read, a pose lacks something or is of an unknown frame, nothing is said of a
            sequence, the files have different keypoints, or none that is measured.
    """
    frame = {number: place for place, sequence in enumerate(sequences) for number in sequence.truth.image_ids.tolist()}
    by_file = {
        _place(file): number
        for sequence in sequences
        for number, file in zip(sequence.truth.image_ids.tolist(), sequence.files, strict=True)
        if file
    }
    parts: list[_Part] = []
    for file in _json_files(path):
        with _named(file):
            part = _Part.read(read_content(file), frame, by_file)
            if parts and part.names != parts[0].names:
                raise ValueError(
                    f"results: expected the keypoints of the other files ({_text(parts[0].names)}), got "
                    f"{_text(part.names)}"
                )
            parts.append(part)
    absent = absent_joints(parts[0].names)
    if len(absent) == len(POSETRACK_JOINTS):
        raise ValueError(f"{path}: none of the measured joints is among the keypoints: {_text(parts[0].names)}")
    listed = set().union(*(part.listed for part in parts))
    left_out: Counter[str] = Counter()
    poses = []
    for place, sequence in enumerate(sequences):
        labelled = set(sequence.truth.image_ids[sequence.labelled].tolist())
        if not listed & set(sequence.truth.image_ids.tolist()):
            raise ValueError(
                f"{path}: nothing is said of sequence {sequence.name}; if nobody was found there, list its images"
            )
        own = joined([part.poses[place] for part in parts if place in part.poses])
        left_out[_UNLISTED] += len(labelled - listed)
        left_out[_UNLABELLED] += int((~np.isin(own.image_ids, list(labelled))).sum())
        poses.append(own)
    return PredictedTracks(poses, absent, dict(left_out), sum(part.unscored for part in parts))


@dataclass(frozen=True, eq=False)
class _Part:
    """What one file of predictions says.

    Attributes:
        names: Its keypoints.
        poses: By position of the sequence.
        listed: Ids of the frames that it says something of.
        unscored: Poses without scores of their keypoints.
    """

    names: tuple[str, ...]
    poses: dict[int, PoseResults]
    listed: set[int]
    unscored: int

    @classmethod
    def read(cls, content: Any, frame: Mapping[int, int], by_file: Mapping[str, int]) -> _Part:
        entries = content.get("annotations") if isinstance(content, Mapping) else content
        if not isinstance(entries, list) or not all(isinstance(entry, Mapping) for entry in entries):
            raise ValueError("results: expected an object with images and annotations (PoseTrack18's layout)")
        names = _standard(_keypoint_names(content)) or _NAMES
        numbers = _numbers(content, frame, by_file)
        listed = set(numbers.values()) & set(frame) if isinstance(content, Mapping) else set(frame)
        if not entries:
            return cls(names, {}, listed, 0)
        entries = scored_entries(entries)
        unscored = sum("scores" not in entry for entry in entries)
        found = read_results([{"score": 0.0, **entry} for entry in entries], len(names), with_track_ids=True)
        ids = np.array([numbers.get(number, number) for number in found.image_ids.tolist()], np.int64)
        unknown = [row for row, number in enumerate(ids.tolist()) if number not in frame]
        if unknown:
            row = unknown[0]
            raise ValueError(f"results: number {row} is of image_id {found.image_ids[row]}, which is not annotated")
        poses = _of_posetrack(ids, found, names)
        place = np.array([frame[number] for number in ids.tolist()])
        by_sequence = {number: poses.select(place == number) for number in np.unique(place).tolist()}
        return cls(names, by_sequence, listed | set(ids.tolist()), unscored)


def _numbers(content: Any, frame: Mapping[int, int], by_file: Mapping[str, int]) -> dict[Any, int]:
    """Ids of the images that predictions list → those of the truth."""
    images = content.get("images") if isinstance(content, Mapping) else None
    numbers: dict[Any, int] = {}
    for image in images if isinstance(images, list) else []:
        if isinstance(image, Mapping) and isinstance(image.get("id"), int):
            number = image["id"]
            numbers[number] = number if number in frame else by_file.get(_place(str(image.get("file_name"))), number)
    return numbers


def _of_posetrack(ids: NDArray[np.int64], found: PoseResults, names: tuple[str, ...]) -> PoseResults:
    """The same poses with PoseTrack's keypoints, found by name."""
    keypoints, scores = by_name(found.keypoints, found.keypoint_scores, names, _NAMES)
    return PoseResults(ids, keypoints, scores, found.scores, track_ids=found.track_ids)


def joined(parts: Sequence[PoseResults]) -> PoseResults:
    """Poses of PoseTrack's 17 keypoints one after the other; none where there are no parts."""
    if len(parts) == 1:
        return parts[0]
    blank = np.zeros((0, len(_NAMES), 2)), np.zeros((0, len(_NAMES))), np.zeros(0)
    empty = PoseResults(np.zeros(0, np.int64), *blank, track_ids=np.zeros(0, np.int64))
    arrays = ("image_ids", "keypoints", "keypoint_scores", "scores", "track_ids")
    joined = {name: np.concatenate([getattr(part, name) for part in (empty, *parts)]) for name in arrays}
    return PoseResults(**joined)


# Both


def _json_files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    files = sorted(path.glob("*.json"))
    if not files:
        raise ValueError(f"{path}: no file (.json) is in this folder")
    return files


def _keypoint_names(content: Any) -> tuple[str, ...]:
    """The names of the keypoints of the one category that has some; none where nothing is stated."""
    categories = content.get("categories") if isinstance(content, Mapping) else None
    stated = [
        category["keypoints"]
        for category in (categories if isinstance(categories, list) else [])
        if isinstance(category, Mapping) and category.get("keypoints")
    ]
    if len(stated) > 1:
        raise ValueError(f"categories: expected one with keypoints, got {len(stated)}")
    names = stated[0] if stated else []
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError(f"categories: keypoints: expected a list of names, got {names!r:.80}")
    return tuple(names)


def _standard(names: tuple[str, ...]) -> tuple[str, ...]:
    """The names as PoseTrack writes them where another spelling of them is meant."""
    known = {canonical_name(name): name for name in _NAMES}
    return tuple(known.get(canonical_name(name), name) for name in names)


def _place(file: str) -> str:
    """Folder and name of a frame: what is the same wherever the data are."""
    return "/".join(Path(file).parts[-2:])


def _text(names: Sequence[str]) -> str:
    return ", ".join(names) or "none"


@contextmanager
def _named(source: object) -> Iterator[None]:
    """Errors say where."""
    try:
        yield
    except ValueError as error:
        said = str(error)
        raise ValueError(said if said.startswith(str(source)) else f"{source}: {said}") from None
