"""Builds fuzz_ops.cpp with sanitizers and lets it call every op's CPU entry with random arguments.

By default briefly: the widest SIMD level of this processor under AddressSanitizer with UndefinedBehaviorSanitizer, and
under ThreadSanitizer: ``pytest -m slow tests/native``, since the builds take minutes. With FASTPOSE_FUZZ_SECONDS=600
it builds all levels, checks everything that ``-fsanitize=undefined`` knows, and lets each program run so long, from
another seed each time.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import sysconfig
import time
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(platform.system() != "Linux", reason="forbidden pages and sanitizers as on Linux"),
]

ROOT = Path(__file__).resolve().parents[2]
SECONDS = float(os.environ.get("FASTPOSE_FUZZ_SECONDS", "0"))
# What goes wrong in arithmetic and indexing; the rest of `undefined` takes minutes to compile.
ARITHMETIC = "bounds,shift,signed-integer-overflow,integer-divide-by-zero,float-cast-overflow,enum,bool"


def find(tool: str) -> str:
    """The tool beside this interpreter or on the PATH; skips the test by its name where there is none."""
    found = shutil.which(tool, path=str(Path(sys.executable).parent)) or shutil.which(tool)
    if found is None:
        pytest.skip(f"no {tool}")
    return found


def compiler() -> str:
    return find(os.environ.get("CXX") or (sysconfig.get_config_var("CXX") or "c++").split()[0])


def build(folder: Path, sanitize: str) -> Path:
    """The program under the sanitizers, or a skip where the compiler does not bring them."""
    pybind11 = pytest.importorskip("pybind11")
    from fastpose import _C

    widest = _C.build_info()["simd_supported"][-1]
    cxx = compiler()
    empty = folder / "empty.cpp"
    empty.write_text("int main() { return 0; }\n")
    probe = subprocess.run([cxx, f"-fsanitize={sanitize}", str(empty), "-o", str(folder / "empty")], check=False)
    if probe.returncode != 0:
        pytest.skip(f"{cxx} has no -fsanitize={sanitize}")
    program = "fuzz_ops" if SECONDS else "fuzz_ops_one"
    options = {
        "FASTPOSE_NATIVE_TESTS": "ON",
        "FASTPOSE_CUDA": "off",
        "FASTPOSE_SANITIZE": sanitize,
        "FASTPOSE_FUZZ_LEVEL": widest if widest.startswith("avx") else "baseline",
        "CMAKE_CXX_COMPILER": cxx,
        "CMAKE_BUILD_TYPE": "None",
        "CMAKE_CXX_FLAGS": "-O1",
        "Python_EXECUTABLE": sys.executable,
        "pybind11_DIR": pybind11.get_cmake_dir(),
    }
    cmake = find("cmake")
    command = [cmake, "-S", str(ROOT), "-B", str(folder / "build"), "-G", "Ninja"]
    command += [f"-DCMAKE_MAKE_PROGRAM={find('ninja')}", *(f"-D{key}={value}" for key, value in options.items())]
    for step in (command, [cmake, "--build", str(folder / "build"), "--target", program]):
        done = subprocess.run(step, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return folder / "build" / "tests" / "native" / program


def run(program: Path, iterations: int, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [str(program)]
    if SECONDS:
        command += ["--seconds", str(SECONDS), "--seed", str(int(time.time()))]
    else:
        command += ["--iterations", str(iterations), "--seconds", "10"]
    return subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **environment})


def test_addresses_and_arithmetic(tmp_path: Path) -> None:
    done = run(build(tmp_path, f"address,{'undefined,float-cast-overflow' if SECONDS else ARITHMETIC}"), 5000)
    assert done.returncode == 0, done.stdout + done.stderr
    print(done.stdout)


def test_threads(tmp_path: Path) -> None:
    program = build(tmp_path, "thread")
    done = run(program, 3000, TSAN_OPTIONS="halt_on_error=1")
    if "unexpected memory mapping" in done.stderr:
        pytest.skip("this kernel scatters memory more widely than ThreadSanitizer of this compiler knows")
    assert done.returncode == 0, done.stdout + done.stderr
    print(done.stdout)
