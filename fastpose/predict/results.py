"""Poses: what was found in one photo."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ..metrics.scoring import score_poses
from ..skeletons import Skeleton
from ..skeletons.names import canonical_name

if TYPE_CHECKING:
    import torch

    from .people import People

__all__ = [
    "JSON_VERSION",
    "Poses",
    "coco_box",
    "join_people",
    "json_line",
    "openpose_places",
    "photo_entry",
    "rounded",
    "short",
]

Array = npt.NDArray[Any]

JSON_VERSION = 1
"""Of what `Poses.to_dict` gives, and ``poses.schema.json`` describes. Keys may be added without another number."""

# The 18 points of OpenPose's COCO model, which is what readers of its files expect; its neck is between the shoulders.
_OPENPOSE = (
    *("nose", "neck", "right_shoulder", "right_elbow", "right_wrist", "left_shoulder", "left_elbow", "left_wrist"),
    *("right_hip", "right_knee", "right_ankle", "left_hip", "left_knee", "left_ankle"),
    *("right_eye", "left_eye", "right_ear", "left_ear"),
)


@dataclass(frozen=True, eq=False)
class Poses:
    """The people of one photo: N of them, K keypoints each.

    ``len(poses)`` is N; ``poses[i]`` is a `Poses` of one person, ``poses[mask]`` of several; iteration goes person by
    person.

    Attributes:
        keypoints: float32 [N, K, 2], (x, y) in pixels of the photo; pixel centres at integers.
        scores: float32 [N, K]. How sure the network is, which is not whether the keypoint can be seen.
        boxes: float32 [N, 4], xyxy px, as they were given or found.
        box_scores: float32 [N], the detector's; 1 for boxes without a score.
        image_size: (height, width) of the photo.
        skeleton: What the keypoints are.
        track_ids: int64 [N], or None where nobody was followed.
        milliseconds: Time by stage, of this photo: read, detect, crop, network, decode; of a batch that held people
            of several photos, this photo's share.
        path: The file (of a video's frame the video, or its picture in a folder of them), or the photo's address on the
            web; None where pixels were given.
        visibility: float32 [N, K], probability that a keypoint can be seen, or None where the network does not say.
        dropped: What was wrong with each box that was left out.
        error: Why nothing could be found in this photo, where a `Predictor` was told to skip such; else None.
        image: The photo's pixels, uint8 [H, W, 3] BGR, where a `Predictor` was told to keep them.
        frame: Which frame of a video this is, from 0; else None.
        time: Seconds from the video's beginning; else None.
    """

    keypoints: Array
    scores: Array
    boxes: Array
    box_scores: Array
    image_size: tuple[int, int]
    skeleton: Skeleton
    track_ids: Array | None = None
    milliseconds: Mapping[str, float] = field(default_factory=dict)
    path: Path | str | None = None
    visibility: Array | None = None
    dropped: tuple[str, ...] = ()
    error: str | None = None
    image: Array | None = field(default=None, repr=False)
    frame: int | None = None
    time: float | None = None

    def __len__(self) -> int:
        return len(self.keypoints)

    def __getitem__(self, people: int | slice | Array | list[int]) -> Poses:
        if isinstance(people, int | np.integer):
            if not -len(self) <= people < len(self):
                raise IndexError(f"person {people} of {len(self)}")
            chosen: Any = [int(people)]
        else:
            chosen = people if isinstance(people, slice) else np.asarray(people)
            if not isinstance(chosen, slice) and chosen.size == 0:
                chosen = chosen.astype(bool if chosen.dtype == bool else np.int64)  # an empty list is one of floats
        tracks = None if self.track_ids is None else self.track_ids[chosen]
        return replace(
            self,
            keypoints=self.keypoints[chosen],
            scores=self.scores[chosen],
            boxes=self.boxes[chosen],
            box_scores=self.box_scores[chosen],
            track_ids=tracks,
            visibility=None if self.visibility is None else self.visibility[chosen],
        )

    def __iter__(self) -> Iterator[Poses]:
        return (self[i] for i in range(len(self)))

    def __repr__(self) -> str:
        height, width = self.image_size
        people = "1 person" if len(self) == 1 else f"{len(self)} people"
        return f"Poses({people}, {self.skeleton.name}, photo {width}x{height}{f', {self.path}' if self.path else ''})"

    @property
    def person_scores(self) -> Array:
        """float32 [N]: the box's score times the mean of the keypoints' scores above 0.2, as for published figures."""
        return score_poses(self.scores, self.box_scores).astype(np.float32)

    def numpy(self) -> Array:
        """float32 [N, K, 3]: x, y, score."""
        return np.concatenate([self.keypoints, self.scores[..., None]], axis=2, dtype=np.float32)

    def _rounded_points(self) -> Array:
        """float64 [N, K, 3]: x, y, score, as files have them."""
        return np.concatenate([rounded(self.keypoints, 2), rounded(self.scores, 4)[..., None]], axis=2)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON, as ``poses.schema.json`` in this package describes it.

        Returns:
            ``version`` (1), ``file`` (None without one), ``image_size`` [height, width], ``skeleton``, its
            ``keypoint_names``, and ``people``. Each of these has ``keypoints`` [[x, y, score], …] (px), ``box``
            [x1, y1, x2, y2] (px), ``box_score``, ``score``, and, where it is known, ``track_id`` and ``visibility``
            [K]. Of a video, ``frame`` and ``time`` (seconds). Where boxes were left out there is ``dropped``, what
            was wrong with each; and ``error`` where the photo could not be used.
        """
        values: dict[str, list[Any]] = {
            "keypoints": self._rounded_points().tolist(),
            "box": rounded(self.boxes, 2).tolist(),
            "box_score": rounded(self.box_scores, 4).tolist(),
            "score": rounded(self.person_scores, 4).tolist(),
        }
        if self.track_ids is not None:
            values["track_id"] = self.track_ids.tolist()
        if self.visibility is not None:
            values["visibility"] = rounded(self.visibility, 4).tolist()
        people = [dict(zip(values, person, strict=True)) for person in zip(*values.values(), strict=True)]
        names = {"skeleton": self.skeleton.name, "keypoint_names": list(self.skeleton.keypoints)}
        place: dict[str, Any] = {} if self.frame is None else {"frame": self.frame}
        if self.time is not None:
            place["time"] = round(self.time, 6)
        return photo_entry(self, people, **place, **names)

    @classmethod
    def from_dict(cls, entry: Mapping[str, Any], *, name: str = "poses") -> Poses:
        """What `to_dict` gave, as `Poses` again: coordinates to hundredths of a pixel, scores to four digits.

        Args:
            entry: Plain data, as of a line of a file of JSON Lines. Keys that are not known are left alone.
            name: What errors call it.

        Returns:
            The poses; the skeleton is the known one of that name, if its keypoints are the same, else one of the names
            alone.

        Raises:
            ValueError: It is no such data; the message begins with the name and says what was expected.
        """
        from .stored import poses_fields

        return cls(**poses_fields(entry, name))

    def to_coco(self, image_id: int, category_id: int = 1) -> list[dict[str, Any]]:
        """COCO keypoint results, one object a person.

        Args:
            image_id: The photo's id in the annotation file.
            category_id: The category; person is 1.

        Returns:
            ``keypoints`` is flat: x, y, score of each; ``bbox`` is left, top, width, height.
        """
        points = self._rounded_points().reshape(len(self), 3 * self.skeleton.num_keypoints)
        return [
            {
                "image_id": int(image_id),
                "category_id": int(category_id),
                "keypoints": person,
                "bbox": coco_box(box),
                "score": score,
            }
            for person, box, score in zip(
                points.tolist(),
                self.boxes.tolist(),
                rounded(self.person_scores, 4).tolist(),
                strict=True,
            )
        ]

    def to_openpose(self) -> dict[str, Any]:
        """The content of an OpenPose JSON file: its 18 COCO points, the neck between the shoulders.

        Points are told by their names, in any spelling. Those that the skeleton does not have are 0, 0, 0, as OpenPose
        writes those that it did not find.

        Raises:
            ValueError: The skeleton has none of the points.
        """
        ours = openpose_places(self.skeleton)
        values = self.numpy()
        points = np.zeros((len(self), len(_OPENPOSE), 3), np.float32)
        for theirs, place in enumerate(ours):
            if place is not None:
                points[:, theirs] = values[:, place]
        neck, *shoulders = map(_OPENPOSE.index, ("neck", "left_shoulder", "right_shoulder"))
        if ours[neck] is None and all(ours[place] is not None for place in shoulders):
            pair = points[:, shoulders]
            points[:, neck, :2] = pair[..., :2].mean(axis=1)
            points[:, neck, 2] = pair[..., 2].min(axis=1)
        people = [
            {"person_id": [-1 if self.track_ids is None else int(self.track_ids[i])], "pose_keypoints_2d": flat}
            for i, flat in enumerate(rounded(points.reshape(len(self), 3 * len(_OPENPOSE)), 4).tolist())
        ]
        return {"version": 1.3, "people": people}

    def to_supervision(self) -> Any:
        """``supervision.KeyPoints`` of these people.

        Returns:
            ``xy`` and ``class_id`` (0: a person); ``keypoint_confidence``, the keypoints' scores;
            ``detection_confidence``, the boxes' scores; ``visible`` where the network tells it (more likely than not),
            else None; and in ``data`` the boxes ``xyxy`` and, where people were followed, their ``tracker_id``: -1 for
            those of no track yet, as supervision's own trackers have it. supervision before 0.29 has ``confidence`` for
            the keypoints' scores, and no place for the boxes' and for ``visible``.

        Raises:
            ImportError: The package ``supervision`` is not installed.
        """
        try:
            import supervision  # type: ignore[import-not-found, unused-ignore]
        except ImportError as error:
            raise ImportError(
                f"to_supervision needs the package supervision (pip install supervision): {error}"
            ) from error
        key_points: Any = supervision.KeyPoints
        fields: dict[str, Any] = {"confidence": self.scores}
        if "keypoint_confidence" in key_points.__dataclass_fields__:
            fields = {
                "keypoint_confidence": self.scores,
                "detection_confidence": self.box_scores,
                "visible": None if self.visibility is None else self.visibility >= 0.5,
            }
        data = {"xyxy": self.boxes} | ({} if self.track_ids is None else {"tracker_id": self.track_ids})
        return key_points(xy=self.keypoints, class_id=np.zeros(len(self), np.int64), data=data, **fields)

    def plot(
        self,
        image: str | os.PathLike[str] | Array | torch.Tensor | None = None,
        *,
        out: str | os.PathLike[str] | None = None,
        threshold: float = 0.2,
        boxes: bool = False,
    ) -> npt.NDArray[np.uint8]:
        """Draw the people.

        Args:
            image: The photo (left as it is): a path, a file's bytes, a PIL image, or pixels in BGR order; by default
                what they kept (`image`), or the file that they come from.
            out: Also write the drawing to this file.
            threshold: Keypoints with a lower score are left out.
            boxes: Draw the boxes too.

        Returns:
            uint8 [H, W, 3] BGR, a new array.

        Raises:
            TypeError: Pixels that are not uint8, or no photo.
            ValueError: No photo is given and the poses have neither one nor a path, or it has another size.
            ImageError: The photo cannot be read.
            OSError: The drawing cannot be written.
        """
        from ..video import is_video
        from .draw import draw_poses, write_image
        from .inputs import as_picture
        from .reading import Photo, read
        from .urls import url_scheme

        if image is None:
            image = self.image if self.image is not None else self.path
            if image is None:
                raise ValueError("image: these poses come from no file; give the photo to draw on")
            if self.image is None and self.frame is not None and self.path is not None and is_video(self.path):
                raise ValueError(f"image: expected frame {self.frame} of {self.path} to draw on, which was not kept")
        if isinstance(image, str) and url_scheme(image):
            raise ValueError(f"image: expected a file or pixels to draw on, got the address {image}")
        photo = read(image)
        picture = photo.pixels if isinstance(photo, Photo) else as_picture(photo, "image").cpu().numpy()
        if picture.shape[:2] != tuple(self.image_size):
            raise ValueError(f"image: expected the photo of size {self.image_size}, got {picture.shape[:2]}")
        drawn = draw_poses(
            picture,
            self.keypoints,
            self.scores,
            self.skeleton,
            sizes=self.boxes[:, 2:] - self.boxes[:, :2],
            threshold=threshold,
            boxes=self.boxes if boxes else None,
            track_ids=self.track_ids,
        )
        if out is not None:
            write_image(out, drawn)
        return drawn

    def show(
        self,
        image: str | os.PathLike[str] | Array | torch.Tensor | None = None,
        *,
        threshold: float = 0.2,
        boxes: bool = False,
    ) -> None:
        """Show the drawing: in a notebook below the cell, else in the system's picture viewer.

        Args:
            image: As for `plot`.
            threshold: As for `plot`.
            boxes: As for `plot`.

        Raises:
            RuntimeError: There is no screen; `plot(out=...)` writes a file.
            TypeError: As `plot`.
            ValueError: As `plot`.
        """
        from .draw import show_image

        show_image(self.plot(image, threshold=threshold, boxes=boxes))

    def _repr_jpeg_(self) -> bytes | None:
        """The drawing, for a notebook that shows these poses; None (so that text is shown) where there is no photo."""
        from .draw import encode_preview

        try:
            return encode_preview(self.plot())
        except (OSError, ValueError):  # it came from no file, or the file has gone or changed
            return None


def join_people(parts: Sequence[Poses]) -> Poses:
    """People of one photo that were found in several ways.

    Args:
        parts: Each says the same of everything but the people; at least one.

    Returns:
        All of them, in order.
    """

    def joined(name: str) -> Any:
        values = [getattr(part, name) for part in parts]
        return None if values[0] is None else np.concatenate(values)

    names = ("keypoints", "scores", "boxes", "box_scores", "track_ids", "visibility")
    return replace(parts[0], **{name: joined(name) for name in names})


def photo_entry(photo: Poses | People, people: list[dict[str, Any]], **names: Any) -> dict[str, Any]:
    """What a JSON file says of a photo and its people.

    Args:
        photo: What was found.
        people: What is said of each person.
        names: What is said of all.
    """
    problems: dict[str, Any] = {"dropped": list(photo.dropped)} if photo.dropped else {}
    if photo.error is not None:
        problems["error"] = photo.error
    return {
        "version": JSON_VERSION,
        "file": None if photo.path is None else os.fspath(photo.path),
        "image_size": [int(side) for side in photo.image_size],
        **names,
        "people": people,
        **problems,
    }


def openpose_places(skeleton: Skeleton) -> list[int | None]:
    """Where each of OpenPose's 18 points stands in a skeleton, told by its name in any spelling; None: nowhere.

    Raises:
        ValueError: It has none of them.
    """
    places = {canonical_name(name): place for place, name in enumerate(skeleton.keypoints)}
    ours = [places.get(canonical_name(name)) for name in _OPENPOSE]
    if all(place is None for place in ours):
        raise ValueError(f"skeleton: {skeleton.name!r} has none of OpenPose's points ({', '.join(_OPENPOSE)})")
    return ours


def json_line(entry: Any) -> str:
    """JSON on one line; readable also where a file's name is not: its bytes are escaped then, and come back."""
    line = json.dumps(entry, ensure_ascii=False)
    try:
        line.encode()
    except UnicodeEncodeError:
        return json.dumps(entry)
    return line


def rounded(values: npt.ArrayLike, digits: int) -> Array:
    """float64: what `short` gives for each; exactly so where the values are float32."""
    return np.round(np.asarray(values, np.float64), digits)


def short(value: float, digits: int = 2) -> float:
    """Hundredths of a pixel are enough, and a JSON without float32's tails is a third of the size."""
    return round(float(value), digits)


def coco_box(box: Sequence[float]) -> list[float]:
    """x1, y1, x2, y2 as COCO has it: left, top, width, height."""
    x1, y1, x2, y2 = box
    return [short(x1), short(y1), short(x2 - x1), short(y2 - y1)]
