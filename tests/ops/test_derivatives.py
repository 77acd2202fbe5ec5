"""Gradients in double precision against differences; what heatmap_loss does in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from heatmap_cases import suitable
from torch import Tensor

from fastpose import ops
from fastpose.codecs import Codec
from fastpose.ops import reference

SIZE = (32, 24)
KINDS = ("gaussian", "dark", "udp", "udp_combined", "megvii")


def given(kind: str) -> tuple[Codec, Tensor, Tensor, Tensor]:
    """Codec, maps [2,3,8,6] (three times as many for udp_combined) float64, points, weights."""
    codec = suitable(kind, heatmap_size=(8, 6), kernel_size=5, blur_kernel=3)
    points = torch.tensor([[[4.0, 9], [20, 28], [11, 3]], [[1, 1], [22, 15], [-90, 4]]])
    weights = torch.tensor([[1.0, 0.5, 1], [0, 1, 1]])
    maps = torch.rand(2, 9 if kind == "udp_combined" else 3, 8, 6, dtype=torch.float64)
    return codec, maps.requires_grad_(), points, weights


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


@pytest.mark.parametrize("topk", [None, 2])
@pytest.mark.parametrize("kind", KINDS)
def test_heatmap_loss_in_double_precision(kind: str, topk: int | None) -> None:
    codec, maps, points, weights = given(kind)

    def loss(x: Tensor) -> Tensor:
        result = ops.heatmap_loss(x, points, weights, codec, SIZE, ohkm_topk=topk)
        assert result.dtype is torch.float64
        return result

    assert torch.autograd.gradcheck(loss, maps, check_forward_ad=True, fast_mode=True)
    assert torch.autograd.gradgradcheck(loss, maps, check_fwd_over_rev=True, fast_mode=True)
    single = maps.detach().float().requires_grad_()
    value = ops.heatmap_loss(single, points, weights, codec, SIZE, ohkm_topk=topk)
    torch.testing.assert_close(value.double(), loss(maps), rtol=1e-5, atol=0)
    torch.testing.assert_close(
        torch.autograd.grad(value, single)[0].double(), torch.autograd.grad(loss(maps), maps)[0], rtol=1e-4, atol=1e-7
    )


def test_heatmap_loss_of_float64_arrays() -> None:
    codec, maps, points, weights = given("udp")
    array = maps.detach().numpy()
    value = ops.heatmap_loss(array, points.numpy(), weights.numpy(), codec, SIZE)
    assert isinstance(value, np.ndarray)
    assert value.dtype == np.float64
    assert value == reference.heatmap_loss(maps.detach(), points.double(), weights.double(), codec, SIZE).numpy()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"predicted": torch.zeros(2, 3, 8, 5)},
            r"predicted: expected shape .* = \[any, any, 8, 6\], got \[2, 3, 8, 5\]",
        ),
        ({"keypoints": torch.zeros(2, 2, 2)}, r"keypoints: expected shape \[B, K, 2\] = \[2, 3, 2\], got \[2, 2, 2\]"),
        ({"weights": torch.ones(3)}, r"weights: expected shape \[B, K\] = \[2, 3\], got \[3\]"),
        ({"keypoints": None}, "keypoints: expected either keypoints or target, got neither"),
        ({"target": torch.zeros(2, 3, 8, 6)}, "keypoints: expected either keypoints or target, got both"),
        ({"keypoints": None, "target": torch.zeros(2, 1, 8, 6)}, "target: expected shape"),
        ({"ohkm_topk": 4}, "ohkm_topk: expected 1 to 3 keypoints, got 4"),
    ],
)
@pytest.mark.parametrize("way", ["float64", "torch.func"])
def test_the_reference_is_reached_by_right_arguments_only(change: dict, message: str, way: str) -> None:
    codec, _, points, weights = given("udp")
    arguments = {"predicted": torch.zeros(2, 3, 8, 6), "keypoints": points, "weights": weights} | change
    maps = arguments.pop("predicted")
    if way == "float64":
        maps = maps.double()

    def loss(x: Tensor) -> Tensor:
        return ops.heatmap_loss(x, codec=codec, input_size=SIZE, **arguments)

    with pytest.raises(ValueError, match=message):
        (loss if way == "float64" else torch.func.grad(loss))(maps)


@pytest.mark.parametrize("kind", KINDS)
def test_the_second_derivative_of_float32_is_said_to_be_the_references(kind: str) -> None:
    """torch.func takes it from there; backward() refuses."""
    codec, maps, points, weights = given(kind)
    single = maps.detach().float()
    hessian = torch.func.hessian(lambda x: ops.heatmap_loss(x, points, weights, codec, SIZE))(single)
    wanted = torch.autograd.functional.hessian(
        lambda x: reference.heatmap_loss(x, points.double(), weights.double(), codec, SIZE), maps.detach()
    )
    torch.testing.assert_close(hessian.double(), wanted, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("border", ["constant", "replicate"])
def test_affine_crop_in_double_precision(border: str) -> None:
    photos = [torch.rand(5, 6, 3, dtype=torch.float64) * 255, torch.rand(4, 7, 3, dtype=torch.float64) * 255]
    for photo in photos:
        photo.requires_grad_()
    matrices = torch.tensor([[[0.8, 0.2, 0.3], [-0.1, 0.9, 0.4]], [[1.3, 0, -1], [0.2, 1.1, 0]]])
    options = {"size": (4, 3), "mean": 100.0, "std": 50.0, "border": border, "swap_rb": True, "dtype": torch.float64}

    def crop(*images: Tensor) -> Tensor:
        return ops.affine_crop(list(images), matrices, **options)

    # Samples lie at whole 1/2048 of a pixel between those that the arithmetic distinguishes; the map is linear.
    assert torch.autograd.gradcheck(crop, photos, eps=1.0, atol=1e-3)
    assert torch.autograd.gradcheck(lambda x: torch.func.vjp(crop, x, photos[1])[0], photos[:1], eps=1.0, atol=1e-3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"matrices": torch.ones(1, 3, 3)}, r"matrices: expected shape \[M, 2, 3\] = \[any, 2, 3\], got \[1, 3, 3\]"),
        ({"gain": torch.ones(1)}, r"gain: expected shape \[M, 3\] = \[1, 3\], got \[1\]"),
        ({"flip": torch.ones(2, dtype=torch.bool)}, r"flip: expected shape \[M\] = \[1\], got \[2\]"),
        ({"image_index": torch.zeros(1, 1, dtype=torch.int64)}, r"image_index: expected shape \[M\]"),
        ({"images": torch.ones(5, 6, 4)}, r"images: expected shape \[H, W, 3\] = \[any, any, 3\], got \[5, 6, 4\]"),
    ],
)
def test_so_for_affine_crop(change: dict, message: str) -> None:
    arguments = {"images": torch.ones(5, 6, 3), "matrices": torch.eye(2, 3)[None]} | change
    images = arguments.pop("images")
    with pytest.raises(ValueError, match=message):
        torch.func.grad(lambda x: ops.affine_crop(x, **arguments, size=(4, 4)).sum())(images)


def test_poses_that_miss_every_map() -> None:
    """The loss is 0 there, and so are its derivatives."""
    codec, maps, points, _ = given("gaussian")
    for x in (maps, maps.detach().float().requires_grad_()):
        value = ops.heatmap_loss(x, points - 1e4, torch.ones(2, 3), codec, SIZE)
        assert value == 0
        assert not torch.autograd.grad(value, x)[0].any()
