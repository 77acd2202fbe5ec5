"""Every kernel once on small inputs, for compute-sanitizer: `compute-sanitizer python -m benchmarks.cuda.sanitize`.

Sizes are odd on purpose, so that rows begin off 16 bytes and blocks end early. Results are compared with the CPU's too.
`python -m benchmarks.cuda.sanitize cpu wide_blur`: on the CPU, only what is named.
"""

from __future__ import annotations

import sys
from typing import Any, get_args

import numpy as np
import torch

from fastpose.codecs import SimCC, build_codec
from fastpose.ops import (
    affine_crop,
    box_nms,
    heatmap_decode,
    heatmap_encode,
    heatmap_loss,
    oks,
    oks_nms,
    simcc_decode,
    simcc_encode,
    simcc_loss,
)

KINDS = tuple(kind for kind in get_args(str) if kind != "regression")
FLOATS = (torch.float32, torch.float16, torch.bfloat16)


def crops(device: torch.device) -> None:
    generator = torch.Generator().manual_seed(0)
    photos = [torch.randint(0, 256, (h, w, 3), generator=generator, dtype=torch.uint8) for h, w in ((31, 27), (9, 40))]
    matrices = torch.tensor([[[0.8, 0.2, -2], [-0.1, 1.1, 3]], [[0.3, 0, 1], [0, 0.3, 2]]]).repeat(9, 1, 1).double()
    index = torch.arange(18) % 2
    options: dict[str, Any] = {"size": (37, 41), "antialias": True, "flip": torch.arange(18) % 3 == 0}
    # In fixed point: crops inside the photo and across its edges.
    square = torch.randint(0, 256, (90, 101, 3), generator=generator, dtype=torch.uint8)
    upright = torch.tensor([[[1.0, 0, -9], [0, 1, -7]], [[0.7, 0.1, 3], [-0.2, 0.7, 2]]]).double()
    for dtype in (torch.uint8, torch.float32, torch.float16, torch.bfloat16):
        for layout in ("nchw", "nhwc"):
            for size in ((44, 80), (43, 77), (9, 300)):  # whole vectors; none; more than one run of pixels
                wanted = affine_crop(square, upright, size=size, dtype=dtype, layout=layout)
                found = affine_crop(square.to(device), upright.to(device), size=size, dtype=dtype, layout=layout)
                close(found, wanted, 2.0)
    for dtype in (torch.uint8, torch.float32, torch.float64, torch.float16, torch.bfloat16):
        for layout in ("nchw", "nhwc"):
            wanted = affine_crop(photos, matrices, index, dtype=dtype, layout=layout, **options)
            there = [photo.to(device) for photo in photos]
            for where in ("cpu", device):
                moved = matrices.to(where), index.to(where)
                flags = options | {"flip": options["flip"].to(where)}
                close(affine_crop(there, *moved, dtype=dtype, layout=layout, **flags), wanted, 2.0)
    for kind in (torch.float32, torch.float64):
        leaves = [photo.to(device, kind).requires_grad_() for photo in photos]
        affine_crop(leaves, matrices, index, dtype=kind, **options).square().sum().backward()


def heatmaps(device: torch.device) -> None:
    generator = torch.Generator().manual_seed(0)
    for kind in KINDS:
        for height, width in ((21, 15), (16, 24)):
            codec, size = build_codec(kind, heatmap_size=(height, width)), (height * 4, width * 4)
            points = torch.rand((3, 5, 2), generator=generator) * 90 - 10
            visible = torch.ones(3, 5)
            maps, weights = heatmap_encode(points.to(device), visible.to(device), codec, size)
            close(maps, heatmap_encode(points, visible, codec, size)[0], 1e-3)
            for dtype in FLOATS:
                noisy = maps.cpu() + 0.01 * torch.rand(maps.shape, generator=generator)
                predicted = noisy.to(device, dtype)
                for flipped in (None, predicted):
                    pairs = None if flipped is None else [1, 0, 2, 4, 3]
                    heatmap_decode(predicted, codec, size, flipped=flipped, flip_index=pairs, flip_shift=True)
                for topk in (None, 2):
                    leaf = predicted.detach().requires_grad_()
                    heatmap_loss(leaf, points.to(device), weights, codec, size, ohkm_topk=topk).backward()
                    loss = heatmap_loss(leaf, None, weights, codec, size, target=maps.to(dtype), ohkm_topk=topk)
                    (3 * loss).backward()


