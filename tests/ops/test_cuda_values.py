"""Each op on CUDA against the CPU op and the torch reference: dtypes, options, borders, strange values, sizes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from cuda_calls import DEVICE, FLIP, SIGMAS, matrices, people, photos
from heatmap_cases import CODECS, HEATMAP, INPUT, KINDS, network_maps, poses, resized
from torch import Tensor

from fastpose import ops
from fastpose.codecs import Codec, build_codec
from fastpose.ops import reference

pytestmark = pytest.mark.cuda

OUTPUTS = {  # of a crop, and how far apart CPU and CUDA may be, in grey levels up to 255
    torch.uint8: 1.0,
    torch.float32: 0.02,
    torch.float64: 0.02,
    torch.float16: 0.15,
    torch.bfloat16: 1.05,
}
MAPS = (torch.float32, torch.float16, torch.bfloat16)
NAN, INF = float("nan"), float("inf")


def close(ours: Tensor, wanted: Tensor, atol: float, rtol: float = 1e-5) -> None:
    assert ours.device.type == DEVICE.type
    torch.testing.assert_close(ours.cpu(), wanted.cpu(), atol=atol, rtol=rtol, equal_nan=True)


def placed(tensor: Tensor, place: torch.device, skip: int) -> Tensor:
    """A contiguous copy that begins `skip` elements behind the beginning of an allocation."""
    memory = torch.empty(tensor.numel() + skip, dtype=tensor.dtype, device=place)
    return memory[skip:].view(tensor.shape).copy_(tensor)


# --- affine_crop ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("where", ["cpu", "device"])
@pytest.mark.parametrize("border", ["constant", "replicate"])
@pytest.mark.parametrize("kind", [torch.uint8, torch.float32, torch.float64])
@pytest.mark.parametrize("size", [(31, 23), (44, 80)])  # rows of any length, rows of whole vectors
@pytest.mark.parametrize("dtype", OUTPUTS)
def test_crop_dtypes(dtype: torch.dtype, size: tuple[int, int], kind: torch.dtype, border: str, where: str) -> None:
    images = [photos(i, 1, shape)[0].to(kind) for i, shape in enumerate([(50, 41), (3, 90), (1, 1), (64, 64)])]
    index = torch.arange(40) % 4
    crops = matrices(40, 3)
    options: dict[str, Any] = {"size": size, "border": border, "border_value": (9, 99, 199), "dtype": dtype}
    place = DEVICE if where == "device" else torch.device("cpu")
    for layout in ("nchw", "nhwc"):
        for antialias in (False, True):
            more = options | {"layout": layout, "antialias": antialias}
            ours = ops.affine_crop([i.to(DEVICE) for i in images], crops.to(place), index.to(place), **more)
            assert ours.dtype is dtype
            wanted = ops.affine_crop(images, crops, index, **more)
            close(ours.double(), wanted.double(), OUTPUTS[dtype], 0)


@pytest.mark.parametrize("size", [(33, 29), (72, 64)])
@pytest.mark.parametrize("antialias", [False, True])
def test_crop_against_the_reference(antialias: bool, size: tuple[int, int]) -> None:
    images, crops, index = photos(7).double(), matrices(12, 7), torch.arange(12) % 3
    gain, offset = torch.rand(12, 3) + 0.5, torch.rand(12, 3) * 20 - 10
    options: dict[str, Any] = {"size": size, "mean": (1.0, 2.0, 3.0), "std": (50.0, 60.0, 70.0), "swap_rb": True}
    options |= {"flip": torch.arange(12) % 2 == 0, "gain": gain, "offset": offset, "antialias": antialias}
    wanted = reference.affine_crop(images, crops, index, **options)
    moved = {key: value.to(DEVICE) if isinstance(value, Tensor) else value for key, value in options.items()}
    there = images.byte().to(DEVICE), crops.to(DEVICE), index.to(DEVICE)
    close(ops.affine_crop(*there, **moved), wanted.float(), 4e-4, 0)
    plain = {"size": size, "mean": 3.0, "std": 50.0, "antialias": antialias}
    close(ops.affine_crop(*there, **plain), reference.affine_crop(images, crops, index, **plain).float(), 2e-4, 0)


def test_crop_far_outside_and_matrices_that_cannot_be_used() -> None:
    image = photos(1)[:1]
    crops = matrices(8, 0)
    crops[0, :, 2] += 1e6
    crops[1, :, 2] = -1e18
    crops[2, :, :2] *= 1e-7
    crops[3, :, :2] *= 1e9
    index = torch.zeros(8, dtype=torch.int64)
    options: dict[str, Any] = {"size": (9, 7), "border_value": 50.0}
    wanted = ops.affine_crop(image, crops, index, **options)
    for place in (DEVICE, torch.device("cpu")):
        close(ops.affine_crop(image.to(DEVICE), crops.to(place), index.to(place), **options), wanted, 0.02)
    # What the CPU refuses is all border where looking would mean waiting.
    broken, unknown = crops[4:].clone(), torch.tensor([0, 0, 1, -1])
    broken[0] = 0
    broken[1, 0, 0] = NAN
    ours = ops.affine_crop(image.to(DEVICE), broken.to(DEVICE), unknown.to(DEVICE), **options)
    assert (ours == 50).all()
    with pytest.raises(ValueError, match="matrices"):
        ops.affine_crop(image.to(DEVICE), broken, index[:4], **options)


# Widths of whole vectors and others, crops of less than a tile of the kernel and of several.
@pytest.mark.parametrize("size", [(1, 1), (3, 5), (45, 67), (64, 48), (1, 2049)])
@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
@pytest.mark.parametrize("dtype", OUTPUTS)
def test_crop_stores_every_element_and_no_other(dtype: torch.dtype, layout: str, size: tuple[int, int]) -> None:
    images, crops, index = photos(3), matrices(5, 9), torch.arange(5) % 3
    gain, flip = torch.rand(5, 3) + 0.5, torch.arange(5) % 2 == 0
    options: dict[str, Any] = {"size": size, "layout": layout, "swap_rb": True, "mean": 3.0, "dtype": dtype}
    wanted = ops.affine_crop(images, crops, index, flip=flip, gain=gain, **options)
    there = images.to(DEVICE)
    for skip in (0, 1, 2, 3, 5, 8, 15):
        for place in (DEVICE, torch.device("cpu")):
            memory = torch.full((skip + wanted.numel() + 16,), 77, dtype=dtype, device=DEVICE)
            out = memory[skip : skip + wanted.numel()].view(wanted.shape)
            moved = {"flip": flip.to(place), "gain": gain.to(place)}
            ops.affine_crop(there, crops.to(place), index.to(place), out=out, **moved, **options)
            close(out.double(), wanted.double(), OUTPUTS[dtype], 0)
            assert (memory[:skip] == 77).all()
            assert (memory[skip + wanted.numel() :] == 77).all()


# More than the arguments of one launch hold: 285 crops, 1000 photos.
@pytest.mark.parametrize("count", [120, 300, 1100])
def test_crops_of_many_photos_in_several_launches(count: int) -> None:
    images = [photos(i, 1, (20 + i % 7, 30))[0] for i in range(count)]
    index = torch.randperm(count, generator=torch.Generator().manual_seed(0))
    crops = matrices(count, 1)
    wanted = ops.affine_crop(images, crops, index, size=(16, 12))
    for place in (DEVICE, torch.device("cpu")):
        ours = ops.affine_crop([i.to(DEVICE) for i in images], crops.to(place), index.to(place), size=(16, 12))
        close(ours, wanted, 0.02)


def test_more_crops_than_a_grid_has_rows() -> None:
    images, crops, index = photos(4), matrices(70_000, 2), torch.arange(70_000) % 3
    wanted = ops.affine_crop(images, crops, index, size=(2, 3))
    ours = ops.affine_crop(images.to(DEVICE), crops.to(DEVICE), index.to(DEVICE), size=(2, 3))
    close(ours, wanted, 0.02)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("border", ["constant", "replicate"])
def test_crop_gradient(dtype: torch.dtype, border: str) -> None:
    crops, index = matrices(9, 4), torch.arange(9) % 3
    slope = torch.rand((9, 3, 21, 17), generator=torch.Generator().manual_seed(2), dtype=dtype)
    gradients = []
    for place in (DEVICE, torch.device("cpu")):
        leaf = photos(2).to(place, dtype).requires_grad_()
        options: dict[str, Any] = {"size": (21, 17), "antialias": True, "dtype": dtype, "std": 2.0, "border": border}
        ops.affine_crop(leaf, crops.to(place), index.to(place), **options).backward(slope.to(place))
        gradients.append(leaf.grad)
    close(gradients[0], gradients[1], 1e-3 if dtype is torch.float32 else 1e-9, 1e-4)


# --- heatmaps -------------------------------------------------------------------------------------------------------
def strange_maps(codec: Codec) -> Tensor:
    """Maps of NaN, of infinities, of one value, below zero, huge, tiny, with peaks on borders and corners."""
    maps = network_maps(codec, 4, 17, 11)
    flat = maps.view(4, 17, -1)
    flat[0, 0], flat[0, 1], flat[0, 2] = NAN, -INF, 0.0
    flat[0, 3], flat[0, 4], flat[0, 5] = 1.0, -1.0, flat[0, 5] * 1e30
    flat[0, 6], flat[0, 7] = flat[0, 7] * 1e-30, flat[0, 7] - 10
    flat[0, 8, ::7] = NAN
    flat[0, 9, 100] = INF
    grid = maps.view(4, -1, *HEATMAP)[:, :17]
    for i, (y, x) in enumerate(((0, 0), (0, 47), (63, 0), (63, 47), (0, 20), (63, 20), (30, 0), (30, 47), (1, 1))):
        grid[1, i] *= 0.01
        grid[1, i, y, x] = 2.0
    return maps


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("dtype", MAPS)
@pytest.mark.parametrize("name", CODECS)
def test_decode(name: str, dtype: torch.dtype, mirrored: bool) -> None:
    codec = CODECS[name]
    maps = network_maps(codec, 5, 17, 1).to(dtype)
    more: dict[str, Any] = {}
    if mirrored:
        more = {"flipped": network_maps(codec, 5, 17, 2).to(dtype), "flip_index": FLIP}
    moved = {key: value.to(DEVICE) for key, value in more.items()}
    for shift in (False, True) if mirrored else (False,):
        ours = ops.heatmap_decode(maps.to(DEVICE), codec, INPUT, flip_shift=shift, **moved)
        wanted = ops.heatmap_decode(maps, codec, INPUT, flip_shift=shift, **more)
        # Logarithms of a float32 blur: see the CPU's tests.
        close(ours[0], wanted[0], 5e-3)
        close(ours[1], wanted[1], 1e-5)
    if dtype is torch.float32:
        exact = reference.heatmap_decode(
            maps.double(), codec, INPUT, **{k: v.double() if v.is_floating_point() else v for k, v in more.items()}
        )
        found = ops.heatmap_decode(maps.to(DEVICE), codec, INPUT, **moved)
        close(found[0], exact[0].float(), 0.05, 1e-4)


# Rows of whole vectors of 2 or 4 bytes each, and others; maps that begin on 16 bytes, and others.
@pytest.mark.parametrize("size", [(5, 16), (40, 24), (7, 12), (6, 4), (9, 13)])
@pytest.mark.parametrize("dtype", MAPS)
@pytest.mark.parametrize("name", KINDS)
def test_decode_of_mirrored_maps(name: str, dtype: torch.dtype, size: tuple[int, int]) -> None:
    codec, input_size = resized(KINDS[name], size), (size[0] * 4, size[1] * 4)
    maps, flipped = (network_maps(codec, 3, 17, seed).to(dtype) for seed in (4, 5))
    for shift in (False, True):
        options: dict[str, Any] = {"flip_index": FLIP.tolist(), "flip_shift": shift}
        wanted = ops.heatmap_decode(maps, codec, input_size, flipped=flipped, **options)
        for skips in ((0, 0), (0, 1), (1, 0), (8, 8)):
            plain, mirrored = (placed(each, DEVICE, skip) for each, skip in zip((maps, flipped), skips, strict=True))
            ours = ops.heatmap_decode(plain, codec, input_size, flipped=mirrored, **options)
            close(ours[0], wanted[0], 0.02)
            close(ours[1], wanted[1], 1e-5)


@pytest.mark.parametrize("name", KINDS)
def test_decode_of_strange_maps(name: str) -> None:
    codec = KINDS[name]
    maps = strange_maps(codec)
    ours, wanted = ops.heatmap_decode(maps.to(DEVICE), codec, INPUT), ops.heatmap_decode(maps, codec, INPUT)
    close(ours[1], wanted[1], 1e-5)
    close(ours[0], wanted[0], 0.02, 1e-4)


@pytest.mark.parametrize("size", [(2, 2), (3, 5), (17, 9), (96, 72), (128, 128)])
@pytest.mark.parametrize("name", KINDS)
def test_heatmaps_of_other_sizes(name: str, size: tuple[int, int]) -> None:
    codec, input_size = resized(KINDS[name], size), (size[0] * 4, size[1] * 4)
    maps = network_maps(codec, 2, 3, 6)
    ours = ops.heatmap_decode(maps.to(DEVICE), codec, input_size)
    close(ours[0], ops.heatmap_decode(maps, codec, input_size)[0], 0.02)
    points, visible = poses(2, 3, 5, input_size)
    limit = 3e-4 if name == "megvii" else 1e-5
    ours = ops.heatmap_encode(points.to(DEVICE), visible.to(DEVICE), codec, input_size)
    wanted = ops.heatmap_encode(points, visible, codec, input_size)
    close(ours[0], wanted[0], limit)
    close(ours[1], wanted[1], 0, 0)
    check_loss(codec, input_size, maps, points, visible)


def strange_points() -> tuple[Tensor, Tensor]:
    points, visible = poses(3, 17, 8)
    special = [NAN, INF, -INF, 1e30, -1e30, 0.0, -0.0, 191.5, 255.5, -24.0, 1e-30, 2.0**31, -(2.0**31)]
    for i, value in enumerate(special):
        points[0, i, 0] = value
        points[1, i, 1] = value
        points[2, i] = value
    visible[0, :5] = torch.tensor([NAN, INF, -1.0, 0.5, 0.4999])
    return points, visible


@pytest.mark.parametrize("name", CODECS)
def test_encode_of_strange_points(name: str) -> None:
    points, visible = strange_points()
    ours = ops.heatmap_encode(points.to(DEVICE), visible.to(DEVICE), CODECS[name], INPUT)
    wanted = ops.heatmap_encode(points, visible, CODECS[name], INPUT)
    close(ours[0], wanted[0], 3e-4 if name.startswith("megvii") else 1e-5)
    close(ours[1], wanted[1], 0, 0)


def check_loss(
    codec: Codec, size: tuple[int, int], predicted: Tensor, points: Tensor, weights: Tensor, **more: Any
) -> None:
    """Value and gradient on both devices."""
    results = []
    for place in (DEVICE, torch.device("cpu")):
        leaf = predicted.detach().to(place).requires_grad_()
        loss = ops.heatmap_loss(leaf, points.to(place), weights.to(place), codec, size, **more)
        (loss * 3).backward()
        results.append((loss.detach(), leaf.grad))
    (loss, gradient), (wanted, slope) = results
    close(loss, wanted, 1e-7, 1e-5)
    step = {torch.float32: 1e-4, torch.float16: 2e-3, torch.bfloat16: 1.6e-2}[predicted.dtype]
    close(gradient.float(), slope.float(), step * float(slope.abs().nan_to_num(0, 0, 0).max()) + 1e-12, step)


@pytest.mark.parametrize("topk", [None, 1, 8])
@pytest.mark.parametrize("dtype", MAPS)
@pytest.mark.parametrize("name", KINDS)
def test_loss(name: str, dtype: torch.dtype, topk: int | None) -> None:
    codec = KINDS[name]
    points, visible = poses(4, 17, 2)
    check_loss(codec, INPUT, network_maps(codec, 4, 17, 3).to(dtype), points, visible.clamp(max=1), ohkm_topk=topk)


@pytest.mark.parametrize("given", [None, torch.float32, "same"])
@pytest.mark.parametrize("dtype", MAPS)
@pytest.mark.parametrize("name", KINDS)
def test_loss_wherever_maps_begin(name: str, dtype: torch.dtype, given: torch.dtype | str | None) -> None:
    for size in ((16, 24), (9, 13)):
        codec, input_size = resized(KINDS[name], size), (size[0] * 4, size[1] * 4)
        points, visible = poses(3, 17, 2, input_size)
        weights = visible.clamp(max=1)
        predicted, target = (network_maps(codec, 3, 17, seed) for seed in (3, 4))
        target = target.to(dtype if given == "same" else torch.float32)
        results = []
        for place, skips in ((torch.device("cpu"), (0, 0)), (DEVICE, (0, 0)), (DEVICE, (1, 0)), (DEVICE, (0, 1))):
            leaf = placed(predicted.to(dtype), place, skips[0]).requires_grad_()
            options: dict[str, Any] = {"target": placed(target, place, skips[1])} if given else {}
            loss = ops.heatmap_loss(
                leaf, None if given else points.to(place), weights.to(place), codec, input_size, **options
            )
            loss.backward()
            assert leaf.grad is not None
            results.append((loss.detach(), leaf.grad.float()))
        wanted = results[0][1]
        step = {torch.float32: 1e-4, torch.float16: 2e-3, torch.bfloat16: 1.6e-2}[dtype]
        for loss, gradient in results[1:]:
            close(loss, results[0][0], 1e-7, 1e-5)
            close(gradient, wanted, step * float(wanted.abs().max()) + 1e-7 * (dtype is torch.float16), step)


@pytest.mark.parametrize("size", [(16, 24), (9, 13)])
@pytest.mark.parametrize("name", KINDS)
def test_encode_wherever_maps_begin(name: str, size: tuple[int, int]) -> None:
    codec, input_size = resized(KINDS[name], size), (size[0] * 4, size[1] * 4)
    points, visible = poses(3, 17, 5, input_size)
    wanted = ops.heatmap_encode(points, visible, codec, input_size)[0]
    for skip in (0, 1, 2):
        out = placed(torch.full_like(wanted, NAN), DEVICE, skip)
        ops.heatmap_encode(points.to(DEVICE), visible.to(DEVICE), codec, input_size, out=out)
        close(out, wanted, 3e-4 if name == "megvii" else 1e-5)


@pytest.mark.parametrize("name", KINDS)
def test_loss_of_strange_values(name: str) -> None:
    codec = KINDS[name]
    points, visible = strange_points()
    check_loss(codec, INPUT, network_maps(codec, 3, 17, 3), points, visible.nan_to_num(0, 1, 0))
    broken = network_maps(codec, 3, 17, 3)
    broken[1, :, 5, 7] = NAN
    loss = ops.heatmap_loss(broken.to(DEVICE), poses(3, 17)[0].to(DEVICE), None, codec, INPUT)
    assert loss.isnan()


def test_loss_against_the_reference() -> None:
    for name, codec in KINDS.items():
        maps, (points, visible) = network_maps(codec, 2, 17, 4), poses(2, 17, 4)
        weights = visible.clamp(max=1)
        wanted = reference.heatmap_loss(maps.double(), points.double(), weights.double(), codec, INPUT)
        ours = ops.heatmap_loss(maps.to(DEVICE), points.to(DEVICE), weights.to(DEVICE), codec, INPUT)
        torch.testing.assert_close(ours.cpu().double(), wanted, rtol=1e-4, atol=1e-9, msg=lambda m, n=name: f"{n}: {m}")


# --- poses ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_oks_of_strange_poses(dtype: torch.dtype) -> None:
    given, _, areas, _, _ = people(0, 30)
    given = given.to(dtype)
    given[0, 0, 0], given[1, :, 1], given[2] = NAN, INF, 1e30
    areas[3], areas[4], areas[5] = 0, -5, NAN
    visible = given[..., 1] > 50
    ours = ops.oks(given.to(DEVICE), given.to(DEVICE), areas, SIGMAS, visible=visible, areas_b=areas)
    wanted = ops.oks(given, given, areas, SIGMAS, visible=visible, areas_b=areas)
    close(ours, wanted, 1e-6 if dtype is torch.float32 else 1e-12)


def test_oks_nms_of_strange_scores() -> None:
    given, scores, areas, image, _ = people(1, 200)
    scores[:4] = torch.tensor([NAN, INF, -INF, 0.0])
    scores[10:60] = 0.5
    given[7] = NAN
    for soft in (False, True):
        options: dict[str, Any] = {"image_index": image, "soft": soft, "padded": True, "max_per_image": 7}
        ours = ops.oks_nms(given.to(DEVICE), scores, areas, SIGMAS, 0.5, **options)
        wanted = ops.oks_nms(given, scores, areas, SIGMAS, 0.5, **options)
        np.testing.assert_array_equal((ours[0] if soft else ours).cpu(), wanted[0] if soft else wanted)


# --- sizes ----------------------------------------------------------------------------------------------------------
def test_nothing_at_all() -> None:
    codec = CODECS["gaussian"]
    empty = torch.empty(0, 17, *HEATMAP, device=DEVICE)
    none = torch.empty(0, 17, 2, device=DEVICE)
    assert ops.heatmap_decode(empty, codec, INPUT)[0].shape == (0, 17, 2)
    assert ops.heatmap_encode(none, none[..., 0], codec, INPUT)[0].shape == (0, 17, *HEATMAP)
    assert float(ops.heatmap_loss(empty, none, None, codec, INPUT)) == 0
    assert ops.oks(none, none, [], SIGMAS).shape == (0, 0)
    assert ops.oks(none, torch.zeros(3, 17, 2, device=DEVICE), [], SIGMAS).shape == (0, 3)
    assert ops.oks_nms(none, [], [], SIGMAS).shape == (0,)
    assert ops.box_nms(torch.zeros(0, 4, device=DEVICE), []).shape == (0,)
    crops = ops.affine_crop(photos(0).to(DEVICE), torch.empty(0, 2, 3), torch.empty(0, dtype=torch.int64), size=(4, 5))
    assert crops.shape == (0, 3, 4, 5)


def test_more_maps_than_a_grid_has_blocks() -> None:
    codec = build_codec("dark", heatmap_size=(8, 6))
    maps = network_maps(codec, 200, 17, 1)
    many = maps.repeat(25, 1, 1, 1).to(DEVICE)  # 85000 maps
    points, scores = ops.heatmap_decode(many, codec, (32, 24))
    wanted = ops.heatmap_decode(maps, codec, (32, 24))
    close(points, wanted[0].repeat(25, 1, 1), 5e-3)
    close(scores, wanted[1].repeat(25, 1), 1e-5)


def test_more_than_two_to_the_31_elements() -> None:
    if torch.cuda.get_device_properties(DEVICE).total_memory < 60 << 30:
        pytest.skip("less than 60 GiB of memory")
    codec = CODECS["gaussian"]
    points, visible = poses(8, 17, 3)
    copies = 2**31 // (8 * 17 * HEATMAP[0] * HEATMAP[1]) + 1
    maps, weights = ops.heatmap_encode(
        points.repeat(copies, 1, 1).to(DEVICE), visible.repeat(copies, 1).to(DEVICE), codec, INPUT
    )
    assert maps.numel() > 2**31
    wanted = ops.heatmap_encode(points, visible, codec, INPUT)
    for part in (slice(0, 8), slice(-8, None)):
        close(maps[part], wanted[0], 1e-5)
    found = ops.heatmap_decode(maps, codec, INPUT)
    close(found[0][-8:], ops.heatmap_decode(wanted[0], codec, INPUT)[0], 1e-3)
    leaf = maps.add_(0.25).requires_grad_()
    # Where the weight is 0 nothing is looked at; elsewhere each pixel is a quarter off.
    loss = ops.heatmap_loss(leaf, points.repeat(copies, 1, 1).to(DEVICE), weights, codec, INPUT)
    (gradient,) = torch.autograd.grad(loss, leaf)
    torch.testing.assert_close(loss.detach().cpu(), 0.0625 * wanted[1].mean(), rtol=1e-4, atol=0)
    slope = 2 * 0.25 / maps.numel()
    expected = slope * (weights[-8:, :, None, None] > 0).expand_as(gradient[-8:])
    torch.testing.assert_close(gradient[-8:], expected.float(), rtol=1e-3, atol=0)
