"""Hugging Face's ViTPose and ViTPose++ beside ours, with the same weights, where transformers is installed."""

from __future__ import annotations

import pytest
import torch
from other_layouts import CHANNELS, DEPTH, HEADS, PART, SIZE, draw, transformer

from fastpose.models import experts, load_checkpoint

transformers = pytest.importorskip("transformers")


def _theirs(*, simple=False, num_experts=1, norm_eps=1e-12):
    backbone = transformers.VitPoseBackboneConfig(
        image_size=SIZE, hidden_size=CHANNELS, num_hidden_layers=DEPTH, num_attention_heads=HEADS,
        num_experts=num_experts, part_features=PART, out_indices=[DEPTH], layer_norm_eps=norm_eps,
    )  # fmt: skip
    config = transformers.VitPoseConfig(backbone_config=backbone, use_simple_decoder=simple, num_labels=17)
    torch.manual_seed(7)
    return draw(transformers.VitPoseForPoseEstimation(config)).eval()


@torch.no_grad()
@pytest.mark.parametrize("simple", [False, True], ids=["classic", "simple"])
@pytest.mark.parametrize("norm_eps", [1e-12, 1e-6])
def test_vitpose_computes_the_same(tmp_path, simple, norm_eps):
    theirs, ours = _theirs(simple=simple, norm_eps=norm_eps), transformer(simple=simple)
    theirs.save_pretrained(tmp_path)
    load_checkpoint(ours, tmp_path / "model.safetensors")
    crops = torch.randn(2, 3, *SIZE)
    expected = theirs(crops).heatmaps
    torch.testing.assert_close(ours(crops).stages[-1], expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))


@torch.no_grad()
@pytest.mark.filterwarnings("ignore:.*trained with udp")
@pytest.mark.parametrize("number", range(6))
@pytest.mark.parametrize("simple", [False, True], ids=["classic", "simple"])
def test_every_expert_of_vitpose_plus_plus_computes_the_same(tmp_path, number, simple):
    theirs, ours = _theirs(simple=simple, num_experts=6), transformer(simple=simple)
    theirs.save_pretrained(tmp_path)
    load_checkpoint(ours, tmp_path / "model.safetensors", expert=experts.EXPERTS[number].name)
    crops = torch.randn(2, 3, *SIZE)
    expected = theirs(crops, dataset_index=torch.full((2,), number)).heatmaps
    torch.testing.assert_close(ours(crops).stages[-1], expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))