def wide_blur(device: torch.device) -> None:
    """Megvii with a blur for which the kernel asks 48 KiB of shared memory beside the little that it has anyway."""
    codec, size = build_codec("megvii", heatmap_size=(21, 15), kernel_size=97), (84, 60)
    maps = torch.rand((2, 3, 21, 15), generator=torch.Generator().manual_seed(0))
    found, wanted = heatmap_decode(maps.to(device), codec, size), heatmap_decode(maps, codec, size)
    for ours, theirs in zip(found, wanted, strict=True):
        close(ours, theirs, 1e-2)


def vectors(device: torch.device) -> None:
    """Vectors that lanes keep, that more registers keep, and that are read again; whole 16 bytes and not."""
    generator = torch.Generator().manual_seed(0)
    for size in ((64, 48), (31, 45), (400, 300), (700, 9)):
        codec = SimCC(sigma=(4.9, 5.66), normalized=False, dark=True, visibility=True)
        points = torch.rand((3, 5, 2), generator=generator) * (torch.tensor(size[::-1]) + 20) - 10
        weights = torch.rand((3, 5), generator=generator)
        made = simcc_encode(points, weights, codec, size)
        for ours, theirs in zip(simcc_encode(points.to(device), weights, codec, size), made, strict=True):
            close(ours, theirs, 1e-5)
        for dtype in FLOATS:
            x, y = ((part + 0.01 * torch.rand(part.shape, generator=generator)).to(device, dtype) for part in made[:2])
            for flipped in (None, (x, y)):
                pairs = None if flipped is None else [1, 0, 2, 4, 3]
                simcc_decode(x, y, codec, size, flipped=flipped, flip_index=pairs)
            for softmax in (False, True):
                leaves = x.detach().requires_grad_(), y.detach().requires_grad_()
                (3 * simcc_loss(leaves, points.to(device), weights, codec, size, label_softmax=softmax)).backward()


def poses(device: torch.device) -> None:
    rng = np.random.default_rng(0)
    sigmas = [0.05, 0.1, 0.2]
    for dtype in (np.float32, np.float64):
        given = rng.uniform(0, 60, (133, 3, 2)).astype(dtype)
        areas, scores = rng.uniform(100, 900, 133), rng.random(133)
        there = torch.from_numpy(given).to(device)
        close(
            oks(there, there[:7].contiguous(), areas, sigmas),
            torch.from_numpy(oks(given, given[:7], areas, sigmas)),
            1e-5,
        )
        for soft in (False, True):
            for index in (None, np.arange(133) // 50):
                options: dict[str, Any] = {"image_index": index, "soft": soft, "padded": True}
                found = oks_nms(there, scores, areas, sigmas, 0.5, **options)
                wanted = oks_nms(given, scores, areas, sigmas, 0.5, **options)
                close((found[0] if soft else found), torch.from_numpy(wanted[0] if soft else wanted), 0)


def boxes(device: torch.device) -> None:
    rng = np.random.default_rng(0)
    scores, kind = rng.random(133), rng.integers(0, 3, 133)
    for dtype in (np.float32, np.float64):
        given = rng.uniform(0, 60, (133, 4)).astype(dtype)
        given[:, 2:] += given[:, :2]
        for method in ("hard", "linear", "gaussian"):
            for image in (None, np.arange(133) // 50):
                options: dict[str, Any] = {"method": method, "min_score": 0.05, "most": 20, "padded": True}
                found = box_nms(torch.from_numpy(given).to(device), scores, kind, image, **options)
                wanted = box_nms(given, scores, kind, image, **options)
                hard = method == "hard"
                close((found if hard else found[0]), torch.from_numpy(wanted if hard else wanted[0]), 0)


def close(ours: torch.Tensor, wanted: torch.Tensor, limit: float) -> None:
    """Raises AssertionError where they differ by more than the limit."""
    worst = float((ours.cpu().double() - wanted.double()).abs().max())
    assert worst <= limit, f"differs from the CPU by {worst}"


def main() -> int:
    """Runs on the device that is named, CUDA if none is."""
    device = torch.device(sys.argv[1] if len(sys.argv) > 1 else "cuda")
    named = sys.argv[2:]
    for part in (crops, heatmaps, vectors, poses, boxes, wide_blur):
        if part.__name__ not in named and (named or part is wide_blur):  # that one may be refused: only by its name
            continue
        part(device)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        print(f"{part.__name__}: done", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
