"""What the card of the carried model says beside `fastpose eval`: where it fails, and how long it takes.

    python tools/card_figures.py lspet/lspet_val_coco17.json [--model FILE_OR_NAME]

Prints, for the annotated people, the PCK at several thresholds and by the direction of the torso, the share of misses
that lie on the same joint of the other side, and the latency of one person on one thread.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

import fastpose
from fastpose.data import PoseRecords, read_annotations
from fastpose.evaluate import Evaluator
from fastpose.metrics import lsp_pck, torso_size
from fastpose.metrics.pck import LIMB_KEYPOINTS
from fastpose.models import CARRIED_MODEL, find_model

_CALLS = 30


def by_direction(records: PoseRecords, points: NDArray[Any]) -> dict[str, tuple[int, float]]:
    """People and PCK@0.2 by where the torso points, of those whose shoulders and hips are all annotated.

    Args:
        records: N people.
        points: [N, K, 2] (x, y), pixels, in the records' skeleton.

    Returns:
        Number of people and share of limbs by direction.
    """
    skeleton = records.skeleton
    left, right = (np.array(skeleton.indices((f"{side}_shoulder", f"{side}_hip"))) for side in ("left", "right"))
    known = (records.visible[:, [*left, *right]] == 2).all(1)
    spine = (records.keypoints[:, [left[0], right[0]]] - records.keypoints[:, [left[1], right[1]]]).mean(1)
    angle = np.abs(np.degrees(np.arctan2(spine[:, 0], -spine[:, 1])))
    facing = records.keypoints[:, left[0], 0] > records.keypoints[:, right[0], 0]
    groups = {
        "upright (within 45°), facing the camera": (angle <= 45) & facing,
        "upright, from behind": (angle <= 45) & ~facing,
        "lying or bent sideways (45° to 135°)": (angle > 45) & (angle <= 135),
        "upside down": angle > 135,
    }
    figures = {}
    for name, group in groups.items():
        rows = np.flatnonzero(group & known)
        share = lsp_pck(points[rows], records.keypoints[rows], records.visible[rows], skeleton).mean
        figures[name] = len(rows), share
    return figures


def mirrored_misses(records: PoseRecords, points: NDArray[Any], threshold: float = 0.2) -> float:
    """Share of the missed limbs whose point lies on the same joint of the other side.

    Args:
        records: N people.
        points: [N, K, 2] (x, y), pixels, in the records' skeleton.
        threshold: Fraction of the torso.
    """
    size = threshold * torso_size(records.keypoints, records.visible == 2, records.skeleton)
    limbs = (records.visible == 2) & np.isin(records.skeleton.keypoints, LIMB_KEYPOINTS) & np.isfinite(size)[:, None]
    away = np.linalg.norm(points - records.keypoints, axis=-1) >= size[:, None]
    other = np.linalg.norm(points[:, list(records.skeleton.flip_index)] - records.keypoints, axis=-1) < size[:, None]
    return float((limbs & away & other).sum() / (limbs & away).sum())


def latency(predictor: fastpose.Predictor, photo: NDArray[np.uint8]) -> dict[str, float]:
    """Median milliseconds from a photo in memory to the keypoints of one person, one thread.

    Args:
        predictor: The model.
        photo: [h, w, 3] uint8, BGR.

    Returns:
        With and without flip test.
    """
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    box = np.array([[0, 0, photo.shape[1], photo.shape[0]]], np.float32)
    times: dict[str, list[float]] = {"flip test": [], "no flip test": []}
    for call in range(_CALLS + 3):
        for name, spent in times.items():
            start = time.perf_counter()
            predictor(photo, box, flip_test=name == "flip test")
            if call >= 3:  # the first ones pay for what is kept
                spent.append(time.perf_counter() - start)
    return {name: 1000 * statistics.median(spent) for name, spent in times.items()}


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="annotations of Leeds Sports Pose as COCO-17")
    parser.add_argument("--model", default=CARRIED_MODEL, help="zoo name or safetensors file")
    arguments = parser.parse_args()
    console = Console()
    model = find_model(arguments.model)
    evaluator = Evaluator(read_annotations(arguments.data), "pck")
    records = evaluator.records
    points = evaluator.predict(model).keypoints

    limbs = Table("threshold, torsos", "PCK")
    for threshold in (0.1, 0.2, 0.3, 0.5):
        share = lsp_pck(points, records.keypoints, records.visible, records.skeleton, threshold=threshold).mean
        limbs.add_row(f"{threshold}", f"{share:.3f}")
    console.print(limbs)
    directions = Table("torso", "people", "PCK@0.2")
    for name, (people, share) in by_direction(records, points).items():
        directions.add_row(name, str(people), f"{share:.3f}")
    console.print(directions)
    console.print(f"misses on the other side's joint: {mirrored_misses(records, points):.3f}")
    photo = cv2.imread(str(records.image_paths[int(records.image_index[0])]))
    for name, milliseconds in latency(fastpose.load(arguments.model), photo).items():
        console.print(f"{name}: {milliseconds:.1f} ms")


if __name__ == "__main__":
    main()
