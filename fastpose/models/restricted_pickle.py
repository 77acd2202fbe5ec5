"""Reading pickled checkpoints without running anything that is in them.

`torch.load(weights_only=True)` refuses the official files as they stand, since they carry the trainer's objects
(mmengine's HistoryBuffer, NumPy scalars) beside the tensors. Here a pickle may name three kinds of things: what tensors
are made of, which is the real thing; classes of a few known libraries, which become inert stand-ins, so that those
libraries are neither needed nor touched; and anything else, which is refused.
"""

from __future__ import annotations

import pickle
import types
from collections import OrderedDict
from pathlib import Path
from typing import Any

import torch

# What torch itself writes for tensors, parameters and their storages. Every one of these only makes data.
_REAL: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("torch", "Size"): torch.Size,
    ("torch", "device"): torch.device,
    ("torch._utils", "_rebuild_tensor"): torch._utils._rebuild_tensor,
    ("torch._utils", "_rebuild_tensor_v2"): torch._utils._rebuild_tensor_v2,
    ("torch._utils", "_rebuild_parameter"): torch._utils._rebuild_parameter,
    ("torch.nn.parameter", "Parameter"): torch.nn.Parameter,
    ("torch.storage", "UntypedStorage"): torch.UntypedStorage,
    ("torch.storage", "TypedStorage"): torch.storage.TypedStorage,
}
_STORAGES = ("Float", "Double", "Half", "BFloat16", "Long", "Int", "Short", "Char", "Byte", "Bool")
_REAL.update({("torch", f"{kind}Storage"): getattr(torch, f"{kind}Storage") for kind in _STORAGES})
_DTYPES = ("float32", "float64", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool")
_REAL.update({("torch", name): getattr(torch, name) for name in _DTYPES})

# Libraries whose objects official checkpoints carry in their metadata.
_FOREIGN = (
    "numpy",
    "mmengine",
    "mmcv",
    "mmpose",
    "mmdet",
    "mmcls",
    "mmpretrain",
    "addict",
    "argparse",
    "datetime",
    "pathlib",
)
_FOREIGN_NAMES = {
    ("_codecs", "encode"),  # NumPy's way to pickle bytes
    ("collections", "defaultdict"),
    ("copy_reg", "_reconstructor"),
    ("copyreg", "_reconstructor"),
    # HistoryBuffer names its methods through getattr.
    *((module, name) for module in ("builtins", "__builtin__") for name in ("getattr", "object", "set", "slice")),
}


class RefusedPickleError(pickle.UnpicklingError):
    """A pickle names something that could run code."""


class Inert:
    """Stands in for a foreign class or function: takes any arguments, holds nothing, does nothing."""

    def __init__(self, *args: Any, **kwargs: Any) -> None: ...

    def __setstate__(self, state: Any) -> None: ...

    def __setitem__(self, key: Any, value: Any) -> None: ...

    def __call__(self, *args: Any, **kwargs: Any) -> Inert:
        """Do nothing."""
        return self

    append = extend = add = __setstate__


class RestrictedUnpickler(pickle.Unpickler):
    """Makes tensors and plain containers, inert stand-ins for the foreign, and nothing else."""

    def find_class(self, module_name: str, global_name: str) -> Any:
        """Look up what a pickle names (called by `load`)."""
        key = (module_name, global_name)
        if key in _REAL:
            return _REAL[key]
        if module_name.partition(".")[0] in _FOREIGN or key in _FOREIGN_NAMES:
            return Inert
        raise RefusedPickleError(f"it names {module_name}.{global_name}, which could run code")


def _load(file: Any, **options: Any) -> Any:
    return RestrictedUnpickler(file, **options).load()


# torch.load looks for these two names in the module that it is given.
_PICKLE_MODULE = types.SimpleNamespace(
    __name__=__name__, Unpickler=RestrictedUnpickler, load=_load, UnpicklingError=pickle.UnpicklingError
)


def load_pickled(path: Path) -> Any:
    """Read a file that `torch.save` wrote, in its zip or its older serialization, onto the CPU.

    Args:
        path: the file.

    Returns:
        What was saved, with foreign objects replaced by `Inert` ones.

    Raises:
        RefusedPickleError: it names something that could run code.
        Exception: whatever torch raises on a damaged file.
    """
    return torch.load(path, map_location="cpu", pickle_module=_PICKLE_MODULE, weights_only=False)
