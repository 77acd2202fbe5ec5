"""What users hand to a predictor, checked and brought to one form."""

from __future__ import annotations

import os
import sys
from typing import Any, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
import torch

from ..data.images import MAX_PIXELS, ImageError
from ..detection.detections import as_array
from ..geometry import box_faults, shape_boxes

__all__ = ["TOLD", "CleanBoxes", "as_picture", "check_boxes", "clean_boxes", "is_picture"]

TOLD = "expected a path, or uint8 pixels of shape [H, W, 3] in BGR order (or a PIL image, or the bytes of a file)"
"""What errors say of photos."""


def is_picture(images: Any) -> bool:
    """Whether this is one photo and not several."""
    if isinstance(images, str | bytes | bytearray | memoryview | os.PathLike) or _is_pil(images):
        return True
    return isinstance(images, np.ndarray | torch.Tensor) and images.ndim != 4


def _is_pil(image: Any) -> bool:
    pil = sys.modules.get("PIL.Image")  # who has such an image has imported it
    return pil is not None and isinstance(image, pil.Image)


def as_picture(image: Any, where: str, *, rgb: bool = False) -> torch.Tensor:
    """Pixels as a tensor on the device where they are.

    Args:
        image: uint8 array or tensor [H, W, 3] BGR; [H, W] and [H, W, 1] are grey, a fourth channel is dropped. Or a PIL
            image, which is turned upright as its EXIF says, like a file.
        where: What to call it in an error.
        rgb: The channels of arrays and tensors stand in the order red, green, blue. (A PIL image knows its own.)

    Returns:
        uint8 [H, W, 3] contiguous, BGR.

    Raises:
        TypeError: No array, or not uint8.
        ValueError: Another shape, or no pixels.
        ImageError: A PIL image whose file is damaged, or which is too large.
    """
    if _is_pil(image):
        image, rgb = _pil_pixels(image, where), True
    if not isinstance(image, np.ndarray | torch.Tensor):
        raise TypeError(f"{where}: {TOLD}, got {type(image).__name__}")
    if image.dtype not in (np.uint8, torch.uint8):
        floating = image.dtype.is_floating_point if isinstance(image, torch.Tensor) else image.dtype.kind == "f"
        hint = "; values from 0 to 1 are to be multiplied by 255, rounded and made uint8" if floating else ""
        raise TypeError(f"{where}: {TOLD}, got {image.dtype}{hint}")
    shape = tuple(image.shape)
    if isinstance(image, np.ndarray):
        # No negative strides (image[..., ::-1] is how RGB becomes BGR), and writable: torch has no other tensors.
        pixels = torch.from_numpy(np.require(image, requirements=["C", "W"]))
    else:
        pixels = image.detach().contiguous()
    if pixels.ndim == 2:
        pixels = pixels[..., None]
    if pixels.ndim != 3 or pixels.shape[2] not in (1, 3, 4):
        channels_first = len(shape) == 3 and shape[0] in (1, 3, 4)
        order = "" if rgb else ", and BGR (or say rgb=True)"
        hint = f"; channels stand last: use .permute(1, 2, 0){order}" if channels_first else ""
        raise ValueError(f"{where}: {TOLD}, got shape {list(shape)}{hint}")
    if 0 in shape:
        raise ValueError(f"{where}: {TOLD}, got shape {list(shape)} without any pixel")
    if pixels.shape[2] == 1:
        return pixels.expand(-1, -1, 3).contiguous()
    return _swapped(pixels) if rgb else pixels[..., :3].contiguous()


def _swapped(pixels: torch.Tensor) -> torch.Tensor:
    """BGR of RGB or RGBA; on the CPU by OpenCV, which takes a thirtieth of torch's time for it."""
    if pixels.is_cuda:
        return pixels[..., [2, 1, 0]]
    return torch.from_numpy(cv2.cvtColor(pixels.numpy(), cv2.COLOR_RGB2BGR))


def _pil_pixels(image: Any, where: str) -> npt.NDArray[np.uint8]:
    """uint8 [H, W, 3] RGB, upright."""
    from PIL import ImageOps  # type: ignore[import-not-found, unused-ignore]

    if image.width * image.height > MAX_PIXELS:
        raise ImageError(where, f"is too large ({image.width}x{image.height} pixels; at most {MAX_PIXELS} in all)")
    if image.mode in ("I", "F"):
        raise TypeError(f"{where}: expected a PIL image of 8 or 16 bits a channel, got one of mode {image.mode!r}")
    try:
        image = ImageOps.exif_transpose(image)
        if image.mode.startswith("I;16"):
            grey = (np.asarray(image).astype(np.uint32) + 128) // 257  # as the reader of files rounds them
            return np.repeat(grey.astype(np.uint8)[..., None], 3, axis=2)
        return np.asarray(image.convert("RGB"))
    except (OSError, ValueError, SyntaxError) as error:  # it reads the file only now
        raise ImageError(where, f"is a PIL image that cannot be read ({error})") from error


