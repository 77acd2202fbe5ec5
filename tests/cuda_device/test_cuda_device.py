"""The guard that makes a GPU current leaves a thread as it was: no context on a GPU that nobody asked for.

No GPU and no CUDA is needed, only g++: the guard is compiled with stand-ins for CUDA's headers (`main.cpp`).
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
CSRC = HERE.parents[1] / "csrc"


@pytest.mark.skipif(shutil.which("g++") is None, reason="no g++")
def test_a_thread_without_a_context_stays_without_one(tmp_path: Path) -> None:
    program = tmp_path / "cuda_device"
    sources = [str(CSRC / "core" / "cuda_device.cu"), str(HERE / "main.cpp")]
    command = ["g++", "-std=c++17", "-Wall", "-Wextra", "-Werror", "-x", "c++", f"-I{HERE / 'include'}", f"-I{CSRC}"]
    built = subprocess.run([*command, *sources, "-o", str(program)], capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr[-4000:]
    done = subprocess.run([str(program)], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (0, "cuda_device: done\n"), done.stderr
