"""ViTPose: positions for other sizes, depth of parameters, the simple decoder."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from fastpose.models import PoseModel, WeightsError, load_checkpoint, save_model
from fastpose.models.backbones.vit import VisionTransformer, vitpose_small
from fastpose.models.baseline import simple_baseline
from fastpose.models.necks import FeatureMapProcessor
from fastpose.models.zoo import default_spec


def _model(size: tuple[int, int]) -> PoseModel:
    backbone = VisionTransformer(size, channels=8, depth=2, heads=2)
    model = simple_baseline(default_spec().replace(input_size=size), backbone, deconv_channels=(4, 4))
    model.architecture = "vitpose_small"
    return model


def _resized(positions, grid, size):
    plane = positions.reshape(1, *grid, -1).permute(0, 3, 1, 2)
    return F.interpolate(plane, size=size, mode="bicubic").flatten(2).transpose(1, 2)


def test_positions_are_one_per_patch_of_the_spec():
    assert _model((256, 192)).backbone.pos_embed.shape == (1, 16 * 12, 8)
    assert _model((96, 128)).backbone.pos_embed.shape == (1, 6 * 8, 8)


def test_another_size_gets_interpolated_positions():
    small, large = _model((128, 96)).eval(), _model((256, 192)).eval()
    state = small.state_dict()
    state["backbone.pos_embed"] = _resized(state["backbone.pos_embed"], (8, 6), (16, 12))
    large.load_state_dict(state)
    x = torch.randn(1, 3, 256, 192)
    with torch.inference_mode():
        assert torch.equal(small(x).last, large(x).last)


@pytest.mark.parametrize(("source", "target"), [((128, 96), (256, 192)), ((128, 128), (256, 192))])
def test_checkpoint_of_another_size_is_resized(tmp_path, source, target):
    theirs, ours = _model(source), _model(target)
    torch.save(theirs.state_dict(), tmp_path / "weights.pth")  # does not say its size: the same aspect, or square
    load_checkpoint(ours, tmp_path / "weights.pth")
    grids = [(height // 16, width // 16) for height, width in (source, target)]
    torch.testing.assert_close(ours.backbone.pos_embed.data, _resized(theirs.backbone.pos_embed.data, *grids))


@pytest.mark.parametrize("target", [(256, 192), (96, 160)])  # the second has as many patches, in another order
def test_own_file_says_its_size(tmp_path, target):
    theirs, ours = _model((160, 96)), _model(target)
    save_model(theirs, tmp_path / "weights.safetensors")
    load_checkpoint(ours, tmp_path / "weights.safetensors")
    grid = (target[0] // 16, target[1] // 16)
    torch.testing.assert_close(ours.backbone.pos_embed.data, _resized(theirs.backbone.pos_embed.data, (10, 6), grid))


def test_checkpoint_of_unknown_size_is_refused(tmp_path):
    torch.save(_model((160, 96)).state_dict(), tmp_path / "weights.pth")
    with pytest.raises(WeightsError, match=r"backbone.pos_embed: expected \(1, 192, 8\), got \(1, 60, 8\)"):
        load_checkpoint(_model((256, 192)), tmp_path / "weights.pth")


def test_layers_count_from_the_patches_to_the_last_norm():
    backbone = VisionTransformer((64, 64), channels=8, depth=2, heads=2)
    layers = {name: backbone.layer_of(name) for name, _ in backbone.named_parameters()}
    assert {name for name, layer in layers.items() if layer == 0} == {
        "pos_embed",
        "patch_embed.projection.weight",
        "patch_embed.projection.bias",
    }
    assert all(layer == int(name.split(".")[1]) + 1 for name, layer in layers.items() if name.startswith("layers."))
    assert {name for name, layer in layers.items() if layer == 3} == {"ln1.weight", "ln1.bias"}


def test_simple_decoder_has_no_deconvolutions():
    spec = default_spec().replace(input_size=(64, 32))
    model = vitpose_small(spec, simple=True).eval()
    assert [name for name, _ in model.head.named_parameters()] == ["final_layer.weight", "final_layer.bias"]
    assert not list(model.neck.parameters())
    with torch.inference_mode():
        assert model(torch.randn(1, 3, 64, 32)).last.shape == (1, 17, 16, 8)


def test_neck_drops_what_is_negative_before_it_upsamples():
    x = torch.tensor([[[[-4.0, 4.0]]]])
    # Pixel centres of the doubled row lie a quarter off: 0.75 and 0.25 of each neighbour.
    assert FeatureMapProcessor(scale=2, relu=True)(x)[0, 0].tolist() == [[0.0, 1.0, 3.0, 4.0]] * 2
    assert FeatureMapProcessor(scale=2)(x)[0, 0, 0].tolist() == [-4.0, -2.0, 2.0, 4.0]
    assert torch.equal(FeatureMapProcessor(relu=True)(x), x.clamp(min=0))
