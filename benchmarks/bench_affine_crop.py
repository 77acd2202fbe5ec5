"""Crops of people, normalised, ready for a network: 64 people of 8 photos of 640×480."""

from __future__ import annotations

from functools import partial
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F

from fastpose.geometry import crop_matrices
from fastpose.ops import affine_crop

from . import peers
from .data import MEAN, STD, Crops, crops
from .harness import Case, Goal, Thunk, at_level, bench

_MEAN, _STD = np.array(MEAN), np.array(STD)
OPTIONS: dict[str, Any] = {"mean": MEAN, "std": STD, "swap_rb": True}


def fastpose(data: Crops) -> Thunk:
    return lambda: affine_crop(data.photos, data.matrices, data.index, size=data.size, out=data.out, **OPTIONS)


def fastpose_fresh(data: Crops) -> Thunk:
    return lambda: affine_crop(data.photos, data.matrices, data.index, size=data.size, **OPTIONS)


def fastpose_from_boxes(data: Crops) -> Thunk:
    """With the matrices made in the call, as MMPose's path makes them."""

    def run() -> Any:
        matrices = crop_matrices(data.center, data.scale, data.size)
        return affine_crop(data.photos, matrices, data.index, size=data.size, out=data.out, **OPTIONS)

    return run


def _warp(source: np.ndarray[Any, Any], matrix: Any, crop: np.ndarray[Any, Any]) -> Any:
    return cv2.warpAffine(source, matrix, crop.shape[1::-1], dst=crop, flags=cv2.INTER_LINEAR)


def _scale_planes(planes: Any, out: np.ndarray[Any, Any]) -> None:
    """uint8 blue, green, red to normalised red, green, blue: one pass a plane, straight into the output."""
    for c in range(3):
        plane = planes[2 - c]
        cv2.addWeighted(plane, 1 / STD[c], plane, 0.0, -MEAN[c] / STD[c], out[c], cv2.CV_32F)


def opencv_scale(data: Crops) -> Thunk:
    """warpAffine, split, scale and shift."""
    crop = np.empty((*data.size, 3), np.uint8)
    planes = [np.empty(data.size, np.uint8) for _ in range(3)]

    def run() -> Any:
        for m, photo in enumerate(data.index):
            cv2.split(_warp(data.photos[photo], data.matrices[m], crop), planes)
            _scale_planes(planes, data.out[m])
        return data.out

    return run


def opencv_lut(data: Crops) -> Thunk:
    """warpAffine, split, one table per channel."""
    crop = np.empty((*data.size, 3), np.uint8)
    planes = [np.empty(data.size, np.uint8) for _ in range(3)]
    tables = [((np.arange(256) - MEAN[c]) / STD[c]).astype(np.float32) for c in range(3)]

    def run() -> Any:
        for m, photo in enumerate(data.index):
            cv2.split(_warp(data.photos[photo], data.matrices[m], crop), planes)
            for c in range(3):
                cv2.LUT(planes[2 - c], tables[c], data.out[m, c])
        return data.out

    return run


def opencv_four(data: Crops) -> Thunk:
    """The same with a fourth channel added to each photo first: OpenCV warps four channels much faster than three."""
    crop = np.empty((*data.size, 4), np.uint8)
    wide = [np.empty((*photo.shape[:2], 4), np.uint8) for photo in data.photos]
    planes = [np.empty(data.size, np.uint8) for _ in range(4)]

    def run() -> Any:
        for photo, four in zip(data.photos, wide, strict=True):
            cv2.cvtColor(photo, cv2.COLOR_BGR2BGRA, dst=four)
        for m, photo in enumerate(data.index):
            cv2.split(_warp(wide[photo], data.matrices[m], crop), planes)
            _scale_planes(planes, data.out[m])
        return data.out

    return run


def opencv_blob(data: Crops) -> Thunk:
    """warpAffine, then the network module's own conversion to a blob."""
    crops_u8 = [np.empty((*data.size, 3), np.uint8) for _ in data.index]
    how = cv2.dnn.Image2BlobParams()
    how.scalefactor, how.mean = (*(1 / _STD), 1.0), (*MEAN, 0.0)
    how.swapRB, how.ddepth = True, cv2.CV_32F

    def run() -> Any:
        for m, photo in enumerate(data.index):
            _warp(data.photos[photo], data.matrices[m], crops_u8[m])
        return cv2.dnn.blobFromImagesWithParams(crops_u8, how)

    return run


def mmpose(data: Crops) -> Thunk:
    """TopdownAffine and image_to_tensor a person, then PoseDataPreprocessor."""
    transforms = peers.mmpose("mmpose.datasets.transforms")
    image_to_tensor = peers.mmpose("mmpose.datasets.transforms.formatting").image_to_tensor
    structures = peers.mmpose("mmpose.structures")
    preprocessors = peers.mmpose("mmpose.models.data_preprocessors")
    affine = transforms.TopdownAffine(input_size=data.size[::-1])
    normalise = preprocessors.PoseDataPreprocessor(mean=MEAN, std=STD, bgr_to_rgb=True)
    samples = [structures.PoseDataSample() for _ in data.index]

    def run() -> Any:
        inputs = []
        for m, photo in enumerate(data.index):
            person = {"img": data.photos[photo], "bbox_center": data.center[m, None], "bbox_scale": data.scale[m, None]}
            inputs.append(image_to_tensor(affine.transform(person)["img"]))
        return normalise({"inputs": inputs, "data_samples": samples})["inputs"]

    return run


