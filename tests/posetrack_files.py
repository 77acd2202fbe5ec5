"""PoseTrack18's files of sequences that somebody has invented, with frames that ``spot_model`` can read."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from spot_model import spot_model, spots
from torch import nn, zeros

from fastpose.models import PoseModel
from fastpose.skeletons import POSETRACK18_17, Skeleton

__all__ = ["CATEGORY", "head_model", "predictions", "write_sequence"]

CATEGORY = {"id": 1, "name": "person", "keypoints": list(POSETRACK18_17.keypoints)}
_HEAD = ("nose", "head_top", "head_bottom")
_PLACES = np.array([[-16.0, 4.0], [14.0, -14.0], [6.0, 20.0]])  # of these, around a person's middle
_SIZE = (160, 320)


def head_model() -> PoseModel:
    """A network that knows three of PoseTrack's joints, and these to the pixel."""
    model = spot_model(skeleton=Skeleton("heads", _HEAD))
    model.register_parameter("unused", nn.Parameter(zeros(1)))  # says on which device it is
    return model


def write_sequence(
    folder: Path,
    video: int,
    starts: Sequence[tuple[float, float]],
    steps: Sequence[tuple[float, float]],
    frames: int = 6,
    unlabelled: Sequence[int] = (),
) -> dict[str, Any]:
    """Write ``annotations/NAME.json`` and its frames; the content is returned.

    Args:
        folder: Where.
        video: Its number.
        starts: Middle of each person on the first frame.
        steps: Pixels that each moves in a frame.
        frames: How many.
        unlabelled: Those on which nobody is annotated, though they are there.
    """
    name = f"{video:06d}_drawn"
    (folder / "images" / "val" / name).mkdir(parents=True)
    (folder / "annotations").mkdir(exist_ok=True)
    images, people = [], []
    for frame in range(frames):
        number = 10000000000 + video * 10000 + frame
        file = f"images/val/{name}/{frame:06d}.png"
        images.append({"id": number, "frame_id": number, "file_name": file, "vid_id": f"{video:06d}"})
        picture = np.zeros((*_SIZE, 3), np.uint8)
        for person, (start, step) in enumerate(zip(starts, steps, strict=True)):
            x, y = (at + frame * by for at, by in zip(start, step, strict=True))
            points = _PLACES + np.array([x, y])
            picture = np.maximum(picture, spots(_SIZE, points))
            table = np.zeros((17, 3))
            table[list(POSETRACK18_17.indices(_HEAD))] = np.column_stack([points, np.ones(3)])
            entry = {"id": number * 100 + person, "image_id": number, "track_id": person, "category_id": 1}
            entry |= {"bbox": [x - 45, y - 45, 90.0, 90.0], "bbox_head": [x - 20, y - 20, 40.0, 40.0]}
            if frame not in unlabelled:
                people.append(entry | {"keypoints": table.ravel().tolist(), "scores": []})
        cv2.imwrite(str(folder / file), picture)
    content = {"images": images, "annotations": people, "categories": [CATEGORY]}
    (folder / "annotations" / f"{name}.json").write_text(json.dumps(content))
    return content


def predictions(content: dict[str, Any]) -> dict[str, Any]:
    """The truth as somebody would predict it: the same poses, each with scores."""
    poses = [
        {key: entry[key] for key in ("image_id", "track_id", "keypoints")} | {"scores": [0.9] * 17}
        for entry in content["annotations"]
    ]
    return {"images": content["images"], "annotations": poses, "categories": [CATEGORY]}
