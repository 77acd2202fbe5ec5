"""simcc_encode, simcc_decode and simcc_loss against their references in torch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from fastpose import ops
from fastpose.codecs import SimCC
from fastpose.ops import reference
from fastpose.ops._native import C

SIZE = (64, 48)
CODECS = {
    "rtmpose": SimCC(sigma=(4.9, 5.66), normalized=False),
    "simcc": SimCC(),
    "narrow": SimCC(sigma=(0.4, 90.0), split_ratio=1.5),
    "one_hot": SimCC(smoothing="standard"),
    "smoothed": SimCC(smoothing="standard", label_smoothing=0.1, split_ratio=0.9),
    "dark": SimCC(sigma=(4.9, 5.66), normalized=False, dark=True),
    "visibility": SimCC(sigma=(6.0, 6.93), normalized=False, visibility=True),
}
RTMPOSE = {"beta": 10.0, "label_softmax": True}
LOSSES: dict[str, dict[str, Any]] = {
    "plain": {},
    "rtmpose": RTMPOSE,
    "rtmw": {"beta": 1.0, "label_softmax": True, "label_beta": 10.0},
}


@pytest.fixture(params=C.build_info()["simd_supported"])
def level(request: pytest.FixtureRequest) -> Iterator[str]:
    """Each level of SIMD that this processor has."""
    C.set_simd_level(request.param)
    yield request.param
    C.set_simd_level("")


def drawn(codec: SimCC, batch: int, keypoints: int, dtype: torch.dtype, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Vectors with a hill each, some noise, and some that are nowhere above zero."""
    generator = torch.Generator().manual_seed(seed)
    vectors = []
    for size in codec.sizes(SIZE):
        middle = torch.rand(batch, keypoints, 1, generator=generator) * size
        hill = torch.exp(-((torch.arange(size) - middle) ** 2) / 60)
        noise = torch.rand(batch, keypoints, size, generator=generator) * 0.05
        height = torch.rand(batch, keypoints, 1, generator=generator) * 1.2 - 0.1
        vectors.append(((hill + noise) * height).to(dtype))
    return vectors[0], vectors[1]


