"""Inputs of the benchmarks on a GPU: photos, people and heatmaps, made on the CPU and moved there."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch

from fastpose.geometry import box_to_center_scale, crop_matrices, invert_matrices
from fastpose.skeletons import COCO17

from ..data import MEAN, STD, Array, Crops

PHOTO = (480, 640)
PEOPLE_A_PHOTO = 8
KEYPOINTS = COCO17.num_keypoints


def crowd(people: int, size: tuple[int, int] = (256, 192)) -> Crops:
    """`people` people, eight to a photo, with what is known of them on the CPU."""
    rng = np.random.default_rng(0)
    count = max(1, -(-people // PEOPLE_A_PHOTO))
    photos = [cv2.resize(rng.integers(0, 256, (24, 32, 3), dtype=np.uint8), PHOTO[::-1]) for _ in range(count)]
    index = np.arange(people) // PEOPLE_A_PHOTO
    height = rng.uniform(120, 380, people)
    half = np.stack([height * rng.uniform(0.35, 0.7, people), height], -1) / 2
    middle = rng.uniform((80, 140), (560, 340), (people, 2))
    boxes = np.concatenate([middle - half, middle + half], -1).astype(np.float32)
    center, scale = box_to_center_scale(boxes, size)
    return Crops(
        photos,
        boxes,
        index,
        center,
        scale,
        crop_matrices(center, scale, size),
        size,
        np.zeros((people, 3, *size), np.float32),
    )


@dataclass
class PhotoSet:
    """What the crops are made of, on the device.

    Attributes:
        photos: [P,480,640,3] uint8 BGR.
        matrices: [M,2,3] float64, photo to crop.
        inverse: [M,2,3] float32, crop to photo.
        index: [M] int64.
        host: The same data on the CPU.
        out: What fastpose fills.
    """

    photos: torch.Tensor
    matrices: torch.Tensor
    inverse: torch.Tensor
    index: torch.Tensor
    host: Crops
    out: torch.Tensor


def photo_set(host: Crops, device: torch.device, dtype: torch.dtype, nhwc: bool) -> PhotoSet:
    """A copy of the data of `host` on the device."""
    people = len(host.index)
    shape = (people, *host.size, 3) if nhwc else (people, 3, *host.size)
    return PhotoSet(
        torch.from_numpy(np.stack(host.photos)).to(device),
        torch.from_numpy(host.matrices).to(device),
        torch.from_numpy(invert_matrices(host.matrices)).float().to(device),
        torch.from_numpy(host.index).to(device),
        host,
        torch.empty(shape, dtype=dtype, device=device),
    )


@dataclass
class MapSet:
    """Heatmaps and what belongs to them, on the device.

    Attributes:
        maps: [B,17,h,w]: a peak and some noise.
        keypoints: [B,17,2] float32, input pixels.
        weights: [B,17] float32, all 1.
        target: [B,17,h,w] float32, what `keypoints` draw.
    """

    maps: torch.Tensor
    keypoints: torch.Tensor
    weights: torch.Tensor
    target: torch.Tensor


def map_set(people: int, heatmap: tuple[int, int], device: torch.device, dtype: torch.dtype) -> MapSet:
    """Maps made on the device, the same in every call."""
    generator = torch.Generator().manual_seed(1)
    h, w = heatmap
    points = torch.rand((people, KEYPOINTS, 2), generator=generator) * torch.tensor([w - 5.0, h - 5.0]) + 2
    height = 0.3 + 0.7 * torch.rand((people, KEYPOINTS, 1, 1), generator=generator)
    points, height = points.to(device), height.to(device)
    y, x = (torch.arange(n, device=device, dtype=torch.float32) for n in (h, w))
    along_y = torch.exp(-((y - points[..., 1:]) ** 2) / 8)
    along_x = torch.exp(-((x - points[..., :1]) ** 2) / 8)
    peaks = along_y[..., :, None] * along_x[..., None, :]
    noise = torch.randn((1, 1, h, w), generator=generator).to(device) * 0.005
    maps = (peaks * height + noise).to(dtype)
    return MapSet(maps, points * 4, torch.ones(people, KEYPOINTS, device=device), peaks)


@dataclass
class VectorSet:
    """Coordinate vectors and what belongs to them, on the device.

    Attributes:
        x, y: [B,17,Wx], [B,17,Wy]: a peak and some noise.
        keypoints: [B,17,2] float32, input pixels.
        weights: [B,17] float32, all 1.
        out: float32 vectors to fill, shaped like x and y.
    """

    x: torch.Tensor
    y: torch.Tensor
    keypoints: torch.Tensor
    weights: torch.Tensor
    out: tuple[torch.Tensor, torch.Tensor]


def vector_set(people: int, bins: tuple[int, int], device: torch.device, dtype: torch.dtype) -> VectorSet:
    """Vectors made on the device, of two bins a pixel, the same in every call."""
    generator = torch.Generator().manual_seed(1)
    points = torch.rand((people, KEYPOINTS, 2), generator=generator) * (torch.tensor(bins) / 2 - 1)
    points = points.to(device)
    vectors = []
    for axis, size in enumerate(bins):
        distance = torch.arange(size, device=device, dtype=torch.float32) - 2 * points[..., axis, None]
        noise = torch.randn((1, 1, size), generator=generator).to(device) * 0.03
        vectors.append((torch.exp(-distance.square() / 50) + noise).to(dtype))
    weights = torch.ones(people, KEYPOINTS, device=device)
    out = [torch.empty(part.shape, device=device) for part in vectors]
    return VectorSet(vectors[0], vectors[1], points, weights, (out[0], out[1]))


def normalised(crop: Array) -> Array:
    """A uint8 BGR crop [h,w,3] as a network takes it, float32 [3,h,w]; with cv2 and NumPy."""
    values = crop[..., ::-1].astype(np.float32)
    return np.ascontiguousarray(((values - np.float32(MEAN)) / np.float32(STD)).transpose(2, 0, 1))
