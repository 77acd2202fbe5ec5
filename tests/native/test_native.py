"""Builds fuzz_ops.cpp with sanitizers, and for AArch64, and lets it call every op's CPU entry with random arguments.

By default briefly: the widest SIMD level of this processor under AddressSanitizer with UndefinedBehaviorSanitizer, and
under ThreadSanitizer, and NEON under qemu: ``pytest -m slow tests/native``, since the builds take minutes. With
FASTPOSE_FUZZ_SECONDS=600 it builds all levels, checks everything that ``-fsanitize=undefined`` knows, and lets each
program run so long, from another seed each time.
"""

from __future__ import annotations

import os
import platform
import subprocess
import time
from pathlib import Path

import pytest
from native_build import ROOT, build_program, compiler, configure, find, run_or_fail

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(platform.system() != "Linux", reason="forbidden pages and sanitizers as on Linux"),
]

SECONDS = float(os.environ.get("FASTPOSE_FUZZ_SECONDS", "0"))
# What goes wrong in arithmetic and indexing; the rest of `undefined` takes minutes to compile.
ARITHMETIC = "bounds,shift,signed-integer-overflow,integer-divide-by-zero,float-cast-overflow,enum,bool"


def sanitized(folder: Path, sanitize: str) -> Path:
    """The program under the sanitizers, or a skip where the compiler does not bring them."""
    from fastpose import _C

    widest = _C.build_info()["simd_supported"][-1]
    cxx = compiler()
    empty = folder / "empty.cpp"
    empty.write_text("int main() { return 0; }\n")
    probe = subprocess.run([cxx, f"-fsanitize={sanitize}", str(empty), "-o", str(folder / "empty")], check=False)
    if probe.returncode != 0:
        pytest.skip(f"{cxx} has no -fsanitize={sanitize}")
    level = "baseline" if widest == "sse2" else widest
    build = configure(folder, cxx, FASTPOSE_SANITIZE=sanitize, FASTPOSE_FUZZ_LEVEL=level)
    return build_program(build, "fuzz_ops" if SECONDS else "fuzz_ops_one")


def run(command: list[str], iterations: int, **environment: str) -> subprocess.CompletedProcess[str]:
    if SECONDS:
        command = [*command, "--seconds", str(SECONDS), "--seed", str(int(time.time()))]
    else:
        command = [*command, "--iterations", str(iterations), "--seconds", "10"]
    return subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **environment})


def test_addresses_and_arithmetic(tmp_path: Path) -> None:
    program = sanitized(tmp_path, f"address,{'undefined,float-cast-overflow' if SECONDS else ARITHMETIC}")
    done = run([str(program)], 5000)
    assert done.returncode == 0, done.stdout + done.stderr
    print(done.stdout)


def test_threads(tmp_path: Path) -> None:
    program = sanitized(tmp_path, "thread")
    done = run([str(program)], 3000, TSAN_OPTIONS="halt_on_error=1")
    if "unexpected memory mapping" in done.stderr:
        pytest.skip("this kernel scatters memory more widely than ThreadSanitizer of this compiler knows")
    assert done.returncode == 0, done.stdout + done.stderr
    print(done.stdout)


def test_neon_under_qemu(tmp_path: Path) -> None:
    cxx, qemu = find("aarch64-linux-gnu-g++"), find("qemu-aarch64")
    wrapper = tmp_path / "wrapper"
    level = ["-DFASTPOSE_SIMD_NS=neon", "-DFASTPOSE_SIMD_neon=1", f"-I{ROOT / 'csrc'}"]
    strict = ["-std=c++17", "-O1", "-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math", "-static"]
    run_or_fail([cxx, *strict, *level, str(ROOT / "tests" / "cpp" / "test_simd.cpp"), "-o", str(wrapper)])
    print(run_or_fail([qemu, str(wrapper)]))

    build = configure(
        tmp_path,
        cxx,
        CMAKE_CXX_FLAGS="-O1 -Werror",
        CMAKE_SYSTEM_NAME="Linux",
        CMAKE_SYSTEM_PROCESSOR="aarch64",
        CMAKE_EXE_LINKER_FLAGS="-static",
        FASTPOSE_FUZZ_LEVEL="neon",
    )
    done = run([qemu, str(build_program(build, "fuzz_ops_one"))], 2000)
    assert done.returncode == 0, done.stdout + done.stderr
    print(done.stdout)
