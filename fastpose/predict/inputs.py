"""What users hand to a predictor, checked and brought to one form."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from ..geometry import validate_boxes

__all__ = ["TOLD", "as_array", "as_picture", "check_boxes", "is_picture"]

TOLD = "expected a path, or uint8 pixels of shape [H, W, 3] in BGR order"
"""What errors say of photos."""


def as_array(values: Any) -> npt.NDArray[Any]:
    """A NumPy array of an array, a list, or a tensor on any device."""
    if isinstance(values, torch.Tensor):
        values = values.detach().cpu()
        return np.asarray(values.float() if values.dtype in (torch.bfloat16, torch.float16) else values)
    return np.asarray(values)


def is_picture(images: Any) -> bool:
    """Whether this is one photo and not several."""
    if isinstance(images, str | bytes | os.PathLike):
        return True
    return isinstance(images, np.ndarray | torch.Tensor) and images.ndim != 4


def as_picture(image: Any, where: str) -> torch.Tensor:
    """Pixels as a tensor on the device where they are.

    Args:
        image: uint8 array or tensor [H, W, 3] BGR; [H, W] and [H, W, 1] are grey, a fourth channel is dropped.
        where: What to call it in an error.

    Returns:
        uint8 [H, W, 3] contiguous.

    Raises:
        TypeError: No array, or not uint8.
        ValueError: Another shape, or no pixels.
    """
    if not isinstance(image, np.ndarray | torch.Tensor):
        raise TypeError(f"{where}: {TOLD}, got {type(image).__name__}")
    if image.dtype not in (np.uint8, torch.uint8):
        raise TypeError(f"{where}: {TOLD}, got {image.dtype}")
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
        hint = "; channels stand last: use .permute(1, 2, 0), and BGR" if channels_first else ""
        raise ValueError(f"{where}: {TOLD}, got shape {list(shape)}{hint}")
    if 0 in shape:
        raise ValueError(f"{where}: {TOLD}, got shape {list(shape)} without any pixel")
    if pixels.shape[2] == 1:
        return pixels.expand(-1, -1, 3).contiguous()
    return pixels[..., :3].contiguous()


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
            message names photo and row.
    """
    try:
        checked = validate_boxes(as_array(boxes))
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None
    height, width = image_size
    outside = (checked[:, 2] <= 0) | (checked[:, 3] <= 0) | (checked[:, 0] >= width) | (checked[:, 1] >= height)
    if outside.any():
        row = int(np.argmax(outside))
        raise ValueError(
            f"{where}: boxes: row {row} lies outside the photo of {width}x{height} pixels: {checked[row].tolist()}"
        )
    return checked.astype(np.float32, copy=False)
