"""Boxes, crops and the pixel convention, written once.

Points are (x, y) in pixels, the centre of the first pixel is (0, 0). Boxes are xyxy unless a name says xywh. Sizes are
(height, width). A matrix is 2x3 and maps the pixels of the photo to those of the crop, as ``cv2.warpAffine`` takes it.

Two conventions say what "the crop covers the box" means, and a model must be used with the one it was trained with:

* ordinary: a crop of w pixels spans w pixels of the scaled photo; box centre lands on (w/2, h/2);
* UDP (Huang et al., CVPR 2020): the *centres* of the crop's outer pixels span the box, that is w - 1 unit steps; the
  box centre lands on ((w-1)/2, (h-1)/2), and mirroring a crop is then exact.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = [
    "box_faults",
    "box_ious",
    "box_to_center_scale",
    "boxes_xywh_to_xyxy",
    "boxes_xyxy_to_xywh",
    "crop_matrices",
    "fix_aspect",
    "flip_matrices",
    "invert_matrices",
    "shape_boxes",
    "transform_points",
    "validate_boxes",
]

Array = NDArray[Any]


def _floating(values: ArrayLike) -> Array:
    """Float arrays as they are, anything else as float32."""
    array = np.asarray(values)
    return array if array.dtype in (np.float32, np.float64) else array.astype(np.float32)


def _boxes(boxes: ArrayLike, name: str) -> Array:
    array = _floating(boxes)
    if array.size == 0:
        array = array.reshape(-1, 4)
    if array.ndim < 1 or array.shape[-1] != 4:
        raise ValueError(f"{name}: expected shape [..., 4], got {list(array.shape)}")
    return array


def boxes_xywh_to_xyxy(boxes: ArrayLike) -> Array:
    """Boxes [..., 4] from (left, top, width, height) to (left, top, right, bottom), pixels."""
    boxes = _boxes(boxes, "boxes")
    return np.concatenate([boxes[..., :2], boxes[..., :2] + boxes[..., 2:]], axis=-1)


def boxes_xyxy_to_xywh(boxes: ArrayLike) -> Array:
    """Boxes [..., 4] from (left, top, right, bottom) to (left, top, width, height), pixels."""
    boxes = _boxes(boxes, "boxes")
    return np.concatenate([boxes[..., :2], boxes[..., 2:] - boxes[..., :2]], axis=-1)


def validate_boxes(boxes: ArrayLike) -> Array:
    """Boxes as float32 [N, 4], after a look at every one.

    Args:
        boxes: [N, 4] xyxy, pixels; a single [4] is one box; empty is no box.

    Returns:
        float32 [N, 4].

    Raises:
        ValueError: The shape is another, or a box (named by its row) is not finite or has no width or no height.
    """
    array = shape_boxes(boxes)
    for fault in box_faults(array).values():
        raise ValueError(f"boxes: {fault}")
    return array


def shape_boxes(boxes: ArrayLike) -> NDArray[np.float32]:
    """Boxes as float32 [N, 4], whatever their values.

    Args:
        boxes: As for `validate_boxes`.

    Returns:
        float32 [N, 4].

    Raises:
        ValueError: The shape is another, or they are no numbers.
    """
    try:
        array = np.asarray(boxes, dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise ValueError(f"boxes: expected numbers of shape [N, 4], got {boxes!r:.80}") from error
    if array.size == 0:
        return array.reshape(0, 4)
    if array.ndim == 1 and array.shape[0] == 4:
        array = array[None]
    if array.ndim != 2 or array.shape[1] != 4:
        raise ValueError(f"boxes: expected shape [N, 4] (x1, y1, x2, y2), got {list(array.shape)}")
    return array


def box_faults(boxes: NDArray[np.float32]) -> dict[int, str]:
    """What keeps boxes from being used.

    Args:
        boxes: [N, 4] xyxy, pixels.

    Returns:
        For each row that is not finite or has no width or no height what is to be said of it, lowest row first.
    """
    finite = np.asarray(np.isfinite(boxes).all(axis=1))
    solid = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
    faults = {}
    for row in np.flatnonzero(~(finite & solid)).tolist():
        what = "has no width or no height (x1, y1, x2, y2)" if finite[row] else "is not finite"
        faults[row] = f"row {row} {what}: {boxes[row].tolist()}"
    return faults


def box_to_center_scale(
    boxes: ArrayLike, input_size: tuple[int, int], padding: float = 1.25
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Centre and extent of the region of the photo that a crop shows.

    The padded box grows in width or in height until it has the aspect of the input, so nothing is cut off.

    Args:
        boxes: [N, 4] xyxy, pixels.
        input_size: (height, width) of the network's input.
        padding: Factor on the size of the box; 1.25 leaves an eighth on either side.

    Returns:
        center: float32 [N, 2], (x, y) in pixels.
        scale: float32 [N, 2], (width, height) of the region in pixels.
    """
    boxes = _boxes(boxes, "boxes").astype(np.float32, copy=False)
    center = (boxes[..., :2] + boxes[..., 2:]) * np.float32(0.5)
    size = (boxes[..., 2:] - boxes[..., :2]) * np.float32(padding)
    return center, fix_aspect(size, input_size)


