"""What the tests of the three ops of coordinate vectors share: codecs, and vectors as a network would make them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fastpose.codecs import SimCC

INPUT = (256, 192)
CODECS = {
    "simcc": SimCC(),
    "rtmpose": SimCC(sigma=(4.9, 5.66), normalized=False),
    "rtmw": SimCC(sigma=(6.0, 6.93), normalized=False, visibility=True),
    "dark": SimCC(sigma=(4.9, 5.66), normalized=False, dark=True),
    "dark, normalized": SimCC(sigma=(6.0, 2.0), dark=True, visibility=True),
    "standard": SimCC(smoothing="standard", label_smoothing=0.1, split_ratio=3.0),
    "narrow": SimCC(sigma=(0.4, 90.0), split_ratio=1.5),
    "one bin": SimCC(smoothing="standard", split_ratio=1.0),
}


def codec_of(config: dict[str, Any]) -> SimCC:
    """What a configuration of MMPose is here."""
    sigma = config.get("sigma", 6.0)
    return SimCC(
        sigma=tuple(sigma) if isinstance(sigma, list) else (sigma, sigma),
        split_ratio=config["simcc_split_ratio"],
        smoothing=config.get("smoothing_type", "gaussian"),
        label_smoothing=config.get("label_smooth_weight", 0.0),
        normalized=config.get("normalize", True),
        dark=config.get("use_dark", False),
        visibility=config.get("decode_visibility", False),
    )


def network_vectors(
    codec: SimCC, batch: int, keypoints: int, seed: int = 0, size: tuple[int, int] = INPUT
) -> tuple[torch.Tensor, torch.Tensor]:
    """Bumps of random place, height and width over a little noise: what a trained network gives."""
    rng = np.random.default_rng(seed)
    vectors = []
    for bins, sigma in zip(codec.sizes(size), codec.sigma, strict=True):
        middle = rng.uniform(-1, bins, (batch, keypoints, 1))
        spread = sigma * rng.uniform(0.8, 1.4, (batch, keypoints, 1))
        height = rng.uniform(0.1, 1, (batch, keypoints, 1)) / (sigma if codec.normalized else 1)
        bumps = height * np.exp(-((np.arange(bins) - middle) ** 2) / (2 * spread**2))
        vectors.append(torch.from_numpy((bumps + height * rng.normal(0, 0.01, bumps.shape)).astype(np.float32)))
    return vectors[0], vectors[1]


def reference_codecs(shared: Path) -> list[tuple[str, SimCC, tuple[int, int], dict[str, np.ndarray]]]:
    """Name, codec, input size and arrays of every codec of vectors in the folder of reference figures."""
    folder = shared / "reference"
    arrays = np.load(folder / "codecs_wider.npz")
    cases = []
    for name, config in json.loads((folder / "codecs_wider.json").read_text()).items():
        if config["type"] == "IntegralRegressionLabel":
            continue
        width, height = config["input_size"]
        each = {key.split("/")[1]: arrays[key] for key in arrays.files if key.split("/")[0] == name}
        cases.append((name, codec_of(config), (height, width), each))
    return cases
