"""A video from file to poses, beside rtmlib's PoseTracker: `python -m benchmarks.video [CLIP]`.

Both find people every fifth frame with the carried detector, follow them between, and find their keypoints with the
carried model; both write JSON Lines. Ours is `Predictor.video` with tracks and live smoothing. rtmlib's own pipeline
(`pip install rtmlib onnxruntime`) runs the same two networks, exported here, by ONNX Runtime. Contenders take turns on
the whole clip, in random order; a ratio is the median over rounds. Without CLIP one of 720p with four people is
rendered.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import resource
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor, nn

import fastpose
from fastpose.data.synthetic import paint_scene, synthetic_sequence
from fastpose.detection import find_detector
from fastpose.detection.network import decode_boxes, place_centers
from fastpose.models import find_model
from fastpose.predict import Predictor
from fastpose.predict.writers import open_writer
from fastpose.video import VideoWriter, open_video

EVERY = 5
SEED = 11  # of a sequence with four people


def render_clip(file: Path, frames: int) -> None:
    """Write a rendered clip of 720p."""
    truth = synthetic_sequence("simple", SEED, frames, (720, 1280))
    with VideoWriter(file, size=(720, 1280), fps=25) as writer:
        for path in truth.image_paths:
            writer.write(paint_scene(str(path)))


def ours(clip: Path, out: Path, flip: bool, predictor: Predictor) -> tuple[int, Counter[str]]:
    """Frames, and the milliseconds of each stage."""
    stages: Counter[str] = Counter()
    count = 0
    with open_video(clip) as video, open_writer(out, "jsonl", skeleton=predictor.spec.skeleton) as writer:
        for poses in predictor.video(video, detect_every=EVERY, smooth="live", flip_test=flip):
            writer.write(poses)
            stages.update(poses.milliseconds)
            count += 1
        stages["waiting for frames"] = video.waited * 1e3
    return count, stages


class _Boxes(nn.Module):
    """The carried detector, with the raw grid output that rtmlib's YOLOX class reads: [1, A, 6]."""

    def __init__(self, detector: Any, side: tuple[int, int]) -> None:
        super().__init__()
        self.net, spec = detector.net, detector.spec
        self.centers, strides = place_centers(side)
        self.strides = strides[:, None]
        self.mean, self.std = (torch.tensor(x).view(1, 3, 1, 1) for x in (spec.mean, spec.std))

    def forward(self, x: Tensor) -> Tensor:
        logits, distances = self.net((x - self.mean) / self.std)
        boxes = decode_boxes(distances, self.centers)
        corner = self.centers / self.strides - 0.5
        middle = (boxes[..., :2] + boxes[..., 2:]) / 2 / self.strides - corner
        sides = ((boxes[..., 2:] - boxes[..., :2]) / self.strides).log()
        scores = logits.sigmoid()[..., None]
        return torch.cat([middle, sides, scores, torch.ones_like(scores)], 2)


class _Maps(nn.Module):
    """The carried model on pixels that were normalised in BGR order."""

    def __init__(self, model: nn.Module, swap: bool) -> None:
        super().__init__()
        self.model, self.swap = model, swap

    def forward(self, x: Tensor) -> Any:
        return self.model(x.flip(1) if self.swap else x)


