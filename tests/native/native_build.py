"""Builds what tests/native and csrc/ hold, without Python and CUDA."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CORE = [ROOT / "csrc" / "core" / name for name in ("dispatch.cpp", "parallel.cpp", "scratch.cpp")]


def find(tool: str) -> str:
    """The tool beside this interpreter or on the PATH; skips the test by its name where there is none."""
    found = shutil.which(tool, path=str(Path(sys.executable).parent)) or shutil.which(tool)
    if found is None:
        pytest.skip(f"no {tool}")
    return found


def compiler() -> str:
    """The C++ compiler that the core is built with, unless CXX names another one."""
    return find(os.environ.get("CXX") or (sysconfig.get_config_var("CXX") or "c++").split()[0])


def configure(folder: Path, cxx: str, **options: str) -> Path:
    """The build folder of tests/native; compile_commands.json there has every unit at every SIMD level."""
    build = folder / "build"
    options = {
        "FASTPOSE_NATIVE_TESTS": "ON",
        "FASTPOSE_CUDA": "off",
        "CMAKE_CXX_COMPILER": cxx,
        "CMAKE_BUILD_TYPE": "None",
        "CMAKE_CXX_FLAGS": "-O1",
        "CMAKE_MAKE_PROGRAM": find("ninja"),
        **options,
    }
    run_or_fail(
        [find("cmake"), "-S", str(ROOT), "-B", str(build), "-G", "Ninja"] + [f"-D{k}={v}" for k, v in options.items()]
    )
    return build


def build_program(build: Path, program: str) -> Path:
    """The program, compiled in what `configure` returned."""
    run_or_fail([find("cmake"), "--build", str(build), "--target", program])
    return build / "tests" / "native" / program


def run_or_fail(command: list[str], cwd: Path | None = None) -> str:
    """What the command prints; fails the test, with that, if it does not end well."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd)
    printed = done.stdout + done.stderr
    assert done.returncode == 0, f"{' '.join(command)}\n{printed[-6000:]}"
    return printed
