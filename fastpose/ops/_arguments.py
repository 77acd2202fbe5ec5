"""How the arguments of an op reach the native core: in one framework, on one device, contiguous and without a graph.

The core checks shapes, dtypes and values itself and names the argument; what is checked here is what it cannot see.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd import forward_ad

from ._native import NUMPY_DTYPE, Array, C, is_compiling, is_dynamo_compiling

__all__ = [
    "argument",
    "array_argument",
    "contiguous",
    "detached",
    "dispatched",
    "expect_shape",
    "filled",
    "flag_argument",
    "flip_pairs",
    "looked_on",
    "needs_grad",
    "number_argument",
    "pair_argument",
    "refuse_grad",
    "tensor_argument",
    "transformed",
    "whole_argument",
]

_PLAIN = (Tensor, torch.nn.Parameter)
_WANTED = {key: np.dtype(value) for key, value in NUMPY_DTYPE.items()}
_NUMPY = np.empty(0)
_MIXTURE = "expected NumPy arrays throughout or tensors throughout, got a mixture"
_WITHOUT_MEMORY = "expected a tensor with memory, got one on the meta device"


def array_argument(name: str, value: Any, like: Any = None) -> Any:
    """The main argument of an op: an array or a tensor; dtype and shape are for the core to check.

    Raises:
        TypeError: Neither an array nor a tensor, a tensor that is sparse or has no memory, or not of the framework of
            ``like``.
    """
    if like is not None and isinstance(value, Tensor) != isinstance(like, Tensor):
        raise TypeError(f"{name}: {_MIXTURE}")
    if isinstance(value, Tensor):
        return contiguous(detached(value), name)
    if isinstance(value, np.ndarray):
        return value if value.flags.c_contiguous else np.ascontiguousarray(value)
    raise TypeError(f"{name}: expected a NumPy array or a tensor, got {type(value).__name__}")


def argument(name: str, value: Any, dtype: torch.dtype, like: Array) -> Any:
    """A further argument, of ``dtype``, in the framework and on the device of ``like``.

    Takes an array, a tensor, a list or a number; costs nothing but the checks if it has that form already. Integers and
    booleans never come from floats.

    Raises:
        TypeError: It cannot be understood as an array of such numbers, or is of the other framework.
    """
    value = detached(value)
    if type(value) is np.ndarray and type(like) is np.ndarray:  # the common cases first
        if value.dtype is _WANTED[dtype] and value.flags.c_contiguous:
            return value
    elif (
        type(value) is Tensor
        and value.dtype is dtype
        and type(like) is Tensor
        and value.device == like.device
        and value.layout is torch.strided  # is_contiguous() raises for some of the others
        and value.is_contiguous()
    ):
        return value
    if not isinstance(like, Tensor):
        return _as_array(name, value, dtype)
    if isinstance(value, Tensor):
        return _as_tensor(name, value, dtype, like)
    if isinstance(value, (list, tuple)) and is_compiling():
        return torch.tensor(value, dtype=dtype, device=like.device)  # the tracer does not see through NumPy
    array = _as_array(name, value, dtype)
    return torch.from_numpy(array if array.flags.writeable else array.copy()).to(like.device)


def _as_tensor(name: str, value: Tensor, dtype: torch.dtype, like: Tensor) -> Tensor:
    if value.dtype is not dtype:
        if value.dtype.is_floating_point and not dtype.is_floating_point:
            raise TypeError(f"{name}: expected {dtype}, got {value.dtype}")
        value = value.to(dtype)
    if value.device != like.device:
        if value.is_meta:
            raise TypeError(f"{name}: {_WITHOUT_MEMORY}")
        if like.device.type == "meta":
            return value  # what ``like`` lacks is said of it
        value = value.to(like.device)
    return contiguous(value, name)


def _as_array(name: str, value: Any, dtype: torch.dtype) -> np.ndarray[Any, Any]:
    if isinstance(value, Tensor):
        raise TypeError(f"{name}: {_MIXTURE}")
    wanted = _WANTED[dtype]
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise TypeError(f"{name}: expected an array of {wanted}: {error}") from None
    if array.dtype != wanted:
        if array.size and not np.can_cast(array.dtype, wanted, casting="same_kind"):
            raise TypeError(f"{name}: expected {wanted}, got {array.dtype}")
        array = array.astype(wanted)
    return array if array.flags.c_contiguous else np.ascontiguousarray(array)


def tensor_argument(name: str, value: Any) -> Tensor:
    """An argument that must be a tensor, as it is.

    Raises:
        TypeError: It is none, is sparse, or has no memory.
    """
    if not isinstance(value, Tensor):
        raise TypeError(f"{name}: expected a tensor, got {type(value).__name__}")
    _expect_memory(value, name)
    return value


def pair_argument(name: str, value: Any) -> tuple[Any, Any]:
    """Two things, one along x and one along y; two times None of None.

    Raises:
        TypeError: It is no tuple or list of two.
    """
    if value is None:
        return None, None
    if not isinstance(value, (tuple, list)) or len(value) != 2:
        count = f" of {len(value)}" if isinstance(value, (tuple, list)) else ""
        raise TypeError(f"{name}: expected a pair, along x and along y, got {type(value).__name__}{count}")
    return value[0], value[1]


def number_argument(name: str, value: Any) -> float:
    """A number.

    Raises:
        TypeError: It is none.
    """
    if not isinstance(value, (int, float, np.number)):
        raise TypeError(f"{name}: expected a number, got {type(value).__name__}")
    return float(value)


def whole_argument(name: str, value: Any) -> int:
    """A whole number.

    Raises:
        TypeError: It is none.
        ValueError: It does not fit 64 bits.
    """
    if not isinstance(value, (int, np.integer)):
        raise TypeError(f"{name}: expected an int, got {type(value).__name__}")
    if not -(1 << 63) <= value < 1 << 63:
        raise ValueError(f"{name}: expected a number of 64 bits, got {value}")
    return int(value)


def flag_argument(name: str, value: Any) -> bool:
    """True or False, also as 1 or 0 and as NumPy's.

    Raises:
        TypeError: It is something else.
    """
    if not isinstance(value, (bool, np.bool_, int)) or value not in (0, 1):
        raise TypeError(f"{name}: expected True or False, got {value!r}")
    return bool(value)


def expect_shape(name: str, value: Any, shape: tuple[int | None, ...], legend: str) -> None:
    """What the core checks, for calls that do not reach it; None takes any size.

    Raises:
        ValueError: It has another shape.
    """
    if len(value.shape) == len(shape) and all(n in (None, m) for n, m in zip(shape, value.shape, strict=True)):
        return
    sizes = ", ".join("any" if n is None else str(n) for n in shape)
    raise ValueError(f"{name}: expected shape {legend} = [{sizes}], got {list(value.shape)}")


def contiguous(value: Tensor, name: str) -> Tensor:
    """The tensor in row-major memory.

    Raises:
        TypeError: It is a sparse one, or has no memory.
    """
    _expect_memory(value, name)
    return value if value.is_contiguous() else value.contiguous()


def _expect_memory(value: Tensor, name: str) -> None:
    if value.layout is not torch.strided:
        raise TypeError(f"{name}: expected a dense tensor, got {value.layout}")
    if value.device.type == "meta":
        raise TypeError(f"{name}: {_WITHOUT_MEMORY}")


def detached(value: Any) -> Any:
    """The tensor without its graph, unless torch's dispatcher is to see that; anything else unchanged."""
    return value.detach() if isinstance(value, Tensor) and value.requires_grad and not dispatched(value) else value


