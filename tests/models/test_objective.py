"""What training minimises, for each kind of head."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from fastpose.codecs import build_codec
from fastpose.models import LossSettings, Output, StageLoss, build_loss, create_model, heatmap_mse
from fastpose.ops import heatmap_encode
from fastpose.skeletons import COCO17
from fastpose.spec import PoseSpec

SMALL = (64, 64)


def _spec(kind: str = "gaussian", stages: int = 1) -> PoseSpec:
    size = {} if kind == "regression" else {"heatmap_size": (16, 16)}
    return PoseSpec(COCO17, SMALL, build_codec(kind, **size), output_stages=stages)


def _labels(batch: int = 2):
    torch.manual_seed(0)
    weights = torch.ones(batch, 17)
    weights[0, 3] = 0
    return torch.rand(batch, 17, 2) * 60 + 2, weights


def _resnet(head: str, kind: str = "gaussian"):
    torch.manual_seed(0)
    return create_model("resnet50", input_size=SMALL, codec=_spec(kind).codec, head=head, deconv_channels=(16, 16, 16))


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
    outputs = torch.randn(2, 17, 16, 16), torch.randn(2, 17, 16, 16)
    stages = (StageLoss(weight=0.25, kernel_size=15), StageLoss(kernel_size=5))
    loss = build_loss(torch.nn.Identity(), spec, LossSettings(weight=2.0, stages=stages))
    expected = 0.0
    for maps, stage in zip(outputs, stages, strict=True):
        codec = dataclasses.replace(spec.codec, kernel_size=stage.kernel_size)
        target, factors = heatmap_encode(keypoints, weights, codec, SMALL)
        expected += 2 * stage.weight * heatmap_mse(maps, target, factors)
    torch.testing.assert_close(loss(Output(outputs), keypoints, weights), expected)


def test_hardest_counts_fewer_keypoints():
    spec = _spec()
    keypoints, weights = _labels()
    maps = Output((torch.randn(2, 17, 16, 16),))
    everything = build_loss(torch.nn.Identity(), spec)(maps, keypoints, weights)
    hardest = build_loss(torch.nn.Identity(), spec, LossSettings(hardest=4))(maps, keypoints, weights)
    assert hardest > everything


def test_weight_zero_takes_a_coordinate_out():
    model = _resnet("regression", "regression")
    loss = build_loss(model.head, model.spec)
    keypoints, weights = _labels()
    output = torch.rand(2, 17, 2, requires_grad=True)
    loss(Output((output,)), keypoints, weights).backward()
    assert (output.grad[0, 3] == 0).all()
    assert (output.grad[1] != 0).all()


@pytest.mark.parametrize("kind", ["gaussian", "udp_combined"])
def test_the_map_of_a_keypoint_outside_the_crop_shall_be_empty(kind):
    spec = _spec(kind)
    keypoints, weights = _labels()
    keypoints[0, 5], keypoints[1, 6] = torch.tensor([-1e4, -1e4]), torch.tensor([30.0, 64.0])
    keypoints[0, 3] = torch.tensor([-1e4, -1e4])  # without a label nothing is known
    maps = torch.randn(2, spec.codec.output_channels(17), 16, 16, requires_grad=True)
    build_loss(torch.nn.Identity(), spec, LossSettings(absent=0.5, weight=3.0))(
        Output((maps,)), keypoints, weights
    ).backward()
    inside = weights.clone()
    inside[0, 5] = inside[1, 6] = 0
    plain = maps.detach().requires_grad_()
    loss = build_loss(torch.nn.Identity(), spec, LossSettings(weight=3.0))(Output((plain,)), keypoints, inside)
    loss.backward()
    step = maps.shape[1] // 17
    expected = plain.grad.clone()
    for row, joint in ((0, 5), (1, 6)):
        assert (plain.grad[row, joint * step] == 0).all()
        expected[row, joint * step] = 3.0 * 0.5 * 2 * maps.detach()[row, joint * step] / (16 * 16 * 2 * 17)
    torch.testing.assert_close(maps.grad, expected)


@pytest.mark.parametrize(
    ("settings", "spec", "message"),
    [
        (lambda: LossSettings(stages=(StageLoss(),)), _spec(stages=2), "expected one for each of 2 stages, got 1"),
        (
            lambda: LossSettings(stages=(StageLoss(kernel_size=5),)),
            _spec(),
            "loss: codec: unknown keys kernel_size",
        ),
        (lambda: LossSettings(hardest=2, stages=(StageLoss(),)), _spec(), "loss.hardest: give it in loss.stages"),
        (lambda: LossSettings(weight=0), _spec(), "loss.weight: expected a number above 0"),
        (lambda: StageLoss(hardest=0), _spec(), "loss.hardest: expected at least 1"),
        (lambda: StageLoss(kernel_size=4), _spec(), "loss.kernel_size: expected an odd number"),
        (lambda: LossSettings(visibility=-1), _spec(), "loss.visibility"),
        (lambda: LossSettings(absent=-1), _spec(), "loss.absent"),
        (lambda: LossSettings(absent=1), _spec("regression"), "loss.absent: goes with heatmaps"),
    ],
)
def test_settings_that_do_not_fit_are_named(settings, spec, message):
    with pytest.raises(ValueError, match=message):
        build_loss(torch.nn.Identity(), spec, settings())


def test_the_hardest_are_no_thing_for_coordinates():
    model = _resnet("rle", "regression")
    with pytest.raises(ValueError, match="loss: hardest: goes with heatmaps"):
        build_loss(model.head, model.spec, LossSettings(hardest=3))


@pytest.mark.parametrize(("head", "kind"), [("rle", "gaussian"), ("heatmap", "regression"), ("boxes", "gaussian")])
def test_heads_that_do_not_fit_the_codec_are_refused(head, kind):
    with pytest.raises(ValueError, match=r"^head: "):
        _resnet(head, kind)


def test_one_record_for_every_head():
    images = torch.randn(2, 3, *SMALL)
    output = _resnet("visibility").eval()(images)
    assert output.last.shape == (2, 17, 16, 16)
    assert output.visibility.shape == (2, 17)
    assert ((output.visibility > 0) & (output.visibility < 1)).all()
    output = _resnet("rle", "regression").eval()(images)
    assert (output.last.shape, output.visibility, len(output.stages)) == ((2, 17, 4), None, 1)
    halves = output.map(lambda tensor: tensor[:1] / 2)
    torch.testing.assert_close(halves.last, output.last[:1] / 2)
    assert [tensor.shape for tensor in Output(((images, images), images), images).tensors()] == [images.shape] * 4


def test_a_spec_with_other_stages_than_the_network_is_refused():
    with pytest.raises(ValueError, match="output_stages: the network returns 1, the spec says 3"):
        create_model("resnet50", output_stages=3)