def fix_aspect(scale: NDArray[np.float32], input_size: tuple[int, int]) -> NDArray[np.float32]:
    """Regions [N, 2] (width, height) grown in one direction to the aspect of ``input_size`` (height, width)."""
    aspect = np.float32(input_size[1] / input_size[0])
    width, height = scale[..., 0], scale[..., 1]
    return np.stack([np.maximum(width, height * aspect), np.maximum(height, width / aspect)], axis=-1)


def crop_matrices(
    center: ArrayLike,
    scale: ArrayLike,
    input_size: tuple[int, int],
    rotation: ArrayLike = 0.0,
    udp: bool = False,
) -> NDArray[np.float64]:
    """Matrices from the pixels of the photo to those of the crop.

    Args:
        center: [N, 2] (x, y), pixels of the photo.
        scale: [N, 2] (width, height) of the region, pixels of the photo. The ordinary crop scales both axes by the
            width's factor; UDP scales each by its own.
        input_size: (height, width) of the crop.
        rotation: Degrees, one number or [N]. Positive turns the crop's content counter-clockwise as seen on the
            screen in the ordinary convention, and clockwise in UDP's: that is how the published models were trained.
        udp: Unbiased data processing, see the head of this module.

    Returns:
        float64 [N, 2, 3].

    Raises:
        ValueError: ``scale`` is not above 0, or the shapes do not fit.
    """
    center = np.asarray(center, np.float64)
    scale = np.asarray(scale, np.float64)
    if center.shape != scale.shape or center.shape[-1:] != (2,):
        raise ValueError(
            f"center, scale: expected equal shapes [..., 2], got {list(center.shape)} and {list(scale.shape)}"
        )
    if not (scale > 0).all():
        raise ValueError("scale: expected width and height above 0 in every row")
    height, width = input_size
    angle = np.deg2rad(np.broadcast_to(np.asarray(rotation, np.float64), center.shape[:-1]))
    cos, sin = np.cos(angle), np.sin(angle)
    x, y = center[..., 0], center[..., 1]
    matrices = np.empty((*center.shape[:-1], 2, 3))
    if udp:
        # The photo turns by +angle, then each axis is scaled so that width - 1 steps span the region.
        factor_x, factor_y = (width - 1) / scale[..., 0], (height - 1) / scale[..., 1]
        middle_x, middle_y = (width - 1) / 2, (height - 1) / 2
        matrices[..., 0, 0], matrices[..., 0, 1] = factor_x * cos, -factor_x * sin
        matrices[..., 1, 0], matrices[..., 1, 1] = factor_y * sin, factor_y * cos
    else:
        # Published models saw crops fixed by three points of the photo in float32: the centre, a point half a region to
        # its left, and one below that. The rounding of those points moves small, far-off boxes by up to a thousandth of
        # a pixel; it is kept, so that the numbers agree.
        middle_x, middle_y = width / 2, height / 2
        half = scale[..., 0] / 2
        left = _round_float32(np.stack([x - cos * half, y - sin * half], axis=-1))
        left_x, left_y = left[..., 0] - x, left[..., 1] - y
        below = _round_float32(np.stack([left[..., 0] + left_y, left[..., 1] - left_x], axis=-1))
        below_x, below_y = below[..., 0] - left[..., 0], below[..., 1] - left[..., 1]
        factor = middle_x / (left_x * below_y - below_x * left_y)
        matrices[..., 0, 0], matrices[..., 0, 1] = -factor * below_y, factor * below_x
        matrices[..., 1, 0], matrices[..., 1, 1] = -factor * left_y, factor * left_x
    matrices[..., 0, 2] = middle_x - (matrices[..., 0, 0] * x + matrices[..., 0, 1] * y)
    matrices[..., 1, 2] = middle_y - (matrices[..., 1, 0] * x + matrices[..., 1, 1] * y)
    return matrices


