"""Loss between predicted heatmaps and keypoints."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from ._arguments import (
    argument,
    array_argument,
    dispatched,
    expect_shape,
    needs_grad,
    refuse_grad,
    transformed,
    whole_argument,
)
from ._codec import HeatmapCodec, codec_values, native_codec, native_codec_of
from ._made_gradient import made_loss
from ._native import Array, C, is_dynamo_compiling
from ._registration import plain, register
from .reference.heatmap_loss import heatmap_loss as reference

__all__ = ["heatmap_loss"]


def heatmap_loss(
    predicted: Array,
    keypoints: Any,
    weights: Any,
    codec: HeatmapCodec,
    input_size: tuple[int, int],
    *,
    target: Any = None,
    ohkm_topk: int | None = None,
) -> Any:
    """Mean squared error between predicted heatmaps and those of keypoints, without making the latter.

    The value and the gradient are those of :func:`fastpose.ops.heatmap_encode` followed by MMPose's losses: the mean
    over B, K, h, w of w (p - t)² (KeypointMSELoss); with ``ohkm_topk`` the mean over B and the k hardest keypoints of
    each sample of w² (p - t)² (KeypointOHKMMSELoss); for ``udp_combined`` the mean over B, K, h, w of
    w²/2 [(p₀ - t₀)² + t₀² (p₁ - t₁)² + t₀² (p₂ - t₂)²] (CombinedTargetMSELoss).

    Args:
        predicted: [B,K,h,w] (``udp_combined``: [B,3K,h,w]) float32, float16, bfloat16 or float64; the only
            differentiable argument. float64 is left to ``fastpose.ops.reference.heatmap_loss``, which makes the target;
            so are torch.func's transforms and forward-mode AD. What is not a number makes the loss NaN; but with
            ``keypoints``, offsets outside a disc are not looked at (their t₀ is 0), whatever they hold, where MMPose's
            0 · NaN is NaN. The gradient of float16 maps is made in float32: a scaled loss scales it before it is
            rounded.
        keypoints: [B,K,2] (x, y) in pixels of the network's input, drawn where the weight is above 0; None with
            ``target``.
        weights: [B,K] weight of each keypoint (visibility as 0 or 1, or what ``heatmap_encode`` returns; with joint
            weights if wanted), or None: all 1. Where it is not above 0 the maps are not looked at. With weights, a
            keypoint that does not reach its map counts as 0.
        codec: A kind with heatmaps.
        input_size: (height, width) of the network's input, pixels.
        target: Heatmaps to compare with, shaped like ``predicted``, of its dtype or float32; instead of keypoints.
        ohkm_topk: Keypoints of each sample that count: those with the largest loss; of equal ones the first.

    Returns:
        Loss without dimensions, float32 (of float64 maps float64). 0 for an empty batch. Differentiable once by
        ``backward()``, a second time is refused; of float64, and under torch.func, as often as wanted.

    Raises:
        TypeError: A dtype is wrong, arrays and tensors are mixed, or a gradient with respect to another argument is
            wanted.
        ValueError: A shape, ``ohkm_topk`` or the codec does not fit, or not exactly one of ``keypoints`` and ``target``
            is given.

    Example:
        >>> import torch
        >>> from fastpose import build_codec
        >>> from fastpose.ops import heatmap_loss
        >>> codec = build_codec(kind="gaussian", heatmap_size=(64, 48), sigma=2.0)
        >>> predicted = torch.zeros(1, 1, 64, 48, requires_grad=True)
        >>> keypoints, weights = torch.tensor([[[96.0, 128.0]]]), torch.ones(1, 1)
        >>> loss = heatmap_loss(predicted, keypoints, weights, codec, (256, 192))
        >>> loss.backward()
        >>> row, column = divmod(int(predicted.grad.argmin()), 48)  # where the map should rise most
        >>> f"{loss:.4f}", row, column
        ('0.0041', 32, 24)

    Source: OHKM, https://arxiv.org/abs/1711.07319; UDP, https://arxiv.org/abs/1911.07524.
    """
    if isinstance(predicted, Tensor) and predicted.dtype is torch.float16 and needs_grad(predicted):
        # A gradient divided by so many pixels is nothing in float16: it must be multiplied by the loss's scale first.
        predicted = predicted.float()
        if isinstance(target, Tensor) and target.dtype is torch.float16:
            target = target.float()
    if not is_dynamo_compiling():
        wanted = needs_grad(predicted)
        native = native_codec(codec, input_size)
        made = C.try_heatmap_loss(predicted, keypoints, weights, target, ohkm_topk, wanted, native)
        if made is not None:
            return _Loss.apply(made[0], made[1:], False, predicted) if wanted else made[0]
    refuse_grad("heatmap_loss", keypoints=keypoints, weights=weights, target=target)
    topk = 0 if ohkm_topk is None else whole_argument("ohkm_topk", ohkm_topk)
    if ohkm_topk is not None and topk < 1:
        raise ValueError(f"ohkm_topk: expected at least 1, got {ohkm_topk}")
    maps = predicted if isinstance(predicted, Tensor) else array_argument("predicted", predicted)
    wide = maps.dtype in (torch.float64, np.float64)
    kind = torch.float64 if wide else torch.float32
    points = None if keypoints is None else argument("keypoints", keypoints, kind, maps)
    factors = None if weights is None else argument("weights", weights, kind, maps)
    given = None if target is None else array_argument("target", target, maps)
    if wide or (isinstance(maps, Tensor) and transformed()):
        return _plainly(maps, points, factors, given, topk, codec, input_size)
    wanted = needs_grad(maps)
    if dispatched(maps, points, factors, given):
        values = codec_values(codec, input_size)
        return torch.ops.fastpose.heatmap_loss(maps, points, factors, given, topk, wanted, *values)[0]
    native = native_codec(codec, input_size)
    made = C.heatmap_loss(array_argument("predicted", maps), points, factors, given, topk or None, wanted, native)
    return _Loss.apply(made[0], made[1:], False, maps) if wanted else made[0]


def _plainly(maps: Any, points: Any, factors: Any, given: Any, topk: int, codec: HeatmapCodec, size: Any) -> Any:
    """The reference, for what the core has not; after the checks that the core makes."""
    if (points is None) == (given is None):
        raise ValueError(
            f"keypoints: expected either keypoints or target, got {'neither' if points is None else 'both'}"
        )
    each = 3 if codec.kind == "udp_combined" else 1
    expect_shape("predicted", maps, (None, None, *codec_values(codec, size)[1:3]), _MAPS)
    if maps.shape[1] % each:
        raise ValueError(f"predicted: expected a multiple of 3 channels for udp_combined, got {list(maps.shape)}")
    people = (maps.shape[0], maps.shape[1] // each)
    if points is not None:
        expect_shape("keypoints", points, (*people, 2), "[B, K, 2]")
    if factors is not None:
        expect_shape("weights", factors, people, "[B, K]")
    if given is not None:
        expect_shape("target", given, tuple(maps.shape), _MAPS)
    if topk > people[1]:
        raise ValueError(f"ohkm_topk: expected 1 to {people[1]} keypoints, got {topk}")
    as_tensors = (torch.from_numpy(x) if isinstance(x, np.ndarray) else x for x in (maps, points, factors, given))
    a, b, c, d = as_tensors
    loss = reference(a, b, c, codec, size, target=d, ohkm_topk=topk or None)
    return loss if isinstance(maps, Tensor) else loss.numpy()


_MAPS = "[B, K (udp_combined: 3K), height, width]"


_Loss: Any = made_loss("heatmap_loss")


def _registered(
    predicted: Tensor,
    keypoints: Tensor | None,
    weights: Tensor | None,
    target: Tensor | None,
    topk: int,
    with_gradient: bool,
    *values: Any,
) -> tuple[Tensor, Tensor]:
    tensors = (plain(predicted), plain(keypoints), plain(weights), plain(target))
    loss, gradient = C.heatmap_loss(*tensors, topk or None, with_gradient, native_codec_of(values))
    return loss, predicted.new_empty(0) if gradient is None else gradient


def _fake(
    predicted: Tensor,
    keypoints: Tensor | None,
    weights: Tensor | None,
    target: Tensor | None,
    topk: int,
    with_gradient: bool,
    *values: Any,
) -> tuple[Tensor, Tensor]:
    loss = predicted.new_empty((), dtype=torch.float32)
    return loss, predicted.new_empty(predicted.shape if with_gradient else 0)


def _derivatives(
    predicted: Tensor,
    keypoints: Tensor | None,
    weights: Tensor | None,
    target: Tensor | None,
    topk: int,
    _: bool,
    *values: Any,
) -> tuple[Tensor, Tensor]:
    refuse_grad("heatmap_loss", keypoints=keypoints, weights=weights, target=target)
    if transformed():
        raise TypeError("torch.ops.fastpose.heatmap_loss: for torch.func and forward-mode AD call the public function")
    with torch._C._AutoDispatchBelowAutograd():
        made = torch.ops.fastpose.heatmap_loss(predicted, keypoints, weights, target, topk, True, *values)
    return _Loss.apply(made[0], made[1:], True, predicted), made[1]


register(
    "heatmap_loss",
    "(Tensor predicted, Tensor? keypoints, Tensor? weights, Tensor? target, int topk, bool with_gradient, int kind, "
    "int height, int width, int input_height, int input_width, float sigma, float radius_factor, int kernel_size, "
    "int blur_kernel) -> (Tensor, Tensor)",
    _registered,
    _fake,
    _derivatives,
)
