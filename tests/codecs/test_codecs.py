"""The codecs as objects: what they pass on to the ops, and the regression codec, which needs none."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from fastpose import ops
from fastpose.codecs import CODECS, Gaussian, Regression, build_codec, change_codec, codec_parameters

INPUT = (256, 192)


SIZES = {"heatmap_size": (64, 48)}
HEATMAPS = ["gaussian", "dark", "udp", "udp_combined", "megvii"]


def test_build() -> None:
    assert build_codec("regression") == Regression()
    codec = build_codec("udp_combined", **SIZES)
    assert codec.output_channels(17) == 51
    assert codec.output_shape(17, (256, 192)) == (51, 64, 48)
    assert build_codec("dark", **SIZES).output_channels(17) == 17
    assert build_codec("regression").output_channels(17) == 34
    with pytest.raises(ValueError, match=r"codec\.kind: expected one of gaussian, dark, udp"):
        build_codec("vectors")
    with pytest.raises(ValueError, match="codec: unknown keys blur_kernel"):
        build_codec("gaussian", blur_kernel=11, **SIZES)
    with pytest.raises(ValueError, match="sides of at least 2"):
        build_codec("udp", **SIZES).check((1, 192))
    with pytest.raises(ValueError, match="input_size"):
        build_codec("regression").check((0, 192))


def test_another_kind_keeps_what_both_have() -> None:
    udp = change_codec(Gaussian((64, 48), sigma=3.0), kind="udp")
    assert (udp.kind, udp.heatmap_size, udp.sigma, udp.shifts_mirror) == ("udp", (64, 48), 3.0, False)  # type: ignore[attr-defined]
    assert change_codec(udp, kind="regression") == Regression()
    with pytest.raises(ValueError, match="missing keys heatmap_size"):
        change_codec(Regression(), kind="dark")


@pytest.mark.parametrize("kind", CODECS)
def test_plain_data_give_an_equal_codec(kind: str) -> None:
    codec = build_codec(kind, **({} if kind in ("regression", "simcc") else SIZES))
    assert build_codec(**json.loads(json.dumps(codec_parameters(codec)))) == codec
    assert len({codec, build_codec(**codec_parameters(codec))}) == 1


@pytest.mark.parametrize("kind", HEATMAPS)
def test_heatmap_codecs_are_the_ops(kind: str) -> None:
    codec = build_codec(kind, **SIZES)
    points = torch.rand(2, 3, 2) * 200
    target, weights = codec.encode(points, torch.ones(2, 3), INPUT, joint_weights=[1.0, 2.0, 3.0])
    expected = ops.heatmap_encode(points, torch.ones(2, 3), codec, INPUT, joint_weights=[1.0, 2.0, 3.0])  # type: ignore[arg-type]
    assert torch.equal(target, expected[0])  # type: ignore[arg-type]
    assert torch.equal(weights, expected[1])  # type: ignore[arg-type]
    inverse = torch.tensor([[[2.0, 0, 5], [0, 3, 7]]]).repeat(2, 1, 1)
    options = {"flipped": target.flip(-1), "flip_index": (0, 2, 1), "inverse": inverse}  # type: ignore[union-attr]
    back, scores = codec.decode(target, INPUT, **options)  # type: ignore[arg-type]
    expected = ops.heatmap_decode(target, codec, INPUT, flip_shift=kind in ("gaussian", "dark"), **options)  # type: ignore[arg-type]
    assert torch.equal(back, expected[0])  # type: ignore[arg-type]
    assert torch.equal(scores, expected[1])  # type: ignore[arg-type]
    loss = codec.make_loss(INPUT, hardest=2)(target, points, torch.ones(2, 3))  # type: ignore[arg-type]
    assert loss.item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("kind", HEATMAPS)
def test_the_mirror_of_a_perfect_network_does_not_move_its_keypoints(kind: str) -> None:
    """The target of the mirrored keypoints stands for the mirrored input's output."""
    codec, size = build_codec(kind, **SIZES), INPUT
    points = torch.from_numpy(np.random.default_rng(0).uniform(30, 160, (8, 3, 2)).astype(np.float32))
    mirrored = points[:, [0, 2, 1]].clone()
    mirrored[..., 0] = size[1] - 1 - mirrored[..., 0]
    maps, flipped = (codec.encode(x, torch.ones(8, 3), size)[0] for x in (points, mirrored))
    alone, _ = codec.decode(maps, size)
    both, _ = codec.decode(maps, size, flipped=flipped, flip_index=[0, 2, 1])
    bias = float((both - alone)[..., 0].mean())  # type: ignore[operator]
    assert abs(bias) < 0.6  # without the right shift 1.5 to 2 pixels
    undone = codec.unmirror(flipped, [0, 2, 1], size)  # type: ignore[arg-type]
    merged, _ = codec.decode((maps + undone) / 2, size)  # type: ignore[operator]
    torch.testing.assert_close(merged, both, atol=1e-3, rtol=0)


