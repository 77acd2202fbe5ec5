"""Random crops for training: flip, half body, cut, scale, rotation and shift of a person, folded into one matrix.

Nothing touches a pixel here. The result is one 2x3 matrix a person, the keypoints seen through it, where the photo is
made to end, and a gain and an offset of colour, which ``ops.affine_crop`` applies while it samples the photo once; what
cannot be written like that is in ``data.pixels``.

The ranges, probabilities and distributions are those of MMPose's RandomFlip, RandomHalfBody and RandomBBoxTransform
(https://mmpose.readthedocs.io), which the published figures of the zoo were trained with.

Every random choice comes from a table of uniform numbers, one row a crop of the epoch: what happens to a crop depends
on the seed, the epoch and its position in the epoch, not on batch size, threads or where a run was interrupted.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from ..geometry import box_to_center_scale, crop_matrices, flip_matrices, transform_points
from ..skeletons import Skeleton
from ..spec import PoseSpec
from .pixels import PixelChanges

__all__ = ["Augmentation", "Crops", "draw_seeds", "draw_table", "make_crops", "plain_crops"]

Array = NDArray[Any]

# Columns of the table of uniform numbers.
(
    _FLIP,
    _HALF_BODY,
    _PREFER_UPPER,
    _SHIFT_DO,
    _SHIFT_X,
    _SHIFT_Y,
    _SCALE_DO,
    _SCALE,
    _ROTATE_DO,
    _ROTATE,
    _COLOUR_DO,
    _BRIGHTNESS,
    _CONTRAST,
    _COLOUR_0,
    _COLOUR_1,
    _COLOUR_2,
    _CUT_DO,
    _CUT_LEGS,
    _CUT_SIDE,
    _CUT_KEEP,
    _CUT_FRAME,
    _NUM_DRAWS,
) = range(22)

# Pixels: an edge of a photo that nothing is cut off at.
_NO_EDGE = 1 << 30


@dataclass(frozen=True)
class Augmentation:
    """Ranges and probabilities; the defaults are MMPose's, without change of colour.

    Attributes:
        flip_prob: Probability of mirroring; 0 where the skeleton does not know its mirror (``Skeleton.mirror_known``).
        half_body_prob: Probability of cropping to the upper or the lower half of the body.
        half_body_min_keypoints: Labelled keypoints that a person must have for that.
        half_body_min_upper: Labelled keypoints that the upper half must have to be chosen.
        half_body_min_lower: The same for the lower half.
        half_body_prefer_upper: Probability of the upper half where both can be chosen.
        half_body_padding: Factor on the extent of the half's keypoints.
        cut_prob: Probability of a box that ends across the person, as where the photo ends or a table hides the rest.
            It needs a labelled keypoint of either half, and three on what is left.
        cut_legs: Probability that the side where the legs are is cut off; else one of the two sides next to it.
        cut_keep: Smallest and largest part of the box that is left.
        cut_frame: Probability that the photo ends at the cut, too; else what the box leaves out can still be seen
            beside it. Keypoints that are cut off with the photo are outside the crop, wherever they were.
        shift_prob: Probability of shifting.
        shift: Largest shift, as a fraction of the padded box.
        scale_prob: Probability of scaling.
        scale: Smallest and largest factor on the padded box (above 1 the person gets smaller).
        rotate_prob: Probability of turning.
        rotate: Largest angle, degrees, either way.
        colour_prob: Probability of a change of colour.
        brightness: Largest change of brightness, as a fraction of the full range, either way.
        contrast: Largest change of contrast about mid-grey, as a fraction, either way.
        colour: Largest change of each channel's gain, as a fraction, either way.
        pixels: What else happens to the pixels: HSV, blur, holes. Costs a pass of its own.

    Shift, scale and angle follow a standard normal cut off at one standard deviation, which is then stretched to the
    range; everything else is uniform.

    Raises:
        ValueError: A probability is outside 0..1, or a range is negative or the wrong way round.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid", "allow_inf_nan": False}

    flip_prob: float = 0.5
    half_body_prob: float = 0.3
    half_body_min_keypoints: int = 9
    half_body_min_upper: int = 2
    half_body_min_lower: int = 3
    half_body_prefer_upper: float = 0.7
    half_body_padding: float = 1.5
    cut_prob: float = 0.0
    cut_legs: float = 0.75
    cut_keep: tuple[float, float] = (0.25, 0.85)
    cut_frame: float = 0.5
    shift_prob: float = 0.3
    shift: float = 0.16
    scale_prob: float = 1.0
    scale: tuple[float, float] = (0.5, 1.5)
    rotate_prob: float = 0.6
    rotate: float = 80.0
    colour_prob: float = 0.0
    brightness: float = 0.2
    contrast: float = 0.2
    colour: float = 0.1
    pixels: PixelChanges | None = None

    def __post_init__(self) -> None:
        names = ("flip_prob", "half_body_prob", "cut_prob", "shift_prob", "scale_prob", "rotate_prob", "colour_prob")
        for name in (*names, "cut_legs", "cut_frame"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name}: expected a probability between 0 and 1, got {getattr(self, name)}")
        if not 0 <= self.half_body_prefer_upper <= 1:
            raise ValueError(f"half_body_prefer_upper: expected 0 to 1, got {self.half_body_prefer_upper}")
        for name in ("shift", "rotate", "brightness", "contrast", "colour"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name}: expected 0 or more, got {getattr(self, name)}")
        if not self.half_body_padding > 0:
            raise ValueError(f"half_body_padding: expected a factor above 0, got {self.half_body_padding}")
        if not 0 < self.cut_keep[0] <= self.cut_keep[1] <= 1:
            raise ValueError(f"cut_keep: expected (smallest, largest) part, above 0 and at most 1, got {self.cut_keep}")
        if not 0 < self.scale[0] <= self.scale[1]:
            raise ValueError(f"scale: expected (smallest, largest) factor above 0, got {self.scale}")


