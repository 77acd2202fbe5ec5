"""A photo with several people, from boxes to keypoints, beside rtmlib: `python -m benchmarks.people`.

RTMPose-m in both, the same random weights: what is compared is time. rtmlib's own class (`pip install rtmlib
onnxruntime onnx`) crops, computes and decodes one person after the other, by ONNX Runtime, and, to compare pipelines
alone, by the torch network that ours runs. Contenders take turns in random order; a ratio is the median over rounds.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

import fastpose
from fastpose.models import PoseModel, save_model

from .harness import quartiles

ENTRY = "rtmpose_m.coco_256x192"


class _Vectors(nn.Module):
    """The network with two tensors as its output, which the exporter can name."""

    def __init__(self, model: PoseModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.model(x).tensors())


def peers(model: PoseModel, folder: Path) -> dict[str, Callable[..., Any]]:
    """Rtmlib's RTMPose by ONNX Runtime, and by torch."""
    from rtmlib import RTMPose

    file, spec = folder / "rtmpose.onnx", model.spec
    height, width = spec.input_size
    example = torch.zeros(1, 3, height, width)

    torch.onnx.export(_Vectors(model).eval(), (example,), str(file), dynamo=False)
    options: dict[str, Any] = {"model_input_size": (width, height), "backend": "onnxruntime"}
    with contextlib.redirect_stdout(None):
        by_onnx, by_torch = (RTMPose(str(file), mean=spec.mean, std=spec.std, **options) for _ in range(2))

    def infer(crop: NDArray[np.float64]) -> list[NDArray[np.float32]]:
        with torch.inference_mode():
            x = torch.from_numpy(np.ascontiguousarray(crop.transpose(2, 0, 1), np.float32))[None]
            return [vector.numpy() for vector in model(x).tensors()]

    by_torch.inference = infer
    return {"rtmlib, ONNX Runtime": by_onnx, "rtmlib, torch": by_torch}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--people", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--cores", type=int, choices=[1, 2], default=1)
    options = parser.parse_args()
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: options.cores])
    torch.set_num_threads(options.cores)
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    photo = rng.integers(0, 256, (720, 1280, 3)).astype(np.uint8)
    corner = rng.uniform(0, (900, 300), (options.people, 2))
    boxes = np.concatenate([corner, corner + rng.uniform((80, 200), (250, 400), (options.people, 2))], 1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = fastpose.create_model(ENTRY).eval()
        save_model(model, folder / "model.safetensors")
        calls = peers(model, folder)
        for dtype in ("float32", "auto"):
            predictor = fastpose.load(folder / "model.safetensors", device="cpu", dtype=dtype)
            calls[f"fastpose, {dtype}"] = lambda p, b, ours=predictor: ours(p, boxes=b, flip_test=False)
        spent: dict[str, list[tuple[float, float]]] = {key: [] for key in calls}
        for turn in range(options.rounds + 2):
            for key in random.sample(list(calls), len(calls)):
                wall, cpu = time.perf_counter(), time.process_time()
                calls[key](photo, boxes)
                if turn > 1:  # the first rounds pay for what is kept
                    spent[key].append((time.perf_counter() - wall, time.process_time() - cpu))
    for ours in ("fastpose, float32", "fastpose, auto"):
        base = np.array(spent[ours])
        print(f"{ours}: {1e3 * np.median(base[:, 0]):.0f} ms")
        for key, rows in spent.items():
            ratios = np.array(rows) / base
            shown = ("×{1:.2f} [{0:.2f}, {2:.2f}]".format(*quartiles(list(ratios[:, side]))) for side in (0, 1))
            print(f"  {key}: wall {next(shown)}, CPU {next(shown)}")


if __name__ == "__main__":
    main()
