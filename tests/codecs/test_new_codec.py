"""A codec whose output is two vectors a keypoint, as SimCC's, in one class here: nobody outside is changed for it.

It goes through everything that asks a codec: spec and header, network, loss and a training step, the mirrored crop,
prediction eager and captured, and evaluation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from fake_cuda import FakeCuda, LateClock
from torch import Tensor, nn

from fastpose import codecs, views
from fastpose.codecs import build_codec, change_codec
from fastpose.data import read_annotations, write_coco
from fastpose.data.synthetic import synthetic_records
from fastpose.engines import CudaGraphs
from fastpose.evaluate import Evaluator
from fastpose.inference import Estimator
from fastpose.models import Output, PoseModel, build_loss
from fastpose.predict import Predictor
from fastpose.skeletons import COCO17
from fastpose.spec import PoseSpec

SIZE = (64, 48)


@dataclass(frozen=True)
class Vectors:
    """A distribution over the columns of the input and one over its rows for each keypoint."""

    per_pixel: int = 2

    kind: ClassVar[str] = "vectors"
    takes: ClassVar[str] = "vectors"
    needs_core: ClassVar[bool] = False
    tells_visibility: ClassVar[bool] = False

    def check(self, input_size):
        pass

    def output_channels(self, num_keypoints):
        return num_keypoints

    def output_shape(self, num_keypoints, input_size):
        return (num_keypoints,)

    def accepts(self, output, num_keypoints, input_size):
        return all(part.shape[1] == num_keypoints for part in output)

    def resized(self, old, new, *, exact=True):
        return self

    def encode(self, keypoints, visible, input_size, *, joint_weights=None):
        target = (torch.as_tensor(keypoints) * self.per_pixel).round().long()
        inside = (target >= 0).all(-1) & (target[..., 0] < input_size[1] * self.per_pixel)
        inside &= target[..., 1] < input_size[0] * self.per_pixel
        return target, (inside & (torch.as_tensor(visible) > 0)).float()

    def make_loss(self, input_size, hardest=None, *, kind=None, **options):
        def loss(stage: tuple[Tensor, Tensor], keypoints: Tensor, weights: Tensor) -> Tensor:
            target, inside = self.encode(keypoints, weights, input_size)
            losses = [
                nn.functional.cross_entropy(part.flatten(0, 1), target[..., i].clamp(0, part.shape[2] - 1).flatten(),
                                            reduction="none")
                for i, part in enumerate(stage)
            ]  # fmt: skip
            return ((losses[0] + losses[1]) * (inside * weights).flatten()).mean()

        return loss

    def unmirror(self, output, flip_index, input_size):
        x, y = (part[:, torch.as_tensor(flip_index)] for part in output)
        return torch.cat((x.flip(-1)[..., 1:], x.flip(-1)[..., :1]), -1) if self.per_pixel > 1 else x.flip(-1), y

    def decode(self, output, input_size, *, flipped=None, flip_index=None, inverse=None):
        parts = output
        if flipped is not None:
            parts = [(a + b) / 2 for a, b in zip(output, self.unmirror(flipped, flip_index, input_size), strict=True)]
        found = [part.softmax(-1).max(-1) for part in parts]
        points = torch.stack([index.float() for _, index in found], -1) / self.per_pixel
        if inverse is not None:
            points = (points.double() @ inverse[..., :2].mT + inverse[:, None, :, 2]).float()
        return points, (found[0].values * found[1].values).sqrt()

    def output_to_input(self, input_size):
        return None


class VectorHead(nn.Module):
    gives, stages = "vectors", 1

    def __init__(self, channels: int, keypoints: int, sizes: tuple[int, int]) -> None:
        super().__init__()
        self.keypoints = keypoints
        self.x, self.y = (nn.Linear(channels, keypoints * size) for size in sizes)

    def forward(self, x: Tensor) -> Output:
        x = x.mean((2, 3))
        return Output(((self.x(x).unflatten(1, (self.keypoints, -1)), self.y(x).unflatten(1, (self.keypoints, -1))),))


class Small(nn.Module):
    stride = 4

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 8, 7, 4, 3), nn.BatchNorm2d(8)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(x)).relu()


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> PoseModel:
    table: Any = {**codecs.CODECS, "vectors": Vectors}
    monkeypatch.setattr(codecs, "CODECS", table)
    monkeypatch.setattr("fastpose.spec.CODECS", table)
    torch.manual_seed(0)
    spec = PoseSpec(COCO17, SIZE, build_codec("vectors"))
    return PoseModel(Small(), VectorHead(8, 17, (SIZE[1] * 2, SIZE[0] * 2)), spec).eval()


def test_header_and_network(model: PoseModel) -> None:
    assert PoseSpec.from_json(model.spec.to_json()) == model.spec
    assert change_codec(model.spec.codec, per_pixel=3) == Vectors(3)
    with pytest.raises(ValueError, match="codec: 'gaussian' takes maps, and the network gives vectors"):
        PoseModel(Small(), model.head, model.spec.replace(codec=build_codec("gaussian", heatmap_size=(16, 12))))
    with pytest.raises(ValueError, match="several crops cannot be averaged with the codec vectors"):
        views.build_views(model.spec, (0.9, 1.1))


def test_a_step_of_training(model: PoseModel) -> None:
    loss = build_loss(model.head, model.spec)
    images, points = torch.randn(4, 3, *SIZE), torch.rand(4, 17, 2) * 40
    optimizer = torch.optim.Adam(model.train().parameters(), lr=1e-2)
    values = []
    for _ in range(4):
        value = loss(model(images), points, torch.ones(4, 17))
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        values.append(value.item())
    assert values[-1] < values[0]


@pytest.mark.parametrize("flip", [False, True])
def test_prediction_eager_and_captured(model: PoseModel, flip: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    image = np.random.default_rng(0).integers(0, 255, (90, 80, 3), dtype=np.uint8)
    boxes = np.array([[5, 5, 70, 80], [10, 0, 60, 60]], np.float32)
    predictor = Predictor(model, device="cpu")
    expected = predictor(image, boxes, flip_test=flip)
    assert np.isfinite(expected.keypoints).all()
    assert (expected.scores > 0).all()
    engine = CudaGraphs(predictor.engine.network, predictor.device, predictor.dtype, FakeCuda)  # type: ignore[attr-defined, arg-type]
    predictor._estimator = Estimator(engine, predictor.spec)  # type: ignore[arg-type]
    monkeypatch.setattr("fastpose.inference.Clock", LateClock)
    for _ in range(3):  # as it is, captured, replayed
        found = predictor(image, boxes, flip_test=flip)
        np.testing.assert_allclose(found.keypoints, expected.keypoints, atol=1e-3)
    assert engine._cuda.captured == [4 if flip else 2]


def test_evaluation(model: PoseModel, tmp_path: Any) -> None:
    truth = tmp_path / "truth.json"
    write_coco(synthetic_records(2, 5, (120, 160), 2), truth, tmp_path / "photos")
    figures = Evaluator(read_annotations(truth), annotations=truth)(model)
    assert 0 <= figures["AP"] <= 1
