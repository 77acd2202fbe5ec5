"""heatmap_loss against its oracle, figures that MMPose gave, and a value worked out by hand."""

from __future__ import annotations

import ctypes
import gc
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from heatmap_cases import CODECS, INPUT, KINDS, at_simd_levels, poses, resized
from hypothesis import given, settings
from hypothesis import strategies as st

from fastpose import ops
from fastpose.codecs import Codec, build_codec
from fastpose.ops import reference
from fastpose.ops._codec import codec_values


def predicted_for(codec: Codec, batch: int, keypoints: int, seed: int = 0) -> torch.Tensor:
    height, width = codec.heatmap_size or (1, 1)
    shape = (batch, codec.output_channels(keypoints), height, width)
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def value_and_gradient(
    module: Any, predicted: torch.Tensor, *arguments: Any, **options: Any
) -> tuple[float, torch.Tensor]:
    leaf = predicted.clone().requires_grad_()
    loss = module.heatmap_loss(leaf, *arguments, **options)
    loss.backward()
    assert leaf.grad is not None
    return loss.item(), leaf.grad


def same(got: tuple[float, torch.Tensor], wanted: tuple[float, torch.Tensor], rtol: float = 2e-6) -> None:
    assert got[0] == pytest.approx(wanted[0], rel=rtol, abs=1e-12)
    assert got[1].dtype == wanted[1].dtype
    scale = float(wanted[1].abs().max())
    torch.testing.assert_close(got[1], wanted[1], rtol=rtol, atol=rtol * scale)


@pytest.mark.parametrize("name", CODECS)
@pytest.mark.parametrize("size", [(64, 48), (46, 46), (7, 33), (3, 2)])
@pytest.mark.parametrize("topk", [None, 3])
def test_equals_the_oracle(name: str, size: tuple[int, int], topk: int | None) -> None:
    codec = resized(CODECS[name], size)
    points, weights = poses(3, 5, seed=1)
    predicted = predicted_for(codec, 3, 5)
    for given_weights in (weights, None):
        arguments = (predicted, points, given_weights, codec, INPUT)
        same(
            value_and_gradient(ops, *arguments, ohkm_topk=topk),
            value_and_gradient(reference, *arguments, ohkm_topk=topk),
        )
        without = ops.heatmap_loss(*arguments, ohkm_topk=topk)
        assert without.item() == pytest.approx(value_and_gradient(ops, *arguments, ohkm_topk=topk)[0], rel=1e-6)


