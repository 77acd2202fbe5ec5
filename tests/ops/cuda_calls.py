"""Every op as a function of tensors alone, for the tests that treat them alike: graphs, streams, devices, strides."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from heatmap_cases import CODECS, INPUT, network_maps, poses
from simcc_cases import CODECS as VECTORS
from simcc_cases import network_vectors
from torch import Tensor

from fastpose import ops
from fastpose.skeletons import COCO17

DEVICE = torch.device("cuda")
SIGMAS = torch.tensor(COCO17.sigmas, dtype=torch.float64)
FLIP = torch.tensor(COCO17.flip_index)


@dataclass(frozen=True)
class Call:
    """An op with its options settled.

    Attributes:
        run: From tensors of one device to result tensors.
        inputs: From a seed to CPU tensors of always the same shapes; all that `run` needs, so that it has nothing to
            move between devices.
        atol, rtol: How far apart CPU and CUDA may be: functions such as exp differ in their last bits.
    """

    run: Callable[..., Any]
    inputs: Callable[[int], tuple[Tensor, ...]]
    atol: float = 1e-5
    rtol: float = 1e-5

    def __call__(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """The results, always as a tuple."""
        result = self.run(*tensors)
        return result if isinstance(result, tuple) else (result,)


def to_device(tensors: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return tuple(tensor.to(DEVICE) for tensor in tensors)


def matrices(count: int, seed: int) -> Tensor:
    """[M,2,3] float64: turned, scaled and shifted; some reach over the photo's edges."""
    generator = torch.Generator().manual_seed(seed)
    made = torch.rand((count, 2, 3), generator=generator, dtype=torch.float64) * 0.4 - 0.2
    made[:, 0, 0] += 0.8
    made[:, 1, 1] += 0.8
    made[:, :, 2] *= 60
    return made


def photos(seed: int, count: int = 3, size: tuple[int, int] = (67, 83)) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, *size, 3), generator=generator, dtype=torch.uint8)


def crop_inputs(seed: int) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(seed)
    index = torch.randint(0, 3, (20,), generator=generator)
    return photos(seed), matrices(20, seed), index, index == 1, torch.rand((20, 3), generator=generator) + 0.5


def run_crop(images: Tensor, crops: Tensor, index: Tensor, flip: Tensor, gain: Tensor) -> Tensor:
    return ops.affine_crop(images, crops, index, size=(33, 29), swap_rb=True, flip=flip, gain=gain, antialias=True)


def run_crop_backward(images: Tensor, crops: Tensor, index: Tensor, flip: Tensor, gain: Tensor) -> tuple[Tensor, ...]:
    leaf = images.float().requires_grad_()
    crop = ops.affine_crop(leaf, crops, index, size=(33, 29), flip=flip)
    (gradient,) = torch.autograd.grad(crop.mul(crop.detach()).sum() / 255, leaf)
    return crop.detach(), gradient


def decode_call(name: str, mirrored: bool) -> Call:
    codec = CODECS[name]

    def inputs(seed: int) -> tuple[Tensor, ...]:
        maps = network_maps(codec, 3, 17, seed)
        inverse = matrices(3, seed)
        return (maps, inverse, network_maps(codec, 3, 17, seed + 50), FLIP) if mirrored else (maps, inverse)

    def run(maps: Tensor, inverse: Tensor, *more: Tensor) -> Any:
        options = {"flipped": more[0], "flip_index": more[1], "flip_shift": True} if more else {}
        return ops.heatmap_decode(maps, codec, INPUT, inverse=inverse, **options)

    return Call(run, inputs, atol=5e-3)


def encode_call(name: str) -> Call:
    codec = CODECS[name]
    weights = torch.ones(17)
    return Call(
        lambda points, visible, factors: ops.heatmap_encode(points, visible, codec, INPUT, joint_weights=factors),
        lambda seed: (*poses(4, 17, seed), weights),
        atol=3e-4 if name.startswith("megvii") else 1e-5,
    )


def loss_call(name: str, topk: int | None = None, given: bool = False) -> Call:
    codec = CODECS[name]

    def run(predicted: Tensor, points: Tensor, weights: Tensor, target: Tensor) -> tuple[Tensor, ...]:
        leaf = predicted.detach().requires_grad_()
        options = {"target": target} if given else {}
        loss = ops.heatmap_loss(leaf, None if given else points, weights, codec, INPUT, ohkm_topk=topk, **options)
        (gradient,) = torch.autograd.grad(loss, leaf)
        return loss.detach(), gradient

    def inputs(seed: int) -> tuple[Tensor, ...]:
        points, visible = poses(3, 17, seed)
        return network_maps(codec, 3, 17, seed), points, visible.clamp(max=1), network_maps(codec, 3, 17, seed + 9)

    return Call(run, inputs)


