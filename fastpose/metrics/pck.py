"""Share of correct keypoints (PCK), its area under the curve, and the mean error in pixels or in lengths (NME).

A keypoint is correct if it lies *nearer* than ``threshold`` times a length of the person (Yang and Ramanan, PAMI
2013). Only annotated keypoints count, and only people whose length is known.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastpose.metrics.metric import Metric, by_person
from fastpose.metrics.truth import Truth
from fastpose.skeletons import LSP14, Skeleton

__all__ = [
    "LIMB_KEYPOINTS",
    "LIMB_PCK",
    "SIDED_PARTS",
    "PCKResult",
    "auc",
    "epe",
    "lsp_pck",
    "mean_of_parts",
    "nme",
    "pck",
    "torso_size",
    "visible_columns",
]

LIMB_KEYPOINTS = tuple(
    f"{side}_{part}" for part in ("shoulder", "elbow", "wrist", "hip", "knee", "ankle") for side in ("right", "left")
)
"""The 12 limbs that the PCK on Leeds Sports Pose is about."""

SIDED_PARTS = {
    part: (f"left_{part}", f"right_{part}") for part in ("shoulder", "elbow", "wrist", "hip", "knee", "ankle")
}
"""The columns of published tables in which left and right are averaged."""


@dataclass(frozen=True, eq=False)
class PCKResult:
    """Shares between 0 and 1.

    Attributes:
        mean: Of all annotated keypoints counted together; NaN if there are none.
        mean_of_joints: Mean of ``per_joint`` over the joints that are annotated at all; NaN if none is.
        per_joint: [K] float64; NaN for a joint that is never annotated.
        correct: [K] int64, correct keypoints.
        annotated: [K] int64, keypoints counted.
        people: People that were counted, those without a length left out.
        threshold: The threshold used.
    """

    mean: float
    mean_of_joints: float
    per_joint: NDArray[np.float64]
    correct: NDArray[np.int64]
    annotated: NDArray[np.int64]
    people: int
    threshold: float

    @classmethod
    def from_counts(
        cls, correct: NDArray[np.int64], annotated: NDArray[np.int64], people: int, threshold: float
    ) -> PCKResult:
        """The result of counts, so that parts of a data set can be counted apart and added up.

        Args:
            correct: [K] correct keypoints.
            annotated: [K] keypoints counted.
            people: People counted.
            threshold: The threshold used.

        Returns:
            The shares.
        """
        per_joint = np.divide(correct, annotated, out=np.full(len(correct), np.nan), where=annotated > 0)
        known = per_joint[annotated > 0]
        total = int(annotated.sum())
        return cls(
            mean=float(correct.sum() / total) if total else float("nan"),
            mean_of_joints=float(known.mean()) if known.size else float("nan"),
            per_joint=per_joint,
            correct=correct.astype(np.int64),
            annotated=annotated.astype(np.int64),
            people=people,
            threshold=threshold,
        )


def pck(
    predicted: ArrayLike,
    truth: ArrayLike,
    visible: ArrayLike,
    norm: ArrayLike,
    threshold: float = 0.2,
    *,
    weights: ArrayLike | None = None,
) -> PCKResult:
    """Share of keypoints nearer to the truth than ``threshold * norm``.

    Args:
        predicted: [N, K, 2] (x, y) in pixels; a point that is not finite is wrong.
        truth: [N, K, 2] (x, y) in pixels.
        visible: [N, K]; a keypoint counts where this is above 0.
        norm: [N] length of each person in pixels; people where it is not finite or not above 0 are left out.
        threshold: Fraction of the length.
        weights: [N] int, how often each person counts; once where not given.

    Returns:
        The shares.

    Raises:
        ValueError: Shapes do not agree.
    """
    distances, counted = _distances(predicted, truth, visible)
    lengths, measured = _lengths(norm, len(distances))
    counted &= measured[:, None]
    with np.errstate(invalid="ignore"):
        near = distances < threshold * np.where(measured, lengths, 0)[:, None]
    times = _times(weights, len(lengths))
    return PCKResult.from_counts(
        times @ (near & counted), times @ counted, int(times[measured].sum()), float(threshold)
    )


def mean_of_parts(result: PCKResult, skeleton: Skeleton, parts: Mapping[str, tuple[str, ...]]) -> dict[str, float]:
    """Shares of parts of the body, each the mean over its keypoints (left and right count alike).

    Args:
        result: Shares of the skeleton's keypoints.
        skeleton: What the keypoints are.
        parts: Name of a part → its keypoints.

    Returns:
        One share a part; NaN where none of its keypoints is annotated.
    """
    shares = {name: result.per_joint[list(skeleton.indices(points))] for name, points in parts.items()}
    known = {name: values[np.isfinite(values)] for name, values in shares.items()}
    return {name: float(values.mean()) if len(values) else float("nan") for name, values in known.items()}


def torso_size(truth: ArrayLike, visible: ArrayLike, skeleton: Skeleton) -> NDArray[np.float64]:
    """Length of the torso, the diagonal of the trunk.

    Args:
        truth: [N, K, 2] (x, y) in pixels.
        visible: [N, K]; a keypoint is known where this is above 0.
        skeleton: What the keypoints are; both shoulders and both hips must be among them.

    Returns:
        [N] float64 pixels: left shoulder to right hip, else right shoulder to left hip, NaN for people with neither.

    Raises:
        ValueError: The skeleton has no shoulders or hips, or shapes do not agree.
    """
    points, known = np.asarray(truth, np.float64), np.asarray(visible) > 0
    _check_points("truth", points, known.shape)
    if known.shape[1] != skeleton.num_keypoints:
        raise ValueError(f"truth: expected {skeleton.num_keypoints} keypoints ({skeleton.name}), got {known.shape[1]}")
    size = np.full(len(points), np.nan)
    for ends in (("right_shoulder", "left_hip"), ("left_shoulder", "right_hip")):  # the one that counts most comes last
        a, b = _indices(skeleton, ends, "the torso")
        both = known[:, a] & known[:, b]
        size[both] = np.linalg.norm(points[both, a] - points[both, b], axis=-1)
    return size


def lsp_pck(
    predicted: ArrayLike,
    truth: ArrayLike,
    visible: ArrayLike,
    skeleton: Skeleton,
    *,
    predicted_skeleton: Skeleton | None = None,
    threshold: float = 0.2,
    weights: ArrayLike | None = None,
) -> PCKResult:
    """PCK of the 12 limbs by torso, as it is measured on Leeds Sports Pose.

    Annotated means ``visible`` 2: LSP says of no point that it is hidden, and 1 marks those that a network filled in.

    Args:
        predicted: [N, K', 2] (x, y) in pixels.
        truth: [N, K, 2] (x, y) in pixels.
        visible: [N, K]: 2 where annotated.
        skeleton: What the K keypoints of the truth are.
        predicted_skeleton: What the K' predicted keypoints are; by default the same.
        threshold: Fraction of the torso.
        weights: [N] int, how often each person counts; once where not given.

    Returns:
        Shares of the limbs, in the order of ``LIMB_KEYPOINTS``.

    Raises:
        ValueError: A skeleton lacks a limb, or shapes do not agree.
    """
    annotated = np.asarray(visible) == 2
    norm = torso_size(truth, annotated, skeleton)
    own = _indices(skeleton, LIMB_KEYPOINTS, "the truth")
    theirs = _indices(predicted_skeleton or skeleton, LIMB_KEYPOINTS, "the prediction")
    points = np.asarray(predicted)
    _check_points("predicted", points, (len(norm), (predicted_skeleton or skeleton).num_keypoints))
    return pck(points[:, theirs], np.asarray(truth)[:, own], annotated[:, own], norm, threshold, weights=weights)


def epe(predicted: ArrayLike, truth: ArrayLike, visible: ArrayLike, *, weights: ArrayLike | None = None) -> float:
    """Mean distance of the annotated keypoints (end-point error).

    Args:
        predicted: [N, K, 2] (x, y) in pixels.
        truth: [N, K, 2] (x, y) in pixels.
        visible: [N, K]; a keypoint counts where this is above 0.
        weights: [N] int, how often each person counts; once where not given.

    Returns:
        Pixels; NaN if nothing is annotated or a counted point is not finite.

    Raises:
        ValueError: Shapes do not agree.
    """
    return nme(predicted, truth, visible, np.ones(len(np.asarray(visible))), weights=weights)


def nme(
    predicted: ArrayLike,
    truth: ArrayLike,
    visible: ArrayLike,
    norm: ArrayLike,
    *,
    weights: ArrayLike | None = None,
) -> float:
    """Mean distance of the annotated keypoints in lengths of each person (normalised mean error).

    Args:
        predicted: [N, K, 2] (x, y) in pixels.
        truth: [N, K, 2] (x, y) in pixels.
        visible: [N, K]; a keypoint counts where this is above 0.
        norm: [N] length of each person in pixels; people where it is not finite or not above 0 are left out.
        weights: [N] int, how often each person counts; once where not given.

    Returns:
        0 or more, of all keypoints counted together; NaN if nothing is annotated or a counted point is not finite.

    Raises:
        ValueError: Shapes do not agree.
    """
    distances, counted = _distances(predicted, truth, visible)
    lengths, measured = _lengths(norm, len(distances))
    times = _times(weights, len(lengths))
    counted &= (measured & (times > 0))[:, None]
    errors = np.where(counted, distances, 0.0) / np.where(measured, lengths, 1.0)[:, None]
    total = int((times @ counted).sum())
    return float((times @ errors).sum() / total) if total else float("nan")


def auc(
    predicted: ArrayLike,
    truth: ArrayLike,
    visible: ArrayLike,
    norm_factor: float = 30.0,
    num_thresholds: int = 20,
    *,
    weights: ArrayLike | None = None,
) -> float:
    """Area under the PCK curve: mean over thresholds i / n of ``norm_factor``, i from 0 to n - 1.

    Args:
        predicted: [N, K, 2] (x, y) in pixels.
        truth: [N, K, 2] (x, y) in pixels.
        visible: [N, K]; a keypoint counts where this is above 0.
        norm_factor: The largest distance looked at, in pixels.
        num_thresholds: n.
        weights: [N] int, how often each person counts; once where not given.

    Returns:
        Between 0 and 1: the mean of ``PCKResult.mean_of_joints``.

    Raises:
        ValueError: Shapes do not agree, or a parameter is not above 0.
    """
    if not norm_factor > 0 or num_thresholds < 1:
        raise ValueError(f"auc: expected norm_factor and num_thresholds above 0, got {norm_factor}, {num_thresholds}")
    norm = np.full(len(np.asarray(truth)), float(norm_factor))
    thresholds = [i / num_thresholds for i in range(num_thresholds)]
    return float(np.mean([pck(predicted, truth, visible, norm, t, weights=weights).mean_of_joints for t in thresholds]))


def visible_columns(values: ArrayLike, count: int) -> NDArray[np.int64]:
    """``visible`` as [N, count] integers.

    Raises:
        ValueError: It has another shape.
    """
    array = np.asarray(values).astype(np.int64)
    if array.ndim != 2 or array.shape[1] != count:
        raise ValueError(f"visible: expected shape [N, {count}], got {array.shape}")
    return array


def _distances(
    predicted: ArrayLike, truth: ArrayLike, visible: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """[N, K] distances in pixels and [N, K] whether they count."""
    counted = np.asarray(visible) > 0
    ours, theirs = np.asarray(predicted, np.float64), np.asarray(truth, np.float64)
    _check_points("predicted", ours, counted.shape)
    _check_points("truth", theirs, counted.shape)
    with np.errstate(invalid="ignore"):  # infinite minus infinite: NaN, which is near to nothing
        return np.linalg.norm(ours - theirs, axis=-1), counted


def _lengths(norm: ArrayLike, people: int) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """[N] pixels, and [N] whether they are known."""
    lengths = np.asarray(norm, np.float64)
    if lengths.shape != (people,):
        raise ValueError(f"norm: expected shape {(people,)}, got {lengths.shape}")
    return lengths, np.isfinite(lengths) & (lengths > 0)


def _times(weights: ArrayLike | None, people: int) -> NDArray[np.int64]:
    """[N] how often each person counts."""
    times = np.ones(people, np.int64) if weights is None else np.asarray(weights, np.int64)
    if times.shape != (people,):
        raise ValueError(f"weights: expected shape {(people,)}, got {times.shape}")
    return times


def _check_points(name: str, points: NDArray[np.float64], shape: tuple[int, ...]) -> None:
    if len(shape) != 2:
        raise ValueError(f"visible: expected [N, K], got shape {shape}")
    if points.shape != (*shape, 2):
        raise ValueError(f"{name}: expected shape {(*shape, 2)}, got {points.shape}")


def _indices(skeleton: Skeleton, names: tuple[str, ...], what: str) -> list[int]:
    missing = [name for name in names if name not in skeleton.keypoints]
    if missing:
        raise ValueError(f"skeleton: {what} needs {', '.join(missing)}, which {skeleton.name} has not")
    return list(skeleton.indices(names))


def _limbs(truth: Truth, points: NDArray[np.float64], times: NDArray[np.int64] | None) -> dict[str, float]:
    # LSP's rule, by which 1 is a point that a network filled in; sets that mark nothing with 2 mean annotated by 1.
    marked = truth.visible if (truth.visible == 2).any() else truth.visible * np.uint8(2)
    result = lsp_pck(points, truth.keypoints, marked, truth.skeleton, weights=times)
    return {"PCK@0.2": result.mean, **dict(zip(LIMB_KEYPOINTS, result.per_joint.tolist(), strict=True))}


LIMB_PCK = Metric("pck", "PCK@0.2", by_person(_limbs), skeletons=(LSP14,), keypoints=LIMB_KEYPOINTS)
