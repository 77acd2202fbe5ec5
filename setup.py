"""Builds the native core `fastpose._C` by driving CMake.

    pip install .                            a normal install; build tools come as wheels
    pip install -e .                         the same, editable
    python setup.py build_ext --inplace      rebuild after a change in csrc/ (what an editable checkout uses day by day)

Environment:
    FASTPOSE_CUDA        auto (default) | on (fails without nvcc) | off
                         auto: on if nvcc is found, unless the torch that is installed for this interpreter is without
                         CUDA. pip's isolation does not hide that torch from installed_torch(). Where none is seen, nvcc
                         alone decides: before pip has installed torch itself, or in an environment made for the build
                         alone (python -m build, uv)
    FASTPOSE_CUDA_ARCHS  e.g. "90" or "80;90": builds only these instead of the default list
    FASTPOSE_BUILD_TYPE  Release (default) | RelWithDebInfo | Debug
    FASTPOSE_SANITIZE    e.g. "address,undefined" or "thread": compiles the core with that sanitizer
    CMAKE_BUILD_PARALLEL_LEVEL  number of compile jobs
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).resolve().parent


class CMakeBuild(build_ext):
    """Configures and builds with CMake and Ninja, and puts the library where setuptools expects it."""

    def build_extension(self, ext: Extension) -> None:
        import pybind11

        target = Path(self.get_ext_fullpath(ext.name)).resolve()
        # One build folder per interpreter and CUDA choice, kept between calls: a rebuild compiles only what changed.
        cuda = os.environ.get("FASTPOSE_CUDA", "auto").lower()
        if cuda not in ("auto", "on", "off"):
            raise SystemExit(f"FASTPOSE_CUDA must be auto, on or off, not {cuda!r}")
        build = ROOT / "build" / f"cmake-{sys.implementation.cache_tag}-{cuda}{'-debug' if self.debug else ''}"
        build.mkdir(parents=True, exist_ok=True)
        options = {
            "CMAKE_BUILD_TYPE": os.environ.get("FASTPOSE_BUILD_TYPE", "Debug" if self.debug else "Release"),
            "CMAKE_LIBRARY_OUTPUT_DIRECTORY": str(target.parent),
            "Python_EXECUTABLE": sys.executable,
            "pybind11_DIR": pybind11.get_cmake_dir(),
            "FASTPOSE_VERSION": self.distribution.get_version(),
            "FASTPOSE_CUDA": cuda,
            "FASTPOSE_TORCH": installed_torch(),
            "FASTPOSE_CUDA_ARCHS": os.environ.get("FASTPOSE_CUDA_ARCHS", ""),
            "FASTPOSE_SANITIZE": os.environ.get("FASTPOSE_SANITIZE", ""),
        }
        cmake = find_tool("cmake")
        command = [
            cmake,
            "-S",
            str(ROOT),
            "-B",
            str(build),
            "-G",
            "Ninja",
            f"-DCMAKE_MAKE_PROGRAM={find_tool('ninja')}",
        ]
        command += [f"-D{key}={value}" for key, value in options.items()]
        with locked(build / "lock"):  # two builds at once (an editor's and a shell's) would write into one folder
            # Isolated builds get their tools from a new temporary folder each time; a cache with the old paths fails.
            subprocess.run([*command, "--fresh"] if stale(build) else command, check=True)
            subprocess.run([cmake, "--build", str(build)], check=True)


# Reads torch's version file without importing torch, which takes seconds.
ASK_TORCH = """
import importlib.util, pathlib, runpy
torch = importlib.util.find_spec("torch")
if torch is not None and torch.origin is not None:
    version = runpy.run_path(str(pathlib.Path(torch.origin).with_name("version.py")))
    print(version.get("cuda") or "cpu")
"""


def installed_torch() -> str:
    """The CUDA version of the torch that is installed for this interpreter, "cpu" for one without, "" if there is none.

    With -I, as pip hides what is installed from an isolated build by environment variables alone.
    """
    asked = subprocess.run([sys.executable, "-I", "-c", ASK_TORCH], capture_output=True, text=True, check=False)
    return asked.stdout.strip() if asked.returncode == 0 else ""


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Waits until no other process has the lock; it is the operating system's, and ends with its process."""
    with path.open("w") as file:
        if sys.platform == "win32":
            import msvcrt

            while True:
                try:
                    msvcrt.locking(file.fileno(), msvcrt.LK_LOCK, 1)  # gives up after ten seconds
                    break
                except OSError:
                    continue
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def find_tool(name: str) -> str:
    """The tool beside this interpreter (a build requirement's wheel) or else on the PATH."""
    beside = shutil.which(name, path=str(Path(sys.executable).parent))
    found = beside or shutil.which(name)
    if found is None:
        raise SystemExit(f"{name} was not found; `pip install {name}` provides it")
    return found


def stale(build: Path) -> bool:
    """True if the CMake cache in `build` names a ninja or pybind11 that is no longer there."""
    cache = build / "CMakeCache.txt"
    if not cache.is_file():
        return False
    for line in cache.read_text().splitlines():
        key, _, value = line.partition("=")
        if key.split(":")[0] in ("CMAKE_MAKE_PROGRAM", "pybind11_DIR", "CMAKE_COMMAND") and not Path(value).exists():
            return True
    return False


setup(ext_modules=[Extension("fastpose._C", sources=[])], cmdclass={"build_ext": CMakeBuild})
