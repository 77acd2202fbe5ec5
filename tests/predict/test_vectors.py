"""Networks of vectors and of coordinates beside maps go through everything that those of heatmaps go through."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from fake_cuda import FakeCuda, LateClock
from torch import Tensor, nn

from fastpose.codecs import Codec, build_codec
from fastpose.data import read_annotations, write_coco
from fastpose.data.synthetic import synthetic_records
from fastpose.engines import CudaGraphs
from fastpose.evaluate import Evaluator
from fastpose.inference import Estimator
from fastpose.models import Output, PoseModel, build_loss
from fastpose.predict import Predictor
from fastpose.skeletons import COCO17
from fastpose.spec import PoseSpec
from fastpose.views import build_views

SIZE = (64, 48)
CODECS: dict[str, Codec] = {
    "simcc": build_codec("simcc"),
    "rtmw": build_codec("simcc", sigma=(6.0, 6.93), normalized=False, visibility=True),
    "dark": build_codec("simcc", sigma=(4.9, 5.66), normalized=False, dark=True),
    "integral": build_codec("integral", heatmap_size=(16, 12)),
}


class Small(nn.Module):
    stride = 4

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 8, 7, 4, 3), nn.BatchNorm2d(8)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(x)).relu()


class Pair(nn.Module):
    """A linear layer for each of the two parts that a codec takes."""

    stages = 1

    def __init__(self, codec: Codec) -> None:
        super().__init__()
        self.gives, self.shapes = codec.takes, codec.output_shape(17, SIZE)
        self.parts = nn.ModuleList(nn.Linear(8 * 16 * 12, int(np.prod(shape))) for shape in self.shapes)

    def forward(self, x: Tensor) -> Output:
        parts = zip(self.parts, self.shapes, strict=True)
        first, second = (part(x.flatten(1)).unflatten(1, shape) for part, shape in parts)
        if self.gives == "integral":
            first, second = first.sigmoid(), second.flatten(2).softmax(-1).view_as(second)
        return Output(((first, second),))


@pytest.fixture(params=CODECS)
def model(request: pytest.FixtureRequest) -> PoseModel:
    torch.manual_seed(0)
    codec = CODECS[request.param]
    return PoseModel(Small(), Pair(codec), PoseSpec(COCO17, SIZE, codec)).eval()


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_prediction_eager_and_captured(
    model: PoseModel, flip: bool, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = np.random.default_rng(0).integers(0, 255, (90, 80, 3), dtype=np.uint8)
    boxes = np.array([[5, 5, 70, 80], [10, 0, 60, 60]], np.float32)
    predictor = Predictor(model, device="cpu", dtype=dtype)
    expected = predictor(image, boxes, flip_test=flip)
    assert np.isfinite(expected.keypoints).all()
    tells = model.spec.codec.tells_visibility
    assert (expected.visibility is not None) == tells
    if tells:
        assert ((expected.visibility >= 0) & (expected.visibility <= 1)).all()
    engine = CudaGraphs(predictor.engine.network, predictor.device, predictor.dtype, FakeCuda)  # type: ignore[attr-defined, arg-type]
    predictor._estimator = Estimator(engine, predictor.spec)  # type: ignore[arg-type]
    monkeypatch.setattr("fastpose.inference.Clock", LateClock)
    for _ in range(3):  # as it is, captured, replayed
        found = predictor(image, boxes, flip_test=flip)
        np.testing.assert_allclose(found.keypoints, expected.keypoints, atol=1e-3)
        if tells:
            np.testing.assert_allclose(found.visibility, expected.visibility, atol=1e-5)
    assert engine._cuda.captured == [4 if flip else 2]


def test_a_step_of_training(model: PoseModel) -> None:
    loss = build_loss(model.head, model.spec)
    images, points = torch.randn(4, 3, *SIZE), torch.rand(4, 17, 2) * 40
    optimizer = torch.optim.Adam(model.train().parameters(), lr=1e-3)
    values = []
    for _ in range(5):
        value = loss(model(images), points, torch.ones(4, 17))
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        values.append(value.item())
    assert values[-1] < values[0]


def test_evaluation(model: PoseModel, tmp_path: Any) -> None:
    truth = tmp_path / "truth.json"
    write_coco(synthetic_records(2, 5, (120, 160), 2), truth, tmp_path / "photos")
    figures = Evaluator(read_annotations(truth), annotations=truth)(model)
    assert 0 <= figures["AP"] <= 1


def test_several_crops_are_refused(model: PoseModel) -> None:
    with pytest.raises(ValueError, match=f"several crops cannot be averaged with the codec {model.spec.codec.kind}"):
        build_views(model.spec, (0.9, 1.1))
