"""Crops of photos: inverse map, bilinear sample, colour, normalisation, layout and cast in one pass."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ._arguments import (
    argument,
    contiguous,
    detached,
    dispatched,
    expect_shape,
    filled,
    needs_grad,
    refuse_grad,
    transformed,
)
from ._crop_options import Options, native_options, plan, warn_of_fractions
from ._native import Array, C, empty, is_dynamo_compiling, torch_dtype
from ._registration import differentiable_once, plain, register
from .reference.affine_crop import affine_crop as reference

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
            adjacent. Float photos on the CPU that hold nothing but fractions from 0 to 1, where ``mean`` or ``std`` are
            of 0..255, are warned of.
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
        Differentiable with respect to float photos: once by ``backward()``; under torch.func and forward-mode AD by
        ``fastpose.ops.reference.affine_crop``, as often as wanted.

    Raises:
        TypeError: A dtype is wrong, arrays and tensors are mixed, or a gradient is wanted for anything but the photos.
        ValueError: A shape or an option is wrong, an index has no photo, or a matrix is not finite and invertible
            (named by its row; where the matrices lie on CUDA such a crop is all border: looking would mean waiting).

    Example:
        >>> import numpy as np
        >>> from fastpose.ops import affine_crop
        >>> photo = np.full((480, 640, 3), (200, 128, 0), np.uint8)  # BGR
        >>> halved = np.array([[[0.5, 0, -100], [0, 0.5, -50]]])  # the photo from (200, 100) on, at half its size
        >>> crops = affine_crop(photo, halved, size=(64, 48), mean=127.5, std=127.5, swap_rb=True)
        >>> crops.shape, crops.dtype
        ((1, 3, 64, 48), dtype('float32'))
        >>> crops[0, :, 10, 10].round(3)  # red, green, blue
        array([-1.   ,  0.004,  0.569], dtype=float32)
    """
    key = (size, mean, std, swap_rb, border, border_value, antialias, layout)
    if dtype is None and not is_dynamo_compiling():
        options = plan(key).native
        if options is not None:
            result = C.try_affine_crop(images, matrices, image_index, flip, gain, offset, options, out)
            if result is not None:
                return result
    crops = _Crops(images, matrices, image_index, flip, gain, offset, key)
    return crops.cut(dtype, out)


_CPU_TENSOR = torch.empty(0)
_CPU_ARRAY = np.empty(0)


class _Crops:
    """A call that the core's gate did not take, its arguments in the form in which the binding takes them."""

    def __init__(
        self, images: Any, matrices: Any, image_index: Any, flip: Any, gain: Any, offset: Any, key: Options
    ) -> None:
        self.photos, self.batched = _photos(images)
        self.like = like = self.photos[0] if self.photos else matrices
        # Small arguments stay on the CPU unless one of them is on CUDA already: the kernel takes them along at launch.
        if type(like) is np.ndarray:
            beside: Any = _CPU_ARRAY
        elif isinstance(like, Tensor):
            given = (matrices, image_index, flip, gain, offset)
            beside = [*(x for x in given if isinstance(x, Tensor) and x.is_cuda), _CPU_TENSOR][0]
        else:
            raise TypeError(f"matrices: expected a NumPy array or a tensor, got {type(like).__name__}")
        refuse_grad("affine_crop", matrices=matrices, gain=gain, offset=offset)
        self.matrices = argument("matrices", matrices, torch.float64, beside)
        if self.matrices.ndim == 0:
            raise ValueError("matrices: expected shape [M, 2, 3], got []")
        self.count = self.matrices.shape[0]
        if image_index is None:
            number = self.photos[0].shape[0] if self.batched else len(self.photos)
            self.index = _default_index(number, self.count, beside)
        else:
            self.index = argument("image_index", image_index, torch.int64, beside)
        self.flip = None if flip is None else argument("flip", flip, torch.bool, beside)
        self.gain = None if gain is None else argument("gain", gain, torch.float32, beside)
        self.offset = None if offset is None else argument("offset", offset, torch.float32, beside)
        self.key = key
        self.plan = plan(key)

    def cut(self, dtype: Any, out: Any) -> Any:
        """Fills `out`, or a fresh array, by whichever way the arguments ask for."""
        if out is not None and not isinstance(out, (np.ndarray, Tensor)):
            raise TypeError(f"out: expected a NumPy array or a tensor, got {type(out).__name__}")
        if dtype is not None:
            kind = torch_dtype(dtype)
        else:
            kind = torch.float32 if out is None else torch_dtype(out.dtype, "out")
        if kind not in _OUTPUTS:
            raise TypeError(f"dtype: expected uint8, float16, bfloat16, float32 or float64, got {kind}")
        size, options, nhwc, native = self.plan
        shape = (self.count, *size, 3) if nhwc else (self.count, 3, *size)
        if out is not None and (tuple(out.shape) != shape or torch_dtype(out.dtype) is not kind):
            raise ValueError(f"out: expected {list(shape)} of {kind}, got {list(out.shape)} of {out.dtype}")
        small = (self.matrices, self.index, self.flip, self.gain, self.offset)
        watched = dispatched(*self.photos, *small)
        if not watched:
            warn_of_fractions(self.photos, options)
        photos = self.photos
        if isinstance(self.like, Tensor):
            wanted = needs_grad(*photos)
            if wanted and not kind.is_floating_point:
                raise TypeError("dtype: expected a floating type where a gradient for the images is wanted, got uint8")
            if transformed():
                return filled("out", out, self._plainly(kind))
            if wanted or watched:
                matrices, index, *colour = small
                result = torch.ops.fastpose.affine_crop(
                    photos, matrices, index, list(size), *options, *colour, kind, nhwc
                )
                return filled("out", out, result)
            photos = [detached(photo) for photo in photos]
        if out is None:
            out = empty(shape, kind, self.like)
        if native is None:  # torch.compile began in another thread, and ended, since the plan was made
            native = native_options(size, options, nhwc)
        return C.affine_crop(photos[0] if self.batched else photos, *small, native, out)

    def _plainly(self, kind: torch.dtype) -> Tensor:
        """The reference, for derivatives that the core has not; after the checks of shapes that the core makes."""
        expect_shape("matrices", self.matrices, (None, 2, 3), "[M, 2, 3]")
        for name, value, rest in (
            ("image_index", self.index, ()),
            ("flip", self.flip, ()),
            ("gain", self.gain, (3,)),
            ("offset", self.offset, (3,)),
        ):
            if value is not None:
                expect_shape(name, value, (self.count, *rest), "[M, 3]" if rest else "[M]")
        for photo in self.photos:
            batch = (None,) if self.batched else ()
            expect_shape("images", photo, (*batch, None, None, 3), "[B, H, W, 3]" if self.batched else "[H, W, 3]")
        size, mean, std, swap_rb, border, border_value, antialias, layout = self.key
        one = (
            self.batched or len(self.photos) == 1
        )  # of a single photo nobody must ask for an index, which traces cannot
        return reference(
            self.photos[0] if one else self.photos,
            self.matrices,
            self.index,
            size=size,
            mean=mean,
            std=std,
            swap_rb=swap_rb,
            border=border,
            border_value=border_value,
            antialias=antialias,
            flip=self.flip,
            gain=self.gain,
            offset=self.offset,
            dtype=kind,
            layout=layout,
        )


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


