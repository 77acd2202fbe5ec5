"""``fastpose predict --demo``: a rendered scene whose people and joints are known."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .predict_run import spent_time
from .targets import save

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ..predict import Poses, Predictor

__all__ = ["run_demo"]

# Four people who stand apart, one with the back turned; far from the seeds that one trains on.
DEMO_SEED, DEMO_SIZE, DEMO_PEOPLE = 2_000_013, (540, 960), 4

_SAME_BOX = 0.5  # intersection over union from which on a box that was found is a person's


def run_demo(predictor: Predictor, target: Path, options: dict[str, Any], threshold: float) -> Poses:
    """Find the people of a rendered scene, draw them, and say who was found and how far off the joints are.

    Args:
        predictor: Finds the people, too.
        target: The picture.
        options: Of the predictor.
        threshold: Lowest score that is drawn.

    Raises:
        ValueError: The model's keypoints are others than the scene's.
    """
    from ..data.synthetic import render_scene
    from ..predict.draw import write_image

    image, truth = render_scene(DEMO_SEED, DEMO_SIZE, DEMO_PEOPLE)
    poses = replace(predictor(image, **options), path=truth.image_paths[0])
    shared = [name for name in truth.skeleton.keypoints if name in poses.skeleton.keypoints]
    if not shared:
        raise ValueError(f"--demo: {predictor.name} finds other keypoints than the scene has ({truth.skeleton.name})")
    save(target, partial(write_image, target, poses.plot(image, threshold=threshold)))
    rows, people = match_boxes(poses.boxes, truth.boxes)
    more = f" and {_boxes(len(poses) - len(rows))} beside them" if len(poses) > len(rows) else ""
    figures = f"; {_joints(poses[rows], truth, people, shared)}" if len(rows) else ""
    click.echo(
        f"{len(rows)} of {DEMO_PEOPLE} people found in a rendered scene{more}{figures}; {spent_time(poses)} -> {target}"
    )
    return poses


def _joints(poses: Poses, truth: Any, people: NDArray[np.int64], shared: list[str]) -> str:
    """How far off the joints of those are who were found."""
    from ..metrics.pck import epe, pck, torso_size

    ours = poses.keypoints[:, list(poses.skeleton.indices(shared))]
    theirs = list(truth.skeleton.indices(shared))
    points, visible = truth.keypoints[people][:, theirs], truth.visible[people][:, theirs]
    sizes = torso_size(truth.keypoints, truth.visible, truth.skeleton)[people]
    share = pck(ours, points, visible, sizes)
    return (
        f"{int((visible > 0).sum())} joints: mean error {epe(ours, points, visible):.1f} px, "
        f"{share.mean:.0%} within 0.2 torso (PCK@0.2)"
    )


def match_boxes(found: NDArray[np.float32], truth: NDArray[np.float32]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Which box is whose: the two that overlap most first.

    Args:
        found: [N, 4] xyxy.
        truth: [M, 4] xyxy.

    Returns:
        Rows [P] of the one and rows [P] of the other.
    """
    import numpy as np

    from ..geometry import box_ious

    overlap = box_ious(found, truth)
    pairs: list[tuple[int, int]] = []
    while overlap.size and overlap.max() >= _SAME_BOX:
        row, column = np.unravel_index(int(overlap.argmax()), overlap.shape)
        pairs.append((int(row), int(column)))
        overlap[row], overlap[:, column] = 0, 0
    rows = np.array(pairs, np.int64).reshape(-1, 2)
    return rows[:, 0], rows[:, 1]


def _boxes(count: int) -> str:
    return "1 box" if count == 1 else f"{count} boxes"
