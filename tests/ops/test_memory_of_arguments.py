"""Whose memory the native core reads and writes: held as long as it works, with the right sign, and nobody else's."""

from __future__ import annotations

import itertools
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from fastpose import ops
from fastpose.codecs import build_codec
from fastpose.skeletons import COCO17

SIZE, CODEC = (64, 48), build_codec("gaussian", heatmap_size=(16, 12))
EYE = np.tile(np.eye(2, 3), (4, 1, 1))
RNG = np.random.default_rng(1)


class Lazy(list[Any]):
    """A list whose photos exist only while they are asked for."""

    def __len__(self) -> int:
        return 4

    def __iter__(self) -> Iterator[Any]:
        return (np.full((600, 800, 3), value, np.uint8) for value in range(4))


def test_photos_that_are_made_on_demand_are_held() -> None:
    for _ in range(5):
        crops = ops.affine_crop(Lazy(), EYE, size=(400, 500))
        np.testing.assert_array_equal(crops, np.broadcast_to(np.arange(4.0)[:, None, None, None], crops.shape))


def test_photos_of_a_list_that_another_thread_refills_are_held() -> None:
    photos = [np.full((600, 800, 3), 255, np.uint8) for _ in range(4)]
    done = threading.Event()

    def refill() -> None:
        for value in itertools.cycle(range(255)):
            if done.is_set():
                return
            photos[value % 4] = np.full((600, 800, 3), value, np.uint8)

    thread = threading.Thread(target=refill)
    thread.start()
    try:
        for _ in range(30):
            crops = ops.affine_crop(photos, EYE, size=(400, 500))
            low, high = crops.min(axis=(1, 2, 3)), crops.max(axis=(1, 2, 3))
            np.testing.assert_array_equal(low, high)  # a photo has one colour
    finally:
        done.set()
        thread.join()


def test_a_list_that_is_no_list_of_photos() -> None:
    class Endless(list[Any]):
        def __iter__(self) -> Iterator[Any]:
            raise RuntimeError("no photos today")

    with pytest.raises(RuntimeError, match="no photos today"):
        ops.affine_crop(Endless([1]), EYE, size=(4, 4))


