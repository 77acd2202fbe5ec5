"""What the carried networks cost on one thread, beside networks of others in the same run.

    python tools/people_times.py people/coco_val.json people/coco_people --beside real

CPU time of the process from a photo in memory to boxes (carried detector; YOLOX-nano at 416 and RTMDet-nano at 320 by
ONNX Runtime), and from a photo and one person's box to keypoints (carried model with and without the mirrored crop;
PP-TinyPose with it, by ncnn). Contenders take turns on each photo, in random order; a ratio is the median over photos,
with quartiles, of a contender's time over the carried one's.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from label_people import TinyPose
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

import fastpose
from fastpose.data import read_annotations
from fastpose.data.photos import load_image
from fastpose.detection.onnx import OnnxDetector

Array = NDArray[Any]
Contender = Callable[[Array, Array], Any]
"""Works on a photo and the box [1, 4] of one person."""


def take_turns(contenders: dict[str, Contender], cases: list[tuple[Array, Array]]) -> dict[str, Array]:
    """Seconds of CPU time of each contender on each case."""
    spent: dict[str, list[float]] = {name: [] for name in contenders}
    for name, call in contenders.items():  # the first calls pay for what is kept
        for case in cases[:3]:
            call(*case)
        spent[name].clear()
    for case in cases:
        for name in random.sample(list(contenders), len(contenders)):
            start = time.process_time()
            contenders[name](*case)
            spent[name].append(time.process_time() - start)
    return {name: np.array(seconds) for name, seconds in spent.items()}


def report(console: Console, title: str, spent: dict[str, Array]) -> None:
    """Print milliseconds and ratios to the first one."""
    first = next(iter(spent.values()))
    table = Table("network", "CPU ms", "ratio", title=title)
    for name, seconds in spent.items():
        low, middle, high = np.quantile(seconds / first, (0.25, 0.5, 0.75))
        table.add_row(name, f"{1e3 * np.median(seconds):.1f}", f"{middle:.2f} [{low:.2f}, {high:.2f}]")
    console.print(table)


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("annotations", type=Path, help="COCO keypoints")
    parser.add_argument("photos", type=Path, help="folder")
    parser.add_argument("--beside", type=Path, required=True, help="folder of the networks of others")
    parser.add_argument("--cases", type=int, default=60, help="people (default: %(default)s)")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    random.seed(0)
    records = read_annotations(arguments.annotations, arguments.photos)
    chosen = random.sample(list(records.select(~records.ignore)), arguments.cases)
    cases = [(load_image(record.image_path), record.box[None]) for record in chosen]

    detector = fastpose.find_detector(device="cpu")
    predictor = fastpose.load(device="cpu")
    yolox = fastpose.find_detector(arguments.beside / "yolox_nano.onnx", device="cpu")
    rtmdet = OnnxDetector(arguments.beside / "rtmdet_nano_end2end.onnx", size=320, device="cpu")
    tiny = TinyPose(arguments.beside / "tinypose_256x192.param")
    console = Console()
    detectors: dict[str, Contender] = {
        "carried": lambda photo, _: detector(photo),
        "YOLOX-nano 416": lambda photo, _: yolox(photo),
        "RTMDet-nano 320": lambda photo, _: rtmdet(photo),
    }
    report(console, "photo to boxes", take_turns(detectors, cases))
    models: dict[str, Contender] = {
        "carried, mirrored crop": lambda photo, box: predictor(photo, box, flip_test=True),
        "carried, one crop": lambda photo, box: predictor(photo, box, flip_test=False),
        "PP-TinyPose, mirrored crop": tiny,
    }
    report(console, "box to keypoints", take_turns(models, cases))


if __name__ == "__main__":
    main()
