"""How a pose model does on ordinary people, by what can be seen of them, and what its scores mean.

    python tools/people_figures.py people/coco_val.json people/coco_people [--model FILE_OR_NAME] [--beside REAL]

Prints, for the annotated people by their true boxes, beside `fastpose eval`: the share that is found (OKS of at least
0.5) of everybody and of groups, the error to expect of a keypoint by its score, how often a keypoint is there and right
by its score (a reliability diagram in figures), and the scores of keypoints that a crop does not show: people whose
legs are annotated, cut off at the hips. ``--beside`` names a folder with PP-TinyPose, which is measured likewise.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from label_people import TinyPose
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from fastpose.data import PoseRecords, read_annotations
from fastpose.data.photos import load_image
from fastpose.evaluate import Evaluator
from fastpose.models import CARRIED_MODEL, find_model

Array = NDArray[Any]
Network = Callable[[PoseRecords], Array]
"""Poses [N, 17, 3] (x, y in pixels of the photo, score) of the people in the records' boxes."""


def library_network(name: str, flip_test: bool | None) -> Network:
    """A model of the library."""
    model = find_model(name)

    def poses(records: PoseRecords) -> Array:
        found = Evaluator(records, "coco_ap").predict(model, flip_test=flip_test)
        return np.concatenate([found.keypoints, found.scores[..., None]], axis=2)

    return poses


def tiny_pose(folder: Path) -> Network:
    """PP-TinyPose."""
    network = TinyPose(folder / "tinypose_256x192.param")

    def poses(records: PoseRecords) -> Array:
        rows = [network(load_image(record.image_path), record.box[None])[0] for record in records]
        return np.stack(rows)

    return poses


def similarities(records: PoseRecords, poses: Array) -> Array:
    """Similarity [N, K] of each keypoint to the true one, by COCO's rule."""
    squares = np.square(poses[..., :2] - records.keypoints).sum(-1)
    variances = np.square(2 * np.array(records.skeleton.sigmas))
    return np.asarray(np.exp(-squares / (2 * variances * records.areas[:, None] + 1e-9)))


def groups(records: PoseRecords) -> dict[str, Array]:
    """Who is in which group: bool [N] by its name."""
    labelled = records.visible > 0
    legs = labelled[
        :, records.skeleton.indices(f"{side}_{joint}" for side in ("left", "right") for joint in ("knee", "ankle"))
    ]
    sides = (records.boxes[:, 2:] - records.boxes[:, :2]).max(1)
    return {
        "everybody": labelled.any(1),
        "with legs": legs.any(1),
        "without legs": labelled.any(1) & ~legs.any(1),
        "without legs, at least 5 points": (labelled.sum(1) >= 5) & ~legs.any(1),
        "longer side below 80 px": labelled.any(1) & (sides < 80),
        "longer side above 200 px": labelled.any(1) & (sides > 200),
    }


def cut_at_hips(records: PoseRecords) -> tuple[PoseRecords, Array]:
    """People with labelled legs below their hips, their boxes ended there; and which keypoints lie below [M, K]."""
    skeleton, labelled = records.skeleton, records.visible > 0
    hips, ankles = (list(skeleton.indices((f"left_{x}", f"right_{x}"))) for x in ("hip", "ankle"))
    line = records.keypoints[:, hips, 1].max(1)
    chosen = labelled[:, [*hips, *ankles]].all(1) & (records.keypoints[:, ankles, 1] > line[:, None] + 20).all(1)
    people = records.select(chosen)
    boxes = people.boxes.copy()
    boxes[:, 3] = line[chosen]
    below = (people.visible > 0) & (
        people.keypoints[:, :, 1] > (line[chosen] + 0.15 * (boxes[:, 3] - boxes[:, 1]))[:, None]
    )
    return dataclasses.replace(people, boxes=boxes), below


def with_photos_cut(records: PoseRecords, folder: Path) -> PoseRecords:
    """The same people on photos of their own, which end where their boxes do."""
    paths = []
    for number, record in enumerate(records):
        photo = load_image(record.image_path)[: max(8, round(float(record.box[3])))]
        paths.append(folder / f"{number}.png")
        cv2.imwrite(str(paths[-1]), photo)
    count = len(records)
    return dataclasses.replace(
        records, image_paths=paths, image_ids=np.arange(count), image_sizes=np.zeros((count, 2), np.int32),
        image_index=np.arange(count, dtype=np.int32), crowd_index=None,
    )  # fmt: skip


