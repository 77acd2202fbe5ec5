"""SimCC and integral regression: labels, keypoints and losses as the reference figures have them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fastpose.codecs import Integral, SimCC, build_codec, change_codec, codec_parameters
from fastpose.ops.reference.simcc_decode import simcc_decode

SIZE = (256, 192)


def codec_of(config: dict[str, Any]) -> SimCC:
    """What a configuration of MMPose is here."""
    sigma = config.get("sigma", 6.0)
    return SimCC(
        sigma=tuple(sigma) if isinstance(sigma, list) else (sigma, sigma),
        split_ratio=config["simcc_split_ratio"],
        smoothing=config.get("smoothing_type", "gaussian"),
        label_smoothing=config.get("label_smooth_weight", 0.0),
        normalized=config.get("normalize", True),
        dark=config.get("use_dark", False),
        visibility=config.get("decode_visibility", False),
    )


def test_labels_are_those_of_the_figures(data: Path) -> None:
    for figures in json.loads((data / "simcc_figures.json").read_text()).values():
        codec, (width, height) = codec_of(figures["config"]), figures["config"]["input_size"]
        points, visible = np.float32([figures["keypoints"]]), np.float32([figures["visible"]])
        (x, y), weights = codec.encode(points, visible, (height, width))
        np.testing.assert_array_equal(weights[0], np.float32(figures["weights"]))
        vectors = [*x[0], *y[0]]
        for vector, samples, total in zip(vectors, figures["samples"], figures["sums"], strict=True):
            assert vector.sum(dtype=np.float64) == pytest.approx(total, rel=1e-5, abs=1e-5)
            for place, value in samples:
                assert vector[place] == pytest.approx(value, rel=1e-5, abs=1e-6)


def test_everything_of_the_reference(shared: Path) -> None:
    arrays = np.load(shared / "reference" / "codecs_wider.npz")
    for name, config in json.loads((shared / "reference" / "codecs_wider.json").read_text()).items():
        values = {key.split("/")[1]: arrays[key] for key in arrays.files if key.startswith(f"{name}/")}
        width, height = config["input_size"]
        if config["type"] == "IntegralRegressionLabel":
            integral = Integral((config["heatmap_size"][1], config["heatmap_size"][0]), sigma=config["sigma"])
            (points, maps), weights = integral.encode(values["keypoints"], values["visible"], (height, width))
            np.testing.assert_allclose(points, values["labels"], atol=1e-6)
            np.testing.assert_allclose(maps, values["encoded_heatmaps"], atol=1e-6)
            found = integral.decode((values["predicted"], maps), (height, width))
        else:
            codec = codec_of(config)
            (x, y), weights = codec.encode(values["keypoints"], values["visible"], (height, width))
            np.testing.assert_allclose(x, values["encoded_x"], atol=1e-6)
            np.testing.assert_allclose(y, values["encoded_y"], atol=1e-6)
            predicted = tuple(values[f"predicted_{axis}"].astype(np.float32) for axis in "xy")
            found = codec.decode(predicted, (height, width))
            if codec.visibility:
                told = codec.decode_visible(predicted, (height, width))[2]
                np.testing.assert_allclose(told, values["visibility"], atol=1e-6)
        np.testing.assert_array_equal(weights, values["weights"])
        np.testing.assert_allclose(found[1], values["scores"], atol=1e-6)
        apart = np.abs(found[0] - values["decoded"])
        if config.get("use_dark"):  # where the logarithm is almost straight, the rounding of float32 decides
            assert np.sort(apart.ravel())[-3] < 1e-3
            assert apart.max() < 0.01
        else:
            assert apart.max() < 1e-3


def test_ties_numbers_that_are_none_and_empty_vectors() -> None:
    codec = SimCC()
    x, y = np.zeros((1, 4, 384), np.float32), np.zeros((1, 4, 512), np.float32)
    x[0, 0, [30, 70]], y[0, 0, [8, 9]] = 2, 1  # of equal values the first
    x[0, 1, 5], x[0, 1, 6], y[0, 1, 7] = np.nan, 1, 3
    x[0, 2], y[0, 2] = -1, -1
    y[0, 3, 4] = 1  # nothing along x
    points, scores = codec.decode((x, y), SIZE)
    assert points.tolist() == [[[15, 4], [3, 3.5], [-0.5, -0.5], [-0.5, -0.5]]]
    assert scores.tolist() == [[1, 1, -1, 0]]
    points, scores = codec.decode((x[:0], y[:0]), SIZE)
    assert points.shape == (0, 4, 2)
    assert scores.shape == (0, 4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_the_mirror_and_the_way_to_the_photo(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.rand(3, 5, size, generator=generator).to(dtype) for size in (384, 512))
    index = [0, 2, 1, 4, 3]
    mirrored = x[:, index].flip(-1), y[:, index]
    codec = SimCC()
    points, scores = codec.decode((x, y), SIZE)
    for flipped in (mirrored, tuple(part.clone() for part in mirrored)):
        again = codec.decode((x, y), SIZE, flipped=flipped, flip_index=index)
        torch.testing.assert_close(again[0], points)
        torch.testing.assert_close(again[1], scores)
    back = codec.unmirror(mirrored, index, SIZE)
    assert torch.equal(back[0], x)
    assert torch.equal(back[1], y)
    matrices = torch.tensor([[[2.0, 1, 5], [-1, 3, 7]]]).expand(3, 2, 3)
    moved, _ = codec.decode((x, y), SIZE, inverse=matrices)
    torch.testing.assert_close(moved[..., 0], 2 * points[..., 0] + points[..., 1] + 5)
    torch.testing.assert_close(moved[..., 1], 3 * points[..., 1] - points[..., 0] + 7)


def test_a_codec_is_what_its_header_says() -> None:
    codec = SimCC(sigma=(4.9, 5.66), normalized=False, visibility=True)
    assert build_codec(**json.loads(json.dumps(codec_parameters(codec)))) == codec
    assert build_codec("simcc", sigma=5) == SimCC(sigma=(5.0, 5.0))
    assert change_codec(codec, visibility=False).sigma == codec.sigma
    assert codec.output_shape(17, SIZE) == ((17, 384), (17, 512))
    assert codec.resized(SIZE, (384, 288)) is codec
    for wrong, message in (
        ({"sigma": (1.0,)}, "codec.sigma: expected a number, or two"),
        ({"sigma": -1}, "codec.sigma"),
        ({"split_ratio": 0}, "codec.split_ratio"),
        ({"smoothing": "round"}, "codec.smoothing: expected one of gaussian, standard"),
        ({"label_smoothing": 0.1}, "goes with smoothing standard"),
        ({"smoothing": "standard", "label_smoothing": 2}, "from 0 to 1"),
        ({"dark": 1}, "codec.dark"),
    ):
        with pytest.raises(ValueError, match=message):
            build_codec("simcc", **wrong)
    with pytest.raises(ValueError, match="leaves no bins"):
        SimCC(split_ratio=0.01).check((64, 48))


def test_what_does_not_fit_is_refused() -> None:
    codec, x, y = SimCC(), torch.zeros(2, 3, 384), torch.zeros(2, 3, 512)
    for call, error, message in (
        (lambda: codec.decode((x, x), SIZE), ValueError, r"y: expected shape \[B, K, Y\]"),
        (lambda: codec.decode((x, y.half()), SIZE), TypeError, "y: expected dtype float32, got float16"),
        (lambda: codec.decode((x, y.numpy()), SIZE), TypeError, "y: expected"),
        (lambda: codec.decode((x, y), SIZE, flipped=(x, y)), ValueError, "flip_index"),
        (lambda: codec.encode(torch.zeros(2, 3), torch.ones(2, 3), SIZE), ValueError, "keypoints: expected shape"),
        (lambda: codec.encode(torch.zeros(2, 3, 2), torch.ones(2, 4), SIZE), ValueError, "visible: expected shape"),
        (lambda: codec.make_loss(SIZE, hardest=2), ValueError, "hardest"),
        (lambda: codec.make_loss(SIZE, kind="mse"), ValueError, "kind: expected one of kl"),
        (lambda: codec.make_loss(SIZE, temperature=3), ValueError, "options: kl has no temperature; it has beta"),
    ):
        with pytest.raises(error, match=message):
            call()


def test_dark_finds_the_middle_of_a_label() -> None:
    codec = SimCC(sigma=(4.9, 5.66), normalized=False, dark=True)
    middles = torch.tensor([[[50.25, 60.75], [100.1, 99.9]]])
    bins = torch.arange(512.0)
    x = torch.exp(-((bins[:384] - 2 * middles[..., :1]) ** 2) / (2 * 4.9**2))
    y = torch.exp(-((bins - 2 * middles[..., 1:]) ** 2) / (2 * 5.66**2))
    points, _ = codec.decode((x, y), SIZE)
    assert (points - middles).abs().max() < 0.3
    plain, _ = SimCC(sigma=(4.9, 5.66), normalized=False).decode((x, y), SIZE)
    assert (points - middles).abs().mean() < (plain - middles).abs().mean()


def test_visibility_is_how_sharp_the_peaks_are() -> None:
    codec = SimCC(sigma=(6.0, 6.93), normalized=False, visibility=True)
    x, y = torch.zeros(1, 2, 384), torch.zeros(1, 2, 512)
    x[0, 0, 50], y[0, 0, 60] = 1, 1
    _, _, told = codec.decode_visible((x, y), SIZE)
    assert told[0, 0] == pytest.approx(1)
    assert told[0, 1] == pytest.approx(1 / 512)
    assert simcc_decode(x, y, SimCC(), SIZE)[2] is None
