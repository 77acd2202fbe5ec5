"""The codecs as objects: what they pass on to the ops, and the regression codec, which needs none."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from fastpose import ops
from fastpose.codecs import HeatmapCodec, RegressionCodec, build_codec
from fastpose.spec import CodecSpec

INPUT = (256, 192)


def test_build() -> None:
    assert isinstance(build_codec(CodecSpec("regression"), INPUT), RegressionCodec)
    codec = build_codec(CodecSpec("udp_combined", (64, 48)), INPUT)
    assert isinstance(codec, HeatmapCodec)
    assert codec.output_channels(17) == 51
    assert build_codec(CodecSpec("dark", (64, 48)), INPUT).output_channels(17) == 17
    assert build_codec(CodecSpec("regression"), INPUT).output_channels(17) == 34
    with pytest.raises(TypeError, match="spec"):
        build_codec("udp", INPUT)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="sides of at least 2"):
        build_codec(CodecSpec("udp", (64, 48)), (1, 192))
    with pytest.raises(ValueError, match="input_size"):
        build_codec(CodecSpec("regression"), (0, 192))
    with pytest.raises(ValueError, match="regression"):
        RegressionCodec(CodecSpec("dark", (64, 48)), INPUT)


@pytest.mark.parametrize("kind", ["gaussian", "dark", "udp", "udp_combined", "megvii"])
def test_heatmap_codecs_are_the_ops(kind: str) -> None:
    spec = CodecSpec(kind, (64, 48))  # type: ignore[arg-type]
    codec = build_codec(spec, INPUT)
    points = torch.rand(2, 3, 2) * 200
    target, weights = codec.encode(points, torch.ones(2, 3), joint_weights=[1.0, 2.0, 3.0])
    expected = ops.heatmap_encode(points, torch.ones(2, 3), spec, INPUT, joint_weights=[1.0, 2.0, 3.0])
    assert torch.equal(target, expected[0])  # type: ignore[arg-type]
    assert torch.equal(weights, expected[1])  # type: ignore[arg-type]
    inverse = torch.tensor([[[2.0, 0, 5], [0, 3, 7]]]).repeat(2, 1, 1)
    options = {"flipped": target.flip(-1), "flip_index": (0, 2, 1), "flip_shift": True, "inverse": inverse}  # type: ignore[union-attr]
    back, scores = codec.decode(target, **options)  # type: ignore[arg-type]
    expected = ops.heatmap_decode(target, spec, INPUT, **options)
    assert torch.equal(back, expected[0])  # type: ignore[arg-type]
    assert torch.equal(scores, expected[1])  # type: ignore[arg-type]


def test_regression_by_hand() -> None:
    codec = build_codec(CodecSpec("regression"), INPUT)
    points = np.float32([[[96, 64], [191, 255], [191.5, 10], [-0.5, 10], [np.nan, 3], [10, 10]]])
    target, weights = codec.encode(points, np.float32([[1, 1, 1, 1, 1, 0]]))
    assert isinstance(target, np.ndarray)
    np.testing.assert_allclose(target[0, 0], [0.5, 0.25])
    assert weights.tolist() == [[1, 1, 0, 0, 0, 0]]
    assert np.isfinite(target).all()
    back, scores = codec.decode(target)
    np.testing.assert_allclose(back[0, [0, 1, 5]], points[0, [0, 1, 5]], rtol=1e-6)
    assert scores.tolist() == [[1] * 6]
    _, weights = codec.encode(points[:, :2], np.ones((1, 2)), joint_weights=[1.5, 2.0])
    assert weights.tolist() == [[1.5, 2.0]]


def test_regression_mirror_scores_and_source_pixels() -> None:
    codec = build_codec(CodecSpec("regression"), INPUT)
    output = torch.tensor([[[0.5, 0.25, 0.1, 0.3], [0.2, 0.5, 0.0, 0.0]]])
    mirrored = torch.tensor([[[0.6, 0.5, 0.0, 0.0], [0.5, 0.25, 0.1, 0.3]]])
    points, scores = codec.decode(output, flipped=mirrored, flip_index=[1, 0])
    torch.testing.assert_close(points, torch.tensor([[[96.0, 64.0], [0.3 * 192, 128.0]]]))
    torch.testing.assert_close(scores, torch.tensor([[0.8, 1.0]]))
    shifted, _ = codec.decode(output, flipped=mirrored, flip_index=[1, 0], flip_shift=True)
    torch.testing.assert_close(shifted, points - torch.tensor([0.5, 0.0]))
    inverse = torch.tensor([[[2.0, 0.0, 10.0], [0.0, 3.0, -5.0]]])
    source, _ = codec.decode(output, inverse=inverse)
    torch.testing.assert_close(source[0, 0], torch.tensor([2 * 96 + 10.0, 3 * 64 - 5.0]))


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda c: c.encode(np.zeros((2, 3)), np.ones((2, 3))), "keypoints"),
        (lambda c: c.encode(np.zeros((2, 3, 2)), np.ones((2, 4))), "visible"),
        (lambda c: c.decode(np.zeros((2, 3, 3))), "output"),
        (lambda c: c.decode(np.zeros((2, 3, 2)), flipped=np.zeros((2, 3, 2))), "flip_index"),
        (lambda c: c.decode(np.zeros((2, 3, 2)), flipped=np.zeros((1, 3, 2)), flip_index=[0, 1, 2]), "flipped"),
        (lambda c: c.decode(np.zeros((2, 3, 2)), inverse=np.zeros((2, 3, 2))), "inverse"),
    ],
)
def test_regression_errors(call, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        call(build_codec(CodecSpec("regression"), INPUT))
    with pytest.raises(TypeError, match="keypoints"):
        build_codec(CodecSpec("regression"), INPUT).encode([[0.0, 0.0]], [1.0])  # type: ignore[arg-type]


@pytest.mark.shared
def test_regression_figures(shared: Path) -> None:
    folder = shared / "reference"
    arrays = np.load(folder / "codecs.npz")
    for name, values in json.loads((folder / "codecs.json").read_text()).items():
        if values["type"] != "RegressionLabel":
            continue
        codec = build_codec(CodecSpec("regression"), tuple(values["input_size"][::-1]))
        target, weights = codec.encode(arrays[f"{name}/keypoints"], arrays[f"{name}/visible"])
        np.testing.assert_allclose(target, arrays[f"{name}/encoded"][:, 0], rtol=0, atol=1e-6)
        np.testing.assert_array_equal(weights, arrays[f"{name}/weights"])
        points, scores = codec.decode(arrays[f"{name}/predicted"])
        np.testing.assert_allclose(points, arrays[f"{name}/decoded"], rtol=0, atol=1e-3)
        np.testing.assert_array_equal(scores, arrays[f"{name}/scores"])
