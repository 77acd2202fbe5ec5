"""Channel shuffles: order of the channels and memory layout."""

from __future__ import annotations

import pytest
import torch

from fastpose.models.layers import channel_shuffle, interleave

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
