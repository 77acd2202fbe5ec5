"""Every op with one or two arguments replaced by something else: it works, or an error names an argument.

TypeError or ValueError, nothing else; and calls from many threads at once. ``FASTPOSE_FUZZ_EXAMPLES`` as in
test_fuzz.py.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch
from fuzz_cases import NOT_FINITE, Source, arrays, fuzz

from fastpose import ops
from fastpose.codecs import build_codec

CODEC = build_codec("udp", heatmap_size=(16, 12))
VECTORS = build_codec("simcc", visibility=True)


def correct_calls() -> dict[str, tuple[Callable[..., Any], dict[str, Any]]]:
    """A call of each op that works, by argument."""
    rng = np.random.default_rng(0)
    maps = rng.random((2, 4, 16, 12)).astype(np.float32)
    points = rng.uniform(0, 48, (2, 4, 2)).astype(np.float32)
    poses = rng.uniform(0, 99, (5, 4, 3)).astype(np.float32)
    eye = np.tile(np.eye(2, 3), (2, 1, 1))
    heatmap = {"codec": CODEC, "input_size": (64, 48)}
    x, y = (rng.random((2, 4, bins)).astype(np.float32) for bins in (96, 128))
    vectors = {"codec": VECTORS, "input_size": (64, 48)}
    return {
        "affine_crop": (
            ops.affine_crop,
            {
                "images": rng.integers(0, 256, (2, 9, 8, 3)).astype(np.uint8),
                "matrices": eye,
                "image_index": np.array([0, 1]),
                "size": (4, 5),
                "mean": (1.0, 2.0, 3.0),
                "std": (1.0, 2.0, 3.0),
                "swap_rb": True,
                "border": "replicate",
                "border_value": 3.0,
                "antialias": True,
                "layout": "nchw",
                "flip": np.array([True, False]),
                "gain": np.ones((2, 3), np.float32),
                "offset": np.ones((2, 3), np.float32),
                "dtype": np.float32,
                "out": np.zeros((2, 3, 4, 5), np.float32),
            },
        ),
        "heatmap_encode": (
            ops.heatmap_encode,
            {
                "keypoints": points,
                "visible": np.ones((2, 4), np.float32),
                **heatmap,
                "joint_weights": np.ones(4, np.float32),
                "out": np.zeros((2, 4, 16, 12), np.float32),
                "out_weights": np.zeros((2, 4), np.float32),
            },
        ),
        "heatmap_decode": (
            ops.heatmap_decode,
            {
                "heatmaps": maps,
                **heatmap,
                "flipped": maps,
                "flip_index": np.array([1, 0, 3, 2]),
                "flip_shift": True,
                "inverse": eye,
                "out": np.zeros((2, 4, 2), np.float32),
                "out_scores": np.zeros((2, 4), np.float32),
            },
        ),
        "heatmap_loss": (
            ops.heatmap_loss,
            {
                "predicted": maps,
                "keypoints": points,
                "weights": np.ones((2, 4), np.float32),
                **heatmap,
                "target": None,
                "ohkm_topk": 2,
            },
        ),
        "simcc_encode": (
            ops.simcc_encode,
            {
                "keypoints": points,
                "visible": np.ones((2, 4), np.float32),
                **vectors,
                "joint_weights": np.ones(4, np.float32),
                "out": (np.zeros((2, 4, 96), np.float32), np.zeros((2, 4, 128), np.float32)),
                "out_weights": np.zeros((2, 4), np.float32),
            },
        ),
        "simcc_decode": (
            ops.simcc_decode,
            {
                "x": x,
                "y": y,
                **vectors,
                "flipped": (x, y),
                "flip_index": np.array([1, 0, 3, 2]),
                "inverse": eye,
                "out": np.zeros((2, 4, 2), np.float32),
                "out_scores": np.zeros((2, 4), np.float32),
                "out_visibility": np.zeros((2, 4), np.float32),
            },
        ),
        "simcc_loss": (
            ops.simcc_loss,
            {
                "predicted": (x, y),
                "keypoints": points,
                "weights": np.ones((2, 4), np.float32),
                **vectors,
                "beta": 10.0,
                "label_softmax": True,
                "label_beta": 5.0,
                "keypoint_weights": np.ones(4, np.float32),
            },
        ),
        "oks": (
            ops.oks,
            {
                "poses_a": poses,
                "poses_b": poses[:3],
                "areas": np.ones(5),
                "sigmas": np.full(4, 0.1),
                "visible": np.ones((5, 4), np.uint8),
                "areas_b": np.ones(3),
                "out": np.zeros((5, 3), np.float32),
            },
        ),
        "oks_nms": (
            ops.oks_nms,
            {
                "poses": poses,
                "scores": np.arange(5.0),
                "areas": np.ones(5),
                "sigmas": np.full(4, 0.1),
                "threshold": 0.5,
                "image_index": np.zeros(5, np.int64),
                "max_per_image": 3,
                "soft": False,
                "padded": False,
                "out": np.zeros(5, np.int64),
                "out_scores": np.zeros(5),
            },
        ),
        "box_nms": (
            ops.box_nms,
            {
                "boxes": poses[:, :, 0].copy(),
                "scores": np.arange(5.0),
                "classes": np.zeros(5, np.int64),
                "image_index": np.zeros(5, np.int64),
                "threshold": 0.5,
                "method": "linear",
                "min_score": 0.5,
                "most": 3,
                "padded": False,
                "out": np.zeros(5, np.int64),
                "out_scores": np.zeros(5),
            },
        ),
    } | layer_calls()


def layer_calls() -> dict[str, tuple[Callable[..., Any], dict[str, Any]]]:
    """The same of the layers, which take tensors with the channels last in memory."""
    generator = torch.Generator().manual_seed(0)
    x, other = (
        torch.randn(2, 4, 5, 5, generator=generator).contiguous(memory_format=torch.channels_last) for _ in range(2)
    )
    numbers = {name: torch.ones(4) for name in ("weight", "bias", "running_mean", "running_var")}
    options = {"momentum": 0.1, "eps": 1e-5, "relu": True, "residual": other}
    return {
        "batch_norm_act": (ops.batch_norm_act, {"x": x, **numbers, **options}),
        "depthwise_conv": (ops.depthwise_conv, {"x": x, "weight": torch.ones(4, 1, 3, 3), "stride": 2}),
        "interleave": (ops.interleave, {"first": x, "second": other, "weights": torch.ones(2, 4)}),
    }


def as_tensor(value: Any) -> Any:
    """An array, or each of several, as a tensor; anything else as it is."""
    if isinstance(value, tuple):
        return tuple(map(as_tensor, value))
    return torch.from_numpy(value.copy()) if isinstance(value, np.ndarray) else value


def spoiled(source: Source, value: Any) -> Any:
    """Something else in the place of an argument."""
    anything = [
        None,
        "no",
        3,
        -1,
        2.5,
        float("nan"),
        [],
        [[1, 2], [3]],
        object(),
        np.empty((0, 0)),
        np.float32(1),
        True,
    ]
    if not isinstance(value, (np.ndarray, torch.Tensor)):
        return source.pick([*anything, (1, 2, 3), (0, 5), (5, "x"), np.ones((2, 2))])
    array = np.asarray(value)
    kinds = [np.int8, np.int32, np.float16, np.float64, np.complex64, bool, object, ">f4", "U3"]
    whole = slice(None)
    choices: list[Callable[[], Any]] = [
        lambda: source.pick(anything),
        lambda: array.astype(source.pick(kinds)),
        lambda: array[None],
        lambda: array.reshape((1,) * 6 + array.shape),
        lambda: array.ravel()[: source.count(0, array.size)],
        lambda: array[: len(array) // 2],
        lambda: array[..., :1],
        lambda: np.repeat(array, 2, axis=source.count(0, array.ndim - 1)),
        lambda: np.broadcast_to(array.flat[0], array.shape),
        lambda: array[(slice(None, None, -1), *(whole,) * (array.ndim - 1))],
        lambda: np.where(source.rng.random(array.shape) < 0.4, source.pick(list(NOT_FINITE)), array.astype(float)),
        lambda: array.tolist(),
        lambda: torch.from_numpy(array.copy()),
        lambda: torch.from_numpy(array.copy()).to("meta"),
        lambda: torch.from_numpy(array.copy()).float().requires_grad_(),
        lambda: torch.from_numpy(array.copy()).to_sparse(),
        lambda: array[: len(array) // 2].repeat(2, 0)[::2],
    ]
    return source.pick(choices)()


@pytest.mark.parametrize("op", list(correct_calls()))
def test_a_tensor_without_memory_is_named(op: str) -> None:
    function, arguments = correct_calls()[op]
    tensors = {name: as_tensor(value) for name, value in arguments.items()}
    for name, value in tensors.items():
        pair = isinstance(value, tuple) and isinstance(value[0], torch.Tensor)
        if not pair and not isinstance(value, torch.Tensor):
            continue
        without = (value[0].to("meta"), value[1]) if pair else value.to("meta")
        named = re.escape(f"{name}[0]" if pair else name)
        with pytest.raises(TypeError, match=rf"^{named}: expected a .*tensor.* meta[^\n]*$"):
            function(**tensors | {name: without})


@pytest.mark.parametrize("op", list(correct_calls()))
@pytest.mark.filterwarnings("ignore")
@fuzz(120)
def test_what_does_not_fit_is_named(op: str, seed: int, data: Any) -> None:
    source = Source(seed, data)
    function, arguments = correct_calls()[op]
    if source.tensors:
        arguments = {k: as_tensor(v) for k, v in arguments.items()}
    for name in {source.pick(list(arguments)) for _ in range(source.count(1, 2))}:
        arguments[name] = spoiled(source, arguments[name])
    for name in source.pick([[], ["out", "out_scores", "out_weights", "out_visibility"]]):
        arguments.pop(name, None)
    refusal, result = None, None
    try:
        result = function(**arguments)
    except (TypeError, ValueError) as error:
        refusal = str(error)
    if refusal is not None:
        names = set(inspect.signature(function).parameters) | {op}
        assert names & set(re.findall(r"\w+", refusal)), f"names no argument: {refusal}"
        assert "incompatible function arguments" not in refusal, "pybind11's words"
    else:
        parts = result if isinstance(result, tuple) else (result,)
        assert all(isinstance(part, np.ndarray | torch.Tensor) for part in parts)


@pytest.mark.parametrize("op", list(correct_calls()))
def test_calls_at_once(op: str) -> None:
    """The same from eight threads as from one; the pool of workers serves one caller at a time."""
    function, arguments = correct_calls()[op]
    arguments = {name: value for name, value in arguments.items() if not name.startswith("out")}
    longer = {"heatmap_encode": ("keypoints", "visible"), "heatmap_decode": ("heatmaps", "flipped", "inverse")}
    longer |= {"heatmap_loss": ("predicted", "keypoints", "weights"), "oks": ("poses_b", "areas_b")}
    longer |= {"simcc_encode": ("keypoints", "visible"), "simcc_decode": ("x", "y", "flipped", "inverse")}
    longer |= {"simcc_loss": ("predicted", "keypoints", "weights")}
    for name in longer.get(op, ()):  # enough for the work to be shared out
        given = arguments[name]
        parts = [np.concatenate([part] * 8) for part in (given if isinstance(given, tuple) else (given,))]
        arguments[name] = tuple(parts) if isinstance(given, tuple) else parts[0]
    wanted = arrays(function(**arguments))
    with ThreadPoolExecutor(8) as callers:
        for result in callers.map(lambda _: arrays(function(**arguments)), range(100)):
            for one, other in zip(result, wanted, strict=True):
                np.testing.assert_array_equal(one, other)
