"""`python -m benchmarks.pixels`: what the changes of pixels cost, µs of one thread per crop of 256x192."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import torch

from fastpose.data.pixels import Blur, GridDropout, Holes, HueSaturationValue, Photometric, PixelChanges, change_pixels
from fastpose.ops import affine_crop

CROPS = 64
CHANGES = {
    "hsv": PixelChanges(hsv=HueSaturationValue()),
    "photometric": PixelChanges(photometric=Photometric()),
    "blur, when applied": PixelChanges(blur=Blur(1.0)),
    "median blur, when applied": PixelChanges(median_blur=Blur(1.0)),
    "holes": PixelChanges(holes=Holes(1.0)),
    "grid, when applied": PixelChanges(grid=GridDropout(1.0)),
    "all of CSPNeXt's": PixelChanges(hsv=HueSaturationValue(), blur=Blur(0.1), median_blur=Blur(0.1), holes=Holes(1.0)),
}


def main() -> None:
    """Measure and print."""
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    noise = np.random.default_rng(0).integers(0, 256, (CROPS, 256, 192, 3)).astype(np.uint8)
    crops = np.stack([cv2.GaussianBlur(crop, (0, 0), 4) for crop in noise])
    matrices = np.tile(np.eye(2, 3), (CROPS, 1, 1))
    out = np.empty((CROPS, 256, 192, 3), np.float32)
    options: Any = {"size": (256, 192), "mean": 120.0, "std": 57.0, "layout": "nhwc", "out": out}
    print(f"second pass: {_microseconds(lambda: affine_crop(crops, matrices, **options)):.0f}")
    for name, changes in CHANGES.items():

        def change(changes: PixelChanges = changes) -> None:
            for seed, crop in enumerate(crops):
                change_pixels(crop, seed, changes, rgb=True)

        print(f"{name}: {_microseconds(change):.0f}")


def _microseconds(run: Callable[[], Any]) -> float:
    """Per crop, the least of five runs."""
    spent = []
    for _ in range(5):
        begin = time.process_time()
        run()
        spent.append(time.process_time() - begin)
    return min(spent) / CROPS * 1e6


if __name__ == "__main__":
    main()