# --- torch.library --------------------------------------------------------------------------------------------------
_OPTIONS = (
    "int[] size, float[] scale, float[] shift, float[] border, bool swap_rb, bool replicate, bool antialias, "
    "Tensor? flip, Tensor? gain, Tensor? offset"
)


def _core_images(images: Sequence[Tensor]) -> Any:
    """One batch goes to the core as it is, photos as a list."""
    return images[0] if len(images) == 1 else list(images)


def _registered(
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
    *rest: Any,
) -> Tensor:
    *colour, _, nhwc = rest
    out = _fake(images, matrices, image_index, size, *rest)
    photos = [_adjacent(image.detach().resolve_neg()) for image in images]
    small = [plain(value) for value in (matrices, image_index, *colour)]
    options = (tuple(scale), tuple(shift), tuple(border), swap_rb, replicate, antialias)
    C.affine_crop(_core_images(photos), *small, native_options(tuple(size), options, nhwc), out)
    return out


def _fake(
    images: Sequence[Tensor],
    matrices: Tensor,
    image_index: Tensor,
    size: Sequence[int],
    *rest: Any,
) -> Tensor:
    *_, dtype, nhwc = rest
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
    photos = [_adjacent(image.detach().resolve_neg()) for image in images]
    grads = [torch.zeros_like(image, memory_format=torch.contiguous_format) for image in photos]
    grad = plain(grad_out.to(photos[0].dtype))
    small = [plain(value) for value in (matrices, image_index, flip, gain, offset)]
    size = grad.shape[1:3] if nhwc else grad.shape[2:]
    values = (tuple(scale), tuple(shift), tuple(border), swap_rb, replicate, antialias)
    options = native_options(tuple(size), values, nhwc)
    C.affine_crop_backward(_core_images(photos), *small, options, grad, _core_images(grads))
    return grads


def _fake_backward(grad_out: Tensor, images: Sequence[Tensor], *_: Any) -> list[Tensor]:
    return [torch.empty_like(image, memory_format=torch.contiguous_format) for image in images]


def _derivatives(images: Sequence[Tensor], matrices: Tensor, image_index: Tensor, *rest: Any) -> Any:
    *_, gain, offset, _, _ = rest
    refuse_grad("affine_crop", matrices=matrices, gain=gain, offset=offset)
    if transformed():
        raise TypeError("torch.ops.fastpose.affine_crop: for torch.func and forward-mode AD call the public function")
    return _Registered.apply((matrices, image_index, *rest), *images)


class _Registered(torch.autograd.Function):
    """The registered op, differentiable with respect to the photos."""

    @staticmethod
    def forward(ctx: Any, rest: tuple[Any, ...], *images: Tensor) -> Any:
        matrices, image_index, _, *ctx.options, flip, gain, offset, _, ctx.nhwc = rest
        ctx.save_for_backward(matrices, image_index, flip, gain, offset, *images)
        with torch._C._AutoDispatchBelowAutograd():
            return torch.ops.fastpose.affine_crop(list(images), *rest)

    @staticmethod
    @differentiable_once("affine_crop")
    def backward(ctx: Any, grad_out: Tensor) -> tuple[Any, ...]:
        matrices, image_index, flip, gain, offset, *images = ctx.saved_tensors
        grads = torch.ops.fastpose.affine_crop_backward(
            grad_out, images, matrices, image_index, *ctx.options, flip, gain, offset, ctx.nhwc
        )
        return (None, *grads)


register(
    "affine_crop",
    f"(Tensor[] images, Tensor matrices, Tensor image_index, {_OPTIONS}, ScalarType dtype, bool nhwc) -> Tensor",
    _registered,
    _fake,
    _derivatives,
)
register(
    "affine_crop_backward",
    "(Tensor grad_out, Tensor[] images, Tensor matrices, Tensor image_index, "
    f"{_OPTIONS.removeprefix('int[] size, ')}, bool nhwc) -> Tensor[]",
    _backward_images,
    _fake_backward,
)