def tensor(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.from_numpy(RNG.uniform(1, 40, shape)).to(dtype)


def channels_last(*shape: int) -> Tensor:
    return tensor(*shape).contiguous(memory_format=torch.channels_last)


POSES, AREAS, SIGMAS = tensor(5, 17, 3), tensor(5) * 100, torch.tensor(COCO17.sigmas)
POINTS, ONES, MAPS = tensor(2, 17, 2), torch.ones(2, 17), tensor(2, 17, 16, 12) / 40
PHOTO, MATRICES = tensor(32, 32, 3), torch.from_numpy(EYE[:1])
INVERSE, FLIP = torch.from_numpy(EYE[:2].copy()), torch.tensor(COCO17.flip_index)
X, CHANNELS = channels_last(2, 8, 6, 5), torch.linspace(0.5, 2, 8)
KERNELS = tensor(8, 1, 3, 3) / 40


def norm(x: Tensor, weight: Tensor, residual: Tensor | None = None) -> Tensor:
    return ops.batch_norm_act(
        x, weight, weight, torch.zeros(8), torch.ones(8), momentum=0.1, eps=1e-5, residual=residual
    )


# Each with the one argument in which the sign shall not be lost.
SIGNED: dict[str, tuple[Tensor, Callable[[Tensor], Any]]] = {
    "affine_crop images": (PHOTO, lambda t: ops.affine_crop(t, MATRICES, size=(8, 8))),
    "affine_crop list": (PHOTO, lambda t: ops.affine_crop([PHOTO, t], MATRICES, [1], size=(8, 8))),
    "affine_crop matrices": (MATRICES, lambda t: ops.affine_crop(PHOTO, t, size=(8, 8))),
    "affine_crop gain": (torch.ones(1, 3), lambda t: ops.affine_crop(PHOTO, MATRICES, size=(8, 8), gain=t)),
    "encode keypoints": (POINTS, lambda t: ops.heatmap_encode(t, ONES, CODEC, SIZE)[0]),
    "encode visible": (ONES, lambda t: ops.heatmap_encode(POINTS, t, CODEC, SIZE)[1]),
    "decode heatmaps": (MAPS, lambda t: ops.heatmap_decode(t, CODEC, SIZE)[1]),
    "decode flipped": (MAPS, lambda t: ops.heatmap_decode(MAPS, CODEC, SIZE, flipped=t, flip_index=FLIP)[1]),
    "decode inverse": (INVERSE, lambda t: ops.heatmap_decode(MAPS, CODEC, SIZE, inverse=t)[0]),
    "loss predicted": (MAPS, lambda t: ops.heatmap_loss(t, POINTS, ONES, CODEC, SIZE)),
    "loss weights": (ONES, lambda t: ops.heatmap_loss(MAPS, POINTS, t, CODEC, SIZE)),
    "loss target": (MAPS, lambda t: ops.heatmap_loss(MAPS, None, ONES, CODEC, SIZE, target=t)),
    "oks poses_a": (POSES, lambda t: ops.oks(t, POSES, AREAS, SIGMAS)),
    "oks areas": (AREAS, lambda t: ops.oks(POSES, POSES, t, SIGMAS)),
    "box_nms boxes": (POSES[:, :4, 0].contiguous(), lambda t: ops.box_nms(t, AREAS)),
    "box_nms scores": (AREAS, lambda t: ops.box_nms(POSES[:, :4, 0].contiguous(), t, threshold=0.99)),
    "oks_nms scores": (AREAS, lambda t: ops.oks_nms(POSES, t, AREAS, SIGMAS, 0.99)),
    "batch_norm_act x": (X, lambda t: norm(t, CHANNELS)),
    "batch_norm_act weight": (CHANNELS, lambda t: norm(X, t)),
    "batch_norm_act residual": (X, lambda t: norm(X, CHANNELS, t)),
    "depthwise_conv x": (X, lambda t: ops.depthwise_conv(t, KERNELS)),
    "depthwise_conv weight": (KERNELS, lambda t: ops.depthwise_conv(X, t)),
    "interleave first": (X, lambda t: ops.interleave(t, X)),
    "interleave weights": (torch.ones(2, 8), lambda t: ops.interleave(X, X, t)),
}


@pytest.mark.parametrize("name", SIGNED)
def test_tensors_with_the_negative_bit_keep_their_sign(name: str) -> None:
    """`torch._neg_view` as the imaginary part of a conjugate: memory that holds the values with the other sign."""
    value, call = SIGNED[name]
    negated = torch._neg_view(-value)
    assert negated.is_neg()
    torch.testing.assert_close(call(negated), call(value))


DIFFERENTIABLE = ["affine_crop images", "affine_crop list", "loss predicted"]
DIFFERENTIABLE += [name for name in SIGNED if name.startswith(("batch_norm_act", "depthwise_conv", "interleave"))]


@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_gradients_of_such_tensors(name: str) -> None:
    value, call = SIGNED[name]
    gradients = []
    for negate in (False, True):
        leaf = value.clone().requires_grad_()
        result = call(torch._neg_view(-leaf) if negate else leaf)
        gradients.append(torch.autograd.grad(result.square().sum(), leaf)[0])
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-4, atol=1e-4)


def test_slopes_with_the_negative_bit() -> None:
    def gradient(slope: Tensor) -> Tensor:
        leaf = MAPS.clone().requires_grad_()
        ops.heatmap_loss(leaf, POINTS, ONES, CODEC, SIZE).backward(slope)
        assert leaf.grad is not None
        return leaf.grad

    torch.testing.assert_close(gradient(torch._neg_view(torch.tensor(2.0))), gradient(torch.tensor(-2.0)))


def test_an_output_with_the_negative_bit_is_refused() -> None:
    out = torch._neg_view(torch.zeros(5, 5))
    with pytest.raises(TypeError, match="out: expected a tensor without the negative bit"):
        ops.oks(POSES, POSES, AREAS, SIGMAS, out=out)


