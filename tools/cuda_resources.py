"""What the compiler gives every CUDA kernel: registers, stack, spills, shared memory. Exits with 1 if one spills.

    python tools/cuda_resources.py                        every kernel, for the architectures of CMakeLists.txt
    python tools/cuda_resources.py --archs 90 --markdown  as a table for benchmarks/NOTES.md
    python tools/cuda_resources.py --op heatmap_loss      of one folder of csrc/

The kernels are compiled by the very commands of the build, which CMake writes down, with ptxas asked to report. Needs
nvcc, CMake, Ninja and pybind11, as the build does; about half a minute an architecture on one core.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import astuple, dataclass, replace
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Kernel:
    """One kernel for one architecture, as ptxas reports it.

    Attributes:
        name: Readable, with its template arguments.
        arch: Such as 90.
        registers: Of a thread.
        stack: Bytes of local memory of a thread: arrays that are indexed at run time, and spills.
        spill_stores, spill_loads: Bytes that the code moves between registers and stack for want of registers.
        shared: Bytes of static shared memory of a block.
        constant: Bytes of constant bank 0, in which the arguments are; None where ptxas does not say (sm_90 and later).
    """

    name: str
    arch: int
    registers: int
    stack: int
    spill_stores: int
    spill_loads: int
    shared: int
    constant: int | None

    @property
    def spills(self) -> bool:
        """Whether registers did not suffice."""
        return self.spill_stores > 0 or self.spill_loads > 0


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
            command[command.index("-o") + 1] = str(output)
            kernels += parse(run([*command, "-Xptxas=-v", f"--threads={jobs}"], Path(folder)))
    if not kernels:
        raise SystemExit(f"--op {op}: expected a folder of csrc/ that has a CUDA file")
    return readable(kernels)


COLUMNS = ("kernel", "sm", "registers", "stack", "spill stores", "spill loads", "shared", "constant")


def table(kernels: list[Kernel], *, markdown: bool) -> str:
    """One row a kernel and architecture; in Markdown, rows that differ only in the architecture are one."""
    rows = []
    for kernel in kernels:
        name, arch, *figures = ("–" if value is None else str(value) for value in astuple(kernel))
        rows.append([name, arch, *figures])
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
    """The command line; 1 if a kernel spills."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--archs", default="", help='such as "80;90" (default: those of CMakeLists.txt)')
    parser.add_argument("--op", help="one folder of csrc/ instead of all")
    parser.add_argument("--markdown", action="store_true")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="architectures compiled at once")
    options = parser.parse_args(arguments)
    if shutil.which("nvcc") is None and "CUDACXX" not in os.environ:
        parser.error("nvcc was not found")
    kernels = measure(options.archs, options.op, options.jobs)
    print(table(kernels, markdown=options.markdown))
    spilling = sorted({f"{kernel.name} (sm_{kernel.arch})" for kernel in kernels if kernel.spills})
    if spilling:
        print(f"spills: {', '.join(spilling)}", file=sys.stderr)
    return 1 if spilling else 0


if __name__ == "__main__":
    sys.exit(main())
