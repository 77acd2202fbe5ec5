"""Freed memory that stays with the process; in a process of its own, because it stays so."""

import platform
import subprocess
import sys

import pytest

SCRIPT = """
import resource, sys
import torch
from fastpose.train.memory import keep_memory

def faults():
    start = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        torch.empty(30 << 20).fill_(1.0)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - start

before = faults()
changed = keep_memory()
faults()  # of the first use
print(changed, before, faults())
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="resource")
def test_freed_memory_stays_with_the_process() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    changed, before, after = done.stdout.split()
    assert changed == str(platform.libc_ver()[0] == "glibc")
    if changed == "True":
        assert int(after) < 100 < int(before)
