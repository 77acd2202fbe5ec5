"""BatchNorm folded into the convolutions before it, for prediction."""

from __future__ import annotations

import copy
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from .output import Output
from .pose_model import PoseModel

_Conv = nn.Conv2d | nn.ConvTranspose2d

# Largest difference of a folded network's output, as a share of its largest value. Rounding gives 1e-6 to 1e-4, a
# BatchNorm folded into the wrong convolution 0.1 and more.
_TOLERANCE = 1e-2


def fuse_batchnorm(model: PoseModel) -> PoseModel:
    """Copy a network for prediction, with every BatchNorm folded into the convolution whose result it normalises.

    The outputs are the same up to rounding; the copy has fewer layers, so small-batch prediction is faster. It has
    other state-dict names than the network: save and train the original.

    Which BatchNorm follows which convolution is seen in a pass with a random crop, whatever the order in which layers
    were registered; and in a second pass the folded network has to give the same. Where it does not (a convolution's
    result that others use, too), or where the network cannot be watched, nothing is folded.

    Args:
        model: the network; not changed.

    Returns:
        The copy, in evaluation mode, its parameters without gradient.
    """
    plain = copy.deepcopy(model).eval().requires_grad_(False)
    plain.architecture = ""  # no file that says "resnet50" may hold these weights
    if not any(isinstance(module, nn.BatchNorm2d) for module in plain.modules()):
        return plain
    crop = _random_crop(plain)
    pairs, expected = _watch(plain, crop)
    if not pairs:
        return plain
    fused = copy.deepcopy(plain)
    names = {module: name for name, module in plain.named_modules()}
    for conv, norm in pairs:
        _replace(fused, names[conv], _fuse(conv, norm))
        _replace(fused, names[norm], nn.Identity())
    with torch.no_grad():
        return fused if _agree(expected, fused(crop)) else plain


def _random_crop(model: PoseModel) -> Tensor:
    parameter = next(model.parameters())
    generator = torch.Generator().manual_seed(0)  # the caller's random numbers are left alone
    crop = torch.randn(1, 3, *model.spec.input_size, generator=generator)
    return crop.to(parameter.device, parameter.dtype)


@torch.no_grad()  # not inference mode, in which tensors do not count their changes
def _watch(model: PoseModel, crop: Tensor) -> tuple[list[tuple[_Conv, nn.BatchNorm2d]], Output]:
    """Pairs of a convolution and the BatchNorm that took its result as it was, each called once; and the output."""
    calls: dict[nn.Module, int] = {}
    made: dict[int, tuple[_Conv, Tensor, int]] = {}  # by a convolution's result, which is held so that none is reused
    pairs: list[tuple[_Conv, nn.BatchNorm2d]] = []

    def after_conv(conv: nn.Module, _: Any, result: Tensor) -> None:
        calls[conv] = calls.get(conv, 0) + 1
        made[id(result)] = cast(_Conv, conv), result, result._version

    def before_norm(norm: nn.Module, inputs: tuple[Any, ...]) -> None:
        calls[norm] = calls.get(norm, 0) + 1
        conv, result, version = made.pop(id(inputs[0]), (None, None, 0))
        if conv is not None and result is not None and result._version == version:
            pairs.append((conv, cast(nn.BatchNorm2d, norm)))

    handles = []
    for module in model.modules():
        if isinstance(module, _Conv):
            handles.append(module.register_forward_hook(after_conv))
        elif isinstance(module, nn.BatchNorm2d):
            handles.append(module.register_forward_pre_hook(before_norm))
    try:
        output = model(crop)
    finally:
        for handle in handles:
            handle.remove()
    return [(conv, norm) for conv, norm in pairs if calls[conv] == calls[norm] == 1 and _is_fixed(norm)], output


def _is_fixed(norm: nn.BatchNorm2d) -> bool:
    """Whether it multiplies and adds the same numbers each time."""
    return norm.running_mean is not None and norm.affine


def _replace(model: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, child = name.rpartition(".")
    setattr(model.get_submodule(parent), child, module)


def _fuse(conv: _Conv, norm: nn.BatchNorm2d) -> nn.Module:
    if isinstance(conv, nn.ConvTranspose2d):
        return _fuse_transposed(conv, norm)
    return fuse_conv_bn_eval(conv, norm)


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


def _agree(expected: Output, got: Output) -> bool:
    pairs = zip(expected.tensors(), got.tensors(), strict=True)
    return all(bool((one - other).abs().max() <= _TOLERANCE * one.abs().max()) for one, other in pairs)
