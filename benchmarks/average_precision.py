"""`python -m benchmarks.average_precision`: AP of keypoints beside pycocotools, faster-coco-eval and hotcoco.

Annotations and results are drawn at random: crowds, people without keypoints, tied scores, photos with nobody. Three
times are taken: of the two JSON files, read and measured; of what they hold, as Python objects; and of what each
library made of them, measured only, which is what an evaluation that has arrays does. The libraries take turns in
random order, and change what they are given, so each gets a copy, which is not timed. Figures must agree to 1e-9.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import importlib
import io
import json
import random
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from fastpose.metrics import METRICS, read_results, read_truth
from fastpose.skeletons import COCO17

Json = dict[str, Any]
Load = Callable[[Any, Any], Any]
Measure = Callable[[Any], Any]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.average_precision", description=__doc__)
    parser.add_argument("--photos", type=int, default=6000)
    parser.add_argument("--poses", type=int, default=12000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    truth, results = _draw(options.photos, options.poses)
    libraries = {"fastpose": (_load, _measure)}
    for name, make in (("pycocotools", _pycocotools), ("faster-coco-eval", _faster), ("hotcoco", _hotcoco)):
        try:
            libraries[name] = make()
        except ImportError as error:
            print(f"{name}: not there ({error})")
    times: dict[str, dict[str, list[float]]] = {name: {} for name in libraries}
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        files = Path(folder, "truth.json"), Path(folder, "results.json")
        for file, content in zip(files, (truth, results), strict=True):
            file.write_text(json.dumps(content))
        for _ in range(options.rounds):
            for name in random.sample(list(libraries), len(libraries)):
                load, measure = libraries[name]
                inputs = {"files": files, "objects": (copy.deepcopy(truth), copy.deepcopy(results))}
                for kind, given in inputs.items():
                    begin = time.process_time()
                    with contextlib.redirect_stdout(io.StringIO()):
                        loaded = load(*given)
                        middle = time.process_time()
                        figures[name] = measure(loaded)
                    end = time.process_time()
                    times[name].setdefault(kind, []).append(end - begin)
                    times[name].setdefault("measured", []).append(end - middle)
    print(f"{options.photos} photos, {len(truth['annotations'])} people, {len(results)} poses; median CPU seconds")
    for name, spent in times.items():
        line = ", ".join(f"{kind} {median(values):.3f}" for kind, values in spent.items())
        print(f"{name}: {line}; largest difference {np.abs(figures[name] - figures['fastpose']).max():.0e}")


def _load(truth: Any, results: Any) -> Any:
    return read_truth(truth, COCO17), read_results(results, COCO17.num_keypoints)


def _measure(loaded: Any) -> Any:
    return np.array(list(METRICS["coco_ap"].score(*loaded).figures(None).values()))


def _pycocotools() -> tuple[Load, Measure]:
    coco, evaluation = importlib.import_module("pycocotools.coco"), importlib.import_module("pycocotools.cocoeval")
    return _in_their_way(coco.COCO, evaluation.COCOeval)


def _faster() -> tuple[Load, Measure]:
    library = importlib.import_module("faster_coco_eval")
    return _in_their_way(library.COCO, library.COCOeval_faster)


def _in_their_way(coco: Any, evaluation: Any) -> tuple[Load, Measure]:
    def load(truth: Any, results: Any) -> Any:
        if isinstance(truth, Path):
            known = coco(str(truth))
            return known, known.loadRes(str(results))
        known = coco()
        known.dataset = truth
        known.createIndex()
        return known, known.loadRes(results)

    return load, lambda loaded: _evaluate(evaluation(*loaded, "keypoints"))


def _hotcoco() -> tuple[Load, Measure]:
    library = importlib.import_module("hotcoco")

    def load(truth: Any, results: Any) -> Any:
        in_files = isinstance(truth, Path)
        known = library.COCO(str(truth) if in_files else truth)
        return known, known.load_res(str(results) if in_files else results)

    return load, lambda loaded: _evaluate(library.COCOeval(*loaded, "keypoints"))


def _evaluate(run: Any) -> Any:
    run.evaluate()
    run.accumulate()
    run.summarize()
    return np.asarray(run.stats)[:10]


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
