"""BatchNorm whose statistics are those of all processes' crops together."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

__all__ = ["SyncBatchNorm", "synchronise_norms"]


class _Sum(torch.autograd.Function):
    """A tensor added up over all processes; each process's gradient is that of all of them."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        total = x.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        total = gradient.clone()
        dist.all_reduce(total)
        return total


class SyncBatchNorm(_BatchNorm):
    """``torch.nn.SyncBatchNorm`` for any device, also for processes without a single crop; names in the state as there.

    Ioffe & Szegedy, "Batch Normalization", ICML 2015. In evaluation mode it is plain BatchNorm.
    """

    def _check_input_dim(self, input: Tensor) -> None:
        if input.ndim < 2:
            raise ValueError(f"input: expected at least 2 dimensions, got {input.ndim}")

    def forward(self, input: Tensor) -> Tensor:
        """Normalise.

        Args:
            input: [M, C, ...], with as many crops as this process has; M may be 0.

        Returns:
            The same shape and dtype.
        """
        if not self.training:
            return super().forward(input)
        self._check_input_dim(input)
        x = input.float()
        dims = [0, *range(2, x.ndim)]
        count = x.numel() // x.shape[1]
        # Means and variances of the parts are put together in float64, where a difference of squares is exact enough.
        if count:
            variance, mean = torch.var_mean(x, dims, correction=0)
            mean, variance = mean.double(), variance.double()
        else:
            mean = variance = x.sum(dims).double()
        number = mean.new_tensor([count])
        total = _Sum.apply(torch.cat([count * mean, count * (variance + mean.square()), number]))
        size = self.num_features
        everyone = int(total[2 * size])
        mean = total[:size] / max(everyone, 1)
        variance = (total[size : 2 * size] / max(everyone, 1) - mean.square()).clamp(min=0)
        if everyone:
            self._take_in(mean.detach(), variance.detach(), everyone)

        scale = (variance + self.eps).rsqrt()
        shape = [1, size, *[1] * (x.ndim - 2)]
        # Centred before it is scaled, as BatchNorm does it: a large mean would cost digits otherwise.
        y = (x - mean.float().view(shape)) * scale.float().view(shape)
        if self.affine:
            y = torch.addcmul(self.bias.float().view(shape), y, self.weight.float().view(shape))
        return y.to(input.dtype)

    @torch.no_grad()
    def _take_in(self, mean: Tensor, variance: Tensor, count: int) -> None:
        """Move the running statistics towards those of a batch."""
        if self.running_mean is None or self.running_var is None:
            return
        if self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
        batches = 1 if self.num_batches_tracked is None else int(self.num_batches_tracked)
        factor = 1 / batches if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), factor)
        self.running_var.lerp_((variance * (count / max(count - 1, 1))).to(self.running_var.dtype), factor)


def synchronise_norms(model: nn.Module) -> None:
    """Let every BatchNorm of a network take its statistics over all processes of torch.distributed.

    Args:
        model: Changed in place; names and values of its state stay as they are. torch's own layer is used on GPUs,
            which is the only place where it works.
    """
    for name, child in model.named_children():
        if isinstance(child, _BatchNorm) and not isinstance(child, SyncBatchNorm | nn.SyncBatchNorm):
            setattr(model, name, _synchronised(child))
        else:
            synchronise_norms(child)


def _synchronised(norm: _BatchNorm) -> nn.Module:
    device = next((tensor.device for tensor in (*norm.parameters(), *norm.buffers())), None)
    if device is not None and device.type == "cuda":
        converted: nn.Module = nn.SyncBatchNorm.convert_sync_batchnorm(norm)
        return converted
    layer = SyncBatchNorm(norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats)
    layer.weight, layer.bias = norm.weight, norm.bias
    layer.running_mean, layer.running_var = norm.running_mean, norm.running_var
    layer.num_batches_tracked = norm.num_batches_tracked
    return layer.train(norm.training)