def test_regression_by_hand() -> None:
    codec = build_codec("regression")
    points = np.float32([[[96, 64], [191, 255], [191.5, 10], [-0.5, 10], [np.nan, 3], [10, 10]]])
    target, weights = codec.encode(points, np.float32([[1, 1, 1, 1, 1, 0]]), INPUT)
    assert isinstance(target, np.ndarray)
    np.testing.assert_allclose(target[0, 0], [0.5, 0.25])
    assert weights.tolist() == [[1, 1, 0, 0, 0, 0]]
    assert np.isfinite(target).all()
    back, scores = codec.decode(target, INPUT)
    np.testing.assert_allclose(back[0, [0, 1, 5]], points[0, [0, 1, 5]], rtol=1e-6)
    assert scores.tolist() == [[1] * 6]
    _, weights = codec.encode(points[:, :2], np.ones((1, 2)), INPUT, joint_weights=[1.5, 2.0])
    assert weights.tolist() == [[1.5, 2.0]]


def test_regression_mirror_scores_and_source_pixels() -> None:
    codec = build_codec("regression")
    deviations = torch.tensor([[[0.1, 0.3], [1e-9, 1e-9]]]).logit()
    output = torch.cat([torch.tensor([[[0.5, 0.25], [0.2, 0.5]]]), deviations], -1)
    pixel = 1 / 192
    mirrored = torch.cat([torch.tensor([[[0.6 - pixel, 0.5], [0.5 - pixel, 0.25]]]), deviations.flip(1)], -1)
    points, scores = codec.decode(output, INPUT, flipped=mirrored, flip_index=[1, 0])
    torch.testing.assert_close(points, torch.tensor([[[96.0, 64.0], [0.3 * 192, 128.0]]]))
    torch.testing.assert_close(scores, torch.tensor([[0.8, 1.0]]))
    inverse = torch.tensor([[[2.0, 0.0, 10.0], [0.0, 3.0, -5.0]]])
    source, _ = codec.decode(output, INPUT, inverse=inverse)
    torch.testing.assert_close(source[0, 0], torch.tensor([2 * 96 + 10.0, 3 * 64 - 5.0]))


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda c: c.encode(np.zeros((2, 3)), np.ones((2, 3)), INPUT), "keypoints"),
        (lambda c: c.encode(np.zeros((2, 3, 2)), np.ones((2, 4)), INPUT), "visible"),
        (lambda c: c.decode(np.zeros((2, 3, 3)), INPUT), "output"),
        (lambda c: c.decode(np.zeros((2, 3, 2)), INPUT, flipped=np.zeros((2, 3, 2))), "flip_index"),
        (lambda c: c.decode(np.zeros((2, 3, 2)), INPUT, flipped=np.zeros((1, 3, 2)), flip_index=[0, 1, 2]), "flipped"),
        (lambda c: c.decode(np.zeros((2, 3, 2)), INPUT, inverse=np.zeros((2, 3, 2))), "inverse"),
    ],
)
def test_regression_errors(call, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        call(build_codec("regression"))
    with pytest.raises(TypeError, match="keypoints"):
        build_codec("regression").encode([[0.0, 0.0]], [1.0], INPUT)  # type: ignore[arg-type]


@pytest.mark.shared
def test_regression_figures(shared: Path) -> None:
    folder = shared / "reference"
    arrays = np.load(folder / "codecs.npz")
    for name, values in json.loads((folder / "codecs.json").read_text()).items():
        if values["type"] != "RegressionLabel":
            continue
        codec, size = build_codec("regression"), tuple(values["input_size"][::-1])
        target, weights = codec.encode(arrays[f"{name}/keypoints"], arrays[f"{name}/visible"], size)
        np.testing.assert_allclose(target, arrays[f"{name}/encoded"][:, 0], rtol=0, atol=1e-6)
        np.testing.assert_array_equal(weights, arrays[f"{name}/weights"])
        points, scores = codec.decode(arrays[f"{name}/predicted"], size)
        np.testing.assert_allclose(points, arrays[f"{name}/decoded"], rtol=0, atol=1e-3)
        np.testing.assert_array_equal(scores, arrays[f"{name}/scores"])
