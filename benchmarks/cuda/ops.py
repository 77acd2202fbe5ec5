"""Every op on a GPU beside what people use instead of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fastpose.codecs import SimCC, build_codec
from fastpose.ops import (
    affine_crop,
    box_nms,
    heatmap_decode,
    heatmap_encode,
    heatmap_loss,
    oks,
    oks_nms,
    reference,
    simcc_decode,
    simcc_encode,
    simcc_loss,
)
from fastpose.skeletons import COCO17

from ..data import MEAN, STD, detections
from ..data import people as found_people
from . import peers
from .inputs import KEYPOINTS, MapSet, PhotoSet, VectorSet, crowd, map_set, photo_set, vector_set
from .timing import OP, Case

HEATMAP, INPUT = (64, 48), (256, 192)
BINS = (384, 512)
RTMPOSE: dict[str, Any] = {"beta": 10.0, "label_softmax": True}
HOST = f"{OP} (parameters on the CPU)"
SCALED = f"{OP} (the loss times 65536)"


def cases(device: torch.device, people: tuple[int, ...], crowd: int) -> list[Case]:
    """All of them, what matters most first; of `crowd` people the op alone, whose peers would take minutes."""
    found = []
    for count in (*people, crowd):
        found.append(crop_case(count, device, torch.float32, nhwc=False))
        found.append(crop_case(count, device, torch.bfloat16, nhwc=True))
        found += [decode_case(count, device, "gaussian", dtype) for dtype in (torch.float32, torch.bfloat16)]
        found.append(loss_case(count, device, torch.float32))
        found.append(loss_case(count, device, torch.bfloat16))
        found.append(encode_case(count, device, "gaussian"))
        found.append(vectors_decode_case(count, device, torch.float32))
        found += [vectors_loss_case(count, device, dtype) for dtype in (torch.float32, torch.bfloat16)]
        found.append(vectors_encode_case(count, device))
    found += [few_crops_case(count, device) for count in (32, 33)]
    for case in found:
        if f" {crowd}×" in case.name:
            case.contenders = {name: call for name, call in case.contenders.items() if name in (OP, HOST, SCALED)}
    for count in people:
        found.append(vectors_decode_case(count, device, torch.float32, mirrored=True))
        found += [vectors_decode_case(count, device, torch.float32, **{name: True}) for name in ("dark", "visibility")]
        found += [decode_case(count, device, kind, torch.float32) for kind in ("dark", "udp")]
        found.append(decode_case(count, device, "gaussian", torch.float32, mirrored=True))
        found.append(encode_case(count, device, "udp"))
        found.append(oks_case(count, device))
        found.append(nms_case(count, device))
    found.append(nms_case(crowd, device))
    found.append(boxes_case(64, device))
    return found


def close(what: str, ours: Tensor, theirs: Tensor, limit: float) -> None:
    """Raises AssertionError if they differ by more than the limit anywhere."""
    worst = float((ours.float().cpu() - theirs.float().cpu()).abs().max())
    assert worst <= limit, f"{what} differ by {worst:.2e}, more than {limit:g}"


# --- affine_crop ----------------------------------------------------------------------------------------------------
def crop_case(people: int, device: torch.device, dtype: torch.dtype, *, nhwc: bool) -> Case:
    host = crowd(people)
    options: dict[str, Any] = {"size": host.size, "mean": MEAN, "std": STD, "swap_rb": True}
    options |= {"dtype": dtype, "layout": "nhwc" if nhwc else "nchw"}

    def fastpose(data: PhotoSet) -> Tensor:
        return affine_crop(data.photos, data.matrices, data.index, out=data.out, **options)

    def from_host(data: PhotoSet) -> Tensor:
        return affine_crop(data.photos, data.host.matrices, data.host.index, out=data.out, **options)

    def converted(peer: Callable[[PhotoSet], Tensor]) -> Callable[[PhotoSet], Tensor]:
        if dtype is torch.float32 and not nhwc:
            return peer
        return lambda data: peer(data).to(dtype, memory_format=torch.channels_last).permute(0, 2, 3, 1)

    def check(ours: Tensor, theirs: Tensor) -> None:
        # Most of it within a grey level; cv2 rounds to whole ones and its positions to 1/32 px.
        difference = (ours.float() - theirs.float()).abs() * 58
        if nhwc:
            difference = difference / 2  # bfloat16 has steps of a grey level by itself
        near = float((difference <= 1.5).float().mean())
        assert near > 0.99, f"{near:.4f} of the values lie within 1.5 grey levels"

    contenders = {OP: fastpose, HOST: from_host}
    contenders["torch.compile (gather)"] = converted(peers.gather_crop(True, device))
    contenders["torch (grid_sample)"] = converted(peers.grid_sample_crop)
    contenders["torch (gather)"] = converted(peers.gather_crop(False, device))
    contenders["kornia"] = converted(peers.kornia_crop)
    contenders["stand-in for mmpose (cv2, one thread; uint8 moved)"] = converted(peers.cpu_crop)
    contenders["cv2 and NumPy, one thread; float32 moved"] = converted(peers.normalised_crop)
    made = people * 3 * host.size[0] * host.size[1] * dtype.itemsize
    name = f"affine_crop {people}×{host.size[0]}×{host.size[1]} {_name(dtype)} {'nhwc' if nhwc else 'nchw'}"
    return Case(
        name,
        host.moved() - host.out.nbytes + made,
        lambda: photo_set(host, device, dtype, nhwc),
        contenders,
        check,
        frozenset({OP, HOST, "torch.compile (gather)"}),
    )


def few_crops_case(people: int, device: torch.device) -> Case:
    """Small crops, parameters on the CPU. Those of 32 travel in 4 KB of a launch's arguments, those of 33 in 31 KB."""
    host = crowd(people, (64, 48))
    options: dict[str, Any] = {"size": host.size, "mean": MEAN, "std": STD, "swap_rb": True}

    def make() -> PhotoSet:
        return photo_set(host, device, torch.float32, nhwc=False)

    def fastpose(data: PhotoSet) -> Tensor:
        return affine_crop(data.photos, data.host.matrices, data.host.index, out=data.out, **options)

    name = f"affine_crop {people} crops of {host.size[0]}×{host.size[1]}, parameters on the CPU"
    return Case(name, None, make, {OP: fastpose}, lambda *_: None)


