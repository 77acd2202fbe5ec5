"""Pictures that are rendered from their virtual paths, whenever somebody wants them."""

from __future__ import annotations

import os

import numpy as np
import numpy.typing as npt

from .scenes import lay_out, paint
from .sequences import frame_scene

__all__ = ["is_scene", "paint_scene"]

_SCENE, _SEQUENCE = "synthetic:", "synthetic:sequence:"


def is_scene(path: str | os.PathLike[str]) -> bool:
    """Whether a path is a virtual one, of a picture that `paint_scene` renders."""
    return os.fspath(path).startswith(_SCENE)


def paint_scene(path: str | os.PathLike[str]) -> npt.NDArray[np.uint8]:
    """The picture of a scene, or of a frame of a sequence.

    Args:
        path: Virtual path, ``synthetic:SEED:HEIGHTxWIDTH:PEOPLE`` or
            ``synthetic:sequence:LEVEL:SEED:HEIGHTxWIDTH:FPS:FRAME``.

    Returns:
        uint8 [H, W, 3], BGR.

    Raises:
        ValueError: The path is malformed, or a number in it is out of range.
    """
    name = os.fspath(path)
    try:
        if name.startswith(_SEQUENCE):
            return paint(*frame_scene(name.removeprefix(_SEQUENCE)))
        number, size, people = name.removeprefix(_SCENE).split(":")
        height, width = size.split("x")
        return paint(lay_out(int(number), (int(height), int(width)), int(people)), int(number))
    except ValueError as error:
        form = (
            f"{_SEQUENCE}LEVEL:SEED:HEIGHTxWIDTH:FPS:FRAME"
            if name.startswith(_SEQUENCE)
            else f"{_SCENE}SEED:HEIGHTxWIDTH:PEOPLE"
        )
        raise ValueError(f"is no scene; expected {form} ({error})") from None
