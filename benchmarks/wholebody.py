"""`python -m benchmarks.wholebody`: the six average precisions of whole bodies beside xtcocotools, which MMPose calls.

People and poses of 133 keypoints are drawn at random: parts that are not annotated, crowds, tied scores, photos with
nobody. Both sides take turns in random order. Two times are taken: of the two JSON files, read and measured; and of
what each side made of them, measured only, which is what an evaluation that has arrays does. The difference of all 60
figures is printed.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import io
import itertools
import json
import random
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from fastpose.metrics import METRICS, read_results, read_truth
from fastpose.metrics.wholebody_files import WHOLEBODY_PARTS
from fastpose.skeletons.wholebody import COCO_WHOLEBODY133

Json = dict[str, Any]
Timed = Callable[[Path, Path], tuple[dict[str, float], list[float]]]
"""Of a truth's and a results' file: seconds by kind, and the figures."""

_KEYS = ("keypoints", "foot_kpts", "face_kpts", "lefthand_kpts", "righthand_kpts")
_THEIRS = ("wholebody", "body", "foot", "face", "lefthand", "righthand")
_SPANS = list(itertools.pairwise(np.cumsum([0, *WHOLEBODY_PARTS.values()]).tolist()))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.wholebody", description=__doc__)
    parser.add_argument("--photos", type=int, default=6000)
    parser.add_argument("--people", type=int, default=11000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    truth, results = _draw(options.photos, options.people)
    sides: dict[str, Timed] = {"fastpose": _ours}
    try:
        sides["xtcocotools"] = _theirs()
    except ImportError as error:
        print(f"xtcocotools: not there ({error})")
    spent: dict[str, dict[str, list[float]]] = {name: {} for name in sides}
    figures: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        files = Path(folder, "truth.json"), Path(folder, "results.json")
        for file, content in zip(files, (truth, results), strict=True):
            file.write_text(json.dumps(content))
        for _ in range(options.rounds):
            for name in random.sample(list(sides), len(sides)):
                times, figures[name] = sides[name](*files)
                for kind, seconds in times.items():
                    spent[name].setdefault(kind, []).append(seconds)
    print(f"{options.photos} photos, {len(truth['annotations'])} people, {len(results)} poses; median CPU seconds")
    for name, times_of in spent.items():
        print(f"{name}: " + ", ".join(f"{kind} {median(values):.3f}" for kind, values in times_of.items()))
    if "xtcocotools" in figures:
        theirs, ours = (np.array(figures[name]) for name in ("xtcocotools", "fastpose"))
        ratios = {k: median(v) / median(spent["fastpose"][k]) for k, v in spent["xtcocotools"].items()}
        print("ratio: " + ", ".join(f"{kind} ×{ratio:.1f}" for kind, ratio in ratios.items()))
        print(f"largest difference {np.abs(theirs - ours).max():.0e}")


def _ours(truth: Path, results: Path) -> tuple[dict[str, float], list[float]]:
    metric, count = METRICS["wholebody_ap"], COCO_WHOLEBODY133.num_keypoints
    begin = time.process_time()
    loaded = read_truth(truth, COCO_WHOLEBODY133), read_results(results, count)
    middle = time.process_time()
    values = metric.score(*loaded).figures(None)
    end = time.process_time()
    return {"files": end - begin, "measured": end - middle}, list(values.values())


def _theirs() -> Timed:
    coco = importlib.import_module("xtcocotools.coco")
    evaluation = importlib.import_module("xtcocotools.cocoeval")

    def run(truth: Path, results: Path) -> tuple[dict[str, float], list[float]]:
        sigmas, values = np.asarray(COCO_WHOLEBODY133.sigmas), []
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            begin = time.process_time()
            known = coco.COCO(str(truth))
            poses = known.loadRes(str(results))
            middle = time.process_time()
            for name, span in zip(_THEIRS, [(0, len(sigmas)), *_SPANS], strict=True):
                side = evaluation.COCOeval(known, poses, f"keypoints_{name}", sigmas[slice(*span)])
                side.evaluate()
                side.accumulate()
                side.summarize()
                values += [float(value) for value in side.stats]
            end = time.process_time()
        return {"files": end - begin, "measured": end - middle}, values

    return run


def _draw(photos: int, people: int) -> tuple[Json, list[Json]]:
    draw = np.random.default_rng(0)
    annotated: list[Json] = []
    results: list[Json] = []
    sigmas = np.asarray(COCO_WHOLEBODY133.sigmas)[:, None]
    for photo in range(photos):
        for _ in range(draw.poisson(people / photos)):
            side = float(draw.uniform(30, 300))
            corner = draw.uniform(0, 400, 2)
            points, visible = corner + draw.uniform(0, side, (133, 2)), draw.integers(0, 3, 133)
            for start, end in _SPANS[1:]:  # faces, feet and hands that are too small
                visible[start:end] *= draw.random() < 0.5
            person = {"id": len(annotated) + 1, "image_id": photo, "category_id": 1}
            person |= {"iscrowd": int(draw.random() < 0.03), "num_keypoints": int((visible[:17] > 0).sum())}
            person |= {"bbox": [*corner.tolist(), side, side], "area": 0.6 * side * side}
            annotated.append(person | _split(points, visible))
            for _ in range(draw.integers(0, 3)):
                found = points + draw.normal(0, side * draw.exponential(), (133, 2)) * sigmas
                entry = {"image_id": photo, "category_id": 1, "score": round(float(draw.random()), 2)}
                results.append(entry | _split(found, 0.05 + 0.95 * draw.random(133)))
    images = [{"id": photo} for photo in range(photos)]
    return {"images": images, "annotations": annotated, "categories": [{"id": 1, "name": "person"}]}, results


def _split(points: np.ndarray[Any, Any], third: np.ndarray[Any, Any]) -> Json:
    values = np.c_[points, third].round(2)
    return {key: values[start:end].ravel().tolist() for key, (start, end) in zip(_KEYS, _SPANS, strict=True)}


if __name__ == "__main__":
    main()
