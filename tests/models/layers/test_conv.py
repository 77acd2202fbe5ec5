"""Channel shuffles: order of the channels and memory layout."""

from __future__ import annotations

import pytest
import torch

from fastpose.models.layers import channel_shuffle, conv, halve, interleave

LAYOUTS = [torch.contiguous_format, torch.channels_last]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_shuffle_interleaves_the_groups_and_keeps_the_layout(layout):
    x = torch.arange(6.0).view(1, 6, 1, 1).expand(2, 6, 4, 3).contiguous(memory_format=layout)
    shuffled = channel_shuffle(x, 3)
    assert shuffled[1, :, 2, 1].tolist() == [0, 2, 4, 1, 3, 5]
    assert shuffled.is_contiguous(memory_format=layout)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_interleaved_parts_are_their_shuffled_concatenation(layout):
    parts = [torch.randn(2, 5, 4, 3).contiguous(memory_format=layout) for _ in range(3)]
    interleaved = interleave(parts)
    assert torch.equal(interleaved, channel_shuffle(torch.cat(parts, dim=1), 3))
    assert interleaved.is_contiguous(memory_format=layout)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_halves_of_a_map_are_interleaved_in_the_layout_of_the_other_part(layout):
    kept = torch.randn(2, 10, 4, 3).contiguous(memory_format=layout).chunk(2, dim=1)[0]
    changed = torch.randn(2, 5, 4, 3).contiguous(memory_format=layout)
    interleaved = interleave((kept, changed))
    assert torch.equal(interleaved, channel_shuffle(torch.cat((kept, changed), dim=1), 2))
    assert interleaved.is_contiguous(memory_format=layout)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_second_half_is_ready_to_be_worked_on(layout):
    x = torch.randn(2, 10, 4, 3).contiguous(memory_format=layout)
    first, second = halve(x)
    assert torch.equal(torch.cat((first, second), dim=1), x)
    assert first.data_ptr() == x.data_ptr()
    assert second.is_contiguous(memory_format=torch.channels_last) == (layout is torch.channels_last)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_weighted_halves_with_and_without_the_native_op(monkeypatch, layout, dtype):
    torch.manual_seed(0)
    x = torch.randn(2, 10, 4, 3).to(dtype).contiguous(memory_format=layout)
    weights = torch.rand(2, 5, 1, 1).to(dtype)
    calls, real = [], conv.native_interleave
    monkeypatch.setattr(conv, "native_interleave", lambda *arguments: calls.append(1) or real(*arguments))

    def run():
        leaves = x.clone().requires_grad_(), weights.clone().requires_grad_()
        y = interleave(halve(leaves[0]), leaves[1])
        return y, *torch.autograd.grad(y.float().sin().sum(), leaves)

    ours = run()
    assert len(calls) == (layout is torch.channels_last)
    monkeypatch.setattr(conv, "_have_native_op", lambda *_: False)
    for a, b in zip(ours, run(), strict=True):
        tolerance = 2e-2 if dtype is torch.bfloat16 else 1e-5
        torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)
    compiled = torch.compile(lambda x, weights: interleave(halve(x), weights), backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(x, weights), ours[0])
    assert len(calls) == (layout is torch.channels_last)
