"""What oks_nms and box_nms do alike with what the core gives back."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor

from ._arguments import filled, whole_argument

__all__ = ["NO_LIMIT", "filled_places", "kept_places", "limit_argument"]

NO_LIMIT = 1 << 62


def limit_argument(name: str, value: Any) -> int:
    """How many of an image may be kept; None is no limit."""
    return NO_LIMIT if value is None else whole_argument(name, value)


def filled_places(result: Any, out: Any, out_scores: Any) -> tuple[Any, Any, None]:
    """What the registered op gave, in the caller's memory if there is any; the number of places in use is not read."""
    return filled("out", out, result[0]), filled("out_scores", out_scores, result[1]), None


def kept_places(found: tuple[Any, Any, Any], scores: Any, *, soft: bool, padded: bool) -> Any:
    """What the public function gives back.

    Args:
        found: Indices [N], scores [N] float64 and the number of those in use [1], or None for what tells by itself.
        scores: As the caller gave them: decides the dtype.
        soft: With scores.
        padded: All N places.
    """
    indices, rescored, count = found
    if not padded:
        used: Any = indices >= 0 if count is None else slice(int(count[0]))
        indices, rescored = indices[used], rescored[used]
    if not soft:
        return indices
    if isinstance(rescored, Tensor):
        return indices, rescored.to(scores.dtype) if isinstance(scores, Tensor) else rescored
    if isinstance(scores, np.ndarray) and scores.dtype.kind == "f":
        rescored = rescored.astype(scores.dtype, copy=False)
    return indices, rescored
