"""From photos in host memory to keypoints in host memory, and a training step, on a GPU beside other ways."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

from fastpose.geometry import invert_matrices
from fastpose.models import PoseModel, create_model
from fastpose.models.fuse import fuse_batchnorm
from fastpose.models.losses import heatmap_mse
from fastpose.ops import affine_crop, heatmap_decode, heatmap_encode, heatmap_loss
from fastpose.predict import Predictor

from ..data import Crops
from . import peers
from .inputs import KEYPOINTS, PEOPLE_A_PHOTO, crowd, map_set
from .timing import Clock, quartiles

NETWORKS = ("hrnet_w32", "resnet50")
FULL = 64  # people in a batch of the predictor's by default
FASTPOSE = "fastpose"
ALONE = "the network alone, in a CUDA graph"
BY_HAND = "crops, network and decoding in one CUDA graph, by hand"
STAND_IN = "stand-in for mmpose (cv2 crops, network eager, NumPy decode)"


def rounds_of(call: Callable[[], Any], clock: Clock, seconds: float = 0.5) -> list[float]:
    """Wall-clock seconds of each call, which ends with its result in host memory or with a wait of its own."""
    for _ in range(2):  # a predictor captures what it sees for the second time
        call()
    clock.wait()
    found: list[float] = []
    start = time.perf_counter()
    while len(found) < 3 or (len(found) < 50 and time.perf_counter() - start < seconds and clock.on_gpu):
        before = time.perf_counter()
        call()
        clock.wait()
        found.append(time.perf_counter() - before)
    return found


def pipeline(clock: Clock, *, dry: bool, only: str) -> Iterator[dict[str, Any]]:
    """End to end for 1, 8, 64 and 512 people; yields what the JSON file says about each."""
    dtype = torch.bfloat16
    for name in ("resnet18",) if dry else NETWORKS:
        size = (64, 64) if dry else (256, 192)
        model = create_model(name, input_size=size).eval()
        network = fuse_batchnorm(model).to(device=clock.device, dtype=dtype)
        network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        for people in (2, 8) if dry else (1, 8, 64, 512):
            case = f"{name} {size[0]}×{size[1]} bfloat16, {people} people of {-(-people // PEOPLE_A_PHOTO)} photos"
            if only in case:
                yield _end_to_end(case, model, network, crowd(people, size), clock, 4 if dry else FULL)


@torch.no_grad()
def _end_to_end(case: str, model: PoseModel, network: Any, host: Crops, clock: Clock, full: int) -> dict[str, Any]:
    people = len(host.index)
    predictor = Predictor(model, device=clock.device, dtype="bfloat16")
    boxes = [host.boxes[host.index == i] for i in range(len(host.photos))]
    pinned = [_pinned(photo, clock) for photo in host.photos]
    # Captured at the first call, so that one that fails leaves the others their figures.
    by_hand = cache(lambda: Graphed(network, host, clock))
    alone = cache(lambda count, times: _alone(network, count, host.size, clock, times))
    ways: dict[str, Callable[[], Any]] = {
        FASTPOSE: lambda: predictor(host.photos, boxes, flip_test=False, batch_size=full),
        "fastpose, photos in pinned memory": lambda: predictor(pinned, boxes, flip_test=False, batch_size=full),
        BY_HAND: lambda: by_hand()(),
        ALONE: lambda: alone(people, 1)(),
    }
    if people > full:
        ways |= {
            "fastpose, one batch": lambda: predictor(host.photos, boxes, flip_test=False, batch_size=people),
            f"{ALONE} for {full} at a time": lambda: alone(full, people // full)(),
        }
    else:  # for more it takes as many times as long
        ways[STAND_IN] = lambda: stand_in(network, host, clock.device)
    report, failed = {}, {}
    for name, call in ways.items():
        try:
            seconds = rounds_of(call, clock)
        except Exception as error:
            failed[name] = f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error) else ''}"
            continue
        report[name] = {
            "us": quartiles(seconds),
            "people_per_second": round(people / sorted(seconds)[len(seconds) // 2], 1),
            "rounds": len(seconds),
        }
    for entry in report.values() if ALONE in report else ():
        entry["of_network"] = round(entry["people_per_second"] / report[ALONE]["people_per_second"], 4)
    if STAND_IN in report:
        # The same keypoints, where the stand-in's rounded crops do not move a peak.
        theirs = stand_in(network, host, clock.device)[0]
        ours: dict[str, Callable[[], Any]] = {
            FASTPOSE: lambda: np.concatenate([p.keypoints for p in predictor(host.photos, boxes, flip_test=False)]),
            BY_HAND: lambda: by_hand()()[0],
        }
        for name in ours.keys() & report:
            near = (np.abs(ours[name]() - theirs).max(-1) < 8).mean()
            report[name]["near_the_stand_in"] = round(float(near), 4)
    return {"case": case, "people": people, "contenders": report} | ({"failed": failed} if failed else {})


def _alone(network: Any, people: int, size: tuple[int, int], clock: Clock, times: int = 1) -> Callable[[], None]:
    """The network on crops that lie there already, so many times."""
    crops = torch.zeros((people, 3, *size), dtype=torch.bfloat16, device=clock.device)
    crops = crops.contiguous(memory_format=torch.channels_last)
    replay = clock.capture(lambda: network(crops))

    def run() -> None:
        for _ in range(times):
            replay()

    return run


def _pinned(values: Any, clock: Clock) -> Tensor:
    """A tensor in memory from which a GPU copies without help of the CPU."""
    tensor = torch.from_numpy(np.ascontiguousarray(values))
    return tensor.pin_memory() if clock.on_gpu else tensor


class Graphed:
    """Crops, network and decoding as one CUDA graph between pinned buffers; a call is one batch, from host to host.

    What the device needs for the whole way, without Python in between; photos, boxes and their number are fixed.
    """

    def __init__(self, network: Any, host: Crops, clock: Clock) -> None:
        """Captures the graph.

        Args:
            network: A PoseModel without BatchNorm, on the device, bfloat16, channels last.
            host: Photos and people.
            clock: Says where.
        """
        spec = network.spec
        arrays = (np.stack(host.photos), host.matrices, invert_matrices(host.matrices), host.index)
        self._given = [_pinned(array, clock) for array in arrays]
        self._there = [torch.empty_like(each, device=clock.device) for each in self._given]
        self._clock = clock
        for given, there in zip(self._given, self._there, strict=True):
            there.copy_(given)
        photos, matrices, inverse, index = self._there
        self._points = torch.empty((len(host.index), spec.num_keypoints, 2), device=clock.device)
        self._scores = torch.empty((len(host.index), spec.num_keypoints), device=clock.device)

        def work() -> None:
            crops = affine_crop(
                photos,
                matrices,
                index,
                size=spec.input_size,
                mean=spec.mean,
                std=spec.std,
                swap_rb=spec.channel_order == "rgb",
                dtype=torch.bfloat16,
                layout="nhwc",
            )
            maps = network(crops.permute(0, 3, 1, 2)).last
            heatmap_decode(
                maps.contiguous(),
                spec.codec,
                spec.input_size,
                inverse=inverse,
                out=self._points,
                out_scores=self._scores,
            )

        self._replay = clock.capture(work)
        self._results = [
            _pinned(np.empty(tuple(there.shape), np.float32), clock) for there in (self._points, self._scores)
        ]

    def __call__(self) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        """Keypoints [M,K,2] in photo pixels and scores [M,K]."""
        for given, there in zip(self._given, self._there, strict=True):
            there.copy_(given, non_blocking=True)
        self._replay()
        for result, there in zip(self._results, (self._points, self._scores), strict=True):
            result.copy_(there, non_blocking=True)
        self._clock.wait()
        return self._results[0].numpy(), self._results[1].numpy()


def stand_in(network: Any, host: Crops, device: torch.device) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """What MMPose's top-down inference does, written plainly.

    cv2 crops one by one, uint8 to the device, normalised there, the network in eager mode, maps to the CPU, NumPy
    decoding person by person, keypoints back into the photo.
    """
    crops = [
        cv2.warpAffine(host.photos[i], matrix, host.size[::-1], flags=cv2.INTER_LINEAR)
        for i, matrix in zip(host.index, host.matrices, strict=True)
    ]
    batch = torch.from_numpy(np.stack(crops)).to(device)
    mean, std = peers.colours(device)
    batch = ((batch.flip(-1).float() - mean) / std).bfloat16().permute(0, 3, 1, 2)
    maps = network(batch).last
    points, scores = peers.decode_on_cpu(maps)
    inverse = invert_matrices(host.matrices)
    return points @ inverse[:, :, :2].transpose(0, 2, 1) + inverse[:, None, :, 2], scores


def training(clock: Clock, *, dry: bool, only: str) -> Iterator[dict[str, Any]]:
    """A step (forward, loss, backward, Adam) with the fused loss, and with target maps and a mean squared error."""
    for name, batch in (("resnet18", 2),) if dry else (("resnet50", 64), ("resnet50", 256), ("hrnet_w32", 64)):
        size = (64, 64) if dry else (256, 192)
        case = f"training {name} {size[0]}×{size[1]} bfloat16 autocast, batch {batch}"
        if only in case:
            yield _training_step(case, name, batch, size, clock)


@dataclass
class Step:
    """One optimiser step.

    Attributes:
        model, optimizer: What is trained.
        images: [B,3,h,w] float32, channels last.
        loss: From the maps to a scalar.
    """

    model: Any
    optimizer: torch.optim.Optimizer
    images: Tensor
    loss: Callable[[Tensor], Tensor]

    def __call__(self) -> None:
        """Forward, loss, backward, step."""
        with torch.autocast(self.images.device.type, dtype=torch.bfloat16):
            maps = self.model(self.images).last
        self.loss(maps).backward()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)


def _training_step(case: str, name: str, batch: int, size: tuple[int, int], clock: Clock) -> dict[str, Any]:
    model: Any = create_model(name, input_size=size).to(clock.device)
    model = model.to(memory_format=torch.channels_last)
    images = torch.randn(batch, 3, *size, device=clock.device).contiguous(memory_format=torch.channels_last)
    codec, (h, w) = model.spec.codec, model.spec.codec.heatmap_size
    data = map_set(batch, (h, w), clock.device, torch.float32)
    on_host = [data.keypoints.cpu().numpy(), np.ones((batch, KEYPOINTS), np.float32)]

    def encoded(maps: Tensor) -> Tensor:
        return heatmap_mse(maps, *heatmap_encode(data.keypoints, data.weights, codec, size))

    def encoded_on_cpu(maps: Tensor) -> Tensor:
        target, weights = heatmap_encode(*on_host, codec, size)
        return heatmap_mse(maps, *(torch.from_numpy(each).to(maps.device) for each in (target, weights)))

    losses: dict[str, Callable[[Tensor], Tensor]] = {
        "fastpose.heatmap_loss": lambda maps: heatmap_loss(maps, data.keypoints, data.weights, codec, size),
        "heatmap_encode on the device, then MSE in torch": encoded,
        "heatmap_encode on the CPU, moved, then MSE in torch": encoded_on_cpu,
        "no loss (the sum of the maps)": lambda maps: maps.float().sum(),
    }
    optimizer = torch.optim.Adam(model.parameters(), 1e-6, fused=clock.on_gpu)
    calls = {loss: (Step(model, optimizer, images, function), 1) for loss, function in losses.items()}
    for step, _ in calls.values():
        step()  # cuDNN chooses, memory is taken
    found = clock.measure(calls)
    report = {
        loss: {"us": quartiles(seconds), "people_per_second": round(batch / sorted(seconds)[len(seconds) // 2], 1)}
        for loss, seconds in found.items()
    }
    return {"case": case, "people": batch, "contenders": report}
