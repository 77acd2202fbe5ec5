"""PCK by the length of the head (PCKh), as MPII Human Pose is measured."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastpose.metrics.metric import Metric, by_person
from fastpose.metrics.pck import SIDED_PARTS, mean_of_parts, pck, visible_columns
from fastpose.metrics.truth import Truth
from fastpose.skeletons import MPII16

__all__ = ["MPII_PCKH", "mpii_pckh"]

_PARTS = {"head": ("head_top",), **SIDED_PARTS}
_LEFT_OUT = ("pelvis", "thorax")


def mpii_pckh(
    predicted: ArrayLike,
    truth: ArrayLike,
    visible: ArrayLike,
    head_sizes: ArrayLike,
    *,
    weights: ArrayLike | None = None,
    origin: float = 1.0,
) -> dict[str, float]:
    """PCKh of MPII Human Pose (Andriluka et al., CVPR 2014): within 0.5 and within 0.1 of the head's length.

    Args:
        predicted: [N, 16, 2] (x, y) in pixels.
        truth: [N, 16, 2] (x, y) in pixels.
        visible: [N, 16]; a keypoint counts where this is above 0.
        head_sizes: [N] pixels: 0.6 of the head box's diagonal; people without (NaN) are left out.
        weights: [N] int, how often each person counts; once where not given.
        origin: Number of the first pixel in ``truth``. MPII's files count from 1, and predictions from 0.

    Returns:
        ``PCKh@0.5`` and ``PCKh@0.1``: of all annotated keypoints counted together, pelvis and thorax left out. This is
        the total that tables print as "Mean" (HRNet-W32: 90.3), although the mean of their seven columns is another
        number (89.9), which stands beside it as ``mean of parts@0.5``. Then the columns (``head@0.5`` …), left and
        right averaged. Between 0 and 1; NaN where nothing is annotated.

    Raises:
        ValueError: Shapes do not agree.
    """
    points = np.asarray(predicted, np.float64) + origin
    counted = visible_columns(visible, MPII16.num_keypoints).copy()
    counted[:, list(MPII16.indices(_LEFT_OUT))] = 0
    results = {t: pck(points, truth, counted, head_sizes, t, weights=weights) for t in (0.5, 0.1)}
    figures = {f"PCKh@{t}": result.mean for t, result in results.items()}
    for t, result in results.items():
        parts = mean_of_parts(result, MPII16, _PARTS)
        known = [share for share in parts.values() if share == share]
        figures[f"mean of parts@{t}"] = float(np.mean(known)) if known else float("nan")
        figures.update({f"{part}@{t}": share for part, share in parts.items()})
    return figures


def _figures(truth: Truth, points: NDArray[np.float64], times: NDArray[np.int64] | None) -> dict[str, float]:
    assert truth.head_sizes is not None
    return mpii_pckh(points, truth.keypoints, truth.visible, truth.head_sizes, weights=times)


MPII_PCKH = Metric("mpii_pckh", "PCKh@0.5", by_person(_figures), skeletons=(MPII16,), needs=("head_sizes",))
