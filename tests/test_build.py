"""What `FASTPOSE_CUDA=auto` goes by: nvcc, and the torch that is installed beside the core."""

from __future__ import annotations

import runpy
import shutil
import subprocess
import sys
import venv
from collections.abc import Callable
from pathlib import Path

import pytest
import setuptools

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def installed_torch(monkeypatch: pytest.MonkeyPatch) -> Callable[[], str]:
    """The function of setup.py, which is not run."""
    monkeypatch.setattr(setuptools, "setup", lambda **_: None)
    found: Callable[[], str] = runpy.run_path(str(ROOT / "setup.py"))["installed_torch"]
    return found


@pytest.mark.parametrize(
    ("version", "expected"),
    [(None, ""), ("cuda = None", "cpu"), ("cuda = '12.8'", "12.8"), ("hip = '6.2'\ncuda = None", "cpu"), ("1 / 0", "")],
    ids=["no torch", "CPU", "CUDA", "ROCm", "broken"],
)
def test_the_torch_of_an_interpreter(
    installed_torch: Callable[[], str],
    version: str | None,
    expected: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    venv.create(tmp_path, symlinks=True)
    python = tmp_path / "bin" / "python"
    if not python.exists():
        pytest.skip("environments lie otherwise here")
    if version is not None:
        (packages,) = tmp_path.glob("lib/python*/site-packages")
        (packages / "torch").mkdir()
        (packages / "torch" / "__init__.py").write_text("raise SystemExit('torch was imported')")
        (packages / "torch" / "version.py").write_text(version)
    monkeypatch.setattr(sys, "executable", str(python))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "nothing"))  # as in pip's isolated builds
    assert installed_torch() == expected


def configured(tmp_path: Path, *options: str) -> str:
    """What CMake says."""
    pybind11 = pytest.importorskip("pybind11")
    cmake, ninja = (shutil.which(name, path=str(Path(sys.executable).parent)) for name in ("cmake", "ninja"))
    if cmake is None or ninja is None:
        pytest.skip("no CMake or no ninja beside this interpreter")
    command = [cmake, "-S", str(ROOT), "-B", str(tmp_path), "-G", "Ninja", f"-DCMAKE_MAKE_PROGRAM={ninja}"]
    command += [f"-DPython_EXECUTABLE={sys.executable}", f"-Dpybind11_DIR={pybind11.get_cmake_dir()}", *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout


def test_auto_builds_no_cuda_beside_a_torch_without(tmp_path: Path) -> None:
    said = configured(tmp_path, "-DFASTPOSE_CUDA=auto", "-DFASTPOSE_TORCH=cpu")
    assert "fastpose: without CUDA (FASTPOSE_CUDA=auto, and the torch that is installed is without CUDA" in said


@pytest.mark.skipif(shutil.which("nvcc") is None, reason="no nvcc")
def test_auto_asks_nvcc_where_no_torch_is_seen(tmp_path: Path) -> None:
    said = configured(tmp_path, "-DFASTPOSE_CUDA=auto")
    (line,) = (line for line in said.splitlines() if line.startswith("-- fastpose: CUDA "))
    # PTX of the newest is for GPUs to come, this for those that its own are too new for: Orin and Thor.
    assert "80-virtual" in line.split(" for ")[1].split(";")
