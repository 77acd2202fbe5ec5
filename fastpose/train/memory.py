"""Memory of a training process: what it keeps, and copies of many tensors."""

from __future__ import annotations

import ctypes
import os
import platform
from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["copy_all", "keep_memory", "release_memory"]

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # of malloc.h
_MMAP_MAX, _TRIM_THRESHOLD = 65536, 128 << 10  # what glibc begins with
_MADV_HUGEPAGE = 14
_HUGE = 1 << 21


def keep_memory() -> bool:
    """Keep memory that was freed for the next step, in huge pages where the system has them.

    The C library gives a large block back to the system when it is freed, and gets it back empty, page by page, at the
    next step: a step of ResNet-50 with 16 crops in float32 took 500,000 page faults, a fifth of its time. The process
    then holds the most that it ever needed (measured: up to a fifth more). Until :func:`release_memory`; only with
    glibc, and for what comes from its heap.

    Returns:
        Whether anything was changed.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    library = ctypes.CDLL(None)
    if not (library.mallopt(_M_MMAP_MAX, 0) and library.mallopt(_M_TRIM_THRESHOLD, -1)):
        return False
    # Address space at the end of the heap, which takes no memory before it is written to: advice is for what exists.
    library.malloc.restype = ctypes.c_void_p
    library.malloc.argtypes = (ctypes.c_size_t,)
    library.free.argtypes = (ctypes.c_void_p,)
    library.madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    size = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    block = library.malloc(size)
    if block:
        start = -(-block // _HUGE) * _HUGE
        library.madvise(start, size - _HUGE, _MADV_HUGEPAGE)
        library.free(block)
    return True


def release_memory() -> None:
    """Undo :func:`keep_memory`: what is free goes back to the system, and so does what will be freed.

    The two values become what the environment says (``MALLOC_MMAP_MAX_``, ``MALLOC_TRIM_THRESHOLD_``) or glibc's own.
    """
    library = ctypes.CDLL(None)
    library.mallopt(_M_MMAP_MAX, _from_environment("MALLOC_MMAP_MAX_", _MMAP_MAX))
    library.mallopt(_M_TRIM_THRESHOLD, _from_environment("MALLOC_TRIM_THRESHOLD_", _TRIM_THRESHOLD))
    library.malloc_trim.argtypes = (ctypes.c_size_t,)
    library.malloc_trim(0)


def _from_environment(name: str, default: int) -> int:
    value = os.environ.get(name, "")
    return int(value) if value.isdecimal() else default


def copy_all(targets: Sequence[Tensor], sources: Sequence[Tensor]) -> None:
    """Copy each source into its target: on a GPU in one launch a dtype (torch copies mixed lists one by one).

    Args:
        targets: Written to.
        sources: As many, each of its target's shape and dtype.
    """
    for dtype in dict.fromkeys(source.dtype for source in sources):
        pairs = [pair for pair in zip(targets, sources, strict=True) if pair[1].dtype == dtype]
        torch._foreach_copy_([target for target, _ in pairs], [source for _, source in pairs])