@dataclass(frozen=True)
class Crops:
    """What a batch of crops shows.

    Attributes:
        matrices: float64 [M, 2, 3], pixels of the photo → pixels of the crop; mirrored where ``flipped``.
        keypoints: float32 [M, K, 2] (x, y), pixels of the crop, left and right exchanged where ``flipped``.
        weights: float32 [M, K], weight of each keypoint in the loss, 0 where there is no label.
        flipped: bool [M].
        gain: float32 [M, 3] on the pixels 0..255, or None where no colour changes.
        offset: float32 [M, 3], added after the gain, or None.
        frames: int64 [M, 4] xyxy, pixels of the photo: it ends there, or None where no photo is cut.
    """

    matrices: Array
    keypoints: Array
    weights: Array
    flipped: Array
    gain: Array | None = None
    offset: Array | None = None
    frames: Array | None = None

    def __getitem__(self, rows: Array) -> Crops:
        """The crops at these places of the batch."""
        columns = {field.name: getattr(self, field.name) for field in fields(self)}
        return replace(self, **{name: column[rows] for name, column in columns.items() if column is not None})


def draw_table(seed: int, epoch: int, length: int) -> NDArray[np.float32]:
    """Uniform numbers in [0, 1) for every crop of an epoch: float32 [length, D]."""
    generator = np.random.default_rng((seed, epoch, 1))
    # What came later is drawn afterwards, so that a seed goes on meaning the same crops.
    parts = [generator.random((length, columns), dtype=np.float32) for columns in (_CUT_DO, _NUM_DRAWS - _CUT_DO)]
    return np.concatenate(parts, axis=1)


def draw_seeds(seed: int, epoch: int, length: int) -> NDArray[np.int64]:
    """One seed for every crop of an epoch, for ``pixels.change_pixels``: int64 [length]."""
    return np.random.default_rng((seed, epoch, 2)).integers(0, 1 << 62, length)


def _truncated_normal(uniform: Array) -> Array:
    """Uniform [0, 1) → standard normal cut off at -1 and 1, by the inverse of its distribution function."""
    p = torch.from_numpy(np.ascontiguousarray(2.0 * uniform.astype(np.float64) - 1.0))
    return (math.sqrt(2) * torch.erfinv(p * math.erf(math.sqrt(0.5)))).numpy()


def _half_body(
    labelled: Array, keypoints: Array, draws: Array, skeleton: Skeleton, settings: Augmentation
) -> tuple[Array, Array, Array]:
    """Which people are cropped to half their body, and the centre and padded extent of that half."""
    upper = np.zeros(skeleton.num_keypoints, bool)
    upper[list(skeleton.upper_body_indices)] = True
    in_upper, in_lower = labelled & upper, labelled & ~upper
    upper_fits = in_upper.sum(1) >= settings.half_body_min_upper
    lower_fits = in_lower.sum(1) >= settings.half_body_min_lower
    take_upper = upper_fits & (~lower_fits | (draws[:, _PREFER_UPPER] < settings.half_body_prefer_upper))
    enough = labelled.sum(1) >= settings.half_body_min_keypoints
    chosen = (draws[:, _HALF_BODY] < settings.half_body_prob) & enough & (upper_fits | lower_fits)
    chosen_points = np.where(take_upper[:, None], in_upper, in_lower)[..., None]
    count = np.maximum(chosen_points.sum(1), 1)
    center = np.where(chosen_points, keypoints, 0).sum(1) / count
    low = np.where(chosen_points, keypoints, np.inf).min(1)
    high = np.where(chosen_points, keypoints, -np.inf).max(1)
    extent = np.where(chosen[:, None], high - low, 1.0) * settings.half_body_padding
    # Keypoints on one spot span no region that could be cropped.
    chosen &= (extent > 1.0).any(1)
    return chosen, center, extent


