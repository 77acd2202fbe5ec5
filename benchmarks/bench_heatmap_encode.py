"""Target heatmaps of a batch of 64 poses of 17 keypoints."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import torch

from fastpose.ops import heatmap_encode, reference

from . import peers
from .data import SIZES, Poses, poses, size_name
from .harness import Case, Goal, Thunk, at_level, bench, compiled

ONE_THREAD = frozenset({"fastpose (avx2)", "fastpose (sse2)", "mmpose", "numpy", "torch.compile"})


def fastpose(data: Poses) -> Thunk:
    return lambda: heatmap_encode(
        data.keypoints, data.visible, data.codec, data.size, out=data.maps, out_weights=data.weights
    )


def fastpose_fresh(data: Poses) -> Thunk:
    return lambda: heatmap_encode(data.keypoints, data.visible, data.codec, data.size)


def mmpose_codec(data: Poses) -> Any:
    """MMPose's codec object of the same kind and size.

    Raises:
        AbsentError: MMPose cannot be imported.
    """
    codecs = peers.mmpose("mmpose.codecs")
    assert data.codec.heatmap_size is not None
    sizes = {"input_size": data.size[::-1], "heatmap_size": data.codec.heatmap_size[::-1]}
    if data.codec.kind == "udp":
        return codecs.UDPHeatmap(**sizes, sigma=data.codec.sigma, blur_kernel_size=data.codec.blur_kernel)
    return codecs.MSRAHeatmap(
        **sizes, sigma=data.codec.sigma, unbiased=data.codec.kind == "dark", blur_kernel_size=data.codec.blur_kernel
    )


def mmpose(data: Poses) -> Thunk:
    """codec.encode a pose; collating the poses is not counted."""
    codec = mmpose_codec(data)
    keypoints, visible = data.keypoints[:, None], data.visible[:, None]

    def run() -> Any:
        encoded = [codec.encode(keypoints[b], visible[b]) for b in range(len(keypoints))]
        return [e["heatmaps"] for e in encoded], [e["keypoint_weights"][0] for e in encoded]

    return run


def numpy_encode(data: Poses) -> Thunk:
    """Both axes' exponentials, windowed, then their outer product into the output."""
    assert data.codec.heatmap_size is not None
    sides = data.codec.heatmap_size[::-1]
    udp, sigma = data.codec.kind == "udp", np.float32(data.codec.sigma)
    scale = [(a - udp) / (b - udp) for a, b in zip(data.size[::-1], sides, strict=True)]

    def run() -> Any:
        axes, inside = [], data.visible >= 0.5
        for axis, side in enumerate(sides):
            point = data.keypoints[..., axis, None] / np.float32(scale[axis])
            pixel = np.arange(side, dtype=np.float32)
            nearest = np.trunc(point + np.float32(0.5))
            line = np.exp((pixel - (point if udp else nearest)) ** 2 / (-2 * sigma * sigma))
            line *= np.abs(pixel - nearest) <= 3 * sigma
            axes.append(line)
            inside &= (nearest[..., 0] - 3 * sigma < side) & (nearest[..., 0] + 3 * sigma + 1 >= 0)
        np.multiply(inside, data.visible, out=data.weights)
        axes[1] *= inside[..., None]
        np.multiply(axes[1][..., :, None], axes[0][..., None, :], out=data.maps)
        return data.maps, data.weights

    return run


def torch_reference(data: Poses) -> Thunk:
    keypoints, visible = torch.from_numpy(data.keypoints), torch.from_numpy(data.visible)
    return lambda: reference.heatmap_encode(keypoints, visible, data.codec, data.size)


def torch_compile(data: Poses) -> Thunk:
    keypoints, visible = torch.from_numpy(data.keypoints), torch.from_numpy(data.visible)
    encode = compiled(lambda k, v: reference.heatmap_encode(k, v, data.codec, data.size))
    return lambda: encode(keypoints, visible)


def torch_zero(data: Poses) -> Thunk:
    """Only filling the maps with zeros: writes what an encoder must write."""
    maps, weights = torch.from_numpy(data.maps), torch.from_numpy(data.weights)

    def run() -> None:
        maps.zero_()
        weights.zero_()

    return run


def check(ours: Any, theirs: Any) -> None:
    """Within 1e-5 of the peak of 1: exp of a sum against a product of two."""
    if theirs is None:  # zeros are not a result
        return
    for name, a, b in zip(("heatmaps", "weights"), ours, theirs, strict=True):
        worst = float(np.abs(np.asarray(a) - np.stack([np.asarray(x) for x in b])).max())
        assert worst <= 1e-5, f"{name} differ by {worst:.2e}"


def _case(kind: str, size: tuple[int, int]) -> Case:
    contenders = {
        "fastpose": fastpose,
        "fastpose (fresh output)": fastpose_fresh,
        "fastpose (avx2)": at_level("avx2", fastpose),
        "fastpose (sse2)": at_level("sse2", fastpose),
        "mmpose": mmpose,
        "numpy": numpy_encode,
        "torch": torch_reference,
    }
    if size == SIZES[0]:
        contenders["torch.compile"] = torch_compile
    return Case(
        f"heatmap_encode {kind} {size_name(size)}",
        partial(poses, kind, size),
        contenders | {"zero_ (writes no target)": torch_zero},
        check,
        lambda data: data.map_bytes,
        (Goal("mmpose", 20),),
        one_thread=ONE_THREAD,
    )


KINDS: tuple[str, ...] = ("gaussian", "udp")
CASES = [_case(kind, size) for size in SIZES for kind in KINDS]

test_heatmap_encode = bench(CASES)
