"""What people do with a network: layouts, precisions, compilers, folding, training, copying."""

from __future__ import annotations

import copy
import io

import pytest
import torch

from fastpose.codecs import build_codec
from fastpose.models import HeatmapHead, create_model, fuse_batchnorm, heatmap_mse, list_architectures, save_model
from fastpose.models.backbones.litehrnet import LiteHRNet
from fastpose.models.backbones.resnet import ResNet
from fastpose.models.layers import Bottleneck, ConvUnit, channel_shuffle

SIZE = (64, 64)
SMALL = ["resnet18_slim", "litehrnet18"]
# One of every other family of convolutions; transformers and networks of several stages have tests of their own.
OTHERS = [
    *("resnetv1d50", "resnext50", "seresnet50", "scnet50", "resnest50", "hrnet_w32", "cspnext_tiny", "mobilenetv2"),
    *("shufflenetv1", "shufflenetv2", "vgg16_bn", "vipnas_resnet50", "vipnas_mobilenetv3"),
]
MOST = [*SMALL, *(pytest.param(name, marks=pytest.mark.slow) for name in OTHERS)]


def _model(name, fill=None):
    torch.manual_seed(0)
    codec = {"codec": build_codec("gaussian", heatmap_size=(8, 8))} if name == "cpm" else {}  # an eighth, not a quarter
    model = create_model(name, input_size=SIZE, **codec)
    if fill is not None:
        fill(model)
    return model.eval()


def _error(actual, expected):
    if isinstance(expected, list | tuple):
        return max(_error(*pair) for pair in zip(actual, expected, strict=True))
    return ((actual - expected).abs().max() / expected.abs().max()).item()


@pytest.mark.parametrize("name", list_architectures())
def test_folded_network_gives_the_same(name, fill_by_name):
    model = _model(name, fill_by_name)
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    fused = fuse_batchnorm(model)
    ran: list[torch.nn.Module] = []  # a single hourglass has a block that never runs
    for module in fused.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.register_forward_hook(lambda module, *_: ran.append(module))
    x = torch.randn(2, 3, *SIZE)
    with torch.inference_mode():
        assert _error(fused(x).last, model(x).last) < 2e-5
    assert not ran
    assert fused.spec == model.spec
    for key, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[key])


def test_folded_network_cannot_be_saved_as_its_architecture(tmp_path):
    with pytest.raises(ValueError, match="no architecture name"):
        save_model(fuse_batchnorm(_model("resnet18_slim")), tmp_path / "m.safetensors")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", MOST)
def test_channels_last_gives_the_same(name, fill_by_name):
    model, x = _model(name, fill_by_name), torch.randn(2, 3, *SIZE)
    with torch.inference_mode():
        expected = model(x).last
        layout = copy.deepcopy(model).to(memory_format=torch.channels_last)
        assert _error(layout(x.to(memory_format=torch.channels_last)).last, expected) < 1e-5


@pytest.mark.parametrize("name", MOST)
def test_bfloat16_autocast_is_near(name, fill_by_name):
    model, x = _model(name, fill_by_name), torch.randn(2, 3, *SIZE)
    with torch.inference_mode():
        expected = model(x).last
        with torch.autocast("cpu", torch.bfloat16):
            output = model(x).last
    assert output.dtype == torch.bfloat16
    assert _error(output.float(), expected) < 0.1


@pytest.mark.parametrize("name", MOST)
def test_other_input_sizes(name):
    model = _model(name)
    with torch.inference_mode():
        assert model(torch.randn(1, 3, 96, 128)).last.shape == (1, 17, 24, 32)
        assert model(torch.randn(0, 3, *SIZE)).last.shape == (0, 17, 16, 16)


@pytest.mark.parametrize("name", MOST)
def test_compiles_without_graph_breaks(name, fill_by_name):
    model, x = _model(name, fill_by_name), torch.randn(2, 3, *SIZE)
    with torch.inference_mode():
        expected = model(x).last
        torch.compiler.reset()  # the limit of recompilations counts other networks too
        compiled = torch.compile(model, backend="eager", fullgraph=True)
        assert _error(compiled(x).last, expected) < 1e-6


