"""Networks that return several maps: how many, in which order, and what people do with them."""

from __future__ import annotations

import copy

import pytest
import torch

from fastpose.codecs import build_codec
from fastpose.models import MapsHead, PoseModel, build_model, create_model, heatmap_mse, load_model, save_model
from fastpose.models.backbones.cpm import CPM
from fastpose.models.backbones.hourglass import Hourglass
from fastpose.models.backbones.rsn import ResidualStepsBlock
from fastpose.models.layers import Bottleneck
from fastpose.models.layers.multi_stage import MultiStageNet
from fastpose.models.multi_stage_heads import MultiStageHead, MultiUnitHead, multi_unit_network
from fastpose.models.zoo import default_spec

SIZE = (64, 64)
K = 5


def _spec(stride):
    codec = build_codec("gaussian", heatmap_size=(SIZE[0] // stride, SIZE[1] // stride))
    skeleton = create_model("resnet18_slim", num_keypoints=K).spec.skeleton
    return default_spec().replace(skeleton=skeleton, input_size=SIZE, codec=codec)


def _mspn():
    backbone = MultiStageNet(Bottleneck, (1, 1, 1, 1), stages=2, name="multi_stage_mspn", unit_channels=16)
    return multi_unit_network(_spec(4), backbone, stages=2)


def _rsn():
    backbone = MultiStageNet(ResidualStepsBlock, (1, 2), stages=1, name="multi_stage_rsn", unit_channels=16)
    return multi_unit_network(_spec(4), backbone, stages=1)


def _hourglass():
    backbone = Hourglass(2, widths=(16, 16, 24, 32), depths=(1, 1, 2, 1))
    return PoseModel(backbone, MultiStageHead(16, K, 2), _spec(4))


def _cpm():
    return PoseModel(CPM(K, stages=3, width=16, image_channels=8), MapsHead(3), _spec(8))


FAMILIES = {"mspn": _mspn, "rsn": _rsn, "hourglass": _hourglass, "cpm": _cpm}


@pytest.fixture(params=FAMILIES)
def model(request, fill_by_name):
    """A small network of each family, with weights at which its maps are of size one."""
    torch.manual_seed(0)
    network = FAMILIES[request.param]()
    fill_by_name(network)
    return network.eval()


def _error(actual, expected):
    assert len(actual) == len(expected)
    return max(((a - e).abs().max() / e.abs().max()).item() for a, e in zip(actual, expected, strict=True))


def test_as_many_maps_as_the_spec_says(model):
    with torch.inference_mode():
        maps = model(torch.randn(2, 3, *SIZE)).stages
        assert {tuple(m.shape) for m in maps} == {(2, K, *model.spec.codec.heatmap_size)}
        assert len(maps) == model.spec.output_stages
        assert all(m.shape[0] == 0 for m in model(torch.randn(0, 3, *SIZE)).stages)


def test_features(model):
    backbone = model.backbone.eval()
    with torch.inference_mode():
        features = backbone.forward_features(torch.randn(2, 3, 64, 96))
    assert [f.shape[1] for f in features] == list(backbone.feature_channels)
    assert [(64 // s, 96 // s) for s in backbone.feature_strides] == [tuple(f.shape[2:]) for f in features]


@pytest.mark.parametrize("size", [(96, 128), (88, 56)])
def test_other_input_sizes(model, size):
    """Any multiple of the stride, also where maps further down must be rounded up."""
    stride = model.backbone.stride
    with torch.inference_mode():
        for maps in model(torch.randn(1, 3, *size)).stages:
            assert maps.shape == (1, K, size[0] // stride, size[1] // stride)


def test_channels_last_gives_the_same(model):
    x = torch.randn(2, 3, *SIZE)
    with torch.inference_mode():
        layout = copy.deepcopy(model).to(memory_format=torch.channels_last)
        assert _error(layout(x.to(memory_format=torch.channels_last)).stages, model(x).stages) < 2e-5


def test_bfloat16_autocast_is_near(model):
    x = torch.randn(2, 3, *SIZE)
    with torch.inference_mode():
        expected = model(x).stages
        with torch.autocast("cpu", torch.bfloat16):
            maps = model(x).stages
    assert all(m.dtype == torch.bfloat16 for m in maps)
    assert _error([m.float() for m in maps], expected) < 0.1


def test_compiles_without_graph_breaks(model):
    x = torch.randn(2, 3, *SIZE)
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    with torch.inference_mode():
        assert _error(compiled(x).stages, model(x).stages) < 1e-6


def test_exports_with_any_batch(model):
    program = torch.export.export(model, (torch.randn(2, 3, *SIZE),), dynamic_shapes=({0: torch.export.Dim("batch")},))
    x = torch.randn(3, 3, *SIZE)
    with torch.inference_mode():
        assert _error(program.module()(x).stages, model(x).stages) < 1e-6


def test_a_few_steps_lower_the_loss_and_reach_every_parameter(model):
    model.train()
    height, width = model.spec.codec.heatmap_size
    x, target = torch.randn(4, 3, *SIZE), torch.rand(4, K, height, width)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    losses = []
    for _ in range(5):
        optimizer.zero_grad()
        loss = sum(heatmap_mse(maps, target) for maps in model(x).stages)
        loss.backward()
        losses.append(loss.item())
        optimizer.step()
    assert losses[-1] < 0.95 * losses[0]
    assert [name for name, parameter in model.named_parameters() if parameter.grad is None] == []


# ---- output stages


@pytest.mark.parametrize(
    ("name", "options", "count"),
    [("rsn18", {}, 4), ("mspn50", {"stages": 2}, 8), ("hourglass52", {"stacks": 2}, 2), ("cpm", {"stages": 2}, 2)],
)
def test_options_decide_on_the_output_stages(name, options, count):
    spec = _spec(8 if name == "cpm" else 4)
    with torch.device("meta"):
        assert build_model(name, spec, options).spec == spec.replace(output_stages=count)
        assert build_model(name, spec.replace(output_stages=count), options).spec.output_stages == count
        with pytest.raises(ValueError, match=f"output_stages: the network returns {count}, the spec says 3"):
            build_model(name, spec.replace(output_stages=3), options)


def test_saved_network_comes_back_with_its_stages(tmp_path):
    spec = _spec(4)
    model = build_model("rsn18", spec, {"stages": 2})
    save_model(model, tmp_path / "m.safetensors")
    back = load_model(tmp_path / "m.safetensors")
    assert back.spec == model.spec
    assert back.spec.output_stages == 8


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("mspn50", {"stages": 0}, "stages: expected at least 1, got 0"),
        ("rsn18", {"stages": 0}, "stages: expected at least 1, got 0"),
        ("hourglass52", {"stacks": 0}, "stacks: expected at least 1, got 0"),
        ("cpm", {"stages": 1}, "stages: expected at least 2, got 1"),
    ],
)
def test_number_of_stages_is_checked(name, options, message):
    with pytest.raises(ValueError, match=message), torch.device("meta"):
        build_model(name, _spec(8 if name == "cpm" else 4), options)


@pytest.mark.parametrize("name", ["mspn50", "rsn18", "hourglass52", "cpm"])
def test_sizes_are_checked(name):
    with torch.device("meta"):
        with pytest.raises(ValueError, match=r"codec\.heatmap_size: the network gives"):
            build_model(name, _spec(2))
        codec = build_codec("gaussian", heatmap_size=(16, 15))
        with pytest.raises(ValueError, match="input_size: expected"):
            build_model(name, _spec(4).replace(input_size=(64, 62), codec=codec))


# ---- heads


def test_unit_maps_take_the_last_features_size_and_the_features_order():
    torch.manual_seed(0)
    head = MultiUnitHead(8, K, 4).eval()
    features = [[torch.randn(1, 8, s, s) for s in (3, 6)], [torch.randn(1, 8, s, s) for s in (3, 6)]]
    with torch.inference_mode():
        maps = head(features).stages
        for layer, x, y in zip(head.predict_layers, [f for stage in features for f in stage], maps, strict=True):
            assert y.shape == (1, K, 6, 6)
            torch.testing.assert_close(y[..., ::5, ::5], layer(x)[..., :: x.shape[-1] - 1, :: x.shape[-1] - 1])


def test_stage_head_gives_as_many_stages_as_it_has():
    x = torch.randn(1, 8, 4, 4)
    one, two = MultiStageHead(8, K, 1), MultiStageHead(8, K, 2)
    assert torch.equal(one([x]).last, one.multi_final_layers[0](x))
    assert [y.shape for y in two([x, x]).stages] == [(1, K, 4, 4)] * 2
    assert two([x, x]).last.abs().max() < 0.1
