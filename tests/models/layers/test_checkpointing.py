"""Checkpointed blocks: the same values, gradients and running statistics."""

from __future__ import annotations

import copy

import torch
from torch import nn

from fastpose.models.layers import DropPath, run_checkpointed


def test_equals_the_plain_block():
    torch.manual_seed(0)
    block = nn.Sequential(nn.Conv2d(2, 3, 1), nn.BatchNorm2d(3), nn.GELU(), DropPath(0.5))
    other, x = copy.deepcopy(block), torch.randn(8, 2, 4, 4)
    outputs = []
    for module, run in ((block, block), (other, lambda x: run_checkpointed(other, x))):
        torch.manual_seed(1)
        y = run(x)
        y.square().sum().backward()
        outputs.append(y)
        assert module[1].num_batches_tracked == 1
        assert module[1].momentum == 0.1
    assert torch.equal(*outputs)
    for a, b in zip(block.parameters(), other.parameters(), strict=True):
        assert torch.equal(a.grad, b.grad)
    for a, b in zip(block.buffers(), other.buffers(), strict=True):
        assert torch.equal(a, b)