def _cut(
    boxes: Array, keypoints: Array, labelled: Array, draws: Array, skeleton: Skeleton, settings: Augmentation
) -> tuple[Array, Array]:
    """Boxes [M, 4] of which some end across the person, and the frames [M, 4] that the photos are left with."""
    people = np.arange(len(boxes))
    upper = np.zeros(skeleton.num_keypoints, bool)
    upper[list(skeleton.upper_body_indices)] = True
    halves = [labelled & upper, labelled & ~upper]
    chosen = (draws[:, _CUT_DO] < settings.cut_prob) & halves[0].any(1) & halves[1].any(1)
    means = [(keypoints * half[..., None]).sum(1) / np.maximum(half.sum(1), 1)[:, None] for half in halves]
    to_legs = means[1] - means[0]
    # The axis (0: x) along which is cut, and whether its far end (right, lower) is cut off.
    axis = (np.abs(to_legs[:, 1]) >= np.abs(to_legs[:, 0])).astype(np.int64)
    far = to_legs[people, axis] > 0
    legs = draws[:, _CUT_LEGS] < settings.cut_legs
    axis = np.where(legs, axis, 1 - axis)
    far = np.where(legs, far, draws[:, _CUT_SIDE] < 0.5)

    low, high = boxes[people, axis], boxes[people, axis + 2]
    keep = settings.cut_keep[0] + draws[:, _CUT_KEEP] * (settings.cut_keep[1] - settings.cut_keep[0])
    line = np.where(far, low + keep * (high - low), high - keep * (high - low))
    along = keypoints[people, :, axis]
    kept = labelled & np.where(far[:, None], along < line[:, None], along > line[:, None])
    chosen &= kept.sum(1) >= 3

    # The box of what is left: as wide as its keypoints, with a margin, no wider than before.
    across = keypoints[people, :, 1 - axis]
    margin = 0.1 * (high - low)
    narrow_low = np.where(kept, across, np.inf).min(1) - margin
    narrow_high = np.where(kept, across, -np.inf).max(1) + margin
    cut = boxes.copy()
    cut[people, axis] = np.where(far, low, line)
    cut[people, axis + 2] = np.where(far, line, high)
    cut[people, 1 - axis] = np.maximum(cut[people, 1 - axis], narrow_low)
    cut[people, 3 - axis] = np.minimum(cut[people, 3 - axis], narrow_high)
    chosen &= (cut[:, 2:] - cut[:, :2] >= 1.0).all(1)

    frames = np.tile(np.array([0, 0, _NO_EDGE, _NO_EDGE]), (len(boxes), 1))
    framed = chosen & (draws[:, _CUT_FRAME] < settings.cut_frame)
    frames[framed, axis[framed] + 2 * far[framed]] = np.maximum(np.round(line[framed]), 1).astype(np.int64)
    return np.where(chosen[:, None], cut, boxes), frames


