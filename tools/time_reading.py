"""How long a file like COCO's training set takes to open, and what it leaves in memory.

    python tools/time_reading.py [--people 150000] [--keep big.json]

The file is made up: so many labelled people and three quarters as many without keypoints, outlines and addresses
included, as in ``person_keypoints_train2017.json`` (238 MB, like the original). Linux only.
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from fastpose.data import read_annotations
from fastpose.skeletons import COCO17


def write_file(path: Path, people: int) -> None:
    """A COCO-style file with ``people`` labelled people."""
    rng = np.random.default_rng(0)
    photos = max(1, people * 79 // 100)
    address = "http://images.example.org/train2017"
    images = [
        {
            "license": 3,
            "file_name": f"{i:012d}.jpg",
            "coco_url": f"{address}/{i:012d}.jpg",
            "height": 427,
            "width": 640,
            "date_captured": "2013-11-14 11:18:45",
            "flickr_url": f"{address}/{i:040d}.jpg",
            "id": i,
        }
        for i in range(photos)
    ]
    annotations: list[dict[str, Any]] = []
    for i in range(people + people * 3 // 4):
        points = rng.integers(0, 427, (17, 3))
        points[:, 2] = rng.integers(1, 3, 17)
        points[rng.random(17) < (0.4 if i < people else 1.0)] = 0
        outline = np.round(rng.uniform(0, 600, int(rng.integers(20, 90))), 2).tolist()
        box = np.round(rng.uniform(5, 200, 4), 2).tolist()
        annotations.append(
            {
                "segmentation": [outline],
                "num_keypoints": int((points[:, 2] > 0).sum()),
                "area": box[2] * box[3],
                "iscrowd": 0,
                "keypoints": points.ravel().tolist(),
                "image_id": int(rng.integers(photos)),
                "bbox": box,
                "category_id": 1,
                "id": i + 1,
            }
        )
    categories = [{"id": 1, "name": "person", "keypoints": list(COCO17.keypoints)}]
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))


def resident() -> float:
    """Megabytes of memory that this process holds."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 1e6


def main() -> None:
    """Make the file, read it and say what that took."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--people", type=int, default=150_000)
    parser.add_argument("--keep", type=Path, help="make the file here, or read it if it is there, and leave it")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = arguments.keep or Path(folder) / "big.json"
        if not path.is_file():
            write_file(path, arguments.people)
            if not arguments.keep:
                print("memory below includes what making the file left behind; --keep and a second run are exact")
        before, start, cpu = resident(), time.perf_counter(), time.process_time()
        records = read_annotations(path)
        seconds, busy = time.perf_counter() - start, time.process_time() - cpu
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
        held = sum(value.nbytes for value in vars(records).values() if isinstance(value, np.ndarray)) / 1e6
        print(f"{path.stat().st_size / 1e6:.0f} MB, {len(records)} people: {seconds:.1f} s ({busy:.1f} s of CPU)")
        print(f"resident {before:.0f} -> {resident():.0f} MB, peak {peak:.0f} MB; arrays {held:.0f} MB")


if __name__ == "__main__":
    main()
