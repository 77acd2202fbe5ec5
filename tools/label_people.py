"""Let networks of others label the people of a folder of photos: boxes, then keypoints.

    python tools/label_people.py boxes PHOTOS boxes.jsonl --teachers real
    python tools/label_people.py points PHOTOS boxes.jsonl points.jsonl --teachers real
    python tools/label_people.py coco PHOTOS points.jsonl people.json

Each line of a .jsonl is one photo. A run that is interrupted goes on where it was; a line that was cut short is written
again. ``boxes`` asks RTMDet-nano at one or several sizes and YOLOX-nano (ONNX Runtime) and keeps what each one says;
``points`` fuses the boxes and asks PP-TinyPose (ncnn) for the 17 points of COCO, with the mirrored crop; ``coco`` makes
an annotation file of those that are sure. The teachers' files are ``rtmdet_nano_end2end.onnx``, ``yolox_nano.onnx`` and
``tinypose_256x192.param`` / ``.bin``.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastpose.codecs import build_codec
from fastpose.data.photos import load_image
from fastpose.detection.onnx import OnnxDetector
from fastpose.files import atomic_write
from fastpose.geometry import box_to_center_scale, crop_matrices, invert_matrices
from fastpose.ops import affine_crop, heatmap_decode
from fastpose.skeletons import get_skeleton

Array = NDArray[Any]

_IMAGENET_MEAN, _IMAGENET_STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)


class TinyPose:
    """PP-TinyPose 256x192, with the mirrored crop."""

    size = (256, 192)

    def __init__(self, file: Path) -> None:
        import ncnn

        self._ncnn, self._net = ncnn, ncnn.Net()
        self._net.opt.num_threads = 1
        self._net.load_param(str(file))
        self._net.load_model(str(file.with_suffix(".bin")))
        self._codec = build_codec(kind="dark", heatmap_size=(64, 48), sigma=2.0, blur_kernel=3)
        self._flip_index = list(get_skeleton("coco17").flip_index)

    def _maps(self, crop: Array) -> Array:
        extractor = self._net.create_extractor()
        pixels = np.ascontiguousarray(crop)  # has to outlive the Mat, which does not hold it
        extractor.input("image", self._ncnn.Mat(pixels))
        maps = extractor.extract("save_infer_model/scale_0.tmp_1")[1]
        return np.array(maps, np.float32)

    def __call__(self, image: Array, boxes: Array, padding: float = 1.25) -> Array:
        """Points [N, 17, 3] of the people in boxes [N, 4] (xyxy): x, y, score."""
        if not len(boxes):
            return np.empty((0, 17, 3), np.float32)
        center, scale = box_to_center_scale(boxes, self.size, padding)
        matrices = crop_matrices(center, scale, self.size)
        crops = affine_crop(
            image, matrices, np.zeros(len(boxes), np.int64), size=self.size,
            mean=_IMAGENET_MEAN, std=_IMAGENET_STD, swap_rb=True, antialias=True,
        )  # fmt: skip
        maps = np.stack([self._maps(crop) for crop in crops])
        mirrored = np.stack([self._maps(crop[:, :, ::-1]) for crop in crops])
        points, scores = heatmap_decode(
            maps, self._codec, self.size, flipped=mirrored, flip_index=self._flip_index, flip_shift=_FLIP_SHIFT,
            inverse=invert_matrices(matrices),
        )  # fmt: skip
        return np.concatenate([points, scores[..., None]], axis=2)


_LEAST = 0.05  # score of a teacher's box that is kept
_FLIP_SHIFT = True


def box_ious(a: Array, b: Array) -> Array:
    """Intersection over union of boxes [N, 4] and [M, 4] (xyxy): [N, M]."""
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:4], b[None, :, 2:4])
    inter = np.clip(high - low, 0, None).prod(2)
    areas = [np.clip(x[:, 2:4] - x[:, :2], 0, None).prod(1) for x in (a, b)]
    return np.asarray(inter / np.maximum(areas[0][:, None] + areas[1][None] - inter, 1e-9))


def fuse_boxes(found: list[Array], weights: list[float], limit: float = 0.55, least: float = 0.1) -> Array:
    """What several detectors say of a photo, brought together (weighted boxes fusion, Solovyev et al., 2021).

    Args:
        found: Boxes [N, 5] of each detector: corners and score.
        weights: How much each one counts.
        limit: Boxes that overlap more than this are of one person.
        least: Score of a box that is looked at.

    Returns:
        [N, 5]: corners weighted by score, and the weighted mean of the scores, 0 for a detector that saw nothing.
    """
    rows = np.concatenate([np.column_stack([b, np.full(len(b), i)]) for i, b in enumerate(found)])
    rows = rows[rows[:, 4] >= least]
    rows = rows[np.argsort(-rows[:, 4], kind="stable")]
    groups: list[list[Array]] = []
    means: list[Array] = []
    for row in rows:
        overlap = box_ious(row[None], np.stack(means))[0] if means else np.zeros(1)
        for group in np.argsort(-overlap).tolist():
            # Two boxes of one detector are two people.
            if overlap[group] > limit and row[5] not in [other[5] for other in groups[group]]:
                groups[group].append(row)
                weight = np.array([weights[int(other[5])] * other[4] for other in groups[group]])
                means[group] = (np.stack(groups[group])[:, :4] * weight[:, None]).sum(0) / weight.sum()
                break
        else:
            groups.append([row])
            means.append(row[:4])
    scores = [sum(weights[int(r[5])] * r[4] for r in group) / sum(weights) for group in groups]
    return np.column_stack([np.stack(means), scores]) if groups else np.empty((0, 5))


def _photos(folder: Path) -> list[Path]:
    return sorted(file for file in folder.iterdir() if file.suffix.lower() in (".jpg", ".jpeg", ".png"))


def read_lines(file: Path) -> list[dict[str, Any]]:
    """The whole lines of a .jsonl."""
    text = file.read_text(encoding="utf-8") if file.exists() else ""
    return [json.loads(line) for line in text.split("\n")[:-1]]


def _extend(out: Path, names: list[str], label: Callable[[str], dict[str, Any]]) -> None:
    """Write a line for every photo that has none yet."""
    lines = read_lines(out)
    done = {line["photo"] for line in lines}
    with out.open("w", encoding="utf-8") as file:  # without a last line that was cut short
        for line in lines:
            file.write(json.dumps(line) + "\n")
        left = [name for name in names if name not in done]
        for count, name in enumerate(left, 1):
            file.write(json.dumps({"photo": name, **label(name)}) + "\n")
            if count % 50 == 0 or count == len(left):
                file.flush()
                print(f"\r{count}/{len(left)}", end="", file=sys.stderr, flush=True)


def _rounded(rows: Array, digits: int = 2) -> list[Any]:
    return [np.round(row.astype(float), digits).tolist() for row in rows]


def label_boxes(arguments: argparse.Namespace) -> None:
    """``boxes``."""
    options: dict[str, Any] = {"device": "cpu", "threshold": _LEAST}
    teachers = {
        f"rtmdet_{side}": OnnxDetector(arguments.teachers / "rtmdet_nano_end2end.onnx", size=side, **options)
        for side in arguments.sides
    }
    teachers["yolox_416"] = OnnxDetector(arguments.teachers / "yolox_nano.onnx", **options)

    def label(name: str) -> dict[str, Any]:
        image = load_image(arguments.photos / name)
        found = {key: teacher(image) for key, teacher in teachers.items()}
        rows = {key: np.column_stack([people.boxes, people.scores]) for key, people in found.items()}
        return {"size": list(image.shape[:2]), "boxes": {key: _rounded(values, 3) for key, values in rows.items()}}

    _extend(arguments.out, [file.name for file in _photos(arguments.photos)], label)


def fused(line: dict[str, Any]) -> Array:
    """The boxes of a line of ``boxes``, brought together: [N, 5]."""
    found = [np.array(rows, float).reshape(-1, 5) for rows in line["boxes"].values()]
    return fuse_boxes(found, [1.0 if key.startswith("yolox") else 1.5 for key in line["boxes"]])


def label_points(arguments: argparse.Namespace) -> None:
    """``points``."""
    teacher = TinyPose(arguments.teachers / "tinypose_256x192.param")
    lines = {line["photo"]: line for line in read_lines(arguments.boxes)}

    def label(name: str) -> dict[str, Any]:
        rows = fused(lines[name])
        tall = (rows[:, 2:4] - rows[:, :2]).max(1) >= arguments.least if len(rows) else np.zeros(0, bool)
        asked = (rows[:, 4] >= arguments.sure) & tall
        points = teacher(load_image(arguments.photos / name), rows[asked, :4])
        people = [
            {"box": box, "points": _rounded(person)}
            for box, person in zip(_rounded(rows[asked], 3), points, strict=True)
        ]
        return {"size": lines[name]["size"], "people": people, "others": _rounded(rows[~asked], 3)}

    _extend(arguments.out, sorted(lines), label)


def _annotations(line: dict[str, Any], sure: float) -> Iterator[dict[str, Any]]:
    for person in line["people"]:
        points = np.array(person["points"])
        known = points[:, 2] >= sure
        if known.sum() < 3:
            continue
        x0, y0, x1, y1, score = person["box"]
        triples = [[x, y, 2] if seen else [0, 0, 0] for (x, y, _), seen in zip(points.tolist(), known, strict=True)]
        yield {
            "bbox": [x0, y0, round(x1 - x0, 2), round(y1 - y0, 2)],
            "area": round((x1 - x0) * (y1 - y0) * 0.535, 2),
            "iscrowd": 0,
            "num_keypoints": int(known.sum()),
            "keypoints": [value for triple in triples for value in triple],
            "score": score,
        }


def write_coco(arguments: argparse.Namespace) -> None:
    """``coco``."""
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, line in enumerate(read_lines(arguments.points), arguments.first_id):
        images.append({"id": number, "file_name": line["photo"], "height": line["size"][0], "width": line["size"][1]})
        for annotation in _annotations(line, arguments.sure):
            annotations.append(
                {"id": arguments.first_id + len(annotations), "image_id": number, "category_id": 1, **annotation}
            )
    names = list(get_skeleton("coco17").keypoints)
    categories = [{"id": 1, "name": "person", "keypoints": names, "skeleton": []}]
    content = {"images": images, "annotations": annotations, "categories": categories}
    atomic_write(arguments.out, json.dumps(content).encode())
    print(f"{arguments.out}: {len(annotations)} people on {len(images)} photos")


def main() -> None:
    """Do one of the steps."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    steps = parser.add_subparsers(required=True)
    boxes = steps.add_parser("boxes", help="ask the detectors")
    points = steps.add_parser("points", help="ask the pose network")
    coco = steps.add_parser("coco", help="write an annotation file")
    for step in (boxes, points, coco):
        step.add_argument("photos", type=Path, help="folder")
    for step in (boxes, points):
        step.add_argument("--teachers", type=Path, required=True, help="folder of their files")
    points.add_argument("boxes", type=Path)
    coco.add_argument("points", type=Path)
    for step in (boxes, points, coco):
        step.add_argument("out", type=Path)
    boxes.add_argument("--sides", type=int, nargs="+", default=[640, 320], help="longer sides that RTMDet sees")
    points.add_argument("--sure", type=float, default=0.4, help="least score of a box that has points")
    points.add_argument("--least", type=float, default=48, help="least longer side of such a box, pixels")
    coco.add_argument("--sure", type=float, default=0.45, help="least score of a point that is a label")
    coco.add_argument("--first-id", type=int, default=1)
    boxes.set_defaults(run=label_boxes)
    points.set_defaults(run=label_points)
    coco.set_defaults(run=write_coco)
    arguments = parser.parse_args()
    arguments.run(arguments)


if __name__ == "__main__":
    main()