def make_crops(
    boxes: Array,
    keypoints: Array,
    weights: Array,
    draws: Array,
    spec: PoseSpec,
    settings: Augmentation,
    input_size: tuple[int, int] | None = None,
) -> Crops:
    """One random crop of each person.

    Args:
        boxes: [M, 4] xyxy, pixels of the photo.
        keypoints: [M, K, 2] (x, y), pixels of the photo.
        weights: [M, K], 0 where a keypoint has no label.
        draws: [M, D] rows of :func:`draw_table`.
        spec: Of the model: skeleton, padding, UDP.
        settings: Ranges and probabilities.
        input_size: (height, width) of the crops; the spec's where not given.

    Returns:
        The crops, in the order of the people.
    """
    size = input_size or spec.input_size
    people = len(boxes)
    boxes = np.asarray(boxes, np.float64)
    frames = None
    if settings.cut_prob > 0 and people:
        boxes, frames = _cut(boxes, keypoints, weights > 0, draws, spec.skeleton, settings)
    center: Array = (boxes[:, :2] + boxes[:, 2:]) / 2
    extent: Array = (boxes[:, 2:] - boxes[:, :2]) * spec.padding
    if settings.half_body_prob > 0:
        chosen, half_center, half_extent = _half_body(weights > 0, keypoints, draws, spec.skeleton, settings)
        center = np.where(chosen[:, None], half_center, center)
        extent = np.where(chosen[:, None], half_extent, extent)

    shift = _truncated_normal(draws[:, [_SHIFT_X, _SHIFT_Y]]) * settings.shift
    center += np.where(draws[:, [_SHIFT_DO]] < settings.shift_prob, shift * extent, 0.0)
    middle, half_range = (settings.scale[1] + settings.scale[0]) / 2, (settings.scale[1] - settings.scale[0]) / 2
    factor = _truncated_normal(draws[:, [_SCALE]]) * half_range + middle
    extent *= np.where(draws[:, [_SCALE_DO]] < settings.scale_prob, factor, 1.0)
    angle = _truncated_normal(draws[:, _ROTATE]) * settings.rotate
    angle = np.where(draws[:, _ROTATE_DO] < settings.rotate_prob, angle, 0.0)

    region = np.concatenate([center - extent / 2, center + extent / 2], axis=1)
    center, scale = box_to_center_scale(region, size, padding=1.0)
    matrices = crop_matrices(center, scale, size, angle, spec.udp)

    flipped = (draws[:, _FLIP] < settings.flip_prob) & spec.skeleton.mirror_known
    matrices = np.where(flipped[:, None, None], flip_matrices(matrices, size[1]), matrices)
    points = transform_points(np.asarray(keypoints, np.float32), matrices)
    if frames is not None:
        points, weights = _without_cut_off(points, weights, keypoints, frames, spec)
    mirror = list(spec.skeleton.flip_index)
    points = np.where(flipped[:, None, None], points[:, mirror], points)
    weights = np.where(flipped[:, None], weights[:, mirror], weights).astype(np.float32)

    gain = offset = None
    if settings.colour_prob > 0 and people:
        gain, offset = _colour(draws, settings)
    return Crops(matrices, points, weights, flipped, gain, offset, frames)


def _without_cut_off(
    points: Array, weights: Array, keypoints: Array, frames: Array, spec: PoseSpec
) -> tuple[Array, Array]:
    """Points of the crop and weights, where the keypoints of the photo that a frame cuts off are not to be found.

    They lie far outside, as other labelled keypoints that a crop does not show; what is no map has no place for that.
    """
    off: Array = np.any((keypoints < frames[:, None, :2]) | (keypoints >= frames[:, None, 2:]), axis=2)
    points = np.where(off[..., None], np.float32(-1e4), points)
    if spec.codec.takes != "maps":
        weights = np.where(off, 0, weights)
    return points, weights


def _colour(draws: Array, settings: Augmentation) -> tuple[Array, Array]:
    """Gain and offset, float32 [M, 3] each, of a change of brightness, contrast and channel gains."""
    signed = 2.0 * draws - 1.0
    contrast = 1.0 + signed[:, [_CONTRAST]] * settings.contrast
    gain = contrast * (1.0 + signed[:, [_COLOUR_0, _COLOUR_1, _COLOUR_2]] * settings.colour)
    offset = np.repeat((1.0 - contrast) * 127.5 + signed[:, [_BRIGHTNESS]] * settings.brightness * 255.0, 3, axis=1)
    changed = draws[:, [_COLOUR_DO]] < settings.colour_prob
    gain = np.where(changed, gain, 1.0)
    offset = np.where(changed, offset, 0.0)
    return np.ascontiguousarray(gain, np.float32), np.ascontiguousarray(offset, np.float32)


def plain_crops(
    boxes: Array, keypoints: Array, weights: Array, spec: PoseSpec, input_size: tuple[int, int] | None = None
) -> Crops:
    """The crop of each person as prediction makes it: padded box, nothing random.

    Args:
        boxes: [M, 4] xyxy, pixels of the photo.
        keypoints: [M, K, 2] (x, y), pixels of the photo.
        weights: [M, K].
        spec: Of the model.
        input_size: (height, width) of the crops; the spec's where not given.

    Returns:
        The crops, in the order of the people.
    """
    size = input_size or spec.input_size
    center, scale = box_to_center_scale(boxes, size, spec.padding)
    matrices = crop_matrices(center, scale, size, 0.0, spec.udp)
    points = transform_points(np.asarray(keypoints, np.float32), matrices)
    return Crops(matrices, points, np.asarray(weights, np.float32), np.zeros(len(boxes), bool))
