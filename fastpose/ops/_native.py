"""Loads the native core `fastpose._C`, says why not, and holds what every op file needs.

How an op file `fastpose/ops/OP.py` is made
-------------------------------------------
1. `OP(...)`, the public function: docstring with shapes, units, errors and an example; NumPy arrays in, NumPy arrays
   out, or tensors in, tensors out. The usual call (plain contiguous arrays or CPU tensors of the right dtype, at which
   nobody looks on) goes straight to the native core, which gives None for all others, and does nothing:

       if not is_dynamo_compiling():
           result = C.try_OP(a, b, ..., out)
           if result is not None:
               return result

   What is left is brought into the form that the binding takes (`_arguments.py`) and is routed:

       refuse_grad("OP", a=a, b=b)               # of an op without a gradient
       if dispatched(a, b):                      # torch.compile, export, traces, FakeTensor, torch.func, subclasses
           return filled("out", out, torch.ops.fastpose.OP(...))
       return C.OP(a, b, ..., out)               # straight to the binding

   Both read one table of arguments (csrc/bindings/call.h), check everything (shape, dtype, device, contiguity, overlap,
   finiteness) and make the outputs that are None. `C.OP` says what is wrong and names the argument, so Python repeats
   no check. Tensors that require grad are refused, so pass `detached(x)` where that is meant.
2. `register("OP", "(Tensor a, ...) -> Tensor", kernel, fake, derivatives)` at the end of the file (`_registration.py`).
3. Export it in `fastpose/ops/__init__.py`; write the oracle under the same name in `fastpose/ops/reference/`; add its
   row to tests/ops/test_transforms.py and its calls to test_fuzz_arguments.py; tell of it in docs/ops.md.
4. C++: csrc/OP/{OP.h, OP_math.h, OP_cpu.cpp, OP_cuda.cu}; its table and binding in csrc/bindings/; the name in
   FASTPOSE_OPS of CMakeLists.txt.

The layers (`batch_norm_act`, `depthwise_conv`, `interleave`) take tensors on the CPU only, and are their reference,
plain operations of torch, wherever `dispatched` says so: they are registered nowhere.
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

NUMPY_DTYPE = {
    torch.uint8: np.uint8,
    torch.float16: np.float16,
    torch.float32: np.float32,
    torch.float64: np.float64,
    torch.int32: np.int32,
    torch.int64: np.int64,
    torch.bool: np.bool_,
}
_TORCH_DTYPE = {np.dtype(value): key for key, value in NUMPY_DTYPE.items()}


is_compiling = torch.compiler.is_compiling
"""Whether the call is being traced by torch.compile or export (which know this very function)."""

is_dynamo_compiling = torch.compiler.is_dynamo_compiling
"""The same of dynamo alone, which cannot see through the core's gate; faster to ask."""


def load_error() -> str | None:
    """The reason why the core cannot be used, or None."""
    return C._reason if isinstance(C, _Missing) else None


def torch_dtype(dtype: Any, name: str = "dtype") -> torch.dtype:
    """Takes a torch dtype, a NumPy dtype or scalar type, or a name such as "float16", and gives the torch dtype.

    Args:
        dtype: what the caller gave, or that of an array.
        name: of the argument that it is or belongs to, for messages.

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
        raise TypeError(f"{name}: expected a torch or NumPy dtype that the core knows, got {dtype!r}") from None


def empty(shape: Sequence[int], dtype: torch.dtype, like: Array) -> Array:
    """A fresh contiguous array of the framework and device of `like`.

    Raises:
        TypeError: for bfloat16 where `like` is a NumPy array.
    """
    if isinstance(like, torch.Tensor):
        return torch.empty(tuple(shape), dtype=dtype, device=like.device)
    if dtype not in NUMPY_DTYPE:
        raise TypeError(f"dtype: NumPy has no {dtype}; pass tensors to get it")
    return np.empty(tuple(shape), dtype=NUMPY_DTYPE[dtype])