# --- heatmaps -------------------------------------------------------------------------------------------------------
def decode_case(people: int, device: torch.device, kind: str, dtype: torch.dtype, *, mirrored: bool = False) -> Case:
    codec = build_codec(kind, heatmap_size=HEATMAP)
    pairs = torch.tensor(COCO17.flip_index, device=device) if mirrored else None

    def fastpose(data: MapSet) -> tuple[Tensor, Tensor]:
        flipped = data.target if mirrored else None
        return heatmap_decode(data.maps, codec, INPUT, flipped=flipped, flip_index=pairs, flip_shift=mirrored)

    def plain(data: MapSet) -> tuple[Tensor, Tensor]:
        flipped = data.target if mirrored else None
        options = {"flipped": flipped, "flip_index": pairs, "flip_shift": mirrored}
        return reference.heatmap_decode(data.maps, codec, INPUT, **options)

    def check(ours: Any, theirs: Any) -> None:
        # bfloat16 maps have equal neighbours, of which others take another.
        worst = (ours[0].cpu() - theirs[0].cpu()).abs().amax(-1)
        near = float((worst <= 0.05).float().mean())
        assert near > (0.98 if dtype is torch.bfloat16 else 0.9999), f"{near:.4f} of the keypoints lie within 0.05 px"
        close("scores", ours[1], theirs[1], 1e-5)

    contenders: dict[str, Callable[[MapSet], Any]] = {OP: fastpose}
    if kind == "gaussian" and not mirrored:
        quarter = peers.compiled(peers.quarter, device)
        contenders["torch.compile"] = lambda data: quarter(data.maps)
        contenders["torch"] = lambda data: peers.quarter(data.maps)
        contenders["stand-in for mmpose (maps moved, NumPy)"] = peers.numpy_decode
    else:
        contenders["torch (reference, made for exactness)"] = plain
    size = people * KEYPOINTS * HEATMAP[0] * HEATMAP[1] * dtype.itemsize
    name = f"heatmap_decode {kind}{' mirrored' if mirrored else ''} {_maps(people)} {_name(dtype)}"
    return Case(
        name,
        size * (2 if mirrored else 1),
        lambda: map_set(people, HEATMAP, device, dtype),
        contenders,
        check,
        frozenset({OP, "torch.compile"}),
    )