class CleanBoxes(NamedTuple):
    """Those of a photo's boxes that can be used.

    Attributes:
        boxes: float32 [M, 4], xyxy px.
        rows: int64 [M], which of the given ones they are, to pick scores by.
        dropped: What is wrong with each of the others: ``row 2 has no width …``.
    """

    boxes: npt.NDArray[np.float32]
    rows: npt.NDArray[np.int64]
    dropped: list[str]


def check_boxes(boxes: Any, image_size: tuple[int, int], where: str) -> npt.NDArray[np.float32]:
    """Boxes of one photo, after a look at every one; a box may stick out of the photo, but not lie beside it.

    Args:
        boxes: [N, 4] xyxy px, or one box [4], or empty.
        image_size: (height, width) of the photo.
        where: What to call the photo in an error.

    Returns:
        float32 [N, 4].

    Raises:
        ValueError: The shape is another, or a row has NaN, no width, no height, or lies wholly outside the photo; the
            message names photo and row. Or the boxes look like another kind, which the message names: fractions of the
            photo, or (x, y, width, height).
    """
    clean = clean_boxes(boxes, image_size, where)
    if clean.dropped:
        raise ValueError(f"{where}: boxes: {clean.dropped[0]}")
    return clean.boxes


def clean_boxes(boxes: Any, image_size: tuple[int, int], where: str, *, found: bool = False) -> CleanBoxes:
    """Boxes of one photo without those that cannot be used, as a detector may give one now and then.

    Args:
        boxes: As for `check_boxes`.
        image_size: (height, width) of the photo.
        where: What to call the photo in an error.
        found: A detector gave them, so that the only one of a photo may be a bad one: boxes that look like another kind
            are left out.

    Returns:
        What can be used, and what is wrong with the rest.

    Raises:
        ValueError: The shape is another, or given boxes as a whole look like another kind (see `check_boxes`).
    """
    try:
        array = shape_boxes(as_array(boxes))
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None
    height, width = image_size
    fractions = _as_fractions(array, height, width)
    guess = fractions or _as_widths(array, height, width)
    if guess and not found:
        raise ValueError(f"{where}: boxes: {guess}")
    faults = box_faults(array)
    if fractions:
        faults = {
            row: faults.get(row, f"row {row} is none in pixels: {array[row].tolist()}") for row in range(len(array))
        }
    x1, y1, x2, y2 = array.T
    for row in np.flatnonzero((x2 <= 0) | (y2 <= 0) | (x1 >= width) | (y1 >= height)).tolist():
        outside = f"row {row} lies outside the photo of {width}x{height} pixels: {array[row].tolist()}"
        faults.setdefault(row, outside)
    if not faults:
        return CleanBoxes(array, np.arange(len(array)), [])
    rows = np.array([row for row in range(len(array)) if row not in faults], np.int64)
    return CleanBoxes(array[rows], rows, [faults[row] for row in sorted(faults)])


def _as_fractions(boxes: npt.NDArray[np.float32], height: int, width: int) -> str | None:
    """What to say of the boxes of a photo if they seem to be fractions of it."""
    boxes = boxes[np.isfinite(boxes).all(axis=1)]
    if len(boxes) == 0 or boxes.max() > _LARGEST_FRACTION or min(height, width) <= _SMALLEST_PHOTO:
        return None
    first = [round(value, 4) for value in boxes[0].tolist()]
    return (
        f"all of them lie within a pixel or two, as fractions of the photo would: {first}; expected pixels: "
        f"multiply x by {width} and y by {height}"
    )


def _as_widths(boxes: npt.NDArray[np.float32], height: int, width: int) -> str | None:
    """What to say of the boxes of a photo if they seem to be x, y, width, height."""
    boxes = boxes[np.isfinite(boxes).all(axis=1)]
    left, top, wide, high = boxes.T
    turned = (wide < left) | (high < top)
    fits = (wide > 0) & (high > 0) & (left + wide <= width + 1) & (top + high <= height + 1)
    if len(boxes) == 0 or not fits.all() or turned.mean() <= 0.5:
        return None
    row = int(np.argmax(turned))
    return (
        f"row {row} has no width or no height (x1, y1, x2, y2): {boxes[row].tolist()}; as x, y, width, height all "
        "of them would fit the photo: fastpose.geometry.boxes_xywh_to_xyxy makes corners of such"
    )


# Fractions may be a little above 1 where a box sticks out of the photo.
_LARGEST_FRACTION, _SMALLEST_PHOTO = 1.5, 16
