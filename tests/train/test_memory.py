"""Freed memory that stays with the process (in one of its own, because it stays so), and copies of many tensors."""

import platform
import subprocess
import sys

import pytest
import torch

from fastpose.train.memory import copy_all

SCRIPT = """
import resource, sys
import torch
from fastpose.train.memory import keep_memory, release_memory

def faults():
    start = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        torch.empty(30 << 20).fill_(1.0)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - start

before = faults()
changed = keep_memory()
faults()  # of the first use
kept = faults()

def megabytes():
    blocks = [torch.empty(4 << 20).fill_(1.0) for _ in range(10)]
    del blocks
    return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize() >> 20

held = megabytes()
if changed:
    release_memory()
print(changed, before, kept, held - megabytes())
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="resource")
def test_freed_memory_stays_with_the_process_until_it_is_released() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    changed, before, after, released = done.stdout.split()
    assert changed == str(platform.libc_ver()[0] == "glibc")
    if changed == "True":
        assert int(after) < 100 < int(before)
        assert int(released) > 100  # of 160 MB


def test_lists_of_several_dtypes_are_copied():
    sources = [
        torch.rand(3),
        torch.tensor(7),
        torch.rand(2, 2, dtype=torch.float64),
        torch.rand(5),
        torch.tensor([1, 2]),
    ]
    targets = [torch.zeros_like(source) for source in sources]
    copy_all(targets, sources)
    for target, source in zip(targets, sources, strict=True):
        torch.testing.assert_close(target, source, atol=0, rtol=0)
    copy_all([], [])