def peer(predictor: Predictor, folder: Path, side: tuple[int, int]) -> Callable[[Path, Path], int]:
    """Rtmlib's PoseTracker on these two networks, the detector's input `side` (height, width)."""
    from rtmlib import Custom, PoseTracker

    detector, spec = find_detector(device="cpu"), predictor.spec
    files = {"det": folder / "detector.onnx", "pose": folder / "pose.onnx"}
    height, width = spec.input_size
    modules = {"det": _Boxes(detector, side), "pose": _Maps(find_model(None).eval(), spec.channel_order == "rgb")}
    for name, size in (("det", side), ("pose", (height, width))):
        torch.onnx.export(modules[name].eval(), (torch.zeros(1, 3, *size),), str(files[name]), dynamo=False)

    def solution(**settings: Any) -> Any:
        made = Custom(
            det_class="YOLOX", det=str(files["det"]), det_input_size=side, pose_class="ViTPose",
            pose=str(files["pose"]), pose_input_size=(width, height), **settings,
        )  # fmt: skip
        made.det_model.score_thr, made.det_model.nms_thr = detector.threshold, detector.overlap
        made.pose_model.mean, made.pose_model.std = spec.mean, spec.std
        return made

    with contextlib.redirect_stdout(None):
        tracker = PoseTracker(solution, det_frequency=EVERY, backend="onnxruntime", device="cpu")

    def run(clip: Path, out: Path) -> int:
        tracker.reset()
        capture, count = cv2.VideoCapture(str(clip)), 0
        with out.open("w") as file:
            while True:
                there, frame = capture.read()
                if not there:
                    return count
                points, scores = tracker(frame)
                people = [
                    {"keypoints": np.c_[p, s].round(2).tolist()} for p, s in zip(points, scores, strict=True)
                ]  # fmt: skip
                file.write(json.dumps({"frame": count, "people": people}) + "\n")
                count += 1

    return run


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clip", nargs="?", type=Path)
    parser.add_argument("--frames", type=int, default=150, help="of the rendered clip (default: %(default)d)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--cores", type=int, choices=[1, 2], default=1)
    parser.add_argument("--dtype", default="auto", help="what our networks compute in (default: %(default)s)")
    parser.add_argument("--memory", type=int, metavar="FRAMES", help="instead: our memory over so many frames")
    parser.add_argument("--latency", action="store_true", help="instead: how long we take from a frame to its result")
    options = parser.parse_args()
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: options.cores])
    torch.set_num_threads(options.cores)
    predictor = fastpose.load(device="cpu", dtype=options.dtype)
    print(predictor)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        clip = options.clip or folder / "clip.mp4"
        if options.clip is None:
            render_clip(clip, options.frames)
        if options.memory:
            watch_memory(predictor, clip, options.memory)
            return
        if options.latency:
            measure_latency(predictor, clip)
            return
        with open_video(clip) as video:
            first = next(video).pixels
        # The detector's input as it has it itself, without padding for a square.
        scale = predictor.detector.spec.side / max(first.shape[:2])
        side = tuple(int(np.ceil(length * scale / 32)) * 32 for length in first.shape[:2])
        rtmlib = peer(predictor, folder, side)
        out = folder / "out.jsonl"
        stages: Counter[str] = Counter()

        def timed(flip: bool) -> Callable[[], int]:
            def call() -> int:
                count, spent = ours(clip, out, flip, predictor)
                if not flip:
                    stages.clear()
                    stages.update(spent)
                return count

            return call

        contenders = {
            "fastpose": timed(False),
            "fastpose, with flip test": timed(True),
            "rtmlib": lambda: rtmlib(clip, out),
        }
        spent: dict[str, list[tuple[float, float, int]]] = {key: [] for key in contenders}
        for turn in range(options.rounds + 1):
            for key in random.sample(list(contenders), len(contenders)):
                wall, cpu = time.perf_counter(), time.process_time()
                count = contenders[key]()
                if turn:  # the first round pays for what is kept
                    spent[key].append((time.perf_counter() - wall, time.process_time() - cpu, count))
    report(spent, stages)


def report(spent: dict[str, list[tuple[float, float, int]]], stages: Counter[str]) -> None:
    """Print frames a second, ratios, and where our time goes."""
    base = np.array(spent["fastpose"])
    for key, rows in spent.items():
        wall, cpu, count = np.array(rows).T
        ratios = [np.quantile(part / base[:, i], (0.25, 0.5, 0.75)) for i, part in ((0, wall), (1, cpu))]
        shown = " and ".join(f"{m:.2f} [{a:.2f}, {b:.2f}]" for a, m, b in ratios)
        print(f"{key}: {np.median(count / wall):.1f} frames/s, CPU {1e3 * np.median(cpu / count):.1f} ms a frame; "
              f"time over ours, wall and CPU: {shown}")  # fmt: skip
    whole = 1e3 * float(base[-1, 0])
    print("ours: " + ", ".join(f"{name} {value / whole:.1%}" for name, value in stages.items()))
    rest = 1 - (stages["network"] + stages["detect"]) / whole
    print(f"everything but the two networks (detect is the detector whole): {rest:.1%}")


def measure_latency(predictor: Predictor, clip: Path) -> None:
    """Print the time from a frame of a live source to its result, over that of the networks."""
    with open_video(clip) as video:
        frames = list(video)
    handed: list[float] = []

    def source() -> Any:
        for frame in frames:
            handed.append(time.perf_counter())
            yield frame

    for every in (1, EVERY):
        handed.clear()
        ratios = []
        for poses in predictor.video(source(), live=True, detect_every=every, smooth="live", flip_test=False):
            networks = poses.milliseconds.get("detect", 0.0) + poses.milliseconds.get("network", 0.0)
            if networks > 0:
                ratios.append(1e3 * (time.perf_counter() - handed[-1]) / networks)
        low, middle, high = np.quantile(ratios[len(ratios) // 10 :], (0.25, 0.5, 0.75))
        print(f"detect_every={every}: from frame to result {middle:.2f} [{low:.2f}, {high:.2f}] of the networks' time")


def watch_memory(predictor: Predictor, clip: Path, frames: int) -> None:
    """Print the memory in use while one clip is shown again and again."""
    with open_video(clip) as video:
        kept = list(video)

    def endless() -> Any:
        for index in range(frames):
            yield type(kept[0])(index, index / 25, kept[index % len(kept)].pixels)

    people = 0
    for poses in predictor.video(endless(), detect_every=EVERY, smooth="live", flip_test=False):
        people += len(poses)
        assert poses.frame is not None
        if (poses.frame + 1) % max(1, frames // 10) == 0:
            now = int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() >> 20
            print(f"{poses.frame + 1} frames, {people} people: {now} MiB", flush=True)


if __name__ == "__main__":
    main()