def vectors_decode_call(name: str, mirrored: bool) -> Call:
    codec = VECTORS[name]

    def inputs(seed: int) -> tuple[Tensor, ...]:
        vectors = (*network_vectors(codec, 3, 17, seed), matrices(3, seed))
        return (*vectors, *network_vectors(codec, 3, 17, seed + 50), FLIP) if mirrored else vectors

    def run(x: Tensor, y: Tensor, inverse: Tensor, *more: Tensor) -> Any:
        options = {"flipped": more[:2], "flip_index": more[2]} if more else {}
        found = ops.simcc_decode(x, y, codec, INPUT, inverse=inverse, **options)
        return found if codec.visibility else found[:2]

    return Call(run, inputs, atol=5e-3)


def vectors_encode_call(name: str) -> Call:
    codec = VECTORS[name]
    weights = torch.ones(17)
    return Call(
        lambda points, visible, factors: ops.simcc_encode(points, visible, codec, INPUT, joint_weights=factors),
        lambda seed: (*poses(4, 17, seed), weights),
    )


def vectors_loss_call(name: str, **options: Any) -> Call:
    codec = VECTORS[name]

    def run(x: Tensor, y: Tensor, points: Tensor, weights: Tensor, factors: Tensor) -> tuple[Tensor, ...]:
        leaves = x.detach().requires_grad_(), y.detach().requires_grad_()
        loss = ops.simcc_loss(leaves, points, weights, codec, INPUT, keypoint_weights=factors, **options)
        return loss.detach(), *torch.autograd.grad(loss, leaves)

    def inputs(seed: int) -> tuple[Tensor, ...]:
        return *network_vectors(codec, 3, 17, seed), *poses(3, 17, seed), torch.rand(17)

    return Call(run, inputs)


def people(seed: int, count: int = 70) -> tuple[Tensor, ...]:
    """Poses [N,17,3] float32 in heaps, scores, areas and images."""
    generator = torch.Generator().manual_seed(seed)
    bodies = torch.rand((count // 3 + 1, 17, 2), generator=generator) * torch.tensor([60.0, 150.0])
    bodies += torch.rand((len(bodies), 1, 2), generator=generator) * 400
    points = bodies[torch.randint(0, len(bodies), (count,), generator=generator)]
    points = points + torch.randn(points.shape, generator=generator) * 3
    scores = torch.rand(count, generator=generator, dtype=torch.float64)
    areas = torch.rand(count, generator=generator, dtype=torch.float64) * 17000 + 3000
    return torch.cat([points, torch.ones(count, 17, 1)], -1), scores, areas, torch.arange(count) // 30, SIGMAS


def run_oks(given: Tensor, scores: Tensor, areas: Tensor, image: Tensor, sigmas: Tensor) -> Tensor:
    return ops.oks(given, given.flip(0).contiguous(), areas, sigmas, visible=given[..., 0] > 100)


def nms_call(soft: bool) -> Call:
    def run(given: Tensor, scores: Tensor, areas: Tensor, image: Tensor, sigmas: Tensor) -> Any:
        return ops.oks_nms(given, scores, areas, sigmas, 0.5, image_index=image, soft=soft, padded=True)

    return Call(run, people, atol=1e-7)


def boxes_call(method: str) -> Call:
    def run(given: Tensor, scores: Tensor, areas: Tensor, image: Tensor, sigmas: Tensor) -> Any:
        boxes = torch.cat([given[:, :3, :2].amin(1), given[:, :3, :2].amax(1)], 1)
        return ops.box_nms(boxes, scores, image % 3, image, method=method, min_score=0.1, most=9, padded=True)

    return Call(run, people, atol=1e-7)


CALLS: dict[str, Call] = {
    "affine_crop": Call(run_crop, crop_inputs, atol=0.02),
    "affine_crop backward": Call(run_crop_backward, crop_inputs, atol=0.02, rtol=1e-4),
    **{f"heatmap_decode {name}": decode_call(name, mirrored=False) for name in CODECS},
    **{f"heatmap_decode {name} mirrored": decode_call(name, mirrored=True) for name in CODECS},
    **{f"heatmap_encode {name}": encode_call(name) for name in CODECS},
    **{f"heatmap_loss {name}": loss_call(name) for name in CODECS},
    "heatmap_loss hardest": loss_call("gaussian", topk=5),
    "heatmap_loss given": loss_call("udp", given=True),
    "heatmap_loss combined given": loss_call("udp_combined", topk=5, given=True),
    **{f"simcc_decode {name}": vectors_decode_call(name, mirrored=False) for name in VECTORS},
    **{f"simcc_decode {name} mirrored": vectors_decode_call(name, mirrored=True) for name in VECTORS},
    **{f"simcc_encode {name}": vectors_encode_call(name) for name in VECTORS},
    **{f"simcc_loss {name}": vectors_loss_call(name) for name in VECTORS},
    "simcc_loss softmax": vectors_loss_call("rtmpose", beta=10.0, label_softmax=True),
    **{f"box_nms {method}": boxes_call(method) for method in ("hard", "linear", "gaussian")},
    "oks": Call(run_oks, people),
    "oks_nms": nms_call(soft=False),
    "oks_nms soft": nms_call(soft=True),
}
