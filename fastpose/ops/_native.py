"""Loads the native core `fastpose._C`, says why not, and holds what every op file needs.

How an op file `fastpose/ops/OP.py` is made
-------------------------------------------
1. `OP(...)`, the public function: docstring with shapes, units and errors; NumPy arrays in, NumPy arrays out, or tensors in, tensors out.
   It brings its inputs into the form that the binding takes (`as_input`), allocates outputs with `empty` (or takes `out=`) and routes:

       if is_torch:
           if symbolic(a, b):            # torch.compile, export, FakeTensor, subclasses: the registered op
               return torch.ops.fastpose.OP(...)
           if needs_grad(a, b):          # only where the op has a gradient; otherwise refuse it with `refuse_grad`
               return _OP.apply(...)
       return _run(...)                  # straight to the binding: `C.OP(...)`

   `C.OP` checks everything again (shape, dtype, device, contiguity, finiteness) and names the argument, so Python repeats no check.
2. `_run(...)` calls `C.OP(..., stream(x))`; the stream is asked for only if the tensor is on CUDA. Tensors that require grad are refused
   by the binding, so pass `detached(x)` where that is meant.
3. Registration at the end of the file, on the one library `LIBRARY`:

       LIBRARY.define("OP(Tensor a, ...) -> Tensor")
       LIBRARY.impl("OP", _registered, "CPU"); LIBRARY.impl("OP", _registered, "CUDA")
       torch.library.register_fake("fastpose::OP", _fake)                 # shapes only
       torch.library.register_autograd("fastpose::OP", _backward, setup_context=_setup)   # where there is a gradient
4. Export it in `fastpose/ops/__init__.py`; write the oracle under the same name in `fastpose/ops/reference/`.
5. C++: csrc/OP/{OP.h, OP_math.h, OP_cpu.cpp, OP_cuda.cu}; `bind_OP` in csrc/bindings.cpp; the name in FASTPOSE_OPS of CMakeLists.txt.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from types import ModuleType
from typing import Any

import numpy as np
import torch

from fastpose._version import __version__

Array = np.ndarray[Any, Any] | torch.Tensor
"""What the ops take and give back."""


class _Missing:
    """Stands for the core where it could not be loaded; raises the reason when an op is used, not when the package is imported."""

    def __init__(self, reason: str) -> None:
        self._reason = reason

    def __getattr__(self, name: str) -> Any:
        raise ImportError(self._reason)


def _load() -> ModuleType | _Missing:
    how = "build it with `pip install .` in a checkout (`python setup.py build_ext --inplace` for an editable one)"
    try:
        core = importlib.import_module("fastpose._C")
    except ImportError as error:
        return _Missing(f"the native core fastpose._C cannot be loaded: {error}; {how}")
    if core.__version__ != __version__:
        return _Missing(
            f"the native core is of version {core.__version__}, the Python files are of {__version__}; {how}"
        )
    return core


C: Any = _load()
"""The module `fastpose._C`, or an object that raises ImportError with the reason on any use."""

LIBRARY = torch.library.Library("fastpose", "DEF")
"""Owns the schemas `fastpose::OP`; each op file defines its own."""

_PLAIN = (torch.Tensor, torch.nn.Parameter)
_NUMPY_DTYPE = {
    torch.uint8: np.uint8,
    torch.float16: np.float16,
    torch.float32: np.float32,
    torch.float64: np.float64,
    torch.int32: np.int32,
    torch.int64: np.int64,
    torch.bool: np.bool_,
}
_TORCH_DTYPE = {np.dtype(value): key for key, value in _NUMPY_DTYPE.items()}


def load_error() -> str | None:
    """The reason why the core cannot be used, or None."""
    return C._reason if isinstance(C, _Missing) else None


def torch_dtype(dtype: Any) -> torch.dtype:
    """Takes a torch dtype, a NumPy dtype or scalar type, or a name such as "float16", and gives the torch dtype.

    Raises:
        TypeError: if it is none of those that the core knows.
    """
    if isinstance(dtype, torch.dtype):
        return dtype
    if dtype == "bfloat16":
        return torch.bfloat16
    try:
        return _TORCH_DTYPE[np.dtype(dtype)]
    except (KeyError, TypeError):
        raise TypeError(f"dtype: expected a torch or NumPy dtype, got {dtype!r}") from None


def empty(shape: Sequence[int], dtype: torch.dtype, like: Array) -> Array:
    """A fresh contiguous array of the framework and device of `like`.

    Raises:
        TypeError: for bfloat16 where `like` is a NumPy array.
    """
    if isinstance(like, torch.Tensor):
        return torch.empty(tuple(shape), dtype=dtype, device=like.device)
    if dtype not in _NUMPY_DTYPE:
        raise TypeError(f"dtype: NumPy has no {dtype}; pass tensors to get it")
    return np.empty(tuple(shape), dtype=_NUMPY_DTYPE[dtype])


def as_input(value: Any, dtype: torch.dtype, like: Array) -> Any:
    """Brings a small argument (an array, a list, numbers) to contiguous memory of `dtype`, in the framework and on the device of `like`.

    Costs nothing but the checks if it is so already. Integers never come from floats.

    Raises:
        TypeError: if it cannot be understood as an array, or if a rounding conversion to an integer would be needed.
    """
    if isinstance(like, torch.Tensor):
        if not isinstance(value, torch.Tensor):
            value = torch.from_numpy(np.ascontiguousarray(as_input(value, dtype, _NUMPY)))
        if value.dtype is not dtype:
            if not (dtype.is_floating_point or not value.dtype.is_floating_point):
                raise TypeError(f"expected {dtype}, got {value.dtype}")
            value = value.to(dtype)
        if value.device != like.device:
            value = value.to(like.device)
        return value if value.is_contiguous() else value.contiguous()
    if isinstance(value, torch.Tensor):
        raise TypeError("expected NumPy arrays throughout or tensors throughout, got a mixture")
    array = np.asarray(value)
    wanted = np.dtype(_NUMPY_DTYPE[dtype])
    if array.dtype != wanted:
        if not np.can_cast(array.dtype, wanted, casting="same_kind") and array.size:
            raise TypeError(f"expected {wanted}, got {array.dtype}")
        array = array.astype(wanted)
    return np.ascontiguousarray(array) if not array.flags.c_contiguous else array


_NUMPY = np.empty(0)


def symbolic(*values: Any) -> bool:
    """True if the call is being traced or a value is no ordinary tensor: then the registered op must be used."""
    if torch.compiler.is_compiling():
        return True
    return any(type(value) not in _PLAIN for value in values if isinstance(value, torch.Tensor))


def needs_grad(*values: Any) -> bool:
    """True if a gradient with respect to one of the values will be wanted."""
    return torch.is_grad_enabled() and any(isinstance(v, torch.Tensor) and v.requires_grad for v in values)


def detached(value: Any) -> Any:
    """The tensor without its graph; anything else unchanged."""
    return value.detach() if isinstance(value, torch.Tensor) and value.requires_grad else value


def stream(value: Array) -> int:
    """The current CUDA stream of the device of `value` as an integer; 0 for anything that is not on CUDA."""
    if isinstance(value, torch.Tensor) and value.is_cuda:
        return int(torch.cuda.current_stream(value.device).cuda_stream)
    return 0
