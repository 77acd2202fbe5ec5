"""Swin: shifted windows against a loop, bias tables of other windows, patch merging."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from fastpose.models import load_checkpoint
from fastpose.models.backbones.swin import (
    PatchMerging,
    ShiftedWindowAttention,
    SwinTransformer,
    shifted_window_mask,
)
from fastpose.models.baseline import simple_baseline
from fastpose.models.zoo import default_spec


def _attend_in_a_loop(module, x):
    """Pad with zeros, roll, and attend window by window, as the paper has it: [B, h, w, c]."""
    batch, height, width, channels = x.shape
    window, shift, heads = module.window, module.shift, module.heads
    padded = F.pad(x, (0, 0, 0, -width % window, 0, -height % window))
    rows, columns = padded.shape[1:3]
    padded = padded.roll((-shift, -shift), (1, 2))
    table = module.w_msa.relative_position_bias_table.view(2 * window - 1, 2 * window - 1, heads)
    result = torch.zeros_like(padded)
    for top in range(0, rows, window):
        for left in range(0, columns, window):
            tokens = padded[:, top : top + window, left : left + window].reshape(batch, window**2, channels)
            query, key, value = module.w_msa.qkv(tokens).view(batch, -1, 3, heads, channels // heads).unbind(2)
            logits = torch.einsum("bihc,bjhc->bhij", query, key) / (channels // heads) ** 0.5
            for i in range(window**2):
                for j in range(window**2):
                    (yi, xi), (yj, xj) = divmod(i, window), divmod(j, window)
                    logits[:, :, i, j] += table[yi - yj + window - 1, xi - xj + window - 1]
                    # What the roll moved to the end was at the beginning, far from its neighbours here.
                    wrapped = [(top + y >= rows - shift, left + x >= columns - shift) for y, x in ((yi, xi), (yj, xj))]
                    if shift and wrapped[0] != wrapped[1]:
                        logits[:, :, i, j] -= 100
            attended = torch.einsum("bhij,bjhc->bihc", logits.softmax(-1), value).flatten(2)
            result[:, top : top + window, left : left + window] = attended.view(batch, window, window, channels)
    return module.w_msa.proj(result.roll((shift, shift), (1, 2))[:, :height, :width])


@pytest.mark.parametrize("shift", [0, 1, 2])
@pytest.mark.parametrize("size", [(8, 4), (6, 5), (7, 9), (1, 2), (3, 1)])  # whole windows; padded; less than a shift
def test_shifted_windows_equal_a_loop(size, shift):
    torch.manual_seed(0)
    module = ShiftedWindowAttention(6, 2, 4, shift).double()
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter)
    x = torch.randn(2, *size, 6, dtype=torch.float64)
    padded = [-(-length // 4) * 4 for length in size]
    mask = shifted_window_mask(*padded, 4, shift or 2, torch.device("cpu"))
    with torch.no_grad():
        torch.testing.assert_close(module(x, mask), _attend_in_a_loop(module, x))


def test_merging_takes_four_neighbours_channel_by_channel():
    merging = PatchMerging(3)
    x = torch.randn(2, 4, 6, 3)
    patches = F.unfold(x.permute(0, 3, 1, 2), 2, stride=2).transpose(1, 2).reshape(2, 2, 3, 12)
    torch.testing.assert_close(merging(x), merging.reduction(merging.norm(patches)))


def _model(window):
    backbone = SwinTransformer(4, (1, 1, 2, 1), (1, 1, 2, 2), window_size=window, drop_path=0.0)
    return simple_baseline(default_spec().replace(input_size=(64, 64)), backbone, deconv_channels=(4, 4, 4))


@pytest.mark.parametrize("window", [3, 5])
def test_bias_tables_of_another_window_are_resized(tmp_path, window):
    theirs, ours = _model(4), _model(window)
    torch.save(theirs.state_dict(), tmp_path / "weights.pth")
    load_checkpoint(ours, tmp_path / "weights.pth")
    name = "backbone.stages.2.blocks.1.attn.w_msa.relative_position_bias_table"
    side = 2 * window - 1
    plane = theirs.state_dict()[name].T.reshape(1, 2, 7, 7)
    expected = F.interpolate(plane, size=(side, side), mode="bicubic").reshape(2, -1).T
    torch.testing.assert_close(ours.state_dict()[name], expected)
    index = name.replace("bias_table", "index")
    assert torch.equal(ours.state_dict()[index], _model(window).state_dict()[index])


def test_stages_and_windows_are_checked():
    with pytest.raises(ValueError, match="expected four stages"):
        SwinTransformer(4, (1, 1), (1, 1), window_size=3, drop_path=0.0)
    with pytest.raises(ValueError, match="window_size: expected at least 2, got 1"):
        _model(1)
