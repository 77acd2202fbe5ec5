"""Poses drawn on a photo, and pictures written to files."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from ..files import atomic_write
from ..skeletons import Skeleton
from ..skeletons.names import canonical_name

__all__ = ["draw_boxes", "draw_poses", "encode_preview", "show_image", "write_image"]

Array = npt.NDArray[Any]

# BGR. Told apart by people who do not see red and green differently: orange, blue, pale yellow.
_LEFT, _RIGHT, _MIDDLE = (50, 150, 255), (255, 160, 60), (170, 245, 250)
_OUTLINE = (25, 25, 25)
_BOX = (210, 210, 210)
_SHIFT = 4  # OpenCV's coordinates in sixteenths of a pixel


def draw_poses(
    image: npt.NDArray[np.uint8],
    keypoints: Array,
    scores: Array,
    skeleton: Skeleton,
    *,
    sizes: Array | None = None,
    threshold: float = 0.2,
    boxes: Array | None = None,
    track_ids: Array | None = None,
) -> npt.NDArray[np.uint8]:
    """Draw limbs and joints, lines as thick as the person is large.

    The person's left is orange, the right blue, what has no side is pale yellow.

    Args:
        image: uint8 [H, W, 3] BGR; left as it is.
        keypoints: [N, K, 2], (x, y) px; those that are not finite are left out.
        scores: [N, K]; keypoints below `threshold` are left out.
        skeleton: Says what is joined to what, and which side it is on.
        sizes: [N, 2] width and height of each person, px; by default the extent of what is drawn.
        threshold: Lowest score.
        boxes: [N, 4] xyxy px to draw too.
        track_ids: int64 [N], written above each person; below 0: nobody's number.

    Returns:
        uint8 [H, W, 3] BGR, a new array.

    Raises:
        ValueError: The shapes do not fit each other or the skeleton.
    """
    keypoints, scores = np.asarray(keypoints, np.float64), np.asarray(scores, np.float64)
    joints = skeleton.num_keypoints
    if keypoints.ndim != 3 or keypoints.shape[1:] != (joints, 2) or scores.shape != keypoints.shape[:2]:
        raise ValueError(
            f"keypoints, scores: expected [N, {joints}, 2] and [N, {joints}] for {skeleton.name!r}, "
            f"got {list(keypoints.shape)} and {list(scores.shape)}"
        )
    picture = np.ascontiguousarray(image).copy()
    colours = [_colour(name) for name in skeleton.keypoints]
    # What is far outside cannot be seen, and OpenCV's fixed-point coordinates overflow on it.
    far = 16 * max(picture.shape)
    near = (np.abs(keypoints) < far).all(axis=2)
    shown = (scores >= threshold) & near
    if boxes is not None:
        picture = draw_boxes(picture, boxes)
    for person in range(len(keypoints)):
        if shown[person].any():
            extent = np.ptp(keypoints[person][shown[person]], axis=0) if sizes is None else np.asarray(sizes)[person]
            _draw_person(picture, keypoints[person], shown[person], skeleton, colours, float(np.max(extent)))
            if track_ids is not None and track_ids[person] >= 0:
                _write_number(picture, keypoints[person][shown[person]], int(track_ids[person]), float(np.max(extent)))
    return picture


def draw_boxes(image: npt.NDArray[np.uint8], boxes: Array) -> npt.NDArray[np.uint8]:
    """Draw boxes, lines as thick as the photo is large.

    Args:
        image: uint8 [H, W, 3] BGR; left as it is.
        boxes: [N, 4] xyxy px.

    Returns:
        uint8 [H, W, 3] BGR, a new array.
    """
    picture = np.ascontiguousarray(image).copy()
    far, line = 16 * max(picture.shape), max(1, round(max(picture.shape) / 700))
    near = np.clip(np.asarray(boxes, np.float64), -far, far)
    # A dark rim first, so that light boxes stand out against any background.
    for colour, thickness in ((_OUTLINE, 3 * line), (_BOX, line)):
        for box in near:
            cv2.rectangle(picture, _fixed(box[:2]), _fixed(box[2:]), colour, thickness, cv2.LINE_AA, _SHIFT)
    return picture


def write_image(path: str | os.PathLike[str], image: npt.NDArray[np.uint8]) -> None:
    """Write a picture so that at any moment either the old or the whole new file is there.

    Args:
        path: File to write; its extension says the format.
        image: uint8 [H, W, 3] BGR, or [H, W].

    Raises:
        ValueError: OpenCV cannot write that format.
        OSError: The file cannot be written; nothing is left behind.
    """
    name = os.fspath(path)
    extension = Path(name).suffix.lower()
    options = [cv2.IMWRITE_JPEG_QUALITY, 92] if extension in (".jpg", ".jpeg") else []
    try:
        done, data = cv2.imencode(extension, image, options)
    except cv2.error:
        done = False
    if not done:
        raise ValueError(f"{name}: cannot write a picture of format {extension!r}; .jpg, .png and .webp can be written")
    atomic_write(name, data.tobytes())


def encode_preview(image: npt.NDArray[np.uint8], most: int = 1280) -> bytes:
    """A JPEG that a notebook can hold: of a photo that is wider or higher than `most` pixels, a smaller copy.

    Args:
        image: uint8 [H, W, 3] BGR.
        most: Longest side, px.

    Returns:
        The content of a JPEG file.
    """
    height, width = image.shape[:2]
    factor = most / max(height, width)
    if factor < 1:
        size = max(1, round(width * factor)), max(1, round(height * factor))
        image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
    return bytes(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 90])[1])


def show_image(image: npt.NDArray[np.uint8]) -> None:
    """Show a picture: in a notebook below the cell, else in the system's picture viewer.

    Args:
        image: uint8 [H, W, 3] BGR.

    Raises:
        RuntimeError: There is neither.
    """
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    if shell is not None and hasattr(shell, "kernel"):
        from IPython.display import Image, display  # type: ignore[import-not-found, unused-ignore]

        display(Image(data=encode_preview(image), format="jpeg"))
        return
    viewer = _viewer()
    if viewer is None:
        raise RuntimeError("there is neither a notebook nor a screen here to show it on; plot(out=FILE) writes a file")
    # It stays there: the viewer reads it at some later time.
    with tempfile.NamedTemporaryFile(prefix="fastpose-", suffix=".png", delete=False) as file:
        file.write(bytes(cv2.imencode(".png", image)[1]))
    subprocess.Popen([*viewer, file.name], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def _viewer() -> list[str] | None:
    """The command that opens a file in the desktop's own program."""
    if sys.platform == "darwin":
        return ["open"]
    has_screen = os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    return ["xdg-open"] if has_screen and shutil.which("xdg-open") else None