def overlaps(to: Callable[[np.ndarray], Any]) -> dict[str, tuple[str, str, Callable[[], Any]]]:
    """Output, what it overlaps, and the call."""
    memory = to(np.ones(1 << 14, np.float32))
    poses, maps = memory[: 5 * 17 * 3].reshape(5, 17, 3), memory[: 2 * 17 * 192].reshape(2, 17, 16, 12)
    points, visible = memory[6000:6068].reshape(2, 17, 2), memory[7000:7034].reshape(2, 17)
    photo = memory[: 32 * 32 * 3].reshape(32, 32, 3)
    areas, wide = to(np.full(5, 1e3)), to(np.ones(64))
    index = to(np.zeros(5, np.int64))
    crops = memory[1000 : 1000 + 3 * 64].reshape(1, 3, 8, 8)
    return {
        "oks": (
            *("out", "poses_a"),
            lambda: ops.oks(poses, poses, areas, SIGMAS.tolist(), out=memory[250:275].reshape(5, 5)),
        ),
        "box_nms scores": (
            *("out_scores", "scores"),
            lambda: ops.box_nms(memory[:20].reshape(5, 4), wide[:5], method="gaussian", out_scores=wide[4:9]),
        ),
        "box_nms classes": (
            *("out", "classes"),
            lambda: ops.box_nms(memory[:20].reshape(5, 4), areas, index, out=index),
        ),
        "oks_nms scores": (
            *("out_scores", "scores"),
            lambda: ops.oks_nms(poses, wide[:5], areas, SIGMAS.tolist(), 0.5, soft=True, out_scores=wide[4:9]),
        ),
        "oks_nms index": (
            *("out", "image_index"),
            lambda: ops.oks_nms(poses, areas, areas, SIGMAS.tolist(), 0.5, image_index=index, out=index),
        ),
        "encode": ("out", "keypoints", lambda: ops.heatmap_encode(points, visible, CODEC, SIZE, out=maps)),
        "encode weights": (
            *("out_weights", "visible"),
            lambda: ops.heatmap_encode(points, visible, CODEC, SIZE, out_weights=visible),
        ),
        "encode both": (
            *("out_weights", "out"),
            lambda: ops.heatmap_encode(
                points,
                visible,
                CODEC,
                SIZE,
                out=memory[8192 : 8192 + 6528].reshape(2, 17, 16, 12),
                out_weights=memory[8192:8226].reshape(2, 17),
            ),
        ),
        "decode": ("out", "heatmaps", lambda: ops.heatmap_decode(maps, CODEC, SIZE, out=points)),
        "decode scores": (
            *("out_scores", "heatmaps"),
            lambda: ops.heatmap_decode(maps, CODEC, SIZE, out_scores=memory[100:134].reshape(2, 17)),
        ),
        "crop": ("out", "images", lambda: ops.affine_crop(photo, EYE[:1], size=(8, 8), out=crops)),
        "crop of a list": (
            *("out", "images"),
            lambda: ops.affine_crop([to(np.ones((9, 9, 3), np.float32)), photo], EYE[:1], [0], size=(8, 8), out=crops),
        ),
    }


@pytest.mark.parametrize("framework", ["numpy", "tensors"])
@pytest.mark.parametrize("name", overlaps(np.asarray))
def test_outputs_that_overlap_an_argument_are_refused(name: str, framework: str) -> None:
    output, other, call = overlaps(np.asarray if framework == "numpy" else torch.from_numpy)[name]
    with pytest.raises(ValueError, match=f"^{output}: expected memory of its own, got memory that overlaps {other}$"):
        call()


def test_neighbouring_memory_is_no_overlap() -> None:
    memory = np.ones(2 * 17 * 192 + 2 * 17, np.float32)
    maps, weights = memory[:6528].reshape(2, 17, 16, 12), memory[6528:].reshape(2, 17)
    ops.heatmap_encode(POINTS.numpy(), ONES.numpy(), CODEC, SIZE, out=maps, out_weights=weights)
    canvas = np.zeros((32, 64, 3), np.float32)
    upside_down = canvas[16:][::-1]
    out = canvas[:16].reshape(1, 3, 16, 64)
    assert ops.affine_crop(upside_down, EYE[:1], size=(16, 64), out=out) is out


def test_calls_of_many_threads_at_once() -> None:
    """Also without the GIL: what the core remembers of torch is looked up by all of them together."""
    code = """
import threading, numpy as np, torch
from fastpose import ops
from fastpose.codecs import build_codec
poses, areas = torch.rand(40, 17, 2), torch.full((40,), 100.0)
wanted = ops.reference.oks(poses.double(), poses.double(), areas.double(), torch.full((17,), 0.1).double()).float()
start, wrong = threading.Barrier(8), []
def work():
    start.wait()
    for i in range(50):
        codec = build_codec("gaussian", heatmap_size=(16 + i % 3, 12))
        maps, _ = ops.heatmap_encode(poses[:2] * 40, torch.ones(2, 17), codec, (64, 48))
        points, _ = ops.heatmap_decode(maps.numpy(), codec, (64, 48))
        found = ops.oks(poses, poses, areas, [0.1] * 17)
        if not torch.allclose(found, wanted, atol=1e-5) or points.shape != (2, 17, 2):
            wrong.append(i)
threads = [threading.Thread(target=work) for _ in range(8)]
[t.start() for t in threads]; [t.join() for t in threads]
print(wrong)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "[]\n", done.stderr
