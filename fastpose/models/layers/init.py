"""Fresh weights, as the official training of several families draws them."""

from __future__ import annotations

from torch import nn


def init_normal(module: nn.Module, std: float = 0.001) -> None:
    """Draw every convolution inside a module from N(0, std), its bias zero; BatchNorm sets the scale.

    Args:
        module: the module, changed in place.
        std: standard deviation.
    """
    for part in module.modules():
        if isinstance(part, (nn.Conv2d, nn.ConvTranspose2d)):
            nn.init.normal_(part.weight, std=std)
            if part.bias is not None:
                nn.init.zeros_(part.bias)


def init_kaiming(module: nn.Module) -> None:
    """Draw every convolution inside a module by He et al. (ICCV 2015), by the number of outputs; its bias zero.

    Args:
        module: the module, changed in place.
    """
    for part in module.modules():
        if isinstance(part, nn.Conv2d):
            nn.init.kaiming_normal_(part.weight, mode="fan_out", nonlinearity="relu")
            if part.bias is not None:
                nn.init.zeros_(part.bias)


def init_shufflenet(backbone: nn.Module) -> None:
    """Draw a ShuffleNet's weights as its authors do: N(0, 1 / input channels of a group), the stem by Kaiming.

    Args:
        backbone: a network whose stem is `conv1`, changed in place.
    """
    for part in backbone.modules():
        if isinstance(part, nn.Conv2d):
            nn.init.normal_(part.weight, std=1 / part.weight.shape[1])
        elif isinstance(part, nn.BatchNorm2d):
            nn.init.constant_(part.bias, 1e-4)
    init_kaiming(backbone.get_submodule("conv1"))
