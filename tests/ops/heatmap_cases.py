"""What the tests of the three heatmap ops share: codecs, keypoints, and maps as a network would make them."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fastpose.codecs import CODECS as CODEC_CLASSES
from fastpose.codecs import Codec, build_codec, change_codec

HEATMAP = (64, 48)
INPUT = (256, 192)
CODECS = {
    "gaussian": build_codec("gaussian", heatmap_size=HEATMAP),
    "dark": build_codec("dark", heatmap_size=HEATMAP),
    "dark_17": build_codec("dark", heatmap_size=HEATMAP, sigma=3.0, blur_kernel=17),
    "udp": build_codec("udp", heatmap_size=HEATMAP),
    "udp_combined": build_codec("udp_combined", heatmap_size=HEATMAP),
    "megvii": build_codec("megvii", heatmap_size=HEATMAP),
    "megvii_5": build_codec("megvii", heatmap_size=HEATMAP, kernel_size=5),
}
KINDS = {name: codec for name, codec in CODECS.items() if name == codec.kind}


def resized(codec: Codec, size: tuple[int, int]) -> Codec:
    return change_codec(codec, heatmap_size=size)


def suitable(kind: str, **parameters: Any) -> Codec:
    """The codec with those of the parameters that its kind has."""
    names = {field.name for field in dataclasses.fields(CODEC_CLASSES[kind])}  # type: ignore[arg-type]
    return build_codec(kind, **{name: value for name, value in parameters.items() if name in names})


def poses(
    batch: int, keypoints: int, seed: int = 0, size: tuple[int, int] = INPUT
) -> tuple[torch.Tensor, torch.Tensor]:
    """Keypoints of which some lie on the border or outside, and visibilities."""
    rng = np.random.default_rng(seed)
    points = rng.uniform(-0.15, 1.15, (batch, keypoints, 2)) * [size[1], size[0]]
    visible = rng.choice([0.0, 1.0, 2.0], (batch, keypoints), p=[0.2, 0.4, 0.4])
    return torch.from_numpy(points.astype(np.float32)), torch.from_numpy(visible.astype(np.float32))


def network_maps(codec: Codec, batch: int, keypoints: int, seed: int = 0) -> torch.Tensor:
    """Blobs of random place, height and width over a little noise: what a trained network gives."""
    rng = np.random.default_rng(seed)
    height, width = codec.heatmap_size
    y, x = np.mgrid[0:height, 0:width]
    shape = (batch, keypoints, 1, 1)
    cx, cy = rng.uniform(-1, width, shape), rng.uniform(-1, height, shape)
    spread = rng.uniform(1.5, 2.5, shape)
    maps = rng.uniform(0.1, 1, shape) * np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / (2 * spread**2))
    maps = maps + rng.normal(0, 0.002, maps.shape) + 0.004
    if codec.kind == "megvii":
        maps = maps * 255
    if codec.kind == "udp_combined":
        offsets = rng.uniform(-1, 1, (batch, keypoints, 2, height, width))
        maps = np.concatenate([maps[:, :, None], offsets], 2).reshape(batch, 3 * keypoints, height, width)
    return torch.from_numpy(maps.astype(np.float32))


def figures(data: Path) -> dict[str, Any]:
    """Figures that MMPose 1.3.2 gave for keypoints and maps made by formula."""
    return json.loads((data / "heatmap_figures.json").read_text())


def formula_maps(kind: str) -> np.ndarray:
    """The maps behind ``decoded`` in the figures."""
    y, x = np.mgrid[0:64, 0:48].astype(np.float64)
    maps = np.stack(
        [
            0.8 * np.exp(-((x - a) ** 2 + (y - b) ** 2) / (2 * s * s))
            + 0.3 * np.exp(-((x - a - 5) ** 2 + (y - b + 4) ** 2) / 18)
            + 0.01 * np.sin(0.7 * x + 0.3 * y * y + i)
            for i, (a, b, s) in enumerate([(20.3, 31.7, 2.1), (1.4, 0.6, 2.5), (46.8, 62.2, 1.8), (24.0, 24.0, 3.0)])
        ]
    )
    if kind == "megvii":
        maps = maps * 255
    if kind == "udp_combined":
        everything = np.zeros((12, 64, 48))
        everything[::3] = maps
        everything[1::3] = np.cos(0.1 * x + 0.2 * y) * 0.5
        everything[2::3] = np.sin(0.2 * x - 0.1 * y) * 0.5
        maps = everything
    return maps[None].astype(np.float32)


def reference_codecs(shared: Path) -> list[tuple[str, Codec, tuple[int, int], dict[str, np.ndarray]]]:
    """Name, codec, input size and arrays of every codec in the folder of reference figures."""
    folder = shared / "reference"
    arrays = np.load(folder / "codecs.npz")
    cases = []
    for name, values in json.loads((folder / "codecs.json").read_text()).items():
        width, height = values.get("heatmap_size", (0, 0))
        kind = {"MSRAHeatmap": "gaussian", "UDPHeatmap": "udp", "MegviiHeatmap": "megvii"}.get(
            values["type"], "regression"
        )
        if values.get("unbiased"):
            kind = "dark"
        if values.get("heatmap_type") == "combined":
            kind = "udp_combined"
        codec = suitable(
            kind,
            heatmap_size=(height, width),
            sigma=values.get("sigma", 2.0),
            kernel_size=values.get("kernel_size", 11),
            blur_kernel=values.get("blur_kernel_size", 11),
        )
        each = {key.split("/")[1]: arrays[key] for key in arrays.files if key.split("/")[0] == name}
        cases.append((name, codec, tuple(values["input_size"][::-1]), each))
    return cases


def at_simd_levels(code: str) -> dict[str, str]:
    """What ``code`` prints at each SIMD level of this machine, each in a process of its own."""
    from fastpose import _C

    here = Path(__file__).resolve().parent
    printed = {}
    for level in _C.build_info()["simd_supported"]:
        path = os.pathsep.join([str(here), *sys.path])
        environment = {**os.environ, "FASTPOSE_SIMD": level, "OMP_NUM_THREADS": "1", "PYTHONPATH": path}
        done = subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        printed[level] = done.stdout
    return printed
