"""Annotations and results with values of the wrong kind in any place: figures, or a ValueError, and nothing else."""

from __future__ import annotations

import copy
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastpose.metrics import coco_ap, crowdpose_ap, posetrack_ap
from fastpose.skeletons import CROWDPOSE14, POSETRACK18_17

WRONG: tuple[Any, ...] = (
    *(None, "x", [], {}, [None], [1, 2], [[1]] * 51, ["a"] * 51, [float("nan")] * 51, {"a": 1}),
    *(float("nan"), float("inf"), -1, 0, 2**70, True),
)


def case(joints: int) -> list[Any]:
    """Annotations of two people on each of two photos, and the poses that fit them."""
    rng = np.random.default_rng(joints)
    people = [
        {"id": i + 1, "image_id": i // 2, "category_id": 1, "iscrowd": 0, "num_keypoints": joints, "area": 9000.0}
        | {"bbox": [0, 0, 100, 100], "bbox_head": [0, 0, 30, 40]}
        | {"keypoints": np.c_[rng.uniform(0, 99, (joints, 2)), np.full(joints, 2)].ravel().tolist()}
        for i in range(4)
    ]
    images = [{"id": i, "crowdIndex": 0.5} for i in range(2)]
    images[0] |= {"ignore_regions_x": [[200, 201, 202]], "ignore_regions_y": [[1, 2, 1]]}
    results = [
        {key: person[key] for key in ("image_id", "category_id", "keypoints")} | {"score": 0.5} for person in people
    ]
    return [{"images": images, "annotations": people, "categories": [{"id": 1}]}, copy.deepcopy(results)]


def spoil(node: Any, draw: random.Random) -> None:
    """Replace or remove something, anywhere inside."""
    while True:
        if not isinstance(node, dict | list) or not node:
            return
        key = draw.choice(list(node)) if isinstance(node, dict) else draw.randrange(len(node))
        if not isinstance(node[key], dict | list) or draw.random() < 0.25:
            if isinstance(node, dict) and draw.random() < 0.2:
                del node[key]
            else:
                node[key] = copy.deepcopy(draw.choice(WRONG))
            return
        node = node[key]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("metric", "joints"),
    [(coco_ap, 17), (crowdpose_ap, CROWDPOSE14.num_keypoints), (posetrack_ap, POSETRACK18_17.num_keypoints)],
)
def test_nothing_but_figures_or_a_value_error(metric: Callable[[Any, Any], dict[str, float]], joints: int) -> None:
    refused = 0
    assert metric(*case(joints))["AP"] == pytest.approx(1.0)
    for seed in range(300):
        arguments, draw = case(joints), random.Random(seed)
        for _ in range(draw.randint(1, 2)):
            spoil(arguments, draw)
        try:
            metric(*arguments)
        except ValueError:
            refused += 1
    assert 100 < refused < 300


def test_a_file_that_never_ends_or_is_endlessly_deep(tmp_path: Path) -> None:
    (tmp_path / "deep.json").write_text("[" * 100_000)
    os.mkfifo(tmp_path / "pipe.json")
    for name in ("deep.json", "pipe.json"):
        with pytest.raises(ValueError, match=rf"{name}: cannot be read as JSON"):
            coco_ap(tmp_path / name, [])
