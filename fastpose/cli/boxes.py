"""Boxes that come with photos: written out on the command line, or in a file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..data.readers import DetectionFile

__all__ = ["parse_boxes"]


def parse_boxes(
    values: Sequence[str], *, min_score: float = 0.0, category: int | str | None = None
) -> list[list[float]] | DetectionFile | None:
    """What ``--boxes`` said: boxes, a file of them, or nothing.

    Args:
        values: Each ``x1,y1,x2,y2``, or one name of a JSON file.
        min_score: Boxes of the file below it are not taken.
        category: Which boxes of the file are taken; see `DetectionFile`.

    Raises:
        ValueError: A value is neither, or the file cannot be used.
    """
    if not values:
        return None
    if len(values) == 1 and ("," not in values[0] or Path(values[0]).is_file()):
        if not Path(values[0]).suffix and not Path(values[0]).exists():
            raise ValueError(f"--boxes: expected x1,y1,x2,y2 or a JSON file, got {values[0]!r}")
        from ..data.readers import DetectionFile  # here: it brings NumPy, for which --help must not wait

        return DetectionFile(values[0], min_score=min_score, category=category)
    boxes = []
    for value in values:
        try:
            box = [float(part) for part in value.split(",")]
        except ValueError:
            box = []
        if len(box) != 4:
            raise ValueError(f"--boxes: expected x1,y1,x2,y2 in pixels, got {value!r}")
        boxes.append(box)
    return boxes