def encode_case(people: int, device: torch.device, kind: str) -> Case:
    codec = build_codec(kind, heatmap_size=HEATMAP)
    outputs: dict[int, tuple[Tensor, Tensor]] = {}

    def fastpose(data: MapSet) -> Tensor:
        # data.target is read by no contender here: it serves as memory to fill.
        out = outputs.setdefault(id(data), (torch.empty_like(data.target), torch.empty_like(data.weights)))
        return heatmap_encode(data.keypoints, data.weights, codec, INPUT, out=out[0], out_weights=out[1])[0]

    def plain(data: MapSet) -> Tensor:
        return reference.heatmap_encode(data.keypoints, data.weights, codec, INPUT)[0]

    contenders: dict[str, Callable[[MapSet], Any]] = {OP: fastpose}
    if kind == "gaussian":
        draw = peers.compiled(peers.drawn, device)
        contenders["torch.compile"] = lambda data: draw(data.keypoints, *HEATMAP)
        contenders["torch"] = lambda data: peers.drawn(data.keypoints, *HEATMAP)
    contenders["torch (reference, made for exactness)"] = plain
    return Case(
        f"heatmap_encode {kind} {_maps(people)}",
        people * KEYPOINTS * HEATMAP[0] * HEATMAP[1] * 4,
        lambda: map_set(people, HEATMAP, device, torch.float32),
        contenders,
        lambda ours, theirs: close("maps", ours, theirs, 1e-5),
        frozenset({OP, "torch.compile"}),
    )


def loss_case(people: int, device: torch.device, dtype: torch.dtype) -> Case:
    codec = build_codec("gaussian", heatmap_size=HEATMAP)

    def both(
        loss: Callable[[Tensor, MapSet], Tensor], slope: Tensor | None = None
    ) -> Callable[[MapSet], tuple[Tensor, Tensor]]:
        def run(data: MapSet) -> tuple[Tensor, Tensor]:
            predicted = data.maps.detach().requires_grad_()
            value = loss(predicted, data)
            (gradient,) = torch.autograd.grad(value, predicted, slope)
            return value.detach(), gradient

        return run

    def fastpose(predicted: Tensor, data: MapSet) -> Tensor:
        return heatmap_loss(predicted, data.keypoints, data.weights, codec, INPUT)

    # As torch.amp.GradScaler has it: the gradient, which is made for a slope of 1, must be read and written once more.
    scale = torch.tensor(65536.0, device=device)

    fused, given = peers.compiled(peers.drawn_mse, device), peers.compiled(peers.weighted_mse, device)
    contenders = {
        OP: both(fastpose),
        SCALED: both(fastpose, scale),
        "torch.compile (targets drawn)": both(lambda p, data: fused(p, data.keypoints, data.weights)),
        "torch.compile (targets given)": both(lambda p, data: given(p, data.target, data.weights)),
        "fastpose.heatmap_encode, then torch": both(
            lambda p, data: peers.weighted_mse(p, *heatmap_encode(data.keypoints, data.weights, codec, INPUT))
        ),
        "torch (targets given)": both(lambda p, data: peers.weighted_mse(p, data.target, data.weights)),
    }

    def check(ours: Any, theirs: Any) -> None:
        # Given targets are around the point itself, not its pixel: only the size of the loss can be compared.
        ratio = float(theirs[0]) / float(ours[0])
        assert 0.5 < ratio < 2, f"the loss is {ratio:.3f} times the op's"

    return Case(
        f"heatmap_loss forward and backward {_maps(people)} {_name(dtype)}",
        2 * people * KEYPOINTS * HEATMAP[0] * HEATMAP[1] * dtype.itemsize,
        lambda: map_set(people, HEATMAP, device, dtype),
        contenders,
        check,
        frozenset({OP, SCALED}),
    )