def numpy(data: Crops) -> Thunk:
    """Gather and interpolate, vectorised over the pixels of a crop."""
    inverse = [cv2.invertAffineTransform(matrix) for matrix in data.matrices]
    h, w = data.size
    y, x = np.mgrid[:h, :w].astype(np.float32)

    def run() -> Any:
        padded = [np.pad(photo, ((1, 2), (1, 2), (0, 0))) for photo in data.photos]
        for m, photo in enumerate(data.index):
            (a, b, c), (d, e, f) = inverse[m].astype(np.float32)
            image = padded[photo]
            u = np.clip(a * x + b * y + c, -1, image.shape[1] - 3)
            v = np.clip(d * x + e * y + f, -1, image.shape[0] - 3)
            left, top = np.floor(u).astype(np.intp), np.floor(v).astype(np.intp)
            fx, fy = (u - left)[..., None], (v - top)[..., None]
            flat, at = image.reshape(-1, 3), (top + 1) * image.shape[1] + left + 1
            upper = flat[at] * (1 - fx) + flat[at + 1] * fx
            lower = flat[at + image.shape[1]] * (1 - fx) + flat[at + image.shape[1] + 1] * fx
            crop = upper + fy * (lower - upper)
            data.out[m] = ((crop[..., ::-1] - _MEAN) / _STD).transpose(2, 0, 1)
        return data.out

    return run


def _by_photo(data: Crops) -> list[torch.Tensor]:
    return [torch.from_numpy(np.flatnonzero(data.index == i)) for i in range(len(data.photos))]


def torch_grid_sample(data: Crops) -> Thunk:
    """grid_sample in float32, all crops of a photo in one call, then scale and shift."""
    inverse = torch.from_numpy(np.stack([cv2.invertAffineTransform(m) for m in data.matrices])).float()
    h, w = data.size
    y, x = torch.meshgrid(torch.arange(h).float(), torch.arange(w).float(), indexing="ij")
    pixels = torch.stack([x, y, torch.ones_like(x)], -1)
    members, out = _by_photo(data), torch.from_numpy(data.out)
    mean, std = torch.tensor(MEAN)[:, None, None], torch.tensor(STD)[:, None, None]

    def run() -> Any:
        for photo, who in zip(data.photos, members, strict=True):
            image = torch.from_numpy(photo)[..., [2, 1, 0]].permute(2, 0, 1)[None].float()
            extent = torch.tensor([photo.shape[1] - 1, photo.shape[0] - 1])
            where = pixels @ inverse[who].transpose(1, 2)[:, None] * (2 / extent) - 1
            crop = F.grid_sample(image, where.flatten(0, 1)[None], align_corners=True)
            out[who] = (crop[0].unflatten(1, (-1, h)).transpose(0, 1) - mean) / std
        return out

    return run


def kornia(data: Crops) -> Thunk:
    """warp_affine, all crops of a photo in one call, then normalize."""
    geometry, enhance = peers.module("kornia.geometry.transform"), peers.module("kornia.enhance")
    matrices, members = torch.from_numpy(data.matrices).float(), _by_photo(data)
    out, mean, std = torch.from_numpy(data.out), torch.tensor(MEAN), torch.tensor(STD)

    def run() -> Any:
        for photo, who in zip(data.photos, members, strict=True):
            image = torch.from_numpy(photo)[..., [2, 1, 0]].permute(2, 0, 1)[None].float()
            many = image.expand(len(who), -1, -1, -1)
            crop = geometry.warp_affine(many, matrices[who], data.size, align_corners=True)
            out[who] = enhance.normalize(crop, mean, std)
        return out

    return run


def check(ours: Any, theirs: Any) -> None:
    """OpenCV rounds positions to 1/32 px in some versions, and always to whole grey levels."""
    grey = np.abs(np.asarray(ours) - np.asarray(theirs)) * _STD[:, None, None]
    near, mean = float((grey <= 1.5).mean()), float(grey.mean())
    assert near >= 0.995, f"{near:.4f} of the values lie within 1.5 grey levels"
    assert mean <= 0.5, f"{mean:.3f} grey levels of mean difference"


CONTENDERS = {
    "fastpose": fastpose,
    "fastpose (fresh output)": fastpose_fresh,
    "fastpose (from boxes)": fastpose_from_boxes,
    "fastpose (avx2)": at_level("avx2", fastpose),
    "fastpose (sse2)": at_level("sse2", fastpose),
    "opencv (scale)": opencv_scale,
    "opencv (LUT)": opencv_lut,
    "opencv (4 channels)": opencv_four,
    "opencv (blob)": opencv_blob,
    "mmpose": mmpose,
    "numpy": numpy,
    "torch (grid_sample)": torch_grid_sample,
    "kornia": kornia,
}

CASES = [
    Case(
        f"affine_crop 64×{h}×{w}",
        partial(crops, (h, w)),
        # NumPy's way takes a second for the larger crops.
        {name: make for name, make in CONTENDERS.items() if (h, w) == (256, 192) or name != "numpy"},
        check,
        Crops.moved,
        (Goal("opencv", 7), Goal("mmpose", 11), Goal("opencv", 1, of="fastpose (sse2)")),
        one_thread=frozenset({"fastpose (avx2)", "fastpose (sse2)", "numpy"}),
    )
    for h, w in ((256, 192), (384, 288))
]

test_affine_crop = bench(CASES)
