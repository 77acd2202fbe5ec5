"""The loops of CUDA kernels as they stand in the machine code (SASS) that `cuobjdump -sass` prints."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

# Bytes that an access moves for a thread, by the suffix of its opcode; without one it is 4.
WIDTHS = {"U8": 1, "S8": 1, "U16": 2, "S16": 2, "64": 8, "128": 16, "256": 32}
MEMORIES = {"global": ("LDG", "STG"), "shared": ("LDS", "STS")}


@dataclass(frozen=True)
class Instruction:
    """One instruction of a kernel.

    Attributes:
        address: Bytes from the kernel's beginning.
        opcode: Such as LDG.E.128.CONSTANT.
        target: Address that a branch goes to, else None.
    """

    address: int
    opcode: str
    target: int | None = None


@dataclass(frozen=True)
class Loop:
    """One loop of a kernel: what stands between a branch backward and where it goes.

    Attributes:
        begin, end: Addresses of its first and its last instruction.
        instructions: How many there are.
        loads, stores: Bytes that one turn moves for a thread, by the name of the memory: "global", "shared".
    """

    begin: int
    end: int
    instructions: int
    loads: dict[str, int]
    stores: dict[str, int]


def kernels(text: str) -> Iterator[tuple[str, int, list[Instruction]]]:
    """The mangled name, the architecture (such as 90) and the instructions of each kernel in cuobjdump's output."""
    for part in re.split(r"^\s*code for sm_", text, flags=re.MULTILINE)[1:]:
        arch = re.match(r"\d+", part)
        assert arch is not None
        names = re.split(r"^\s*Function : (\S+)$", part, flags=re.MULTILINE)
        for name, body in zip(names[1::2], names[2::2], strict=True):
            yield name, int(arch[0]), instructions(body)


def instructions(body: str) -> list[Instruction]:
    """The instructions of one kernel, without the NOPs that fill its end."""
    found = []
    for address, text in re.findall(r"^\s*/\*([0-9a-f]{4,})\*/\s+([^;]+?)\s*;", body, flags=re.MULTILINE):
        words = re.sub(r"^@!?U?P\w+\s+", "", text).split(None, 1)
        opcode, operands = words[0], words[1] if len(words) > 1 else ""
        if opcode == "NOP":
            continue
        goes = re.search(r"(?:^|[\s,])0x([0-9a-f]+)$", operands) if opcode.split(".")[0] == "BRA" else None
        found.append(Instruction(int(address, 16), opcode, int(goes[1], 16) if goes else None))
    return found


def loops(code: list[Instruction]) -> list[Loop]:
    """Every loop, those inside others included, in the order of their beginnings."""
    ends: dict[int, int] = {}
    for one in code:
        if one.target is not None and one.target < one.address:
            ends[one.target] = max(one.address, ends.get(one.target, 0))
    return [_loop([one for one in code if begin <= one.address <= end]) for begin, end in sorted(ends.items())]


def _loop(body: list[Instruction]) -> Loop:
    loads, stores = ({name: _moved(body, pair[side]) for name, pair in MEMORIES.items()} for side in (0, 1))
    return Loop(body[0].address, body[-1].address, len(body), loads, stores)


def _moved(body: list[Instruction], kind: str) -> int:
    parts = (one.opcode.split(".") for one in body)
    return sum(max((WIDTHS[p] for p in rest if p in WIDTHS), default=4) for first, *rest in parts if first == kind)


def cost(found: list[Loop], memory: str, loads: int, stores: int) -> float | None:
    """Instructions that a kernel's hot loop takes to load and to store so many bytes.

    The hot loop is the one that does with the fewest instructions what moves bytes in just this proportion, however
    often the compiler has unrolled it. A loop around another is none.

    Args:
        found: All loops of the kernel.
        memory: "global" or "shared".
        loads: Bytes for a thread.
        stores: Likewise; not 0 if the other is.

    Returns:
        The instructions for these bytes, or None if there is no such loop.
    """
    costs = []
    for loop in found:
        if any(loop.begin <= other.begin and other.end <= loop.end and other is not loop for other in found):
            continue
        moved = (loop.loads[memory], loop.stores[memory])
        turns = max(moved) // max(loads, stores)
        if turns > 0 and moved == (turns * loads, turns * stores):
            costs.append(loop.instructions / turns)
    return min(costs, default=None)
