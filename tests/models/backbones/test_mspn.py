"""MSPN: how its stages hang together."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from fastpose.models.layers import Bottleneck
from fastpose.models.layers.multi_stage import MultiStageNet


def _tiny(stages=2):
    torch.manual_seed(0)
    return MultiStageNet(Bottleneck, (1, 1, 1, 1), stages=stages, name="multi_stage_mspn", unit_channels=16)


def test_maps_are_coarsest_first_in_every_stage():
    with torch.inference_mode():
        maps = _tiny().eval()(torch.randn(1, 3, 64, 96))
    assert [[tuple(m.shape[1:]) for m in stage] for stage in maps] == [
        [(16, 2, 3), (16, 4, 6), (16, 8, 12), (16, 16, 24)]
    ] * 2


def test_stages_but_the_last_hand_on_what_they_found():
    stages = _tiny(3).multi_stage_mspn
    for stage, last in zip(stages, (False, False, True), strict=True):
        units = list(stage.upsample.values())
        assert [unit.up_conv is None for unit in units] == [True, False, False, False]
        assert all((unit.out_skip1 is None) == (unit.out_skip2 is None) == last for unit in units)
        assert [unit.cross_conv is not None for unit in units] == [False] * 3 + [not last]


def test_skips_reach_the_same_size_of_the_next_stage():
    """A skip of zeros at one size only changes nothing; of ones it changes that size and what comes after it."""
    stage = _tiny().multi_stage_mspn[1].eval()
    x = torch.randn(1, 64, 16, 16)
    shapes = [(256, 16), (512, 8), (1024, 4), (2048, 2)]
    seen = []
    for layer in stage.downsample.values():
        layer.register_forward_hook(lambda module, inputs, output: seen.append(output.clone()))
    with torch.inference_mode():
        none = [torch.zeros(1, c, s, s) for c, s in shapes]
        stage(x, none)
        plain, seen[:] = list(seen), []
        stage(x, [*none[:2], none[2] + 1, none[3]])
    assert [torch.equal(a, b) for a, b in zip(plain, seen, strict=True)] == [True, True, True, False]


def test_resizing_after_the_convolution_gives_the_same():
    """In evaluation the order is swapped, which is cheaper; on the way up that must not show."""
    unit = _tiny().multi_stage_mspn[0].upsample["up3"].eval()
    x, coarser = torch.randn(2, 512, 8, 6), torch.randn(2, 16, 4, 3)
    with torch.inference_mode():
        large = F.interpolate(coarser, size=(8, 6), mode="bilinear", align_corners=True)
        expected = (unit.in_skip(x) + unit.up_conv(large)).relu()
        torch.testing.assert_close(unit(x, coarser), expected)


def test_statistics_of_training_are_those_of_the_large_map():
    unit = _tiny().multi_stage_mspn[0].upsample["up3"].train()
    unit.up_conv.bn.momentum = 1.0
    coarser = torch.randn(2, 16, 4, 3)
    with torch.no_grad():
        unit(torch.randn(2, 512, 8, 6), coarser)
        large = unit.up_conv.conv(F.interpolate(coarser, size=(8, 6), mode="bilinear", align_corners=True))
    torch.testing.assert_close(unit.up_conv.bn.running_mean, large.mean((0, 2, 3)))
    torch.testing.assert_close(unit.up_conv.bn.running_var, large.var((0, 2, 3)))