def _draw_person(
    picture: npt.NDArray[np.uint8],
    points: Array,
    shown: Array,
    skeleton: Skeleton,
    colours: list[tuple[int, int, int]],
    size: float,
) -> None:
    thick = min(max(size * 0.014, 1.0), max(picture.shape) * 0.02)
    line, radius = max(1, round(thick)), thick * 1.15
    rim = max(1, round(thick * 0.35))
    links = [(a, b) for a, b in skeleton.link_indices if shown[a] and shown[b]]
    # A dark rim first, so that the colours stand out against any background.
    for a, b in links:
        cv2.line(picture, _fixed(points[a]), _fixed(points[b]), _OUTLINE, line + 2 * rim, cv2.LINE_AA, _SHIFT)
    for a, b in links:
        first, second = colours[a], colours[b]
        colour = first if second == _MIDDLE or first == second else second if first == _MIDDLE else _MIDDLE
        cv2.line(picture, _fixed(points[a]), _fixed(points[b]), colour, line, cv2.LINE_AA, _SHIFT)
    for k in np.flatnonzero(shown):
        centre = _fixed(points[k])
        cv2.circle(picture, centre, round((radius + rim * 0.7) * 16), _OUTLINE, -1, cv2.LINE_AA, _SHIFT)
        cv2.circle(picture, centre, round(radius * 16), colours[k], -1, cv2.LINE_AA, _SHIFT)


def _write_number(picture: npt.NDArray[np.uint8], points: Array, number: int, size: float) -> None:
    """A person's number above the highest point."""
    scale = min(max(size / 350, 0.4), max(picture.shape) / 600)
    thick, font, text = max(1, round(scale * 1.6)), cv2.FONT_HERSHEY_SIMPLEX, str(number)
    (width, height), _ = cv2.getTextSize(text, font, scale, thick)
    x = float(points[:, 0].mean()) - width / 2
    y = float(points[:, 1].min()) - size * 0.08
    place = round(min(max(x, 0), picture.shape[1] - width)), round(max(y, height + thick))
    for colour, extra in ((_OUTLINE, 2 * thick), (_MIDDLE, 0)):
        cv2.putText(picture, text, place, font, scale, colour, thick + extra, cv2.LINE_AA)


def _colour(name: str) -> tuple[int, int, int]:
    side = canonical_name(name)
    return _LEFT if side.startswith("left") else _RIGHT if side.startswith("right") else _MIDDLE


def _fixed(point: Array) -> tuple[int, int]:
    return round(float(point[0]) * 16), round(float(point[1]) * 16)
