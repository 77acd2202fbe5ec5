"""What a CUDA kernel may take at most: the table cuda_limits.json, whose figures may only fall.

    {"cuda": "13.0", "arch": 90, "kernels": {
      "heatmap_loss": {
        "heatmap_loss_kernel<float, void>": {
          "registers": 40, "stack": 0,
          "loops": [{"of": "with gradient", "pixels": 4, "loads": 16, "stores": 16, "instructions": 45}]}}}}

`registers` of a thread and bytes of its `stack`, by folder of csrc/ and kernel. Of `loops`, each names a hot loop by
the bytes that it loads and stores in global memory (in shared memory, with "memory": "shared") to make so many
`pixels`, and says how many `instructions` that may take (sass.cost finds the loop).
The figures hold for one architecture and one compiler: another has others.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sass

FILE = Path(__file__).with_name("cuda_limits.json")
FIGURES = ("registers", "stack")


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
        op: Its folder of csrc/.
        loops: Of its machine code.
    """

    name: str
    arch: int
    registers: int
    stack: int
    spill_stores: int
    spill_loads: int
    shared: int
    constant: int | None
    op: str = ""
    loops: tuple[sass.Loop, ...] = ()

    @property
    def spills(self) -> bool:
        """Whether registers did not suffice."""
        return self.spill_stores > 0 or self.spill_loads > 0


@dataclass
class Limits:
    """The table.

    Attributes:
        cuda: Version of the compiler, such as "13.0".
        arch: Architecture, such as 90.
        kernels: Limits by folder of csrc/ and name of the kernel.
        file: Where it stands.
    """

    cuda: str
    arch: int
    kernels: dict[str, dict[str, dict[str, Any]]]
    file: Path = FILE

    @classmethod
    def load(cls, file: Path = FILE) -> Limits:
        """Reads the table."""
        content = json.loads(file.read_text())
        return cls(content["cuda"], content["arch"], content["kernels"], file)

    def save(self) -> None:
        """Writes the table, a line a kernel and a line a loop."""
        ops = []
        for op, kernels in sorted(self.kernels.items()):
            lines = []
            for name, limit in sorted(kernels.items()):
                figures = ", ".join(f'"{figure}": {limit[figure]}' for figure in FIGURES)
                loops = ",\n".join(f"      {json.dumps(loop)}" for loop in limit["loops"])
                lines.append(f'    "{name}": {{{figures}, "loops": [{loops and chr(10) + loops}]}}')
            ops.append(f'  "{op}": {{\n' + ",\n".join(lines) + "\n  }")
        head = f'{{"cuda": "{self.cuda}", "arch": {self.arch}, "kernels": {{\n'
        self.file.write_text(head + ",\n".join(ops) + "\n}}\n")

    def hot_loops(self, kernel: Kernel) -> str:
        """The instructions of a kernel's hot loops for a table, such as "24 / 4 px"; a dash where it has none."""
        loops = self.kernels.get(kernel.op, {}).get(kernel.name, {}).get("loops", [])
        costs = ((_cost(kernel, loop), loop["pixels"]) for loop in loops)
        return ", ".join(f"{'?' if cost is None else f'{cost:g}'} / {pixels} px" for cost, pixels in costs) or "–"

    def exceeded(self, kernels: Iterable[Kernel]) -> list[str]:
        """A sentence for each figure above its limit, for each kernel without limits, and for limits without a kernel.

        Args:
            kernels: As measured, all of an op. Those of other architectures are not looked at.
        """
        wrong = []
        for op, measured in self._by_op(kernels).items():
            limits = self.kernels.get(op, {})
            for name, kernel in measured.items():
                if name in limits:
                    wrong += [f"{op}: {name}: {sentence}" for sentence in _exceeded(kernel, limits[name])]
                else:
                    wrong.append(f"{op}: {name} has no limits in {self.file.name} (--lower adds them)")
            wrong += [
                f"{op}: {name} of {self.file.name} is no kernel any more" for name in limits if name not in measured
            ]
        return wrong

    def lower(self, kernels: Iterable[Kernel]) -> None:
        """Lowers the limits to what was measured, adds kernels that are new, drops those that are gone; raises none."""
        for op, measured in self._by_op(kernels).items():
            limits = self.kernels[op] = {
                name: limit for name, limit in self.kernels.get(op, {}).items() if name in measured
            }
            for name, kernel in measured.items():
                limit = limits.setdefault(name, {"loops": []})
                for figure in FIGURES:
                    limit[figure] = min(getattr(kernel, figure), limit.get(figure, getattr(kernel, figure)))
                for loop in limit["loops"]:
                    cost = _cost(kernel, loop)
                    if cost is not None:
                        loop["instructions"] = min(cost, loop["instructions"])

    def _by_op(self, kernels: Iterable[Kernel]) -> dict[str, dict[str, Kernel]]:
        by_op: dict[str, dict[str, Kernel]] = {}
        for kernel in kernels:
            if kernel.arch == self.arch:
                by_op.setdefault(kernel.op, {})[kernel.name] = kernel
        return by_op


def _exceeded(kernel: Kernel, limit: dict[str, Any]) -> Iterator[str]:
    for figure in FIGURES:
        found = getattr(kernel, figure)
        if found > limit[figure]:
            yield f"{found} {figure}, at most {limit[figure]}"
    for loop in limit["loops"]:
        cost = _cost(kernel, loop)
        moves = f"{loop['pixels']} pixels ({loop['of']})"
        if cost is None:
            yield f"no loop loads {loop['loads']} and stores {loop['stores']} bytes for {moves}"
        elif cost > loop["instructions"]:
            yield f"{cost:g} instructions for {moves}, at most {loop['instructions']:g}"


def _cost(kernel: Kernel, loop: dict[str, Any]) -> float | None:
    return sass.cost(list(kernel.loops), loop.get("memory", "global"), loop["loads"], loop["stores"])
