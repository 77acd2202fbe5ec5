"""Crops of photos: inverse map, bilinear sample, colour, normalisation, layout and cast in one pass."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ._native import (
    LIBRARY,
    Array,
    C,
    as_input,
    contiguous,
    detached,
    empty,
    is_compiling,
    needs_grad,
    stream,
    symbolic,
    torch_dtype,
)

__all__ = ["affine_crop"]

_OUTPUTS = (torch.uint8, torch.float16, torch.bfloat16, torch.float32, torch.float64)


def affine_crop(
    images: Array | Sequence[Array],
    matrices: Any,
    image_index: Any = None,
    *,
    size: tuple[int, int],
    mean: float | Sequence[float] | None = None,
    std: float | Sequence[float] | None = None,
    swap_rb: bool = False,
    border: str = "constant",
    border_value: float | Sequence[float] = 0.0,
    antialias: bool = False,
    flip: Any = None,
    gain: Any = None,
    offset: Any = None,
    dtype: Any = None,
    layout: str = "nchw",
    out: Array | None = None,
) -> Any:
    """Cuts M crops out of photos of any sizes, each by its own affine matrix, ready for a network.

    What ``cv2.warpAffine`` with bilinear interpolation, a channel split and a normalisation give, without the steps in
    between; positions are exact where OpenCV rounds them to 1/32 px. NumPy arrays in, NumPy array out, or tensors in,
    tensor out (``out`` decides if it is given). On CUDA the call runs on the current stream and does not wait.

    Args:
        images: uint8, float32 or float64 (0..255), three channels last: one photo [H,W,3], a batch [B,H,W,3], or a
            list of photos [H,W,3] of any sizes. Copied only if the channels of a pixel, or the pixels of a row, are not
            adjacent.
        matrices: [M,2,3], source pixels (x, y) to crop pixels, pixel centres at integers, as ``cv2.warpAffine`` takes
            them. For photos on CUDA they may stay on the CPU.
        image_index: [M] integers, the photo of each crop. Default: one after the other if there are M photos, the only
            one if there is one.
        size: (height, width) of a crop.
        mean: One number, or three in the order of the output's channels, in units of 0..255; 0 by default.
        std: The same; 1 by default. The output is (sample - mean) / std.
        swap_rb: Reverses the channels (BGR photos, RGB output).
        border: "constant": pixels outside the photo are ``border_value``; "replicate": they repeat the edge.
        border_value: One number, or three in the order of the output's channels, in units of 0..255 like a sample.
        antialias: Where a crop shrinks the photo, an output pixel is the mean of n x m samples spread evenly over its
            area, n and m its extent in source pixels rounded up (at most 64).
        flip: [M] booleans: mirror the crop left to right, after the map.
        gain: [M,3] colour augmentation in the order of the output's channels: a sample becomes sample * gain + offset,
            clipped to 0..255, before normalisation.
        offset: [M,3], see ``gain``; either may be given alone.
        dtype: Of the output: float32 (default), float16, bfloat16, float64 or uint8 (rounded to even, saturated).
        layout: "nchw" gives [M,3,h,w], "nhwc" [M,h,w,3].
        out: Contiguous array or tensor of that shape, on the device of the photos: filled and returned.

    Returns:
        [M,3,h,w] or [M,h,w,3]. Within 0.02 of a grey level of the exact value (before rounding to ``dtype``).
        Differentiable with respect to float photos.

    Raises:
        TypeError: A dtype is wrong, arrays and tensors are mixed, or a gradient is wanted for anything but the photos.
        ValueError: A shape or an option is wrong, an index has no photo, or a matrix is not finite and invertible
            (named by its row; where the matrices lie on CUDA such a crop is all border: looking would mean waiting).
    """
    key = (size, mean, std, swap_rb, border, border_value, antialias, layout)
    if dtype is None and not is_compiling():
        (height, width), options, nhwc = _plan(key)
        result = C.affine_crop_eager(
            images, matrices, image_index, out, height, width, *options, flip, gain, offset, nhwc
        )
        if result is not None:
            return result
    photos, batched = _photos(images)
    like = photos[0] if photos else matrices
    # Small arguments stay on the CPU unless one of them is on CUDA already: the kernel takes them along at launch.
    if type(like) is np.ndarray:
        beside: Any = _CPU_ARRAY
    elif isinstance(like, Tensor):
        given = (matrices, image_index, flip, gain, offset)
        beside = [*(x for x in given if isinstance(x, Tensor) and x.is_cuda), _CPU_TENSOR][0]
    else:
        raise TypeError(f"matrices: expected a NumPy array or a tensor, got {type(like).__name__}")
    if needs_grad(matrices, gain, offset):
        raise TypeError("matrices, gain, offset: affine_crop has no gradient with respect to them; detach them")
    matrices = as_input(detached(matrices), torch.float64, beside, "matrices")
    if matrices.ndim == 0:
        raise ValueError("matrices: expected shape [M, 2, 3], got []")
    count = matrices.shape[0]
    if image_index is None:
        image_index = _default_index(photos[0].shape[0] if batched else len(photos), count, beside)
    else:
        image_index = as_input(image_index, torch.int64, beside, "image_index")
    if flip is not None:
        flip = as_input(flip, torch.bool, beside, "flip")
    if gain is not None:
        gain = as_input(detached(gain), torch.float32, beside, "gain")
    if offset is not None:
        offset = as_input(detached(offset), torch.float32, beside, "offset")
    (height, width), options, nhwc = _plan(key)
    shape = (count, height, width, 3) if nhwc else (count, 3, height, width)
    kind = torch.float32 if dtype is None and out is None else torch_dtype(out.dtype if dtype is None else dtype)  # type: ignore[union-attr]
    if kind not in _OUTPUTS:
        raise TypeError(f"dtype: expected uint8, float16, bfloat16, float32 or float64, got {kind}")
    if out is not None and not isinstance(out, (np.ndarray, Tensor)):
        raise TypeError(f"out: expected a NumPy array or a tensor, got {type(out).__name__}")
    if out is not None and (tuple(out.shape) != shape or torch_dtype(out.dtype) is not kind):
        raise ValueError(f"out: expected {list(shape)} of {kind}, got {list(out.shape)} of {out.dtype}")
    if type(like) is not np.ndarray:
        wanted = needs_grad(*photos)
        if wanted and not kind.is_floating_point:
            raise TypeError("dtype: expected a floating type where a gradient for the images is wanted, got uint8")
        if wanted or symbolic(matrices, *photos):
            result = torch.ops.fastpose.affine_crop(
                photos, matrices, image_index, [height, width], *options, flip, gain, offset, kind, nhwc
            )
            if out is None:
                return result
            if not isinstance(out, Tensor):
                raise TypeError("out: expected a tensor where a gradient is wanted, got an array")
            return out.copy_(result)
        photos = [detached(photo) for photo in photos]
    if out is None:
        out = empty(shape, kind, like)
    core_images = photos[0] if batched else photos
    C.affine_crop(core_images, matrices, image_index, out, *options, flip, gain, offset, nhwc, stream(like))
    return out


_CPU_TENSOR = torch.empty(0)
_CPU_ARRAY = np.empty(0)


def _photos(images: Any) -> tuple[list[Any], bool]:
    """The images as a list that the core can read, and whether it is one batch [B,H,W,3] or rather photos."""
    if isinstance(images, (list, tuple)):
        kinds = {isinstance(image, Tensor) for image in images}
        if len(kinds) > 1:
            raise TypeError("images: expected NumPy arrays throughout or tensors throughout, got a mixture")
        return [_adjacent(image) for image in images], False
    image = _adjacent(images)
    return [image], image.ndim == 4


def _adjacent(image: Any) -> Any:
    """The image, copied if the channels of a pixel or the pixels of a row are not adjacent in memory."""
    if type(image) is np.ndarray:
        if image.flags.c_contiguous or image.ndim < 3:
            return image
        good = image.strides[-1] == image.itemsize and image.strides[-2] == 3 * image.itemsize
        return image if good else np.ascontiguousarray(image)
    if isinstance(image, Tensor):
        good = image.ndim < 3 or (image.stride(-1) == 1 and image.stride(-2) == 3)
        return image if good else contiguous(image, "images")
    if isinstance(image, np.ndarray):
        return _adjacent(np.asarray(image))  # a subclass
    raise TypeError(f"images: expected NumPy arrays or tensors, got {type(image).__name__}")


def _default_index(num_images: int, count: int, beside: Array) -> Any:
    if num_images not in (1, count):
        raise ValueError(
            f"image_index: expected one for {count} crops of {num_images} images (only with as many crops as images, "
            "or with a single image, it can be left out), got None"
        )
    if isinstance(beside, Tensor):
        make = torch.zeros if num_images == 1 else torch.arange
        return make(count, dtype=torch.int64, device=beside.device)
    return np.zeros(count, np.int64) if num_images == 1 else np.arange(count, dtype=np.int64)


_PLANS: dict[tuple[Any, ...], tuple[tuple[int, int], tuple[Any, ...], bool]] = {}


def _plan(key: tuple[Any, ...]) -> tuple[tuple[int, int], tuple[Any, ...], bool]:
    """What the options say, remembered: callers give the same few again and again.

    Args:
        key: (size, mean, std, swap_rb, border, border_value, antialias, layout) as the caller gave them.

    Returns:
        (height, width), the binding's (scale, shift, border, swap_rb, replicate, antialias), whether NHWC is wanted.
    """
    if is_compiling():
        return _read_options(*key)
    try:
        return _PLANS[key]
    except (KeyError, TypeError):  # new, or with lists in it
        plan = _read_options(*key)
    try:
        if len(_PLANS) >= 256:
            _PLANS.clear()
        _PLANS[key] = plan
    except TypeError:
        pass
    return plan


def _read_options(
    size: Any, mean: Any, std: Any, swap_rb: Any, border: Any, border_value: Any, antialias: Any, layout: Any
) -> tuple[tuple[int, int], tuple[Any, ...], bool]:
    try:
        height, width = (int(n) for n in size)
    except (TypeError, ValueError):
        raise ValueError(f"size: expected (height, width), got {size!r}") from None
    if height < 1 or width < 1:
        raise ValueError(f"size: expected (height, width) of at least 1, got {size!r}")
    means, stds, edge = _triple("mean", mean, 0.0), _triple("std", std, 1.0), _triple("border_value", border_value, 0.0)
    if not all(s > 0 for s in stds):
        raise ValueError(f"std: expected numbers above 0, got {std!r}")
    if border not in ("constant", "replicate"):
        raise ValueError(f"border: expected 'constant' or 'replicate', got {border!r}")
    if layout not in ("nchw", "nhwc"):
        raise ValueError(f"layout: expected 'nchw' or 'nhwc', got {layout!r}")
    scale = tuple(1.0 / s for s in stds)  # (sample - mean) / std is sample * scale + shift
    shift = tuple(-m / s for m, s in zip(means, stds, strict=True))
    inside = edge[::-1] if swap_rb else edge  # the core wants it in the photo's order
    options = (scale, shift, inside, bool(swap_rb), border == "replicate", bool(antialias))
    return (height, width), options, layout == "nhwc"


def _triple(name: str, value: Any, default: float) -> tuple[float, float, float]:
    if value is None:
        return (default, default, default)
    if isinstance(value, (int, float)):
        return (float(value),) * 3
    try:
        first, second, third = (float(x) for x in value)
    except (TypeError, ValueError):
        raise ValueError(f"{name}: expected a number or three, got {value!r}") from None
    return (first, second, third)


# --- torch.library --------------------------------------------------------------------------------------------------
_OPTIONS = (
    "int[] size, float[] scale, float[] shift, float[] border, bool swap_rb, bool replicate, bool antialias, "
    "Tensor? flip, Tensor? gain, Tensor? offset"
)


def _core_images(images: Sequence[Tensor]) -> Any:
    """One batch goes to the core as it is, photos as a list."""
    return images[0] if len(images) == 1 else list(images)


def _forward(
    images: Sequence[Tensor],
    matrices: Tensor,
    image_index: Tensor,
    size: Sequence[int],
    scale: Sequence[float],
    shift: Sequence[float],
    border: Sequence[float],
    swap_rb: bool,
    replicate: bool,
    antialias: bool,
    flip: Tensor | None,
    gain: Tensor | None,
    offset: Tensor | None,
    dtype: torch.dtype,
    nhwc: bool,
) -> Tensor:
    out = _fake(
        images, matrices, image_index, size, scale, shift, border, swap_rb, replicate, antialias, flip, gain, offset,
        dtype, nhwc,
    )  # fmt: skip
    plain = [detached(_adjacent(image)) for image in images]
    C.affine_crop(
        _core_images(plain), matrices, image_index, out, tuple(scale), tuple(shift), tuple(border), swap_rb, replicate,
        antialias, flip, gain, offset, nhwc, stream(out),
    )  # fmt: skip
    return out


def _fake(
    images: Sequence[Tensor],
    matrices: Tensor,
    image_index: Tensor,
    size: Sequence[int],
    scale: Sequence[float],
    shift: Sequence[float],
    border: Sequence[float],
    swap_rb: bool,
    replicate: bool,
    antialias: bool,
    flip: Tensor | None,
    gain: Tensor | None,
    offset: Tensor | None,
    dtype: torch.dtype,
    nhwc: bool,
) -> Tensor:
    m, (h, w) = matrices.shape[0], size
    device = images[0].device if images else matrices.device
    return torch.empty((m, h, w, 3) if nhwc else (m, 3, h, w), dtype=dtype, device=device)


def _backward_images(
    grad_out: Tensor,
    images: Sequence[Tensor],
    matrices: Tensor,
    image_index: Tensor,
    scale: Sequence[float],
    shift: Sequence[float],
    border: Sequence[float],
    swap_rb: bool,
    replicate: bool,
    antialias: bool,
    flip: Tensor | None,
    gain: Tensor | None,
    offset: Tensor | None,
    nhwc: bool,
) -> list[Tensor]:
    plain = [detached(_adjacent(image)) for image in images]
    grads = [torch.zeros_like(image, memory_format=torch.contiguous_format) for image in plain]
    grad = detached(grad_out).to(plain[0].dtype).contiguous()
    C.affine_crop_backward(
        grad, _core_images(plain), _core_images(grads), matrices, image_index, tuple(scale), tuple(shift),
        tuple(border), swap_rb, replicate, antialias, flip, gain, offset, nhwc, stream(grad),
    )  # fmt: skip
    return grads


def _fake_backward(grad_out: Tensor, images: Sequence[Tensor], *_: Any) -> list[Tensor]:
    return [torch.empty_like(image, memory_format=torch.contiguous_format) for image in images]


def _setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    images, matrices, image_index, _, *options, flip, gain, offset, _, nhwc = inputs
    ctx.save_for_backward(matrices, image_index, flip, gain, offset, *images)
    ctx.options, ctx.nhwc = options, nhwc


def _autograd(ctx: Any, grad_out: Tensor) -> tuple[Any, ...]:
    matrices, image_index, flip, gain, offset, *images = ctx.saved_tensors
    grads = torch.ops.fastpose.affine_crop_backward(
        grad_out, images, matrices, image_index, *ctx.options, flip, gain, offset, ctx.nhwc
    )
    return (grads, *(None,) * 14)


LIBRARY.define(
    "affine_crop(Tensor[] images, Tensor matrices, Tensor image_index, "
    f"{_OPTIONS}, ScalarType dtype, bool nhwc) -> Tensor"
)
LIBRARY.define(
    "affine_crop_backward(Tensor grad_out, Tensor[] images, Tensor matrices, Tensor image_index, "
    f"{_OPTIONS.removeprefix('int[] size, ')}, bool nhwc) -> Tensor[]"
)
for _device in ("CPU", "CUDA"):
    LIBRARY.impl("affine_crop", _forward, _device)
    LIBRARY.impl("affine_crop_backward", _backward_images, _device)
torch.library.register_fake("fastpose::affine_crop", _fake)
torch.library.register_fake("fastpose::affine_crop_backward", _fake_backward)
torch.library.register_autograd("fastpose::affine_crop", _autograd, setup_context=_setup)
