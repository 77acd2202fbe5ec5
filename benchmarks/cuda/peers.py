"""What people write instead of the ops: torch (eager and compiled), kornia, NumPy and cv2 on the CPU with transfers.

The *stand-ins* do what MMPose's pipeline does at the same place, one person after the other on the CPU, and are named
so: MMPose itself is seldom installed where a GPU is lent for minutes.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from functools import cache
from itertools import pairwise
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ..data import MEAN, STD
from ..peers import numpy_quarter
from .inputs import MapSet, PhotoSet, normalised
from .timing import AbsentError


@cache
def colours(device: torch.device) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation, there once."""
    return torch.tensor(MEAN, device=device), torch.tensor(STD, device=device)


def compiled(function: Callable[..., Any], device: torch.device) -> Callable[..., Any]:
    """The function compiled for the shapes it will see; on the CPU (dry run) only traced."""
    return torch.compile(function, dynamic=False, backend="inductor" if device.type == "cuda" else "aot_eager")


# --- affine_crop ----------------------------------------------------------------------------------------------------
def grid_sample_crop(data: PhotoSet) -> Tensor:
    """Photo by photo: to float, `affine_grid` by hand, `grid_sample`, normalise, as many steps as torch needs."""
    h, w = data.host.size
    mean, std = colours(data.photos.device)
    y, x = torch.meshgrid(
        torch.arange(h, device=data.photos.device, dtype=torch.float32),
        torch.arange(w, device=data.photos.device, dtype=torch.float32),
        indexing="ij",
    )
    pixels = torch.stack([x, y, torch.ones_like(x)], -1)
    height, width = data.photos.shape[1:3]
    side = torch.tensor([width - 1, height - 1], device=data.photos.device)
    crops = []
    for i, members in enumerate(_members(data)):
        photo = data.photos[i].flip(-1).permute(2, 0, 1)[None].float()
        where = pixels @ data.inverse[members][:, None].mT
        grid = where / side * 2 - 1
        crops.append(F.grid_sample(photo.expand(len(where), -1, -1, -1), grid, align_corners=True))
    return (torch.cat(crops) - mean[:, None, None]) / std[:, None, None]


def _members(data: PhotoSet) -> list[slice]:
    """The crops of each photo; they lie one behind the other."""
    ends = np.searchsorted(data.host.index, np.arange(len(data.host.photos) + 1))
    return [slice(int(a), int(b)) for a, b in pairwise(ends)]


def gathered(photos: Tensor, inverse: Tensor, index: Tensor, mean: Tensor, std: Tensor, h: int, w: int) -> Tensor:
    """All crops of a batch of equal photos at once by indexing: what a compiler can make one kernel of."""
    y, x = (torch.arange(n, device=photos.device, dtype=torch.float32) for n in (h, w))
    px = inverse[:, 0, 0, None, None] * x + inverse[:, 0, 1, None, None] * y[:, None] + inverse[:, 0, 2, None, None]
    py = inverse[:, 1, 0, None, None] * x + inverse[:, 1, 1, None, None] * y[:, None] + inverse[:, 1, 2, None, None]
    left, top = px.floor(), py.floor()
    fx, fy = (px - left)[..., None], (py - top)[..., None]
    height, width = photos.shape[1:3]
    number = index[:, None, None]
    taps = []
    for dy in (0, 1):
        for dx in (0, 1):
            column, row = left + dx, top + dy
            inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
            pixel = photos[number, row.clamp(0, height - 1).long(), column.clamp(0, width - 1).long()].float()
            taps.append(torch.where(inside[..., None], pixel, 0.0))
    upper = taps[0] + fx * (taps[1] - taps[0])
    lower = taps[2] + fx * (taps[3] - taps[2])
    value = (upper + fy * (lower - upper)).flip(-1)
    return ((value - mean) / std).permute(0, 3, 1, 2).contiguous()


def gather_crop(compile_it: bool, device: torch.device) -> Callable[[PhotoSet], Tensor]:
    """`gathered`, as it is or compiled."""
    function = compiled(gathered, device) if compile_it else gathered

    def run(data: PhotoSet) -> Tensor:
        return function(data.photos, data.inverse, data.index, *colours(data.photos.device), *data.host.size)

    return run