@pytest.mark.parametrize("name", ["gaussian", "dark", "udp", "megvii"])
def test_equals_encode_and_mse(name: str) -> None:
    points, visible = poses(4, 6, seed=2)
    joint_weights = torch.linspace(0.5, 1.5, 6)
    target, weights = ops.heatmap_encode(points, visible, KINDS[name], INPUT, joint_weights=joint_weights)
    predicted = predicted_for(KINDS[name], 4, 6).requires_grad_()
    expected = (F.mse_loss(predicted, target, reduction="none") * weights[..., None, None]).mean()
    expected.backward()
    same(
        value_and_gradient(ops, predicted.detach(), points, weights, KINDS[name], INPUT),
        (expected.item(), predicted.grad),  # type: ignore[arg-type]
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("kind", ["udp", "udp_combined"])
@pytest.mark.parametrize("topk", [None, 2])
def test_given_target_and_half_precision(dtype: torch.dtype, kind: str, topk: int | None) -> None:
    codec = KINDS[kind]
    points, weights = poses(2, 5)
    predicted = predicted_for(codec, 2, 5).to(dtype)
    target = predicted_for(codec, 2, 5, seed=9)
    rtol = {torch.float32: 2e-6, torch.float16: 2e-3, torch.bfloat16: 1e-2}[dtype]
    for other in (target, target.to(dtype)):
        arguments, options = (predicted, None, weights, codec, INPUT), {"target": other, "ohkm_topk": topk}
        same(value_and_gradient(ops, *arguments, **options), value_and_gradient(reference, *arguments, **options), rtol)
    arguments = (predicted, points, weights, codec, INPUT)
    same(
        value_and_gradient(ops, *arguments, ohkm_topk=topk),
        value_and_gradient(reference, *arguments, ohkm_topk=topk),
        rtol,
    )


def test_scaled_loss_of_float16_maps_reaches_its_gradient() -> None:
    points, weights = poses(16, 17)
    codec, scale = KINDS["gaussian"], 65536.0
    predicted = (predicted_for(codec, 16, 17) * 0.05).half()
    single, half = predicted.float().requires_grad_(), predicted.clone().requires_grad_()
    for maps in (single, half):
        (ops.heatmap_loss(maps, points, weights, codec, INPUT) * scale).backward()
    assert half.grad is not None
    assert single.grad is not None
    assert torch.equal(half.grad, single.grad.half())


@pytest.mark.shared
@pytest.mark.parametrize("module", [ops, reference], ids=["native", "reference"])
def test_reference_figures(module: object, shared: Path) -> None:
    arrays = {key: torch.from_numpy(value) for key, value in np.load(shared / "reference" / "losses.npz").items()}
    values = json.loads((shared / "reference" / "losses.json").read_text())["losses"]
    plain, combined = build_codec("gaussian", heatmap_size=(16, 12)), build_codec("udp_combined", heatmap_size=(16, 12))
    for name, codec, prefix, topk in [
        ("mse_weighted", plain, "", None),
        ("mse", plain, "", None),  # MMPose multiplies with the weights here too
        ("ohkm_2", plain, "", 2),
        ("combined", combined, "combined_", None),
    ]:
        got = value_and_gradient(
            module,
            arrays[prefix + "pred"],
            None,
            arrays["weight"],
            codec,
            (64, 48),
            target=arrays[prefix + "target"],
            ohkm_topk=topk,
        )
        assert got[0] == pytest.approx(values[name]["value"], rel=1e-6)
        torch.testing.assert_close(got[1], arrays["grad/" + name], rtol=1e-6, atol=1e-9)


def test_by_hand() -> None:
    """Two maps of one pixel and its neighbours: w (p - t)² summed and divided by 2 maps x 9 pixels."""
    codec = build_codec("udp_combined", heatmap_size=(3, 3), radius_factor=0.2)  # a disc of radius 0.6: one pixel
    predicted = torch.zeros(1, 6, 3, 3)
    predicted[0, 0, 1, 1] = 0.5  # disc of keypoint 0, which stands at (1.3, 1)
    predicted[0, 1, 1, 1] = 0.1
    predicted[0, 1, 0, 0] = 99.0  # an offset outside the disc: nobody looks
    predicted[0, 3, 2, 2] = 2.0  # keypoint 1 has no weight
    points = torch.tensor([[[1.3, 1.0], [0.0, 0.0]]])
    weights = torch.tensor([[2.0, 0.0]])
    value, gradient = value_and_gradient(ops, predicted, points, weights, codec, (3, 3))
    offset = 0.3 / 0.6 - 0.1
    assert value == pytest.approx(4 / 2 * (0.5**2 + offset**2) / 18, rel=1e-6)
    assert gradient[0, 0, 1, 1] == pytest.approx(4 * -0.5 / 18, rel=1e-6)
    assert gradient[0, 1, 1, 1] == pytest.approx(4 * -offset / 18, rel=1e-6)
    assert gradient.count_nonzero() == 2


def test_float64_oracle_passes_gradcheck() -> None:
    for name, topk in [("gaussian", None), ("dark", 2), ("udp_combined", None)]:
        codec = resized(KINDS[name], (5, 4))
        points = torch.tensor([[[4.0, 9.0], [11.0, 3.0], [60.0, 2.0]]], dtype=torch.float64)
        weights = torch.tensor([[1.0, 0.7, 1.0]], dtype=torch.float64)
        predicted = predicted_for(codec, 1, 3).double().requires_grad_()
        assert torch.autograd.gradcheck(
            lambda p: reference.heatmap_loss(p, points, weights, codec, (20, 16), ohkm_topk=topk),  # noqa: B023
            (predicted,),
        )


def test_gradient_is_scaled_and_reusable() -> None:
    codec = KINDS["gaussian"]
    points, weights = poses(2, 3)
    predicted = predicted_for(codec, 2, 3)
    _, gradient = value_and_gradient(ops, predicted, points, weights, codec, INPUT)
    leaf = predicted.clone().requires_grad_()
    loss = ops.heatmap_loss(leaf * 2, points, weights, codec, INPUT)
    (3 * loss).backward(retain_graph=True)
    first = leaf.grad.clone()  # type: ignore[union-attr]
    leaf.grad = None
    loss.backward()
    torch.testing.assert_close(first, 3 * leaf.grad)  # type: ignore[operator]
    direct = predicted.clone().requires_grad_()
    half = ops.heatmap_loss(direct, points, weights, codec, INPUT)
    half.backward(retain_graph=True)
    half.backward()
    torch.testing.assert_close(direct.grad, 2 * gradient)


def test_what_has_no_weight_is_not_looked_at() -> None:
    codec = KINDS["udp_combined"]
    points, _ = poses(1, 3)
    points[0, 1] = torch.nan
    weights = torch.tensor([[1.0, 0.0, -2.0]])
    predicted = predicted_for(codec, 1, 3)
    value, gradient = value_and_gradient(ops, predicted, points, weights, codec, INPUT)
    predicted[0, 3:] = torch.nan
    same(value_and_gradient(ops, predicted, points, weights, codec, INPUT), (value, gradient))
    same(value_and_gradient(reference, predicted, points, weights, codec, INPUT), (value, gradient))
    assert not gradient[0, 3:].any()


def test_offsets_outside_the_disc_are_not_looked_at() -> None:
    """Where MMPose multiplies them with a 0, which NaN survives."""
    codec = KINDS["udp_combined"]
    points, weights = torch.tensor([[[96.0, 128.0]]]), torch.ones(1, 1)
    predicted = predicted_for(codec, 1, 1)
    value, gradient = value_and_gradient(ops, predicted, points, weights, codec, INPUT)
    outside = ops.heatmap_encode(points, weights, codec, INPUT)[0][0, 0] == 0
    assert outside.any()
    predicted[0, 1:, outside] = torch.nan
    same(value_and_gradient(ops, predicted, points, weights, codec, INPUT), (value, gradient))
    assert not gradient[0, 1:, outside].any()
    predicted[0, 0, 0, 0] = torch.nan  # outside too, but of the disc's own map
    assert np.isnan(value_and_gradient(ops, predicted, points, weights, codec, INPUT)[0])


class _Memory(ctypes.Structure):
    """What glibc's mallinfo2 gives back."""

    _fields_ = [
        *((name, ctypes.c_size_t) for name in ("arena", "ordblks", "smblks", "hblks", "hblkhd")),
        *((name, ctypes.c_size_t) for name in ("usmblks", "fsmblks", "uordblks", "fordblks", "keepcost")),
    ]


def test_a_call_keeps_no_memory() -> None:
    library = ctypes.CDLL(None)
    if not hasattr(library, "mallinfo2"):
        pytest.skip("the C library has no mallinfo2")
    library.mallinfo2.restype = _Memory
    codec = KINDS["gaussian"]
    points, weights = poses(2, 3)
    predicted = predicted_for(codec, 2, 3).requires_grad_()

    def in_use_after(calls: int) -> int:
        for _ in range(calls):
            predicted.grad = None
            ops.heatmap_loss(predicted, points, weights, codec, INPUT).backward()
        gc.collect()
        memory = library.mallinfo2()
        return int(memory.uordblks + memory.hblkhd)

    before = in_use_after(200)
    assert in_use_after(2000) - before < 2000  # less than a byte a call


def test_hardest_keypoints_and_ties() -> None:
    codec = KINDS["gaussian"]
    predicted = torch.zeros(1, 4, 64, 48)
    predicted[0, :, 0, 0] = torch.tensor([1.0, 3.0, 3.0, 3.0])
    value, gradient = value_and_gradient(
        ops, predicted, None, None, codec, INPUT, target=torch.zeros_like(predicted), ohkm_topk=2
    )
    assert value == pytest.approx(9 / (64 * 48), rel=1e-6)
    assert gradient.flatten(2).any(-1).tolist() == [[False, True, True, False]]


@settings(max_examples=50, deadline=None)
@given(
    name=st.sampled_from(list(CODECS)),
    height=st.integers(2, 30),
    width=st.integers(2, 30),
    seed=st.integers(0, 2**31),
    points=st.lists(st.tuples(st.floats(width=32), st.floats(width=32)), min_size=1, max_size=4),
    weighted=st.booleans(),
)
def test_any_coordinates(
    name: str, height: int, width: int, seed: int, points: list[tuple[float, float]], weighted: bool
) -> None:
    codec = resized(CODECS[name], (height, width))
    predicted = predicted_for(codec, 1, len(points), seed)
    weights = torch.ones(1, len(points)) if weighted else None
    arguments = (predicted, torch.tensor([points]), weights, codec, (33, 47))
    same(value_and_gradient(ops, *arguments), value_and_gradient(reference, *arguments), 1e-5)


def test_arrays_and_layouts() -> None:
    codec = KINDS["dark"]
    points, weights = poses(2, 4)
    predicted = predicted_for(codec, 2, 4)
    value, gradient = value_and_gradient(ops, predicted, points, weights, codec, INPUT)
    array = ops.heatmap_loss(predicted.numpy(), points.numpy(), weights.numpy(), codec, INPUT)
    assert isinstance(array, np.ndarray)
    assert array.shape == ()
    assert float(array) == pytest.approx(value, rel=1e-6)
    last = predicted.contiguous(memory_format=torch.channels_last)
    same(value_and_gradient(ops, last, points, weights, codec, INPUT), (value, gradient))


@pytest.mark.parametrize("shape", [(0, 17), (2, 0)])
def test_empty(shape: tuple[int, int]) -> None:
    predicted = torch.zeros(*shape, 64, 48)
    points = torch.zeros(*shape, 2)
    for module in (ops, reference):
        value, gradient = value_and_gradient(module, predicted, points, None, KINDS["gaussian"], INPUT)
        assert value == 0
        assert gradient.shape == predicted.shape
    value, _ = value_and_gradient(ops, predicted, None, None, KINDS["gaussian"], INPUT, target=predicted)
    assert value == 0


@pytest.mark.parametrize(
    ("change", "error", "text"),
    [
        ({"predicted": torch.zeros(2, 3, 64, 47)}, ValueError, "predicted"),
        ({"predicted": torch.zeros(2, 3, 64, 48).long()}, TypeError, "predicted"),
        ({"keypoints": torch.zeros(2, 4, 2)}, ValueError, "keypoints"),
        ({"keypoints": None}, ValueError, "keypoints"),
        ({"target": torch.zeros(2, 3, 64, 48)}, ValueError, "keypoints"),
        ({"keypoints": None, "target": torch.zeros(2, 3, 64, 47)}, ValueError, "target"),
        ({"keypoints": None, "target": torch.zeros(2, 3, 64, 48).half()}, TypeError, "target"),
        ({"keypoints": torch.zeros(2, 3, 2, requires_grad=True)}, TypeError, "no gradient"),
        ({"weights": torch.zeros(3, 2)}, ValueError, "weights"),
        ({"ohkm_topk": 0}, ValueError, "ohkm_topk"),
        ({"ohkm_topk": 4}, ValueError, "ohkm_topk"),
        ({"codec": build_codec("regression")}, ValueError, "codec"),
    ],
)
def test_errors_name_the_argument(change: dict, error: type[Exception], text: str) -> None:
    arguments = {
        "predicted": torch.zeros(2, 3, 64, 48),
        "keypoints": torch.zeros(2, 3, 2),
        "weights": torch.ones(2, 3),
        "codec": KINDS["gaussian"],
        "input_size": INPUT,
        **change,
    }
    with pytest.raises(error, match=text):
        ops.heatmap_loss(**arguments)


@pytest.mark.parametrize("name", KINDS)
def test_registered_op(name: str) -> None:
    codec = KINDS[name]
    points, weights = poses(2, 3)
    predicted = predicted_for(codec, 2, 3)
    op = torch.ops.fastpose.heatmap_loss.default
    values = codec_values(codec, INPUT)
    torch.library.opcheck(op, (predicted.clone().requires_grad_(), points, weights, None, 2, True, *values))
    torch.library.opcheck(op, (predicted, None, weights, predicted.clone(), 0, False, *values))
    # A graph that was recorded without a gradient may be asked for one.
    leaves = [predicted.clone().requires_grad_() for _ in range(2)]
    for leaf, wanted in zip(leaves, (False, True), strict=True):
        op(leaf, points, weights, None, 0, wanted, *values)[0].backward()
    torch.testing.assert_close(leaves[0].grad, leaves[1].grad, rtol=0, atol=0)

    def loss(maps: torch.Tensor) -> torch.Tensor:
        return ops.heatmap_loss(maps * 2, points, weights, codec, INPUT) * 3

    results = []
    for function in (loss, torch.compile(loss, fullgraph=True, backend="aot_eager")):
        leaf = predicted.clone().requires_grad_()
        value = function(leaf)
        value.backward()
        results.append((value.item(), leaf.grad))
    same(*results)  # type: ignore[arg-type]


@pytest.mark.parametrize("size", [(64, 48), (63, 45)])
@pytest.mark.parametrize("given_target", [False, True])
def test_large_gradients_are_the_same(size: tuple[int, int], given_target: bool) -> None:
    """From 8 MiB on they go past the caches."""
    codec = resized(KINDS["udp"], size)
    points, weights = poses(54, 15)
    predicted = predicted_for(codec, 54, 15)
    assert predicted.nbytes >= 8 << 20
    target = ops.heatmap_encode(points, weights, codec, INPUT)[0] if given_target else None
    arguments = (predicted, None if given_target else points, weights, codec, INPUT)
    same(
        value_and_gradient(ops, *arguments, target=target),
        value_and_gradient(reference, *arguments, target=target),
        5e-6,
    )


def test_threads_change_nothing() -> None:
    codec = KINDS["udp"]
    points, weights = poses(8, 17)
    predicted = predicted_for(codec, 8, 17)
    before = torch.get_num_threads()
    try:
        results = []
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            results.append(value_and_gradient(ops, predicted, points, weights, codec, INPUT, ohkm_topk=8))
    finally:
        torch.set_num_threads(before)
    for value, gradient in results[1:]:
        assert value == results[0][0]
        assert torch.equal(gradient, results[0][1])


def test_simd_levels_agree() -> None:
    code = """
from heatmap_cases import CODECS, INPUT, poses
from test_heatmap_loss import predicted_for, same, value_and_gradient
from fastpose import ops
from fastpose.ops import reference
for codec in CODECS.values():
    points, weights = poses(2, 5)
    arguments = (predicted_for(codec, 2, 5), points, weights, codec, INPUT)
    same(value_and_gradient(ops, *arguments), value_and_gradient(reference, *arguments))
print("same")
"""
    assert set(at_simd_levels(code).values()) == {"same\n"}