def expected_errors(similarity: Array, scores: Array, bins: int = 8) -> list[tuple[float, float, int, float, float]]:
    """Keypoints in equal numbers by score: lowest and highest score, number, mean similarity, share of at least 0.5."""
    order = np.argsort(scores)
    rows = []
    for part in np.array_split(order, bins):
        values = similarity[part]
        rows.append((scores[part].min(), scores[part].max(), len(part), values.mean(), (values >= 0.5).mean()))
    return rows


def reliability(right: Array, scores: Array, edges: Array) -> list[tuple[float, float, int, float, float]]:
    """Keypoints by score: the ends of each part, number, mean score, and the share that is right."""
    part = np.clip(np.digitize(scores, edges) - 1, 0, len(edges) - 2)
    return [
        (edges[i], edges[i + 1], int(rows.sum()), float(scores[rows].mean()), float(right[rows].mean()))
        for i in range(len(edges) - 1)
        if (rows := part == i).any()
    ]


def report(console: Console, name: str, network: Network, records: PoseRecords, scratch: Path) -> None:
    """Print the tables of one network."""
    poses = network(records)
    labelled = records.visible > 0
    similarity = similarities(records, poses)
    oks = (similarity * labelled).sum(1) / np.maximum(labelled.sum(1), 1)
    table = Table("people", "number", "OKS ≥ 0.5", "mean OKS", title=name)
    for group, rows in groups(records).items():
        table.add_row(group, str(rows.sum()), f"{(oks[rows] >= 0.5).mean():.3f}", f"{oks[rows].mean():.3f}")
    console.print(table)

    bins = Table("score", "keypoints", "mean similarity", "share ≥ 0.5", title=f"{name}: labelled keypoints by score")
    for low, high, count, mean, share in expected_errors(similarity[labelled], poses[..., 2][labelled]):
        bins.add_row(f"{low:.2f} to {high:.2f}", str(count), f"{mean:.3f}", f"{share:.3f}")
    console.print(bins)

    scores, right = poses[..., 2].ravel(), ((similarity >= 0.5) & labelled).ravel()
    diagram = Table("score", "keypoints", "mean score", "there and right", title=f"{name}: all keypoints by score")
    rows = reliability(right, scores, np.linspace(0, 1, 11))
    for low, high, count, mean, share in rows:
        diagram.add_row(f"{low:.1f} to {high:.1f}", str(count), f"{mean:.3f}", f"{share:.3f}")
    console.print(diagram)
    error = sum(count * abs(mean - share) for _, _, count, mean, share in rows) / len(scores)
    console.print(f"{name}: scores are {error:.3f} off the share that is right, in the mean over all keypoints")

    people, below = cut_at_hips(records)
    cut = network(with_photos_cut(people, scratch))
    above = (people.visible > 0) & ~below
    shown, hidden = cut[..., 2][above], cut[..., 2][below]
    wins = (shown[:, None] > hidden[None]).mean()
    found = (similarities(people, cut) * above).sum(1) / np.maximum(above.sum(1), 1)
    console.print(
        f"{name}: {len(people)} people cut off at the hips: OKS ≥ 0.5 of what is left {(found >= 0.5).mean():.3f}; "
        f"scores of what is left {np.median(shown):.2f} (median), of the legs that are gone {np.median(hidden):.2f}; "
        f"a keypoint that is there has the higher score in {wins:.3f} of all pairs"
    )


def main() -> None:
    """Print the tables."""
    import tempfile

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("annotations", type=Path, help="COCO keypoints")
    parser.add_argument("photos", type=Path, help="folder")
    parser.add_argument("--model", nargs="+", default=[CARRIED_MODEL], help="zoo names or safetensors files")
    parser.add_argument("--beside", type=Path, help="folder of PP-TinyPose")
    parser.add_argument("--no-flip", action="store_true", help="without the mirrored crop")
    arguments = parser.parse_args()
    records = read_annotations(arguments.annotations, arguments.photos)
    records = records.select(~records.ignore & (records.visible > 0).any(1))
    networks = {name: library_network(name, False if arguments.no_flip else None) for name in arguments.model}
    if arguments.beside:
        networks["PP-TinyPose"] = tiny_pose(arguments.beside)
    for name, network in networks.items():
        with tempfile.TemporaryDirectory() as scratch:
            report(Console(), name, network, records, Path(scratch))


if __name__ == "__main__":
    main()
