"""Loads the native core `fastpose._C`, says why not, and holds what every op file needs.

How an op file `fastpose/ops/OP.py` is made
-------------------------------------------
1. `OP(...)`, the public function: docstring with shapes, units and errors; NumPy arrays in, NumPy arrays out, or
   tensors in, tensors out. The usual call (plain contiguous arrays or CPU tensors of the right dtype) goes straight to
   the native core, whose gate (csrc/eager.h) allocates the outputs; it gives None for all others, and does nothing:

       if not is_compiling():
           result = C.OP_eager(a, b, ..., out)
           if result is not None:
               return result

   What is left is brought into the form that the binding takes (`as_input`), gets its outputs from `empty` (or `out=`)
   and is routed:

       if symbolic(a, b) or needs_grad(a, b):    # torch.compile, export, FakeTensor, subclasses, gradients
           return torch.ops.fastpose.OP(...)     # an op without a gradient raises TypeError in place of `needs_grad`
       C.OP(...)                                 # straight to the binding

   `C.OP` checks everything again (shape, dtype, device, contiguity, finiteness) and names the argument, so Python
   repeats no check.
2. `C.OP(..., stream(x))`: the stream is asked for only if the tensor is on CUDA. Tensors that require grad are refused
   by the binding, so pass `detached(x)` where that is meant.
3. Registration at the end of the file, on the one library `LIBRARY`:

       LIBRARY.define("OP(Tensor a, ...) -> Tensor")
       LIBRARY.impl("OP", _registered, "CPU"); LIBRARY.impl("OP", _registered, "CUDA")
       torch.library.register_fake("fastpose::OP", _fake)                                   # shapes only
       torch.library.register_autograd("fastpose::OP", _backward, setup_context=_setup)     # where there is a gradient
4. Export it in `fastpose/ops/__init__.py`; write the oracle under the same name in `fastpose/ops/reference/`.
5. C++: csrc/OP/{OP.h, OP_math.h, OP_cpu.cpp, OP_cuda.cu}; a binding in csrc/bindings*.cpp; the name in FASTPOSE_OPS of
   CMakeLists.txt.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch

from fastpose._version import __version__

Array = np.ndarray[Any, Any] | torch.Tensor
"""What the ops take and give back."""


class _Missing:
    """Stands for the core where it could not be loaded: raises the reason when an op is used, not at import."""

    def __init__(self, reason: str) -> None:
        self._reason = reason

    def __getattr__(self, name: str) -> Any:
        raise ImportError(self._reason)


def _load() -> ModuleType | _Missing:
    how = "build it with `pip install .` in a checkout (`python setup.py build_ext --inplace` for an editable one)"
    try:
        core = importlib.import_module("fastpose._C")
    except ImportError as error:
        reason = _hides_installed() or f"the native core fastpose._C cannot be loaded: {error}; {how}"
        return _Missing(reason)
    if core.__version__ != __version__:
        return _Missing(
            f"the native core is of version {core.__version__}, the Python files are of {__version__}; {how}"
        )
    return core


def _hides_installed() -> str | None:
    """What to say where Python found a checkout's sources in front of the package that was installed from it.

    Python looks for modules first in the folder of the script, or in the working directory: run in a checkout, it
    takes the folder ``fastpose`` there, in which nothing has been built.
    """
    here = Path(__file__).resolve().parents[1]
    if not (here.parent / "csrc").is_dir():
        return None
    for place in map(Path, sys.path):
        installed = place / "fastpose"
        if installed.resolve() != here and any(installed.glob("_C.*")):
            return (
                f"Python took FastPose's sources in {here} for the package, which is installed in {installed}, because "
                "it looks first in the folder where it is run. Run it in another folder (or as `python -P`, which "
                "Python 3.11 and later know); to work on the sources, install them by `pip install -e .`"
            )
    return None


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
_WANTED = {key: np.dtype(value) for key, value in _NUMPY_DTYPE.items()}
_TORCH_DTYPE = {value: key for key, value in _WANTED.items()}


is_compiling = torch.compiler.is_compiling
"""Whether the call is being traced by torch.compile or export (which know this very function)."""


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
    if isinstance(dtype, str) and dtype == "bfloat16":
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


def as_input(value: Any, dtype: torch.dtype, like: Array, name: str | None = None) -> Any:
    """A small argument as contiguous memory of `dtype`, in the framework and on the device of `like`.

    Takes an array, a tensor, a list or a number; costs nothing but the checks if it has that form already. Integers and
    booleans never come from floats.

    Args:
        value: What the caller gave.
        dtype: What the binding takes.
        like: A tensor or an array.
        name: Of the argument, for messages.

    Raises:
        TypeError: if it cannot be understood as an array of such numbers.
    """
    if type(value) is np.ndarray and type(like) is np.ndarray:  # the common cases first
        if value.dtype is _WANTED[dtype] and value.flags.c_contiguous:
            return value
    elif (
        type(value) is torch.Tensor
        and value.dtype is dtype
        and type(like) is torch.Tensor
        and value.device == like.device
        and value.layout is torch.strided  # is_contiguous() raises for some of the others
        and value.is_contiguous()
    ):
        return value
    if isinstance(like, torch.Tensor):
        if not isinstance(value, torch.Tensor):
            array = as_input(value, dtype, _NUMPY, name)
            value = torch.from_numpy(array if array.flags.writeable else array.copy())
        if value.dtype is not dtype:
            if value.dtype.is_floating_point and not dtype.is_floating_point:
                raise TypeError(_prefix(name) + f"expected {dtype}, got {value.dtype}")
            value = value.to(dtype)
        if value.device != like.device:
            if value.is_meta:
                raise TypeError(_prefix(name) + _WITHOUT_MEMORY)
            if like.device.type == "meta":
                return value  # what ``like`` lacks is said of it
            value = value.to(like.device)
        return contiguous(value, name)
    if isinstance(value, torch.Tensor):
        raise TypeError(_prefix(name) + "expected NumPy arrays throughout or tensors throughout, got a mixture")
    wanted = _WANTED[dtype]
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise TypeError(_prefix(name) + f"expected an array of {wanted}: {error}") from None
    if array.dtype != wanted:
        if array.size and not np.can_cast(array.dtype, wanted, casting="same_kind"):
            raise TypeError(_prefix(name) + f"expected {wanted}, got {array.dtype}")
        array = array.astype(wanted)
    return array if array.flags.c_contiguous else np.ascontiguousarray(array)


def contiguous(value: torch.Tensor, name: str | None = None) -> torch.Tensor:
    """The tensor in row-major memory.

    Raises:
        TypeError: if it is a sparse one, or has no memory.
    """
    if value.layout is not torch.strided:
        raise TypeError(_prefix(name) + f"expected a dense tensor, got {value.layout}")
    if value.device.type == "meta":
        raise TypeError(_prefix(name) + _WITHOUT_MEMORY)
    return value if value.is_contiguous() else value.contiguous()


def _prefix(name: str | None) -> str:
    return "" if name is None else f"{name}: "


_NUMPY = np.empty(0)
_WITHOUT_MEMORY = "expected a tensor with memory, got one on the meta device"


def symbolic(*values: Any) -> bool:
    """True if the call is being traced or a value is no ordinary tensor: then the registered op must be used."""
    if is_compiling():
        return True
    for value in values:  # noqa: SIM110 - a generator costs more than all that it looks at
        if value is not None and type(value) not in _PLAIN and isinstance(value, torch.Tensor):
            return True
    return False


def needs_grad(*values: Any) -> bool:
    """True if a gradient with respect to one of the values will be wanted."""
    for value in values:
        if value is not None and isinstance(value, torch.Tensor) and value.requires_grad and torch.is_grad_enabled():
            return True
    return False


def detached(value: Any) -> Any:
    """The tensor without its graph; anything else unchanged."""
    return value.detach() if isinstance(value, torch.Tensor) and value.requires_grad else value


def stream(value: Array) -> int:
    """The current CUDA stream of the device of `value` as an integer; 0 for anything that is not on CUDA."""
    if isinstance(value, torch.Tensor) and value.is_cuda:
        return int(torch.cuda.current_stream(value.device).cuda_stream)
    return 0
