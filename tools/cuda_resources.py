"""What the compiler makes of every CUDA kernel: registers, stack, spills, shared memory, instructions of its hot loop.

    python tools/cuda_resources.py                        every kernel, for the architectures of CMakeLists.txt
    python tools/cuda_resources.py --archs 90 --markdown  as a table for benchmarks/NOTES.md
    python tools/cuda_resources.py --op heatmap_loss      of one folder of csrc/
    python tools/cuda_resources.py --archs 90 --lower     then lower the limits to what was found

Exits with 1 if a kernel spills, or if it takes more than cuda_limits.json beside this file allows it (see limits.py).
The kernels are compiled by the very commands of the build, which CMake writes down, with ptxas asked to report. Needs
nvcc, CMake, Ninja and pybind11, as the build does, and cuobjdump, which comes with CUDA or with `pip install
nvidia-cuda-cuobjdump`; about half a minute an architecture on one core.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import sass
from limits import Kernel, Limits

ROOT = Path(__file__).resolve().parents[1]


def parse(text: str) -> list[Kernel]:
    """The kernels in the output of `ptxas -v`.

    Raises:
        ValueError: if a kernel is announced of which a figure does not follow.
    """
    found = []
    parts = re.split(r"^ptxas info\s*: Compiling entry function '([^']+)' for 'sm_(\d+)\w*'$", text, flags=re.MULTILINE)
    for symbol, arch, rest in zip(parts[1::3], parts[2::3], parts[3::3], strict=True):
        properties = rest.partition("Function properties for " + symbol)[2]
        stack = re.match(r"\s*(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", properties)
        used = re.search(r"Used (\d+) registers([^\n]*)", properties)
        if stack is None or used is None:
            raise ValueError(f"ptxas says nothing of {symbol} for sm_{arch} that could be understood:\n{rest[:500]}")
        shared, constant = (re.search(unit, used[2]) for unit in (r"(\d+) bytes smem", r"(\d+) bytes cmem\[0\]"))
        sizes = int(shared[1]) if shared else 0, int(constant[1]) if constant else None
        found.append(Kernel(symbol, int(arch), int(used[1]), *map(int, stack.groups()), *sizes))
    return found


def readable(kernels: list[Kernel]) -> list[Kernel]:
    """The same with names demangled by c++filt, without namespaces, return types and parameters."""
    lines = "".join(kernel.name + "\n" for kernel in kernels)
    names = subprocess.run(["c++filt"], input=lines, capture_output=True, text=True, check=True).stdout.splitlines()
    return [replace(kernel, name=short(name)) for name, kernel in zip(names, kernels, strict=True)]


def short(name: str) -> str:
    """`void fastpose::(anonymous namespace)::f<__half, (int)8>(fastpose::Args)` as `f<half, 8>`."""
    name = name.replace("(anonymous namespace)::", "").replace("fastpose::", "")
    name = re.sub(r"\(\w+\)(?=\d)", "", name).split("(")[0].removeprefix("void ")
    for long, brief in (("__nv_bfloat16", "bfloat16"), ("__half", "half"), ("unsigned char", "uint8")):
        name = name.replace(long, brief)
    return name


def commands(build: Path, archs: str, op: str | None) -> Iterator[tuple[str, list[str]]]:
    """Configures the build in a folder and gives the command of each csrc/OP/OP_cuda.cu, with the op's name."""
    import pybind11

    configure = [tool("cmake"), "-S", str(ROOT), "-B", str(build), "-G", "Ninja", "-DCMAKE_BUILD_TYPE=Release"]
    configure += [f"-DCMAKE_MAKE_PROGRAM={tool('ninja')}", f"-Dpybind11_DIR={pybind11.get_cmake_dir()}"]
    configure += [f"-DPython_EXECUTABLE={sys.executable}", "-DFASTPOSE_CUDA=on", f"-DFASTPOSE_CUDA_ARCHS={archs}"]
    run(configure)
    for entry in json.loads((build / "compile_commands.json").read_text()):
        source = Path(entry["file"])
        if source.name == f"{source.parent.name}_cuda.cu" and op in (None, source.parent.name):
            yield source.parent.name, shlex.split(entry["command"])


def tool(name: str) -> str:
    """The tool beside this interpreter (a wheel's) or else on the PATH."""
    found = shutil.which(name, path=str(Path(sys.executable).parent)) or shutil.which(name)
    if found is None:
        raise SystemExit(f"{name} was not found; `pip install {name}` provides it")
    return found


