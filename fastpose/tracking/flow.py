"""Optical flow: where the picture itself says that keypoints went."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .similarity import person_sizes

__all__ = ["FrameFlow"]

Floats = NDArray[np.float32]

_LONGER_SIDE = 320  # px to which frames are scaled down: fast, and people move few of these
_ASTRAY = 0.25  # sizes by which a keypoint's flow may differ from its person's; the background's does


class FrameFlow:
    """Flow from each frame to the next, of frames scaled down (DIS: Kroeger et al., ECCV 2016).

    Attributes:
        begin: Seconds of the frame that the flow comes from; None where there is no flow yet.
        end: Seconds of the frame that it leads to.
    """

    begin: float | None = None
    end: float | None = None

    def __init__(self) -> None:
        self._frame: NDArray[np.uint8] | None = None
        self._flow: Floats | None = None
        self._scale = (1.0, 1.0)

    def look(self, image: Any, time: float) -> None:
        """Take in the frame of a time; nothing happens where that is the last one's.

        Raises:
            TypeError: The image is not of uint8.
            ValueError: It has another shape than [H, W] or [H, W, 3].
        """
        import cv2

        if self._frame is not None and time == self.end:
            return
        pixels = np.asarray(image)
        if pixels.dtype != np.uint8:
            raise TypeError(f"image: expected uint8, got {pixels.dtype}")
        if pixels.ndim not in (2, 3) or (pixels.ndim == 3 and pixels.shape[2] != 3) or 0 in pixels.shape:
            raise ValueError(f"image: expected shape [H, W] or [H, W, 3], got {list(pixels.shape)}")
        height, width = pixels.shape[:2]
        share = min(1.0, _LONGER_SIDE / max(height, width))
        size = max(16, round(width * share)), max(16, round(height * share))
        small: Any = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
        grey: Any = small if small.ndim == 2 else cv2.cvtColor(small, cv2.COLOR_BGR2GRAY)
        before, self._frame = self._frame, grey
        self.begin, self.end = (None if before is None else self.end), time
        self._scale = (width / size[0], height / size[1])
        if before is None or before.shape != grey.shape:
            self.begin = None
            return
        method: Any = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
        self._flow = method.calc(before, grey, None)

    def moves(self, keypoints: Floats, sure: NDArray[np.bool_], boxes: Floats) -> Floats:
        """How far keypoints of the earlier frame have gone.

        A keypoint that is not sure, that lies outside the picture or whose flow is not its person's, as where the
        background shows, goes with the median of its person's sure ones.

        Args:
            keypoints: [P, K, 2] px.
            sure: [P, K].
            boxes: [P, 4] xyxy px.

        Returns:
            [P, K, 2] px; NaN for people of whom no keypoint is sure and inside.
        """
        assert self._flow is not None
        scale = np.array(self._scale, np.float32)
        at = np.round((keypoints + 0.5) / scale - 0.5).astype(np.int64)
        height, width = self._flow.shape[:2]
        inside = sure & np.all((at >= 0) & (at < (width, height)), axis=-1)
        column, row = np.clip(at[..., 0], 0, width - 1), np.clip(at[..., 1], 0, height - 1)
        moves = self._flow[row, column] * scale
        known = np.where(inside[..., None], moves, np.nan)
        some = inside.any(axis=1)
        middle = np.full((len(keypoints), 1, 2), np.nan, np.float32)
        if some.any():
            middle[some, 0] = np.nanmedian(known[some], axis=1)
        off = np.linalg.norm(moves - middle, axis=-1) > _ASTRAY * person_sizes(boxes)[:, None]
        return np.where((inside & ~off)[..., None], moves, middle)
