"""What training minimises, for each kind of head."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from fastpose.models import LossSettings, StageLoss, build_loss, create_model, heatmap_mse
from fastpose.ops import heatmap_encode
from fastpose.skeletons import COCO17
from fastpose.spec import CodecSpec, PoseSpec

SMALL = (64, 64)


def _spec(kind: str = "gaussian", stages: int = 1) -> PoseSpec:
    size = None if kind == "regression" else (16, 16)
    return PoseSpec(COCO17, SMALL, CodecSpec(kind, heatmap_size=size), output_stages=stages)


def _labels(batch: int = 2):
    torch.manual_seed(0)
    weights = torch.ones(batch, 17)
    weights[0, 3] = 0
    return torch.rand(batch, 17, 2) * 60 + 2, weights


def _resnet(head: str, kind: str = "gaussian"):
    torch.manual_seed(0)
    codec = CodecSpec(kind, heatmap_size=None if kind == "regression" else (16, 16))
    return create_model("resnet50", input_size=SMALL, codec=codec, head=head, deconv_channels=(16, 16, 16))


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        ("heatmap", "gaussian"),
        ("heatmap", "udp_combined"),
        ("visibility", "gaussian"),
        ("regression", "regression"),
        ("rle", "regression"),
    ],
)
def test_every_head_learns(head, kind):
    model = _resnet(head, kind).train()
    weight = 1.0 if kind == "regression" else 1000.0  # the mean over a map's pixels is small
    loss = build_loss(model.head, model.spec, LossSettings(weight=weight))
    keypoints, weights = _labels()
    images = torch.randn(2, 3, *SMALL)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    values = []
    for _ in range(6):
        value = loss(model(images), keypoints, weights)
        optimizer.zero_grad()
        value.backward()
        unused = [name for name, parameter in model.named_parameters() if parameter.grad is None]
        assert not unused
        optimizer.step()
        values.append(value.item())
    assert values[-1] < values[0]


def test_stages_are_weighted_and_have_their_own_targets():
    spec = _spec("megvii", stages=2)
    keypoints, weights = _labels()
    outputs = [torch.randn(2, 17, 16, 16), torch.randn(2, 17, 16, 16)]
    stages = (StageLoss(weight=0.25, kernel_size=15), StageLoss(kernel_size=5))
    loss = build_loss(torch.nn.Identity(), spec, LossSettings(weight=2.0, stages=stages))
    expected = 0.0
    for maps, stage in zip(outputs, stages, strict=True):
        codec = dataclasses.replace(spec.codec, kernel_size=stage.kernel_size)
        target, factors = heatmap_encode(keypoints, weights, codec, SMALL)
        expected += 2 * stage.weight * heatmap_mse(maps, target, factors)
    torch.testing.assert_close(loss(outputs, keypoints, weights), expected)


def test_hardest_counts_fewer_keypoints():
    spec = _spec()
    keypoints, weights = _labels()
    maps = torch.randn(2, 17, 16, 16)
    everything = build_loss(torch.nn.Identity(), spec)(maps, keypoints, weights)
    hardest = build_loss(torch.nn.Identity(), spec, LossSettings(hardest=4))(maps, keypoints, weights)
    assert hardest > everything


def test_weight_zero_takes_a_coordinate_out():
    model = _resnet("regression", "regression")
    loss = build_loss(model.head, model.spec)
    keypoints, weights = _labels()
    output = torch.rand(2, 17, 2, requires_grad=True)
    loss(output, keypoints, weights).backward()
    assert (output.grad[0, 3] == 0).all()
    assert (output.grad[1] != 0).all()


@pytest.mark.parametrize(
    ("settings", "spec", "message"),
    [
        (lambda: LossSettings(stages=(StageLoss(),)), _spec(stages=2), "expected one for each of 2 stages, got 1"),
        (lambda: LossSettings(stages=(StageLoss(kernel_size=5),)), _spec(), "codec 'gaussian' are not blurred points"),
        (lambda: LossSettings(hardest=2, stages=(StageLoss(),)), _spec(), "loss.hardest: give it in loss.stages"),
        (lambda: LossSettings(weight=0), _spec(), "loss.weight: expected a number above 0"),
        (lambda: StageLoss(hardest=0), _spec(), "loss.hardest: expected at least 1"),
        (lambda: StageLoss(kernel_size=4), _spec(), "loss.kernel_size: expected an odd number"),
        (lambda: LossSettings(visibility=-1), _spec(), "loss.visibility"),
    ],
)
def test_settings_that_do_not_fit_are_named(settings, spec, message):
    with pytest.raises(ValueError, match=message):
        build_loss(torch.nn.Identity(), spec, settings())


def test_stages_are_no_thing_for_coordinates():
    model = _resnet("rle", "regression")
    with pytest.raises(ValueError, match="stages and hardest are for heatmaps"):
        build_loss(model.head, model.spec, LossSettings(hardest=3))


@pytest.mark.parametrize(("head", "kind"), [("rle", "gaussian"), ("heatmap", "regression"), ("boxes", "gaussian")])
def test_heads_that_do_not_fit_the_codec_are_refused(head, kind):
    with pytest.raises(ValueError, match=r"^head: "):
        _resnet(head, kind)


def test_predict_gives_what_the_codec_decodes():
    images = torch.randn(2, 3, *SMALL)
    model = _resnet("visibility").eval()
    maps, visible = model.predict(images)
    assert maps.shape == (2, 17, 16, 16)
    assert visible.shape == (2, 17)
    assert ((visible > 0) & (visible < 1)).all()
    model = _resnet("rle", "regression").eval()
    values, visible = model.predict(images)
    assert visible is None
    torch.testing.assert_close(values[..., 2:], model(images)[..., 2:].sigmoid())
    torch.testing.assert_close(values[..., :2], model(images)[..., :2])