@pytest.mark.parametrize("name", MOST)
def test_exports(name, fill_by_name):
    model, x = _model(name, fill_by_name), torch.randn(2, 3, *SIZE)
    program = torch.export.export(model, (x,), dynamic_shapes=({0: torch.export.Dim("batch")},))
    with torch.inference_mode():
        x = torch.randn(3, 3, *SIZE)
        assert _error(program.module()(x).last, model(x).last) < 1e-6


@pytest.mark.parametrize("name", MOST)
def test_a_few_steps_lower_the_loss_and_reach_every_parameter(name):
    torch.manual_seed(0)
    model = create_model(name, input_size=SIZE, num_keypoints=2)
    x, target = torch.randn(4, 3, *SIZE), torch.rand(4, 2, 16, 16)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    losses = []
    for _ in range(5):
        optimizer.zero_grad()
        loss = heatmap_mse(model(x).last, target)
        loss.backward()
        losses.append(loss.item())
        optimizer.step()
    assert losses[-1] < 0.95 * losses[0]
    assert [key for key, parameter in model.named_parameters() if parameter.grad is None] == []


def test_module_conventions():
    model = _model("resnet18_slim")
    buffer = io.BytesIO()
    torch.save(model, buffer)
    buffer.seek(0)
    back = torch.load(buffer, weights_only=False)
    assert back.spec == model.spec
    with torch.device("meta"):
        assert next(create_model("resnet18_slim").parameters()).is_meta
    assert model.double()(torch.zeros(1, 3, *SIZE, dtype=torch.float64)).last.dtype == torch.float64


def test_fresh_networks_start_near_zero():
    """Heads draw from N(0, 0.001): almost all of every target is zero."""
    torch.manual_seed(0)
    output = create_model("resnet18_slim", input_size=SIZE)(torch.randn(2, 3, *SIZE)).last
    assert output.abs().max() < 0.2
    backbone = ResNet(Bottleneck, (1, 1, 1, 1), widths=(8, 8, 8, 8), stem_channels=8)
    assert all(stage[0].bn3.weight.abs().max() == 0 for stage in (backbone.layer1, backbone.layer4))


def test_channel_shuffle_interleaves():
    x = torch.arange(6.0).view(1, 6, 1, 1)
    assert channel_shuffle(x, 2).flatten().tolist() == [0, 3, 1, 4, 2, 5]


def test_head_layers():
    head = HeatmapHead(8, 4, deconv_channels=(6, 6, 6), deconv_kernels=(4, 3, 2), conv_channels=(5,), conv_kernels=(3,))
    assert head(torch.zeros(1, 8, 3, 2)).last.shape == (1, 4, 24, 16)
    assert head.upsampling == 8
    assert HeatmapHead(4, 4, deconv_channels=(), final_kernel=None)(torch.ones(1, 4, 2, 2)).last.sum() == 16


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"deconv_kernels": (4,)}, "deconv_kernels: expected 3 values, one per layer, got 1"),
        ({"deconv_kernels": (4, 4, 5)}, "deconv_kernels: expected 2, 3 or 4, got 5"),
        ({"conv_kernels": (1,)}, "conv_kernels: expected 0 values"),
        ({"final_kernel": None}, "final_kernel: None leaves 256 maps where the codec wants 4"),
    ],
)
def test_head_options_are_checked(options, message):
    with pytest.raises(ValueError, match=message):
        HeatmapHead(8, 4, **options)


def test_backbone_stages_are_checked():
    with pytest.raises(ValueError, match="expected three stages"):
        LiteHRNet((2, 4))
    with pytest.raises(ValueError, match="expected four stages"):
        ResNet(Bottleneck, (1, 2))


def test_conv_unit_has_a_bias_only_without_norm():
    assert list(ConvUnit(2, 3).state_dict())[:2] == ["conv.weight", "bn.weight"]
    assert list(ConvUnit(2, 3, norm=False).state_dict()) == ["conv.weight", "conv.bias"]