def cuobjdump() -> str:
    """CUDA's program that prints machine code: on the PATH, beside nvcc, or from its wheel."""
    nvcc = os.environ.get("CUDACXX") or shutil.which("nvcc")
    spec = importlib.util.find_spec("nvidia")
    wheels = [Path(place) for place in (spec.submodule_search_locations or [])] if spec else []
    folders = [Path(nvcc).resolve().parent] if nvcc else []
    folders += [folder for place in wheels for folder in sorted(place.glob("*/bin"), reverse=True)]
    found = shutil.which("cuobjdump") or shutil.which("cuobjdump", path=os.pathsep.join(map(str, folders)))
    if found is None:
        raise SystemExit("cuobjdump was not found; it comes with CUDA, or with `pip install nvidia-cuda-cuobjdump`")
    return found


def compiler_version() -> str:
    """Such as "13.0"."""
    printed = run([os.environ.get("CUDACXX") or tool("nvcc"), "--version"])
    release = re.search(r"release (\d+\.\d+)", printed)
    if release is None:
        raise SystemExit(f"nvcc --version: expected a release among\n{printed}")
    return release[1]


def run(command: list[str], folder: Path | None = None) -> str:
    """What a command writes on both channels; ends the program with it where the command fails."""
    done = subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"{done.stdout}\n{shlex.join(command)}: exit status {done.returncode}")
    return done.stdout


def measure(archs: str = "", op: str | None = None, jobs: int = 1) -> list[Kernel]:
    """Compiles and reads.

    Args:
        archs: As FASTPOSE_CUDA_ARCHS; empty for those of CMakeLists.txt.
        op: Folder of csrc/; None for all.
        jobs: Architectures that nvcc compiles at once.
    """
    kernels: list[Kernel] = []
    with tempfile.TemporaryDirectory() as folder:
        for name, command in commands(Path(folder), archs, op):
            output = Path(folder) / f"{name}.o"
            command = [part for part in command if not part.startswith("--threads=")]
            command[command.index("-o") + 1] = str(output)
            reported = parse(run([*command, "-Xptxas=-v", f"--threads={jobs}"], Path(folder)))
            machine_code = run([cuobjdump(), "-sass", str(output)])
            code = {(symbol, arch): sass.loops(one) for symbol, arch, one in sass.kernels(machine_code)}
            kernels += [replace(one, op=name, loops=tuple(code[one.name, one.arch])) for one in reported]
    if not kernels:
        raise SystemExit(f"--op {op}: expected a folder of csrc/ that has a CUDA file")
    return readable(kernels)


COLUMNS = ("kernel", "sm", "registers", "stack", "spill stores", "spill loads", "shared", "constant", "hot loop")


def table(kernels: list[Kernel], limits: Limits, *, markdown: bool) -> str:
    """One row a kernel and architecture; in Markdown, rows that differ only in the architecture are one."""
    rows = []
    for kernel in kernels:
        spills = kernel.spill_stores, kernel.spill_loads
        figures = [kernel.registers, kernel.stack, *spills, kernel.shared, kernel.constant]
        cells = ["–" if value is None else str(value) for value in figures]
        rows.append([kernel.name, str(kernel.arch), *cells, limits.hot_loops(kernel)])
    if markdown:
        together: dict[tuple[str, ...], list[str]] = {}
        for name, arch, *figures in rows:
            together.setdefault((f"`{name}`", *figures), []).append(arch)
        merged = [[name, ", ".join(archs), *figures] for (name, *figures), archs in together.items()]
        return "\n".join("| " + " | ".join(line) + " |" for line in (COLUMNS, ("---",) * len(COLUMNS), *merged))
    widths = [max(map(len, column)) for column in zip(COLUMNS, *rows, strict=True)]
    lines = ("  ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)) for line in (COLUMNS, *rows))
    return "\n".join(line.rstrip() for line in lines)


def main(arguments: list[str] | None = None) -> int:
    """The command line; 1 if a kernel spills or exceeds its limits."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--archs", default="", help='such as "80;90" (default: those of CMakeLists.txt)')
    parser.add_argument("--op", help="one folder of csrc/ instead of all")
    parser.add_argument("--markdown", action="store_true")
    parser.add_argument("--lower", action="store_true", help="lower the limits to what was found, and add new kernels")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="architectures compiled at once")
    options = parser.parse_args(arguments)
    if shutil.which("nvcc") is None and "CUDACXX" not in os.environ:
        parser.error("nvcc was not found")
    kernels = measure(options.archs, options.op, options.jobs)
    limits = Limits.load()
    print(table(kernels, limits, markdown=options.markdown))
    wrong = [f"{kernel.name} (sm_{kernel.arch}) spills" for kernel in kernels if kernel.spills]
    version = compiler_version()
    if version != limits.cuda:
        print(f"the limits are those of CUDA {limits.cuda} and were not looked at: this is {version}", file=sys.stderr)
    else:
        if options.lower:
            limits.lower(kernels)
            limits.save()
        wrong += limits.exceeded(kernels)
    for line in wrong:
        print(line, file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
