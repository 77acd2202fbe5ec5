"""What compilers say about csrc/ (all but CUDA) and tests/native: nothing, and on no system."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from native_build import CORE, ROOT, compiler, configure, find

pytestmark = pytest.mark.slow  # a minute on a busy core

OPS = sorted((ROOT / "csrc").glob("*/*_cpu.cpp"))
BINDINGS = sorted((ROOT / "csrc" / "bindings").glob("*.cpp"))
WARNINGS = ["-Wall", "-Wextra", "-Wconversion", "-Wshadow", "-Werror"]


def expect_silence(commands: list[list[str]], cwd: Path) -> None:
    """Runs the commands; those that fail fail the test, with what they printed."""
    said = []
    for command in commands:
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd)
        if done.returncode != 0:
            said.append(f"{shlex.join(command)}\n{done.stdout}{done.stderr}")
    assert commands
    assert not said, "\n".join(said)[:8000]


def commands_of(build: Path) -> list[list[str]]:
    """How CMake compiles every unit, at every SIMD level."""
    entries = json.loads((build / "compile_commands.json").read_text())
    return [shlex.split(entry["command"]) for entry in entries]


@pytest.mark.parametrize("cxx", ["g++", "clang++"])
def test_no_warnings(tmp_path: Path, cxx: str) -> None:
    build = configure(tmp_path, find(cxx))
    expect_silence([[*command, "-fsyntax-only", "-Werror"] for command in commands_of(build)], build)


@pytest.mark.parametrize("cxx", ["g++", "clang++"])
def test_no_warnings_in_bindings(tmp_path: Path, cxx: str) -> None:
    """With the declarations of CUDA, which need no CUDA."""
    pybind11 = pytest.importorskip("pybind11")
    flags = ["-std=c++17", "-fsyntax-only", "-fvisibility=hidden", *WARNINGS, f"-I{ROOT / 'csrc'}"]
    flags += ["-isystem", pybind11.get_include(), "-isystem", sysconfig.get_paths()["include"]]
    flags += [f'-DFASTPOSE_{name}="0"' for name in ("VERSION", "CUDA_VERSION", "CUDA_ARCH_LIST")]
    start = [find(cxx), *flags, "-DFASTPOSE_WITH_CUDA=1"]
    expect_silence([[*start, str(file)] for file in BINDINGS], tmp_path)


def test_clang_tidy(tmp_path: Path) -> None:
    """The list of checks is .clang-tidy; one SIMD level stands for all."""
    tidy = find("clang-tidy")
    of_file = {Path(command[-1]): command for command in reversed(commands_of(configure(tmp_path, compiler())))}
    commands = []
    for file in [*OPS, *CORE]:
        flags = [flag for flag in of_file[file][1:-4] if flag.startswith(("-D", "-I", "-std", "-m"))]
        commands.append([tidy, "--quiet", str(file), "--", *flags])
    expect_silence(commands, tmp_path)


@pytest.mark.parametrize(("target", "level"), [("aarch64-macos", "neon"), ("x86_64-windows-gnu", "sse2")])
def test_macos_and_windows(tmp_path: Path, target: str, level: str) -> None:
    """Every unit becomes an object there; zig brings those systems' headers. Runs nothing."""
    pytest.importorskip("ziglang")
    flags = ["-std=c++17", "-O1", "-g0", *WARNINGS, f"-I{ROOT / 'csrc'}"]
    flags += [f"-DFASTPOSE_SIMD_NS={level}", f"-DFASTPOSE_SIMD_{level}=1", "-DFASTPOSE_WITH_CUDA=0"]
    start = [sys.executable, "-m", "ziglang", "c++", "-target", target, *flags]
    expect_silence([[*start, "-c", str(file), "-o", str(tmp_path / "object")] for file in [*CORE, *OPS]], tmp_path)
