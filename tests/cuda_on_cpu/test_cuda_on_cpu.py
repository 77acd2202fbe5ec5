"""The CUDA kernels run on the CPU: against the CPU ops, for wrong accesses (ASan, UBSan) and for data races (TSan).

No GPU and no CUDA is needed, only g++ and CMake: `pytest -m slow tests/cuda_on_cpu`, since building takes minutes.
`checks.h` says how to run more, `grid.h` what is and is not seen. `mistakes.cu` holds kernels that are wrong on
purpose: the tests fail if one of them is not found.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
CSRC = HERE.parents[1] / "csrc"
ITERATIONS = 45  # of the codecs, every dtype and way to decode
BUILD_LIMIT, RUN_LIMIT = 600, 300  # seconds, for machines under load; a free core takes a tenth of it

# Where each mistake must be found, and by which words.
DEAD_END = "wait for each other at different places"
MISTAKES = [
    ("data_race", "tsan", "data race"),
    ("race_across_shuffle", "tsan", "data race"),
    ("lost_addition", "tsan", "data race"),
    ("past_shared", "asan", "heap-buffer-overflow"),
    ("past_static_shared", "asan", "out of bounds"),
    ("past_output", "asan", "heap-buffer-overflow"),
    ("misaligned", "asan", "misaligned address"),
    ("divergent_barrier", "asan", DEAD_END),
    ("early_exit", "asan", DEAD_END),
    ("absent_lane", "asan", DEAD_END),
    ("not_in_mask", "asan", "not in its own mask"),
    ("other_stream", "asan", "another stream"),
    ("no_blocks", "asan", "invalid configuration"),
]


def tool(name: str) -> str | None:
    """The tool beside this interpreter (installed as a wheel), or on the PATH."""
    return shutil.which(name, path=str(Path(sys.executable).parent)) or shutil.which(name)


class Programs:
    """Builds each variant when it is first asked for; the CPU ops are compiled once for both."""

    def __init__(self, folder: Path, cmake: str) -> None:
        self.folder, self.cmake = folder, cmake
        ninja = tool("ninja")
        generator = ["-G", "Ninja", f"-DCMAKE_MAKE_PROGRAM={ninja}"] if ninja else []
        self._cmake("-S", str(HERE), "-B", str(folder), "-DCMAKE_CXX_COMPILER=g++", *generator)

    def _cmake(self, *arguments: str) -> None:
        command = [self.cmake, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=BUILD_LIMIT, check=False)
        assert done.returncode == 0, (done.stdout + done.stderr)[-6000:]

    def run(self, variant: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        name = f"cuda_on_cpu_{variant}"
        self._cmake("--build", str(self.folder), "--target", name, "-j", str(os.cpu_count() or 1))
        options = {"ASAN_OPTIONS": "detect_leaks=0", "TSAN_OPTIONS": "halt_on_error=1"}
        return subprocess.run(
            [str(self.folder / name), *arguments],
            capture_output=True,
            text=True,
            timeout=RUN_LIMIT,
            env={**os.environ, **options},
            check=False,
        )


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Programs]:
    cmake = tool("cmake")
    if shutil.which("g++") is None or cmake is None:
        pytest.skip("no g++ or no cmake")
    folder = tmp_path_factory.mktemp("cuda_on_cpu")
    yield Programs(folder, cmake)
    shutil.rmtree(folder, ignore_errors=True)


def sanitizer_or_skip(programs: Programs, variant: str) -> None:
    """Some kernels' address randomisation is more than a sanitizer of GCC < 14 copes with: nothing runs then."""
    done = programs.run(variant, "--mistake", "correct")
    if "unexpected memory mapping" in done.stderr:
        pytest.skip("this sanitizer does not run on this kernel (see vm.mmap_rnd_bits)")
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["asan", "tsan"])
def test_kernels_agree_with_the_cpu_ops(programs: Programs, variant: str) -> None:
    sanitizer_or_skip(programs, variant)
    done = programs.run(variant, "--iterations", str(ITERATIONS))
    assert done.returncode == 0, done.stderr[-6000:]
    checked = set(done.stdout.split(":", 2)[-1].split())
    kernels = {path.parent.name for path in CSRC.glob("*/*_cuda.cu")}
    assert kernels <= checked, f"kernels that nobody runs: {sorted(kernels - checked)}"


@pytest.mark.slow
@pytest.mark.parametrize(("mistake", "variant", "words"), MISTAKES, ids=[m[0] for m in MISTAKES])
def test_mistake_is_found(programs: Programs, mistake: str, variant: str, words: str) -> None:
    sanitizer_or_skip(programs, variant)
    done = programs.run(variant, "--mistake", mistake)
    assert done.returncode != 0, f"{mistake} passed"
    assert words in done.stderr, done.stderr[-3000:]


def test_every_mistake_is_listed() -> None:
    written = set(re.findall(r'\{"(\w+)", \w+\}', (HERE / "mistakes.cu").read_text()))
    assert written - {"correct"} <= {name for name, _, _ in MISTAKES}


def test_launches_need_no_nvcc() -> None:
    for path in CSRC.glob("*/*.cu"):
        assert "<<<" not in path.read_text(), f"{path.name}: use cuda_launch() of core/cuda_launch.h"