# --- coordinate vectors ---------------------------------------------------------------------------------------------
def vectors_decode_case(
    people: int,
    device: torch.device,
    dtype: torch.dtype,
    *,
    mirrored: bool = False,
    dark: bool = False,
    visibility: bool = False,
) -> Case:
    codec = SimCC(sigma=(4.9, 5.66), normalized=False, dark=dark, visibility=visibility)
    pairs = torch.tensor(COCO17.flip_index, device=device) if mirrored else None

    def by(decode: Callable[..., Any]) -> Callable[[VectorSet], Any]:
        def run(data: VectorSet) -> Any:
            flipped = (data.x, data.y) if mirrored else None
            return decode(data.x, data.y, codec, INPUT, flipped=flipped, flip_index=pairs)

        return run

    def check(ours: Any, theirs: Any) -> None:
        near = float(((ours[0].cpu() - theirs[0].cpu()).abs().amax(-1) <= 0.05).float().mean())
        assert near > 0.999, f"{near:.4f} of the keypoints lie within 0.05 px"
        close("scores", ours[1], theirs[1], 1e-5)

    kinds = {"mirrored": mirrored, "dark": dark, "visibility": visibility}
    kind = "".join(f" {name}" for name, wanted in kinds.items() if wanted)
    return Case(
        f"simcc_decode{kind} {_vectors(people)} {_name(dtype)}",
        people * KEYPOINTS * sum(BINS) * dtype.itemsize * (2 if mirrored else 1),
        lambda: vector_set(people, BINS, device, dtype),
        {OP: by(simcc_decode), "torch (reference, made for exactness)": by(reference.simcc_decode)},
        check,
        frozenset({OP}),
    )


def vectors_encode_case(people: int, device: torch.device) -> Case:
    codec = SimCC(sigma=(4.9, 5.66), normalized=False)

    def fastpose(data: VectorSet) -> Tensor:
        return simcc_encode(data.keypoints, data.weights, codec, INPUT, out=data.out)[0]

    def plain(data: VectorSet) -> Tensor:
        return reference.simcc_encode(data.keypoints, data.weights, codec, INPUT)[0]

    return Case(
        f"simcc_encode {_vectors(people)}",
        people * KEYPOINTS * sum(BINS) * 4,
        lambda: vector_set(people, BINS, device, torch.float32),
        {OP: fastpose, "torch (reference, made for exactness)": plain},
        lambda ours, theirs: close("vectors", ours, theirs, 1e-5),
        frozenset({OP}),
    )


def vectors_loss_case(people: int, device: torch.device, dtype: torch.dtype) -> Case:
    codec = SimCC(sigma=(4.9, 5.66), normalized=False)

    def by(loss: Callable[..., Tensor]) -> Callable[[VectorSet], Any]:
        def run(data: VectorSet) -> Any:
            leaves = data.x.detach().requires_grad_(), data.y.detach().requires_grad_()
            value = loss(leaves, data.keypoints, data.weights, codec, INPUT, **RTMPOSE)
            return value.detach(), *torch.autograd.grad(value, leaves)

        return run

    def check(ours: Any, theirs: Any) -> None:
        close("losses, of the size of 1,", ours[0] / theirs[0], torch.ones(()), 1e-3)

    return Case(
        f"simcc_loss forward and backward {_vectors(people)} {_name(dtype)}",
        2 * people * KEYPOINTS * sum(BINS) * dtype.itemsize,
        lambda: vector_set(people, BINS, device, dtype),
        {OP: by(simcc_loss), "torch (reference, made for exactness)": by(reference.simcc_loss)},
        check,
        frozenset({OP}),
    )


