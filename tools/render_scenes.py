"""Rendered scenes with several people as photos and COCO boxes, so that the detector knows the demo's people, too.

python tools/render_scenes.py rendered labels/rendered.json
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from fastpose.data.synthetic import render_scene
from fastpose.files import atomic_write

_SIZES = ((540, 960), (480, 480), (640, 480), (360, 640))


def main() -> None:
    """Write photos and annotations."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path, help="folder for the photos")
    parser.add_argument("annotations", type=Path, help="JSON file to write")
    parser.add_argument("--scenes", type=int, default=600)
    parser.add_argument("--seed", type=int, default=1000, help="of the first scene (default: %(default)s)")
    parser.add_argument("--side", type=int, default=480, help="longer side of a photo (default: %(default)s)")
    arguments = parser.parse_args()
    arguments.photos.mkdir(parents=True, exist_ok=True)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number in range(arguments.scenes):
        size = _SIZES[number % len(_SIZES)]
        people = int(np.random.default_rng(number).integers(1, 6))
        photo, truth = render_scene(arguments.seed + number, size, people)
        scale = arguments.side / max(size)
        photo = cv2.resize(photo, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        name = f"{number:04}.jpg"
        cv2.imwrite(str(arguments.photos / name), photo, [cv2.IMWRITE_JPEG_QUALITY, 90])
        images.append({"id": number + 1, "file_name": name, "width": photo.shape[1], "height": photo.shape[0]})
        for box in (truth.boxes * scale).tolist():
            width, height = box[2] - box[0], box[3] - box[1]
            row = {"id": len(annotations) + 1, "image_id": number + 1, "category_id": 1, "iscrowd": 0}
            annotations.append({**row, "bbox": [box[0], box[1], width, height], "area": width * height})
    content = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "person"}]}
    atomic_write(arguments.annotations, json.dumps(content).encode())
    print(f"{arguments.annotations}: {len(annotations)} people on {len(images)} photos")


if __name__ == "__main__":
    main()
