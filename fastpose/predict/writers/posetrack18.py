"""PoseTrack18's JSON of one video, as its annotations have it and its poseval reads it."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ...geometry import boxes_xyxy_to_xywh
from ...skeletons import POSETRACK18_17, Skeleton
from ...skeletons.names import canonical_name
from ...streams import WholeFile
from ..results import Poses, json_line, rounded
from .writer import FileWriter, source_name, where

__all__ = ["PoseTrack18Writer", "posetrack18_keypoints"]

_NAMES = tuple(map(canonical_name, POSETRACK18_17.keypoints))
# What other sets call these two points.
_OTHERS = {"headbottom": ("neck", "upperneck"), "headtop": ("tophead",)}
_CATEGORY = {
    "supercategory": "person",
    "id": 1,
    "name": "person",
    "keypoints": list(POSETRACK18_17.keypoints),
    "skeleton": [[first + 1, second + 1] for first, second in POSETRACK18_17.link_indices],
}
_START = '{"annotations": [\n'
_PICTURES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")


class PoseTrack18Writer(FileWriter):
    """Writes one video; people of no track are left out, as the format knows none.

    The annotations go to the disk frame by frame; of each frame some hundred bytes stay in memory, as the images follow
    after them and state how many they are. The file has its name once it is closed: a process that is killed leaves
    none.

    An image's id is PoseTrack's: 1, six digits of the video (those that its name begins with, as 000342_mpii_test does,
    else zeros), four of the frame. Frames that are pictures keep their file's name; those of a video are called
    images/NAME/000012.jpg.

    Args:
        path: The file; an old one is replaced.
        skeleton: What the keypoints of all poses are; see `posetrack18_keypoints`.

    Raises:
        OSError: The file cannot be made.
        ValueError: The skeleton has none of PoseTrack's keypoints.
    """

    def __init__(self, path: str | os.PathLike[str], skeleton: Skeleton) -> None:
        super().__init__(path, skeleton)
        self._places = _places(skeleton)
        self._images: list[dict[str, Any]] = []
        self._tail = 0  # bytes that the images will have
        self._file: WholeFile | None = WholeFile(path)
        self._put(self._file, _START)

    def _write(self, poses: Poses) -> None:
        if self._file is None:
            raise ValueError(f"{self.path}: is closed")
        if poses.frame is None:
            raise ValueError(f"{self.path}: {where(poses)} is no frame of a video, as PoseTrack18's JSON needs them")
        if len(poses) and poses.track_ids is None:
            raise ValueError(f"{self.path}: {where(poses)} has no track_ids, as PoseTrack18's JSON needs them")
        image = _image(poses)
        self._tail += len(json_line(image)) + len(', "nframes": 0000000000')
        entries = [json.dumps(entry) for entry in self._people(poses, image["id"])]
        between = "" if self._file.size == len(_START) else ",\n"
        self._images.append(image)  # first: a person without a frame would make the file useless, but not the reverse
        try:
            self._put(self._file, (between if entries else "") + ",\n".join(entries))
        except OSError:
            self._images.pop()
            raise

    def _put(self, file: WholeFile, text: str) -> None:
        """Write, if what comes after it will fit as well: then a full disk leaves a whole file of the frames before."""
        data = text.encode()
        file.reserve(file.size + len(data) + self._tail + 4096)
        file.write(data)

    def _people(self, poses: Poses, image_id: int) -> list[dict[str, Any]]:
        keypoints, scores = posetrack18_keypoints(poses, self._places)
        known = scores[..., None] > 0
        points = np.where(known, np.concatenate([rounded(keypoints, 2), known], axis=2), 0.0)
        columns = {
            "track_id": np.empty(0, np.int64) if poses.track_ids is None else poses.track_ids,
            "bbox": rounded(boxes_xyxy_to_xywh(poses.boxes.astype(np.float64)), 2),
            "keypoints": points.reshape(len(poses), 3 * len(_NAMES)),
            "scores": rounded(np.where(known[..., 0], scores, 0.0), 4),
            "score": rounded(poses.person_scores, 4),
        }
        people = (
            dict(zip(columns, person, strict=True))
            for person in zip(*(column.tolist() for column in columns.values()), strict=True)
        )
        return [
            {"id": 100 * image_id + number, "image_id": image_id, "category_id": 1, **person}
            for number, person in enumerate(people)
            if person["track_id"] >= 0
        ]

    def close(self) -> None:
        """Write the images and give the file its name; further calls do nothing.

        Raises:
            OSError: It cannot be finished.
        """
        file, self._file = self._file, None
        if file is None:
            return
        images = ",\n".join(json_line({**image, "nframes": len(self._images)}) for image in self._images)
        try:
            file.write(f'\n],\n"images": [\n{images}\n],\n"categories": [{json.dumps(_CATEGORY)}]}}\n'.encode())
        except BaseException:
            file.discard()
            raise
        file.finish()


def _places(skeleton: Skeleton) -> list[int | None]:
    """Where each of PoseTrack18's keypoints stands in a skeleton, told by its name in any spelling; None: nowhere."""
    places = {canonical_name(name): place for place, name in enumerate(skeleton.keypoints)}
    ours = [
        next((places[known] for known in (name, *_OTHERS.get(name, ())) if known in places), None) for name in _NAMES
    ]
    if all(place is None for place in ours):
        names = ", ".join(POSETRACK18_17.keypoints)
        raise ValueError(f"skeleton: {skeleton.name!r} has none of PoseTrack18's keypoints ({names})")
    return ours