def _vectors(people: int) -> str:
    return f"{people}×{KEYPOINTS}×{BINS[0]}+{BINS[1]}"


# --- poses ----------------------------------------------------------------------------------------------------------
def oks_case(people: int, device: torch.device) -> Case:
    sigmas = torch.tensor(COCO17.sigmas, dtype=torch.float64, device=device)

    def make() -> tuple[Tensor, Tensor, Tensor]:
        found = found_people(1, people, 1)
        poses = torch.from_numpy(found.poses[..., :2].copy()).to(device)
        return poses, poses.flip(0).contiguous(), torch.from_numpy(found.areas).double().to(device)

    similar = peers.compiled(reference.oks, device)
    return Case(
        f"oks {people}×{people} poses",
        None,
        make,
        {
            OP: lambda data: oks(*data, sigmas),
            "torch.compile": lambda data: similar(data[0], data[1], data[2].float(), sigmas.float()),
            "torch (reference)": lambda data: reference.oks(data[0], data[1], data[2].float(), sigmas.float()),
        },
        lambda ours, theirs: close("similarities", ours, theirs, 1e-4),
    )


def nms_case(people: int, device: torch.device) -> Case:
    images = max(1, people // 64)
    found = found_people(images, min(people, 16), 4)  # four poses of each
    sigmas = torch.tensor(COCO17.sigmas, dtype=torch.float64, device=device)

    def make() -> tuple[Tensor, ...]:
        poses, scores, areas, _, index = found.tensors()
        return poses.to(device), scores.double().to(device), areas.double().to(device), index.to(device)

    def fastpose(data: tuple[Tensor, ...]) -> Tensor:
        return oks_nms(*data[:3], sigmas, 0.5, image_index=data[3], padded=True)

    def on_cpu(data: tuple[Tensor, ...]) -> Tensor:
        poses, scores, areas, index = (each.cpu() for each in data)
        return oks_nms(poses, scores, areas, COCO17.sigmas, 0.5, image_index=index, padded=True)

    def check(ours: Tensor, theirs: Tensor) -> None:
        assert np.array_equal(ours.cpu().numpy(), theirs.cpu().numpy()), "other poses are kept"

    return Case(
        f"oks_nms {len(found.poses)} poses of {images} images",
        None,
        make,
        {OP: fastpose, "moved to the CPU, fastpose there": on_cpu},
        check,
    )


def boxes_case(images: int, device: torch.device) -> Case:
    def make() -> tuple[Tensor, ...]:
        boxes, scores, index = detections(images, 31 * images).tensors()
        return boxes.to(device), scores.double().to(device), index.to(device)

    def fastpose(data: tuple[Tensor, ...]) -> Tensor:
        return box_nms(*data[:2], None, data[2], 0.6, padded=True)

    def on_cpu(data: tuple[Tensor, ...]) -> Tensor:
        return fastpose(tuple(each.cpu() for each in data))

    def check(ours: Tensor, theirs: Tensor) -> None:
        assert np.array_equal(ours.cpu().numpy(), theirs.cpu().numpy()), "other boxes are kept"

    return Case(
        f"box_nms {31 * images} boxes of {images} images",
        None,
        make,
        {OP: fastpose, "moved to the CPU, fastpose there": on_cpu},
        check,
    )


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _maps(people: int) -> str:
    return f"{people}×{KEYPOINTS}×{HEATMAP[0]}×{HEATMAP[1]}"