def _round_float32(values: Array) -> NDArray[np.float64]:
    return values.astype(np.float32).astype(np.float64)


def flip_matrices(matrices: ArrayLike, width: int) -> Array:
    """Matrices of the crop seen in a mirror: x becomes ``width - 1 - x``.

    Args:
        matrices: [..., 2, 3] to a crop that is ``width`` pixels wide.
        width: Width of the crop, pixels.

    Returns:
        New matrices of the same shape.
    """
    flipped = np.array(_floating(matrices))
    flipped[..., 0, :] *= -1
    flipped[..., 0, 2] += width - 1
    return flipped


def invert_matrices(matrices: ArrayLike) -> Array:
    """Inverse affine maps: crop → photo where the input is photo → crop.

    Args:
        matrices: [..., 2, 3].

    Returns:
        [..., 2, 3], computed in float64, in the input's floating dtype.

    Raises:
        ValueError: A matrix is not finite or has no inverse.
    """
    given = _floating(matrices)
    m = given.astype(np.float64)
    determinant = m[..., 0, 0] * m[..., 1, 1] - m[..., 0, 1] * m[..., 1, 0]
    if not np.isfinite(m).all() or (np.abs(determinant) < np.finfo(np.float64).tiny).any():
        raise ValueError("matrices: expected finite, invertible 2x3 matrices")
    inverse = np.empty_like(m)
    inverse[..., 0, 0] = m[..., 1, 1] / determinant
    inverse[..., 1, 1] = m[..., 0, 0] / determinant
    inverse[..., 0, 1] = -m[..., 0, 1] / determinant
    inverse[..., 1, 0] = -m[..., 1, 0] / determinant
    inverse[..., 2] = -(inverse[..., :2] @ m[..., 2:])[..., 0]
    return inverse.astype(given.dtype)


def transform_points(points: ArrayLike, matrices: ArrayLike) -> Array:
    """Points mapped by affine matrices.

    Args:
        points: [..., K, 2] (x, y).
        matrices: [..., 2, 3]; one matrix for the K points of each leading index.

    Returns:
        [..., K, 2], computed in float64, in the points' floating dtype.
    """
    points = _floating(points)
    m = np.asarray(matrices, np.float64)
    moved = points.astype(np.float64) @ np.swapaxes(m[..., :2], -1, -2) + m[..., None, :, 2]
    return moved.astype(points.dtype)


def box_ious(first: ArrayLike, second: ArrayLike) -> Array:
    """Intersection over union of every pair of boxes.

    Args:
        first: [N, 4] xyxy, px.
        second: [M, 4] xyxy, px.

    Returns:
        [N, M], 0 to 1, float64 where one of them is, else float32; 0 where a box has no area.

    Example:
        >>> box_ious([[0, 0, 10, 10]], [[0, 0, 10, 5], [20, 0, 30, 10]]).tolist()
        [[0.5, 0.0]]
    """
    a, b = _boxes(first, "first"), _boxes(second, "second")
    (x0, y0, x1, y1), (left, upper, right, lower) = a.T[..., None], b.T
    common = (np.minimum(x1, right) - np.maximum(x0, left)).clip(min=0)
    common *= (np.minimum(y1, lower) - np.maximum(y0, upper)).clip(min=0)
    whole = (x1 - x0) * (y1 - y0) + (right - left) * (lower - upper) - common
    return np.asarray(np.divide(common, whole, out=np.zeros_like(common), where=common > 0))
