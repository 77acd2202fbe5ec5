"""Photos of any sizes into one batch of equal ones, and boxes back: resized, padded or stretched."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fastpose.ops import affine_crop

from .batch import Photo

__all__ = ["Placement", "check_photos", "letterbox", "split_photos"]


@dataclass(frozen=True, eq=False)
class Placement:
    """Where each of B photos lies in its padded picture.

    Attributes:
        scales: float64 [B, 2], (x, y), picture pixels of a photo's pixel.
        offsets: float64 [B, 2], (x, y) of the photo's upper left corner in the picture.
        sizes: int64 [B, 2], (height, width) of the photos.
        shape: (height, width) of the pictures.
    """

    scales: npt.NDArray[np.float64]
    offsets: npt.NDArray[np.float64]
    sizes: npt.NDArray[np.int64]
    shape: tuple[int, int]

    def back(self, boxes: npt.NDArray[Any], index: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """Boxes of the pictures as boxes of the photos.

        Args:
            boxes: [N, 4] xyxy, pixels of the pictures.
            index: [N], whose.

        Returns:
            float32 [N, 4] within the photos; a box that lies beside its photo has no width or no height then, and
            one that is not finite is all NaN.
        """
        moved = (boxes.astype(np.float64) - np.tile(self.offsets[index], 2)) / np.tile(self.scales[index], 2)
        moved[~np.isfinite(moved).all(1)] = np.nan  # for their reader to leave out: clipped, they would look like boxes
        return np.clip(moved, 0, np.tile(self.sizes[index][:, ::-1], 2)).astype(np.float32)


def letterbox(
    images: Sequence[Photo],
    *,
    size: tuple[int, int] | None = None,
    side: int | None = None,
    multiple: int = 32,
    centred: bool = False,
    stretch: bool = False,
    border: float = 114.0,
    mean: float | Sequence[float] = 0.0,
    std: float | Sequence[float] = 1.0,
    rgb: bool = False,
    dtype: torch.dtype = torch.float32,
    channels_last: bool = True,
    device: torch.device | str = "cpu",
) -> tuple[Tensor, Placement]:
    """Photos as a detector wants them; on CUDA without waiting for it.

    Args:
        images: At least one, uint8 [H, W, 3] BGR each, arrays or tensors; those on the device are used where they are.
        size: (height, width) of the pictures, into each of which a photo just fits. Or
        side: of the photos' longer side; the pictures are as large as the largest photo then, rounded up to a
        multiple: of this, the network's largest stride.
        centred: The photo lies in the middle of its picture, not in the upper left corner.
        stretch: Photos fill the pictures of that `size`, whatever becomes of their shape.
        border: Grey level beside a photo.
        mean: Of the channels, 0 to 255, in the order of the output.
        std: The same.
        rgb: The output's channels are red, green, blue, not as in the photos.
        dtype: Of the output.
        channels_last: Whether the channels lie last in the output's memory; its shape is the same.
        device: Where the output shall lie.

    Returns:
        [B, 3, h, w], and where the photos lie in them.

    Raises:
        TypeError: A photo is not uint8.
        ValueError: A photo has another shape, or not exactly one of `size` and `side` is given.

    Example:
        >>> photos = [np.zeros((480, 640, 3), np.uint8), np.zeros((200, 100, 3), np.uint8)]
        >>> pixels, placement = letterbox(photos, side=320)
        >>> pixels.shape, placement.scales.tolist()
        (torch.Size([2, 3, 320, 320]), [[0.5, 0.5], [1.6, 1.6]])
        >>> placement.back(np.float32([[0, 0, 40, 80], [16, 32, 400, 160]]), np.array([0, 1])).tolist()
        [[0.0, 0.0, 80.0, 160.0], [10.0, 20.0, 100.0, 100.0]]
    """
    if (size is None) == (side is None):
        raise ValueError("letterbox: expected either size or side")
    if stretch and size is None:
        raise ValueError("letterbox: expected the size to which photos are stretched, got their side")
    check_photos(images)
    photos = [_tensor(image).to(device, non_blocking=True) for image in images]
    sizes = np.array([photo.shape[:2] for photo in photos], np.int64)
    if size is None:
        factors = side / sizes.max(1, keepdims=True)
        largest = np.maximum(1, np.round(sizes * factors)).max(0).astype(int)
        height, width = (int(-(-length // multiple) * multiple) for length in largest)
    else:
        height, width = size
        factors = np.array(size) / sizes
        factors = factors if stretch else factors.min(1, keepdims=True)
    scales = np.broadcast_to(factors, sizes.shape)[:, ::-1]
    shown = sizes[:, ::-1] * scales
    offsets = np.floor(((width, height) - shown) / 2) if centred else np.zeros(shown.shape)
    # Corner on corner: pixel centres are at integers, so a photo's corner is half a pixel before its first centre.
    matrices = np.zeros((len(photos), 2, 3))
    matrices[:, 0, 0], matrices[:, 1, 1] = scales.T
    matrices[:, :, 2] = offsets + (scales - 1) / 2
    pixels = affine_crop(
        photos,
        matrices,
        size=(height, width),
        mean=mean,
        std=std,
        swap_rb=rgb,
        border="replicate" if stretch else "constant",
        border_value=border,
        antialias=True,
        dtype=dtype,
        layout="nhwc" if channels_last else "nchw",
    )
    pixels = torch.as_tensor(pixels)
    pixels = pixels.permute(0, 3, 1, 2) if channels_last else pixels
    return pixels, Placement(scales, offsets, sizes, (height, width))


def split_photos(images: Sequence[Photo], most: int, *, apart: bool = True) -> list[npt.NDArray[np.int64]]:
    """Which photos should share a pass.

    Args:
        images: Any number.
        most: Photos of a pass.
        apart: Wide ones and tall ones apart: pictures into which both fit would be border for a third.

    Returns:
        Rows of the photos, a pass each; none is empty.
    """
    tall = np.array([apart and image.shape[0] > image.shape[1] for image in images], bool)
    groups = (np.flatnonzero(~tall), np.flatnonzero(tall))
    return [rows[first : first + most] for rows in groups for first in range(0, len(rows), most)]


def check_photos(images: Sequence[Photo]) -> None:
    """See that photos are such.

    Raises:
        TypeError: A photo is not uint8.
        ValueError: A photo has another shape.
    """
    for number, image in enumerate(images):
        if not isinstance(image, np.ndarray | Tensor) or image.dtype not in (np.uint8, torch.uint8):
            got = image.dtype if isinstance(image, np.ndarray | Tensor) else type(image).__name__
            raise TypeError(f"photo {number}: expected uint8 pixels [H, W, 3], got {got}")
        if image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
            raise ValueError(f"photo {number}: expected shape [H, W, 3], got {list(image.shape)}")


def _tensor(image: Photo) -> Tensor:
    if isinstance(image, np.ndarray):
        return torch.from_numpy(np.require(image, requirements=["C", "W"]))
    return image