def points_of(batch: int, keypoints: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Keypoints inside, on the border, far away and nowhere; and how visible each is."""
    generator = torch.Generator().manual_seed(seed)
    points = torch.rand(batch, keypoints, 2, generator=generator) * torch.tensor([SIZE[1] + 40.0, SIZE[0] + 40.0]) - 20
    if points.numel():
        points[0, 0] = torch.tensor([float("nan"), 3.0])
        points[-1, -1] = torch.tensor([1e30, 3.0])
        points[0, -1] = torch.tensor([0.25, SIZE[0] - 0.25])
    return points, torch.randint(0, 3, (batch, keypoints), generator=generator) / 2


@pytest.mark.parametrize("name", CODECS)
@pytest.mark.parametrize("people", [(3, 5), (1, 1), (0, 4), (2, 0)])
def test_encode(name: str, people: tuple[int, int], level: str) -> None:
    codec = CODECS[name]
    points, visible = points_of(*people)
    factors = torch.rand(people[1])
    for given in (None, factors):
        ours = ops.simcc_encode(points, visible, codec, SIZE, joint_weights=given)
        wanted = reference.simcc_encode(points, visible, codec, SIZE, joint_weights=given)
        for mine, expected in zip(ours, wanted, strict=True):
            torch.testing.assert_close(mine, expected, rtol=1e-5, atol=1e-7)
    arrays = ops.simcc_encode(points.numpy(), visible.numpy(), codec, SIZE)
    for mine, expected in zip(arrays, ops.simcc_encode(points, visible, codec, SIZE), strict=True):
        np.testing.assert_array_equal(mine, expected.numpy())


@pytest.mark.parametrize("name", CODECS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("flip", [False, True])
def test_decode(name: str, dtype: torch.dtype, flip: bool, level: str) -> None:
    codec = CODECS[name]
    for people in ((3, 5), (1, 1), (0, 4)):
        x, y = drawn(codec, *people, dtype)
        index = torch.tensor([*range(1, people[1]), 0])
        options: dict[str, Any] = {}
        if flip:
            options = {"flipped": drawn(codec, *people, dtype, seed=1), "flip_index": index}
        matrices = torch.rand(people[0], 2, 3, dtype=torch.float64)
        for inverse in (None, matrices):
            ours = ops.simcc_decode(x, y, codec, SIZE, inverse=inverse, **options)
            wanted = reference.simcc_decode(x, y, codec, SIZE, inverse=inverse, **options)
            torch.testing.assert_close(ours[1], wanted[1], rtol=1e-6, atol=1e-7)
            torch.testing.assert_close(ours[0], wanted[0], rtol=1e-4, atol=2e-3 if codec.dark else 1e-4)
            assert (ours[2] is None) == (wanted[2] is None) == (not codec.visibility)
            if codec.visibility:
                torch.testing.assert_close(ours[2], wanted[2], rtol=1e-4, atol=1e-6)


def test_decode_of_what_is_no_number(level: str) -> None:
    codec = CODECS["rtmpose"]
    x, y = drawn(codec, 2, 40, torch.float32)
    for vectors in (x, y):
        vectors[0, ::3, ::5] = float("nan")
        vectors[0, ::4, 7] = float("inf")
        vectors[1, ::2] = -float("inf")
        vectors[1, ::7] = float("nan")
        vectors[1, 5, 9:90:9] = 2.0
    ours, wanted = (function(x, y, codec, SIZE) for function in (ops.simcc_decode, reference.simcc_decode))
    assert torch.equal(ours[0], wanted[0])
    assert torch.equal(ours[1], wanted[1])


def test_memory_in_any_order() -> None:
    codec = CODECS["visibility"]
    x, y = drawn(codec, 3, 5, torch.float32)
    expected = ops.simcc_decode(x, y, codec, SIZE)
    spread = [torch.stack([part, part + 1], -1)[..., 0] for part in (x, y)]
    found = ops.simcc_decode(*spread, codec, SIZE)
    turned = ops.simcc_decode(x.transpose(0, 1).contiguous().transpose(0, 1), y, codec, SIZE)
    for mine, other, wanted in zip(found, turned, expected, strict=True):
        assert torch.equal(mine, wanted)
        assert torch.equal(other, wanted)
    arrays = ops.simcc_decode(x.numpy()[:, ::-1], y.numpy()[:, ::-1], codec, SIZE)
    np.testing.assert_array_equal(arrays[0][:, ::-1], expected[0].numpy())


@pytest.mark.parametrize("name", [name for name in CODECS if name != "dark"])
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_loss(name: str, loss: str, dtype: torch.dtype, level: str) -> None:
    codec, values = CODECS[name], LOSSES[loss]
    for people in ((3, 5), (1, 1), (0, 4), (2, 0)):
        points, weights = points_of(*people)
        x, y = (part.clone().requires_grad_() for part in drawn(codec, *people, dtype))
        with torch.no_grad():
            for part in (x, y):  # what has no weight is not looked at
                part[weights == 0] = float("nan")
        each = torch.rand(people[1])
        for factors in (None, each):
            options = {**values, "keypoint_weights": factors}
            ours = ops.simcc_loss((x, y), points, weights, codec, SIZE, **options)
            wanted = reference.simcc_loss((x, y), points, weights, codec, SIZE, **options)
            torch.testing.assert_close(ours, wanted, rtol=2e-5, atol=1e-7)
            assert torch.equal(ours, ops.simcc_loss((x.detach(), y.detach()), points, weights, codec, SIZE, **options))
            mine, expected = (torch.autograd.grad(value * 3, (x, y)) for value in (ours, wanted))
            coarse = {torch.float32: 1e-4, torch.float16: 2e-3, torch.bfloat16: 1e-2}[dtype]
            for a, b in zip(mine, expected, strict=True):
                torch.testing.assert_close(a, b, rtol=coarse, atol=coarse * (b.abs().max().item() if b.numel() else 1))


def test_gradients_in_float64() -> None:
    codec = CODECS["rtmpose"]
    points, weights = points_of(2, 3)
    x, y = (part.double().requires_grad_() for part in drawn(codec, 2, 3, torch.float32))
    assert torch.autograd.gradcheck(
        lambda a, b: ops.simcc_loss((a, b), points, weights, codec, SIZE, **RTMPOSE), (x, y)
    )  # fmt: skip


def test_a_second_derivative_is_refused() -> None:
    codec = CODECS["rtmpose"]
    points, weights = points_of(2, 3)
    x, y = (part.requires_grad_() for part in drawn(codec, 2, 3, torch.float32))
    (gradient,) = torch.autograd.grad(ops.simcc_loss((x, y), points, weights, codec, SIZE), x, create_graph=True)
    with pytest.raises(RuntimeError, match="simcc_loss is differentiable once"):
        gradient.sum().backward()


def _loss(x: Tensor, y: Tensor, points: Tensor, weights: Tensor) -> Tensor:
    return ops.simcc_loss((x, y), points, weights, CODECS["rtmpose"], SIZE, **RTMPOSE)


def _decode(x: Tensor, y: Tensor, points: Tensor, weights: Tensor) -> Any:
    codec = CODECS["visibility"]
    return ops.simcc_decode(x, y, codec, SIZE, flipped=(x, y), flip_index=torch.tensor([1, 0, 2]))


def _encode(x: Tensor, y: Tensor, points: Tensor, weights: Tensor) -> Any:
    return ops.simcc_encode(points, weights, CODECS["rtmpose"], SIZE)


@pytest.mark.parametrize("function", [_loss, _decode, _encode])
def test_compiled(function: Callable[..., Any]) -> None:
    x, y = drawn(CODECS["rtmpose"], 2, 3, torch.float32)
    points, weights = points_of(2, 3)
    wanted = function(x, y, points, weights)
    found = torch.compile(function, fullgraph=True, backend="aot_eager")(x, y, points, weights)
    torch.testing.assert_close(found, wanted)
    if function is _loss:
        gradients = []
        for call in (function, torch.compile(function, fullgraph=True, backend="aot_eager")):
            parts = [part.clone().requires_grad_() for part in (x, y)]
            call(*parts, points, weights).backward()
            gradients.append([part.grad for part in parts])
        torch.testing.assert_close(gradients[0], gradients[1])


def test_opcheck() -> None:
    from fastpose.ops._codec import vector_values

    codec = CODECS["visibility"]
    values = vector_values(codec, SIZE)
    x, y = drawn(codec, 2, 3, torch.float32)
    points, weights = points_of(2, 3)
    torch.library.opcheck(torch.ops.fastpose.simcc_encode, (points, weights, None, *values))
    index = torch.tensor([1, 0, 2])
    torch.library.opcheck(torch.ops.fastpose.simcc_decode, (x, y, None, None, None, None, *values))
    inverse = torch.rand(2, 2, 3, dtype=torch.float64)
    torch.library.opcheck(torch.ops.fastpose.simcc_decode, (x, y, x.clone(), y.clone(), index, inverse, *values))
    arguments = (points, weights, torch.rand(3), 10.0, True, 10.0, False, *values)
    torch.library.opcheck(torch.ops.fastpose.simcc_loss, (x, y, *arguments))


def test_wrong_arguments_are_named() -> None:
    codec, (x, y) = CODECS["rtmpose"], drawn(CODECS["rtmpose"], 2, 3, torch.float32)
    points, weights = points_of(2, 3)
    for call, error, message in (
        (lambda: ops.simcc_decode(x, y[:, :2], codec, SIZE), ValueError, r"y: expected shape \[B, K, H\]"),
        (lambda: ops.simcc_decode(x.long(), y.long(), codec, SIZE), TypeError, "x: expected dtype float16"),
        (lambda: ops.simcc_decode(x, y, codec, SIZE, flipped=(x, y)), ValueError, "flip_index"),
        (
            lambda: ops.simcc_decode(x, y, codec, SIZE, flipped=(x, y), flip_index=[0, 1, 3]),
            ValueError,
            "flip_index: expected indices from 0 to 2, got 3",
        ),
        (lambda: ops.simcc_decode(x, y, codec, (64, 64)), ValueError, r"x: expected shape"),
        (lambda: ops.simcc_decode(x.requires_grad_(), y, codec, SIZE), TypeError, "x: simcc_decode has no gradient"),
        (lambda: ops.simcc_encode(points, weights[:, :1], codec, SIZE), ValueError, "visible: expected shape"),
        (lambda: ops.simcc_loss((x, y), points[:1], weights, codec, SIZE), ValueError, "keypoints: expected shape"),
        (lambda: ops.simcc_loss((x, y), points, weights, object(), SIZE), TypeError, "codec: expected a codec"),  # type: ignore[arg-type]
    ):
        with pytest.raises(error, match=message):
            call()
        x.requires_grad_(False)