def kornia_crop(data: PhotoSet) -> Tensor:
    """`warp_affine` and `normalize`, photo by photo."""
    try:
        geometry = importlib.import_module("kornia.geometry.transform")
        enhance = importlib.import_module("kornia.enhance")
    except ImportError as error:
        raise AbsentError(f"kornia cannot be imported ({error})") from None
    crops = []
    for i, members in enumerate(_members(data)):
        photo = data.photos[i].flip(-1).permute(2, 0, 1)[None].float()
        matrices = data.matrices[members].float()
        many = photo.expand(len(matrices), -1, -1, -1)
        crops.append(geometry.warp_affine(many, matrices, data.host.size, align_corners=True))
    return enhance.normalize(torch.cat(crops), *colours(data.photos.device))


def cpu_crop(data: PhotoSet) -> Tensor:
    """Stand-in for MMPose's pipeline: cv2 on one CPU thread, uint8 stacked and moved, normalised on the device."""
    host, size = data.host, data.host.size
    crops = [
        cv2.warpAffine(host.photos[i], matrix, size[::-1], flags=cv2.INTER_LINEAR)
        for i, matrix in zip(host.index, host.matrices, strict=True)
    ]
    batch = torch.from_numpy(np.stack(crops)).to(data.photos.device)
    mean, std = colours(data.photos.device)
    return ((batch.flip(-1).float() - mean) / std).permute(0, 3, 1, 2).contiguous()


def normalised_crop(data: PhotoSet) -> Tensor:
    """The same with the normalisation on the CPU too, float32 moved."""
    host, size = data.host, data.host.size
    crops = [
        normalised(cv2.warpAffine(host.photos[i], matrix, size[::-1], flags=cv2.INTER_LINEAR))
        for i, matrix in zip(host.index, host.matrices, strict=True)
    ]
    return torch.from_numpy(np.stack(crops)).to(data.photos.device)


# --- heatmap_decode -------------------------------------------------------------------------------------------------
def quarter(maps: Tensor) -> tuple[Tensor, Tensor]:
    """arg-max and a quarter of a pixel towards the higher neighbour, over all maps at once, in torch."""
    maps = maps.float()
    b, k, h, w = maps.shape
    flat = maps.reshape(b, k, h * w)
    scores, index = flat.max(-1)
    x, y = index % w, index // w
    padded = F.pad(maps, (1, 1, 1, 1)).reshape(b, k, -1)
    at = (y + 1) * (w + 2) + x + 1

    def value(shift: int) -> Tensor:
        return padded.gather(-1, (at + shift)[..., None])[..., 0]

    step_x = torch.sign(value(1) - value(-1)) * ((x > 0) & (x < w - 1))
    step_y = torch.sign(value(w + 2) - value(-w - 2)) * ((y > 0) & (y < h - 1))
    points = torch.stack([x + 0.25 * step_x, y + 0.25 * step_y], -1)
    return torch.where(scores[..., None] > 0, points, -1.0) * 4, scores


def numpy_decode(data: MapSet) -> tuple[Tensor, Tensor]:
    """Stand-in for MMPose's codec: maps to the CPU, then NumPy person by person."""
    points, scores = decode_on_cpu(data.maps)
    return torch.from_numpy(points), torch.from_numpy(scores)


def decode_on_cpu(maps: Tensor) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Keypoints [B,K,2] in pixels of an input four times as large, and scores [B,K], made on the CPU."""
    found = [numpy_quarter(each) for each in maps.float().cpu().numpy()]
    return np.stack([points * 4 for points, _ in found]), np.stack([scores for _, scores in found])


# --- heatmap_encode, heatmap_loss -----------------------------------------------------------------------------------
def drawn(keypoints: Tensor, h: int, w: int) -> Tensor:
    """Gaussians of two pixels around the nearest pixel, cut at three sigma, as plain torch for all maps at once."""
    centre = (keypoints / 4 + 0.5).floor()
    y, x = (torch.arange(n, device=keypoints.device, dtype=torch.float32) for n in (h, w))
    dx, dy = x - centre[..., :1], y - centre[..., 1:]
    along_x = torch.where(dx.abs() <= 6, torch.exp(-dx.square() / 8), 0.0)
    along_y = torch.where(dy.abs() <= 6, torch.exp(-dy.square() / 8), 0.0)
    return along_y[..., :, None] * along_x[..., None, :]


def weighted_mse(predicted: Tensor, target: Tensor, weights: Tensor) -> Tensor:
    """KeypointMSELoss with target weights."""
    return ((predicted.float() - target).square() * weights[..., None, None]).mean()


def drawn_mse(predicted: Tensor, keypoints: Tensor, weights: Tensor) -> Tensor:
    """Targets drawn, then compared: what a compiler can fuse."""
    return weighted_mse(predicted, drawn(keypoints, *predicted.shape[-2:]), weights)