def dispatched(*values: Any) -> bool:
    """Whether the call must go through torch's dispatcher, as the registered op or as operations of torch.

    So it is while torch.compile, export, torch.jit.trace or make_fx look on, in a dispatch mode, under a transform of
    torch.func or forward-mode AD, and for subclasses of tensors: to them a call of the core is invisible. So
    it is for a tensor whose memory holds the values with the other sign, which the dispatcher makes good.
    """
    if is_compiling():
        return True
    tensors = [value for value in values if isinstance(value, Tensor)]
    if any(type(tensor) not in _PLAIN or tensor.is_neg() for tensor in tensors):
        return True
    return len(tensors) > 0 and (C.watched() or transformed())


def looked_on(tensors: tuple[Any, ...], names: str, optional: Any = None, optional_name: str = "") -> bool:
    """The same of a layer's tensors; where the core knows at once that nobody looks on, nothing else is asked.

    Raises:
        TypeError: One is no tensor, is sparse, or has no memory; only ``optional`` may be None.
    """
    if not is_dynamo_compiling() and C.plain_tensors(optional, *tensors):
        return False
    for name, value in zip(names.split(), tensors, strict=True):
        tensor_argument(name, value)
    if optional is not None:
        tensor_argument(optional_name, optional)
    return dispatched(*tensors, optional)


def transformed() -> bool:
    """Whether a transform of torch.func or a level of forward-mode AD is active."""
    if not _DYNAMO_ASKS_TOO and is_dynamo_compiling():
        return False  # the registered op then says by itself what it cannot do
    return _in_torch_func() or forward_ad._current_level >= 0


# The tracer of older torch ends at the question.
_DYNAMO_ASKS_TOO = tuple(map(int, torch.__version__.split(".")[:2])) >= (2, 9)
_in_torch_func = getattr(torch._C, "_are_functorch_transforms_active", lambda: False)


def needs_grad(*values: Any) -> bool:
    """True if a gradient with respect to one of the values will be wanted."""
    for value in values:
        if value is not None and isinstance(value, Tensor) and value.requires_grad and torch.is_grad_enabled():
            return True
    return False


def refuse_grad(op: str, **values: Any) -> None:
    """For an op, or arguments of it, that have no gradient.

    Raises:
        TypeError: One is wanted.
    """
    for name, value in values.items():
        if needs_grad(value):
            raise TypeError(
                f"{name}: {op} has no gradient with respect to it; detach it, or use fastpose.ops.reference.{op}"
            )


def filled(name: str, out: Any, result: Tensor) -> Tensor:
    """``result``, in the caller's memory if there is any: for calls in which the core cannot fill it.

    Raises:
        TypeError: ``out`` is no tensor, or of another dtype.
        ValueError: It is of another shape.
    """
    if out is None:
        return result
    if tensor_argument(name, out).dtype is not result.dtype:
        raise TypeError(f"{name}: expected {result.dtype}, got {out.dtype}")
    if out.shape != result.shape:
        raise ValueError(f"{name}: expected shape {list(result.shape)}, got {list(out.shape)}")
    return tensor_argument(name, out).copy_(result)


_CPU = torch.empty(0)


def flip_pairs(flip_index: Any, like: Any) -> Any:
    """``flip_index`` as int64, in the framework and on the device of ``like``; looked at before it is sent to a GPU.

    Raises:
        TypeError: No such numbers.
        ValueError: An index is out of range.
    """
    if not isinstance(like, Tensor) or not like.is_cuda or (isinstance(flip_index, Tensor) and flip_index.is_cuda):
        return argument("flip_index", flip_index, torch.int64, like)
    pairs = argument("flip_index", flip_index, torch.int64, _CPU)  # where it can be looked at
    if ((pairs < 0) | (pairs >= pairs.numel())).any():
        raise ValueError(f"flip_index: expected indices from 0 to {pairs.numel() - 1}, got {pairs.tolist()}")
    return pairs.to(like.device)
