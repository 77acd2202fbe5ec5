"""RSN: its block."""

from __future__ import annotations

import pytest
import torch

from fastpose.models.backbones.rsn import ResidualStepsBlock
from fastpose.models.layers import ConvUnit


@pytest.mark.parametrize(("stride", "width"), [(1, 64), (2, 128)])
def test_block_shapes(stride, width):
    shortcut = ConvUnit(64, width, stride=stride) if stride > 1 else None
    block = ResidualStepsBlock(64, width, stride, shortcut).eval()
    assert block.conv_bn_relu2_4_4.conv.weight.shape == (26, 26, 3, 3)
    assert len([name for name in block.state_dict() if "relu2_" in name and name.endswith("conv.weight")]) == 10
    with torch.inference_mode():
        assert block(torch.randn(2, 64, 8, 12)).shape == (2, width, 8 // stride, 12 // stride)


def test_steps_by_hand():
    """With every 3x3 convolution the identity, branch r ends in the sums that the steps of Cai et al. (fig. 3) give."""
    block = ResidualStepsBlock(64, 64).eval()
    with torch.no_grad():
        for unit in block.modules():
            if isinstance(unit, ConvUnit) and unit.conv.kernel_size == (3, 3):
                unit.conv.weight.zero_()
                unit.conv.weight[:, :, 1, 1] = torch.eye(26)
                unit.bn.eps = 1e-12  # torch 2.11 refuses 0
    x = torch.rand(1, 64, 4, 4)
    ends = []
    block.conv_bn3.register_forward_pre_hook(lambda module, inputs: ends.append(inputs[0].clone()))
    with torch.inference_mode():
        a, b, c, d = block.conv_bn_relu1(x).chunk(4, dim=1)
        block(x)
    # Row 1: a. Row 2, its steps: a + b. Row 3: a + b + c, then + the second step above. Row 4 in the same way.
    row2 = [a + b, a + b]
    row3 = [c + row2[0], c + row2[0] + row2[1]]
    row4 = [d + row3[0], d + row3[0] + row3[1]]
    row4.append(row4[1] + row3[1])
    torch.testing.assert_close(ends[0], torch.cat([a, row2[1], row3[1], row4[2]], dim=1))