def posetrack18_keypoints(
    poses: Poses, places: list[int | None] | None = None
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """The keypoints of people in PoseTrack18's order, told by their names.

    COCO has neither end of the head. They are derived from it as is usual (Girdhar et al., "Detect-and-Track", CVPR
    2018): head_bottom lies between the shoulders, head_top as far beyond the nose as that lies below it. Their scores
    are the lowest of those that they are derived from.

    Args:
        poses: N people.
        places: Where each of the keypoints stands in their skeleton, if that is known already.

    Returns:
        float32 [N, 17, 2] x, y in pixels; float32 [N, 17] scores, 0 for keypoints that are not known.
    """
    places = _places(poses.skeleton) if places is None else places
    known = [(theirs, ours) for theirs, ours in enumerate(places) if ours is not None]
    values = np.zeros((len(poses), len(places), 3), np.float32)
    theirs, ours = np.array(known).T
    values[:, theirs] = poses.numpy()[:, ours]
    bottom, top, nose, *shoulders = map(
        POSETRACK18_17.index, ("head_bottom", "head_top", "nose", "left_shoulder", "right_shoulder")
    )
    if places[bottom] is None and all(places[shoulder] is not None for shoulder in shoulders):
        values[:, bottom, :2] = values[:, shoulders, :2].mean(axis=1)
        values[:, bottom, 2] = values[:, shoulders, 2].min(axis=1)
        if places[top] is None and places[nose] is not None:
            values[:, top, :2] = 2 * values[:, nose, :2] - values[:, bottom, :2]
            values[:, top, 2] = np.minimum(values[:, nose, 2], values[:, bottom, 2])
    return values[..., :2], values[..., 2]


def _image(poses: Poses) -> dict[str, Any]:
    """What is said of a frame but for how many there are."""
    path = Path() if poses.path is None else Path(poses.path)
    picture = path.suffix.lower() in _PICTURES
    video = path.parent.name if picture else source_name(poses)
    number = re.match(r"\d{6}(?!\d)", video)
    digits = number[0] if number else "000000"
    identity = 10**10 + 10**4 * int(digits) + (poses.frame or 0)
    height, width = poses.image_size
    return {
        "file_name": path.as_posix() if picture else f"images/{video or 'video'}/{poses.frame:06d}.jpg",
        "id": identity,
        "frame_id": identity,
        "vid_id": digits,
        "is_labeled": True,
        "width": int(width),
        "height": int(height),
    }
