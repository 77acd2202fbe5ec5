"""What ViT, Swin and PVT have in common: features, other sizes and formats, checkpointing, a step of training."""

from __future__ import annotations

import copy

import pytest
import torch

from fastpose.models import PoseModel
from fastpose.models.backbones.pvt import PyramidVisionTransformer
from fastpose.models.backbones.swin import SwinTransformer
from fastpose.models.backbones.vit import VisionTransformer
from fastpose.models.baseline import simple_baseline
from fastpose.models.zoo import default_spec

SIZE = (96, 64)
BACKBONES = {
    "vit": lambda: VisionTransformer(SIZE, channels=24, depth=3, heads=3, drop_path=0.2),
    "swin": lambda: SwinTransformer(8, (2, 2, 2, 2), (1, 2, 2, 4), window_size=3, drop_path=0.2),
    "pvt": lambda: PyramidVisionTransformer((1, 1, 2, 1), v2=False, drop_path=0.2),
    "pvtv2": lambda: PyramidVisionTransformer((1, 1, 2, 1), v2=True, drop_path=0.2),
}


@pytest.fixture(params=BACKBONES)
def model(request) -> PoseModel:
    torch.manual_seed(0)
    backbone = BACKBONES[request.param]()
    deconv_channels = (16,) * (2 if backbone.stride == 16 else 3)
    return simple_baseline(default_spec().replace(input_size=SIZE), backbone, deconv_channels=deconv_channels)


@pytest.mark.parametrize("size", [SIZE, (128, 160)])
def test_feature_maps_are_as_announced(model, size):
    backbone, x = model.backbone.eval(), torch.randn(2, 3, *size)
    with torch.inference_mode():
        maps, last = backbone.forward_features(x), backbone(x)
    shapes = [
        (2, channels, size[0] // stride, size[1] // stride)
        for channels, stride in zip(backbone.feature_channels, backbone.feature_strides, strict=True)
    ]
    assert [tuple(features.shape) for features in maps] == shapes
    assert torch.equal(maps[-1], last)
    assert backbone.out_channels == backbone.feature_channels[-1]


def test_crops_of_a_batch_do_not_see_each_other(model):
    x = torch.randn(3, 3, *SIZE)
    with torch.inference_mode():
        together, alone = model.eval()(x).last, model(x[1:2]).last
    torch.testing.assert_close(together[1:2], alone, rtol=1e-4, atol=1e-7)


def test_checkpointing_gives_the_same_gradients(model):
    x = torch.randn(2, 3, *SIZE)
    other = copy.deepcopy(model)
    other.set_grad_checkpointing()
    gradients, saved = [], []

    def step(network):
        torch.manual_seed(1)  # drops the same branches
        count = 0

        def pack(tensor):
            nonlocal count
            count += tensor.numel()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            loss = network(x).last.square().sum()
        saved.append(count)
        loss.backward()
        gradients.append({name: p.grad for name, p in network.named_parameters()})

    step(model.train())
    step(other.train())
    assert saved[1] < 0.75 * saved[0]
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, msg=lambda text, name=name: f"{name}: {text}")
    other.set_grad_checkpointing(False)
    assert not other.backbone.grad_checkpointing


def test_every_parameter_learns(model):
    model.train()
    x, target = torch.randn(4, 3, *SIZE), torch.rand(4, 17, SIZE[0] // 4, SIZE[1] // 4)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    losses = []
    for _ in range(6):
        loss = (model(x).last - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.9 * losses[0]
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_compiles_without_a_break_and_exports(model):
    model, x = model.eval(), torch.randn(2, 3, *SIZE)
    with torch.no_grad():
        expected = model(x).last
        compiled = torch.compile(model, fullgraph=True, backend="aot_eager")(x).last
        batch = torch.export.Dim("batch", min=1, max=64)
        exported = torch.export.export(model, (x,), dynamic_shapes=({0: batch},)).module()
        torch.testing.assert_close(compiled, expected, rtol=1e-4, atol=1e-7)
        torch.testing.assert_close(exported(x).last, expected, rtol=1e-4, atol=1e-7)
        assert exported(torch.cat([x, x, x])).last.shape[0] == 6


def test_bfloat16_and_channels_last(model):
    model, x = model.eval(), torch.randn(2, 3, *SIZE)
    with torch.no_grad():
        expected = model(x).last
        layout = copy.deepcopy(model).to(memory_format=torch.channels_last)
        actual = layout(x.to(memory_format=torch.channels_last)).last
        torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-7)
        with torch.autocast("cpu", torch.bfloat16):
            rounded = model(x).last.float()
    assert (rounded - expected).abs().max() < 0.05 * expected.abs().max()


def test_convolutional_networks_have_no_checkpointing():
    from fastpose.models import create_model

    with pytest.raises(ValueError, match="grad_checkpointing: ResNet has none"):
        create_model("resnet18_slim").set_grad_checkpointing()
