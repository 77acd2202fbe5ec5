"""The calls of test_transforms.py: each op as a function of one tensor, and the same in plain torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fastpose import ops
from fastpose.codecs import build_codec
from fastpose.ops import reference

CODEC, SIZE = build_codec("udp", heatmap_size=(8, 6)), (32, 24)
VECTORS = build_codec("simcc", sigma=3.0, normalized=False, visibility=True)


@dataclass(frozen=True)
class Op:
    """An op as a function of one tensor.

    Attributes:
        call: from the tensor to the op's result.
        plainly: the same by fastpose.ops.reference.
        make: a tensor of seed 0, 1, ...
    """

    call: Callable[[Tensor], Any]
    plainly: Callable[[Tensor], Any]
    make: Callable[[int], Tensor]

    def total(self, plainly: bool = False) -> Callable[[Tensor], Tensor]:
        """From the tensor to one number, in which each part of the result has another weight."""

        def scalar(x: Tensor) -> Tensor:
            result = (self.plainly if plainly else self.call)(x)
            parts = result if isinstance(result, tuple) else (result,)
            return torch.stack(
                [(p.square() * torch.linspace(0.5, 1.5, p.numel()).view(p.shape)).sum() for p in parts]
            ).sum()

        return scalar


def uniform(*shape: int, low: float = 0, high: float = 1) -> Callable[[int], Tensor]:
    """Random numbers by seed."""

    def make(seed: int) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        return torch.rand(shape, generator=generator) * (high - low) + low

    return make


def channels_last(*shape: int) -> Callable[[int], Tensor]:
    """The same, from -1 to 1, with the channels last in memory."""
    make = uniform(*shape, low=-1)
    return lambda seed: make(seed).contiguous(memory_format=torch.channels_last)


def _ops() -> dict[str, Op]:
    points, visible = uniform(2, 3, 2, low=2, high=20)(7), torch.ones(2, 3)
    areas, sigmas, scores = torch.tensor([900.0, 400, 2500, 1600]), torch.full((3,), 0.1), torch.tensor([3.0, 1, 4, 2])
    people, boxes, kinds = uniform(4, 3, 2, high=30), uniform(4, 4, high=30), torch.tensor([0, 1, 0, 1])
    matrices = torch.tensor([[[1.1, 0.2, -0.3], [-0.1, 0.9, 0.4]]])
    mean, std = (10.0, 20.0, 30.0), (50.0, 60.0, 70.0)
    down = uniform(2, 3, 64)(5)  # vectors along y
    batch, kernel = channels_last(2, 4, 5, 5)(9), uniform(4, 1, 3, 3, low=-1)(8)

    def crop(module: Any) -> Callable[[Tensor], Any]:
        return lambda x: module.affine_crop(x, matrices, size=(4, 5), mean=mean, std=std, swap_rb=True)

    def norm(module: Any) -> Callable[[Tensor], Any]:
        return lambda x: module.batch_norm_act(
            x, torch.ones(4), torch.zeros(4), torch.zeros(4), torch.ones(4), momentum=0.1, eps=1e-5, relu=True,
            residual=batch,
        )  # fmt: skip

    def table(module: Any) -> dict[str, Callable[[Tensor], Any]]:
        return {
            "affine_crop": crop(module),
            "batch_norm_act": norm(module),
            "depthwise_conv": lambda x: module.depthwise_conv(x, kernel),
            "heatmap_decode": lambda x: module.heatmap_decode(x, CODEC, SIZE),
            "heatmap_encode": lambda x: module.heatmap_encode(x, visible, CODEC, SIZE),
            "heatmap_loss": lambda x: module.heatmap_loss(x, points, visible, CODEC, SIZE),
            "interleave": lambda x: module.interleave(batch, x, torch.ones(2, 4) / 3),
            "simcc_decode": lambda x: module.simcc_decode(x, down, VECTORS, SIZE),
            "simcc_encode": lambda x: module.simcc_encode(x, visible, VECTORS, SIZE),
            "simcc_loss": lambda x: module.simcc_loss((x, down), points, visible, VECTORS, SIZE, label_softmax=True),
            "oks": lambda x: module.oks(x, points.new_ones(3, 3, 2), areas, sigmas),
            "oks_nms": lambda x: module.oks_nms(x, scores, areas, sigmas, 0.2),
            "box_nms": lambda x: module.box_nms(x, scores, threshold=0.2),
        }

    def padded(x: Tensor) -> Any:
        return ops.oks_nms(x, scores, areas, sigmas, 0.2, padded=True, soft=True)

    def padded_boxes(x: Tensor) -> Any:
        return ops.box_nms(x, scores, kinds, method="gaussian", min_score=0.5, padded=True)

    inputs = {
        "affine_crop": uniform(6, 7, 3, high=255),
        "batch_norm_act": channels_last(2, 4, 5, 5),
        "depthwise_conv": channels_last(2, 4, 5, 5),
        "heatmap_decode": uniform(2, 3, 8, 6),
        "heatmap_encode": uniform(2, 3, 2, low=2, high=20),
        "heatmap_loss": uniform(2, 3, 8, 6),
        "interleave": channels_last(2, 4, 5, 5),
        "simcc_decode": uniform(2, 3, 48),
        "simcc_encode": uniform(2, 3, 2, low=2, high=20),
        "simcc_loss": uniform(2, 3, 48),
        "oks": people,
        "oks_nms": people,
        "box_nms": boxes,
    }
    native, plain = table(ops), table(reference)
    found = {name: Op(native[name], plain[name], inputs[name]) for name in native}
    return found | {
        "oks_nms, padded": Op(padded, padded, people),
        "box_nms, padded": Op(padded_boxes, padded_boxes, boxes),
    }


OPS = _ops()
