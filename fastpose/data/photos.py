"""Photos of a data set by their paths: files, or rendered scenes behind virtual paths."""

from __future__ import annotations

import os

import numpy as np
import numpy.typing as npt

from .images import ImageError, read_image, read_reduced
from .synthetic import is_scene, paint_scene

__all__ = ["load_image", "load_reduced"]


def load_image(path: str | os.PathLike[str]) -> npt.NDArray[np.uint8]:
    """`read_image`, or the picture of a scene where the path is a virtual one.

    Args:
        path: A file, or ``synthetic:SEED:HEIGHTxWIDTH:PEOPLE``.

    Returns:
        uint8 [H, W, 3], BGR.

    Raises:
        ImageError: The file cannot be read, or the virtual path is malformed.
    """
    if not is_scene(path):
        return read_image(path)
    try:
        return paint_scene(path)
    except ValueError as error:
        raise ImageError(os.fspath(path), str(error)) from None


def load_reduced(path: str | os.PathLike[str], step: int) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float64]]:
    """`read_reduced`, or the whole picture of a scene where the path is a virtual one."""
    if is_scene(path):
        return load_image(path), np.eye(2, 3)
    return read_reduced(path, step)
