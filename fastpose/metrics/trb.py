"""Accuracy of skeleton and contour, as MPII-TRB is measured."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastpose.metrics.metric import Metric, by_person
from fastpose.metrics.pck import pck, visible_columns
from fastpose.metrics.truth import Truth
from fastpose.skeletons import MPII_TRB40

__all__ = ["TRB_ACCURACY", "trb_accuracy"]

_JOINTS = 14  # the first of TRB's 40 points are the skeleton


def trb_accuracy(
    predicted: ArrayLike,
    truth: ArrayLike,
    visible: ArrayLike,
    head_sizes: ArrayLike,
    *,
    weights: ArrayLike | None = None,
) -> dict[str, float]:
    """Accuracy of skeleton and contour on MPII-TRB (Duan et al., "TRB", ICCV 2019).

    Args:
        predicted: [N, 40, 2] (x, y) in pixels.
        truth: [N, 40, 2] (x, y) in pixels.
        visible: [N, 40]; a point counts where this is above 0.
        head_sizes: [N] pixels: 0.6 of the head box's diagonal; half of it, 0.3 of the diagonal, is the limit.
        weights: [N] int, how often each person counts; once where not given.

    Returns:
        ``mean``, ``skeleton`` and ``contour``: of all annotated points of that kind counted together, between 0 and 1;
        NaN where nothing is annotated.

    Raises:
        ValueError: Shapes do not agree.
    """
    counted = visible_columns(visible, MPII_TRB40.num_keypoints)
    kinds = {"mean": slice(None), "skeleton": slice(_JOINTS), "contour": slice(_JOINTS, None)}
    result = pck(predicted, truth, counted, head_sizes, 0.5, weights=weights)
    figures = {}
    for kind, part in kinds.items():
        annotated = int(result.annotated[part].sum())
        figures[kind] = float(result.correct[part].sum() / annotated) if annotated else float("nan")
    return figures


def _figures(truth: Truth, points: NDArray[np.float64], times: NDArray[np.int64] | None) -> dict[str, float]:
    assert truth.head_sizes is not None
    return trb_accuracy(points, truth.keypoints, truth.visible, truth.head_sizes, weights=times)


TRB_ACCURACY = Metric("trb_accuracy", "mean", by_person(_figures), skeletons=(MPII_TRB40,), needs=("head_sizes",))
