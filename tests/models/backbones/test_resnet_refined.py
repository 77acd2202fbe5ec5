"""The slim ResNet whose maps a second network corrects."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from fastpose.models import create_model
from fastpose.models.fuse import fuse_batchnorm


def _network(**options):
    torch.manual_seed(0)
    return create_model("resnet18_slim_refined", skeleton="lsp14", input_size=(96, 64), **options)


def test_gives_both_networks_maps_at_a_quarter_of_the_input():
    model = _network()
    first, second = model(torch.randn(2, 3, 96, 64)).stages
    assert first.shape == second.shape == (2, 14, 24, 16)
    assert model.spec.output_stages == 2
    assert model.eval()(torch.randn(1, 3, 96, 64)).last.shape == (1, 14, 24, 16)


def test_second_network_sees_the_first_ones_maps():
    model = _network().eval()
    x = torch.randn(1, 3, 96, 64)
    with torch.no_grad():
        nn.init.normal_(model.head.final_layer.weight)
        before = model(x).stages
        model.head.first_layer.bias += 1.0
        after = model(x).stages
    assert torch.allclose(after[0], before[0] + 1.0)
    assert not torch.allclose(after[1], before[1], atol=1e-3)


def test_every_parameter_is_trained_by_the_last_maps_alone():
    model = _network()
    model(torch.randn(2, 3, 96, 64)).stages[1].sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_folding_batchnorm_changes_nothing():
    model = _network().eval()
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_(std=0.1)
                module.running_var.uniform_(0.5, 2.0)
                module.weight.uniform_(0.5, 1.5)
        for layer in (model.head.first_layer, model.head.final_layer):
            nn.init.normal_(layer.weight, std=0.1)
        x = torch.randn(2, 3, 96, 64)
        for plain, fused in zip(model(x).stages, fuse_batchnorm(model)(x).stages, strict=True):
            torch.testing.assert_close(fused, plain, rtol=1e-4, atol=1e-4)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in fuse_batchnorm(model).modules())


def test_sizes_that_do_not_divide_are_refused():
    with pytest.raises(ValueError, match="multiples of 16"):
        create_model("resnet18_slim_refined", skeleton="lsp14", input_size=(100, 64))
