"""HRFormer: windows that do not divide the map, features, checkpointing, stochastic depth."""

from __future__ import annotations

import copy

import pytest
import torch

from fastpose.models import create_model, heatmap_mse
from fastpose.models.backbones.hrformer import HRFormer, HRFormerBlock, LocalAttention
from fastpose.models.layers import DropPath


def _tiny(drop_path=0.0):
    torch.manual_seed(0)
    return HRFormer((4, 8, 8, 8), (1, 2, 2, 4), drop_path=drop_path)


@pytest.mark.parametrize("size", [(64, 96), (256, 192), (224, 224)])
def test_features_are_the_branches(size):
    backbone = _tiny().eval()
    x = torch.randn(1, 3, *size)
    with torch.inference_mode():
        features = backbone.forward_features(x)
        assert torch.equal(backbone(x), features[0])
    assert [f.shape[1] for f in features] == list(backbone.feature_channels)
    assert [(size[0] // s, size[1] // s) for s in backbone.feature_strides] == [tuple(f.shape[-2:]) for f in features]


def test_windows_are_centred_and_padded_with_zeros():
    torch.manual_seed(0)
    attention = LocalAttention(4, 2).eval()
    x = torch.randn(1, 9, 7, 4)  # two windows of seven rows: the map's rows are 2 … 10 of fourteen
    padded = torch.zeros(1, 14, 7, 4)
    padded[:, 2:11] = x
    with torch.inference_mode():
        upper = attention.attn(padded[:, :7].reshape(1, 49, 4)).view(7, 7, 4)
        lower = attention.attn(padded[:, 7:].reshape(1, 49, 4)).view(7, 7, 4)
        torch.testing.assert_close(attention(x)[0], torch.cat((upper, lower))[2:11])


def test_block_takes_both_memory_layouts():
    torch.manual_seed(0)
    block, x = HRFormerBlock(8, 2, 0.0).eval(), torch.randn(2, 8, 10, 6)
    with torch.inference_mode():
        y = block(x)
        torch.testing.assert_close(block(x.contiguous(memory_format=torch.channels_last)), y)
    assert y.shape == x.shape


def test_stochastic_depth_grows_from_zero():
    backbone = _tiny(drop_path=0.2)
    assert backbone.stage2[0].branches[0][0].drop_path.probability == 0
    assert backbone.stage4[-1].branches[3][-1].drop_path.probability == pytest.approx(0.2)
    by_stage = [[m.probability for m in s.modules() if isinstance(m, DropPath)] for s in (backbone.stage3,)]
    assert by_stage[0][:6] == pytest.approx([0.2 * i / 13 for i in (2, 3)] * 3)


def test_checkpointing_changes_nothing():
    plain = _tiny(drop_path=0.3)
    checkpointed = copy.deepcopy(plain)
    checkpointed.grad_checkpointing = True
    x = torch.randn(4, 3, 64, 64)
    for backbone in (plain, checkpointed):
        torch.manual_seed(1)
        backbone(x).square().sum().backward()
    for a, b in zip(plain.parameters(), checkpointed.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad)
    for a, b in zip(plain.buffers(), checkpointed.buffers(), strict=True):
        assert torch.equal(a, b)


def test_every_parameter_gets_a_gradient():
    torch.manual_seed(0)
    model = create_model("hrformer_small", input_size=(64, 64), num_keypoints=2)
    heatmap_mse(model(torch.randn(2, 3, 64, 64)).last, torch.rand(2, 2, 16, 16)).backward()
    assert [name for name, parameter in model.named_parameters() if parameter.grad is None] == []
