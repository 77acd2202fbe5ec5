"""`python -m benchmarks.average_precision`: AP of keypoints beside pycocotools and faster-coco-eval, CPU seconds.

Annotations and results are drawn at random: crowds, people without keypoints, tied scores, photos with nobody. The two
libraries change what they are given, so each gets a copy, which is not timed. Figures must agree.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import importlib
import io
import time
from typing import Any

import numpy as np

from fastpose.metrics.coco import coco_ap

Json = dict[str, Any]
LIBRARIES = {
    "pycocotools": ("pycocotools.coco", "COCO", "pycocotools.cocoeval", "COCOeval"),
    "faster-coco-eval": ("faster_coco_eval", "COCO", "faster_coco_eval", "COCOeval_faster"),
}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.average_precision", description=__doc__)
    parser.add_argument("--photos", type=int, default=6000)
    parser.add_argument("--poses", type=int, default=12000)
    options = parser.parse_args()
    truth, results = _draw(options.photos, options.poses)
    begin = time.process_time()
    ours = np.array(list(coco_ap(truth, results).values()))
    print(f"{options.photos} photos, {len(results)} poses\nfastpose: {time.process_time() - begin:.2f} s")
    for name, modules in LIBRARIES.items():
        try:
            coco, evaluation = (getattr(importlib.import_module(m), c) for m, c in (modules[:2], modules[2:]))
        except ImportError as error:
            print(f"{name}: not there ({error})")
            continue
        seconds, theirs = _library(coco, evaluation, copy.deepcopy(truth), copy.deepcopy(results))
        print(f"{name}: {seconds:.2f} s, largest difference {np.abs(theirs[:10] - ours).max():.0e}")


def _library(coco: Any, evaluation: Any, truth: Json, results: list[Json]) -> tuple[float, Any]:
    begin = time.process_time()
    with contextlib.redirect_stdout(io.StringIO()):
        known = coco()
        known.dataset = truth
        known.createIndex()
        run = evaluation(known, known.loadRes(results), "keypoints")
        run.evaluate()
        run.accumulate()
        run.summarize()
    return time.process_time() - begin, np.asarray(run.stats)


def _draw(photos: int, poses: int) -> tuple[Json, list[Json]]:
    draw = np.random.default_rng(0)
    people: list[Json] = []
    results: list[Json] = []
    for photo in range(photos):
        for _ in range(draw.integers(0, 2 * max(1, poses // photos) + 1)):
            side = draw.uniform(15, 300)
            centre = draw.uniform(0, 500, 2)
            points = centre + draw.normal(0, side / 4, (17, 2))
            visible = draw.integers(0, 3, 17) * (draw.random() > 0.1)
            people.append(
                {
                    "id": len(people) + 1,
                    "image_id": photo,
                    "category_id": 1,
                    "iscrowd": int(draw.random() < 0.03),
                    "num_keypoints": int((visible > 0).sum()),
                    "bbox": [*(centre - side / 2).tolist(), side, side],
                    "area": 0.6 * side * side,
                    "keypoints": np.c_[points, visible].round(1).ravel().tolist(),
                }
            )
            for _ in range(draw.integers(0, 3)):
                found = points + draw.normal(0, side * 0.03 * draw.exponential(), (17, 2))
                keypoints = np.c_[found, draw.random(17)].ravel().tolist()
                score = round(float(draw.random()), 2)
                results.append({"image_id": photo, "category_id": 1, "keypoints": keypoints, "score": score})
    images = [{"id": photo} for photo in range(photos)]
    truth = {"images": images, "annotations": people, "categories": [{"id": 1, "name": "person"}]}
    return truth, results[:poses]


if __name__ == "__main__":
    main()
