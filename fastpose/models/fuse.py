"""BatchNorm folded into the convolutions before it, for prediction."""

from __future__ import annotations

import copy
import itertools
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from .pose_model import PoseModel


def fuse_batchnorm(model: PoseModel) -> PoseModel:
    """Copy a network for prediction, with every BatchNorm that follows a convolution folded into it.

    The outputs are the same up to rounding; the copy has fewer layers, so small-batch prediction is faster. It has
    other state-dict names than the network: save and train the original.

    Args:
        model: the network; not changed. Throughout this project a BatchNorm that is applied right after a convolution
            is also registered right after it, which is how the pairs are found.

    Returns:
        The copy, in evaluation mode, its parameters without gradient.
    """
    fused = copy.deepcopy(model).eval().requires_grad_(False)
    fused.architecture = ""  # no file that says "resnet50" may hold these weights
    for parent in fused.modules():
        children = list(parent.named_children())
        for (conv_name, conv), (norm_name, norm) in itertools.pairwise(children):
            if not isinstance(conv, nn.Conv2d | nn.ConvTranspose2d) or not isinstance(norm, nn.BatchNorm2d):
                continue
            if norm.num_features != conv.out_channels:
                continue
            if isinstance(conv, nn.ConvTranspose2d):
                setattr(parent, conv_name, _fuse_transposed(conv, norm))
            else:
                setattr(parent, conv_name, fuse_conv_bn_eval(conv, norm))
            setattr(parent, norm_name, nn.Identity())
    return fused


def _fuse_transposed(conv: nn.ConvTranspose2d, norm: nn.BatchNorm2d) -> nn.ConvTranspose2d:
    """What PyTorch's fuse_conv_bn_eval does for convolutions, for transposed ones with any number of groups."""
    fused = copy.deepcopy(conv)
    mean, variance = cast(Tensor, norm.running_mean), cast(Tensor, norm.running_var)
    scale = norm.weight * torch.rsqrt(variance + norm.eps)
    # The weight is [in_channels, out_channels / groups, h, w]; the rows of one group make the outputs of that group.
    rows = scale.view(conv.groups, 1, -1).expand(-1, conv.in_channels // conv.groups, -1).flatten(0, 1)
    bias = -mean if conv.bias is None else conv.bias - mean
    fused.weight = nn.Parameter(conv.weight * rows[:, :, None, None], requires_grad=False)
    fused.bias = nn.Parameter(bias * scale + norm.bias, requires_grad=False)
    return fused
