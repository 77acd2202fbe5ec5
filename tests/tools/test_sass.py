"""tools/sass.py and tools/limits.py: loops read in stored machine code, and a table whose figures may only fall."""

from __future__ import annotations

import importlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

TOOLS = Path(__file__).parents[2] / "tools"

# As cuobjdump of CUDA 13 prints it, shortened. In f: a loop around one that is unrolled twice and its remainder, one
# that fills, a branch to itself behind the end. The same kernel for another architecture, and another kernel.
CODE = """
Fatbin elf code:
================
arch = sm_90
code version = [1,8]

	code for sm_90
	.target	sm_90

		Function : _Z1fv
	.headerflags	@"EF_CUDA_SM90 EF_CUDA_VIRTUAL_SM(EF_CUDA_SM90)"
        /*0000*/                   LDC R1, c[0x0][0x28] ;                         /* 0x00000a00ff017b82 */
                                                                                  /* 0x000ff00000000800 */
        /*0010*/              @!P0 BRA 0x00d0 ;                                   /* 0x0000000000188947 */
        /*0020*/                   LDG.E.128.CONSTANT R4, desc[UR4][R2.64] ;      /* 0x0000000000188947 */
        /*0030*/                   LDG.E.128.CONSTANT R8, desc[UR4][R2.64+0x10] ; /* 0x0000000000188947 */
        /*0040*/                   LDS.128 R12, [R1] ;                            /* 0x0000000000188947 */
        /*0050*/              @!P2 STG.E.128 desc[UR4][R2.64], R4 ;               /* 0x0000000000188947 */
        /*0060*/                   STG.E.128 desc[UR4][R2.64+0x10], R8 ;          /* 0x0000000000188947 */
        /*0070*/               @P1 BRA 0x20 ;                                     /* 0x0000000000188947 */
        /*0080*/                   LDG.E.128.CONSTANT R4, desc[UR4][R2.64] ;      /* 0x0000000000188947 */
        /*0090*/                   FADD R4, R4, R5 ;                              /* 0x0000000000188947 */
        /*00a0*/                   STG.E.128 desc[UR4][R2.64], R4 ;               /* 0x0000000000188947 */
        /*00b0*/              @!P1 BRA P2, 0x80 ;                                 /* 0x0000000000188947 */
        /*00c0*/              @!P0 BRA 0x10 ;                                     /* 0x0000000000188947 */
        /*00d0*/                   STG.E.U16 desc[UR4][R2.64], R4 ;               /* 0x0000000000188947 */
        /*00e0*/              @UP0 BRA 0xd0 ;                                     /* 0x0000000000188947 */
        /*00f0*/                   EXIT ;                                         /* 0x000000000000794d */
        /*0100*/                   BRA 0x100;                                     /* 0xfffffffc00fc7947 */
        /*0110*/                   NOP;                                           /* 0x0000000000007918 */
		..........

Fatbin elf code:
================
arch = sm_80

	code for sm_80

		Function : _Z1fv
        /*0000*/                   EXIT ;                                         /* 0x000000000000794d */
		..........
		Function : _Z1gv
        /*0000*/                   STS.U8 [R1], R2 ;                              /* 0x000000000000794d */
        /*0010*/                   BRA `(.L_x_1) ;                                /* 0x000000000000794d */
"""


@pytest.fixture
def tools(monkeypatch: pytest.MonkeyPatch) -> tuple[Any, Any, Any]:
    monkeypatch.syspath_prepend(str(TOOLS))
    sass, limits, resources = map(importlib.import_module, ("sass", "limits", "cuda_resources"))
    return sass, limits, resources


def test_reads_kernels(tools: tuple[Any, Any, Any]) -> None:
    sass = tools[0]
    found = list(sass.kernels(CODE))
    assert [(name, arch, len(code)) for name, arch, code in found] == [
        ("_Z1fv", 90, 17),
        ("_Z1fv", 80, 1),
        ("_Z1gv", 80, 2),
    ]
    code = found[0][2]
    assert code[1] == sass.Instruction(0x10, "BRA", 0xD0)
    assert code[5] == sass.Instruction(0x50, "STG.E.128")
    assert code[11] == sass.Instruction(0xB0, "BRA", 0x80)
    assert list(sass.kernels("")) == []


def test_reads_loops(tools: tuple[Any, Any, Any]) -> None:
    sass = tools[0]
    outer, twice, once, fill = sass.loops(next(sass.kernels(CODE))[2])
    assert (outer.begin, outer.end, outer.instructions) == (0x10, 0xC0, 12)
    assert twice == sass.Loop(0x20, 0x70, 6, {"global": 32, "shared": 16}, {"global": 32, "shared": 0})
    assert once == sass.Loop(0x80, 0xB0, 4, {"global": 16, "shared": 0}, {"global": 16, "shared": 0})
    assert (fill.instructions, fill.stores["global"]) == (2, 2)


def test_cost_is_that_of_the_best_innermost_loop(tools: tuple[Any, Any, Any]) -> None:
    sass = tools[0]
    loops = sass.loops(next(sass.kernels(CODE))[2])
    assert sass.cost(loops, "global", 16, 16) == 3  # 6 instructions make twice as much
    assert sass.cost(loops[2:], "global", 16, 16) == 4
    assert sass.cost(loops, "global", 0, 2) == 2
    assert sass.cost(loops, "shared", 16, 0) == 6
    assert sass.cost(loops, "global", 16, 8) is None
    assert sass.cost(loops, "global", 48, 48) is None  # what the loop around them moves


def kernel(tools: tuple[Any, Any, Any], **changes: Any) -> Any:
    sass, _, resources = tools
    loops = tuple(sass.loops(next(sass.kernels(CODE))[2]))
    return replace(resources.Kernel("f", 90, 24, 0, 0, 0, 0, None, "op", loops), **changes)


def table(tools: tuple[Any, Any, Any], folder: Path, instructions: float = 3, registers: int = 24) -> Any:
    loop = {"of": "copies", "pixels": 4, "loads": 16, "stores": 16, "instructions": instructions}
    limits = {"op": {"f": {"registers": registers, "stack": 0, "loops": [loop]}}}
    (folder / "limits.json").write_text(json.dumps({"cuda": "13.0", "arch": 90, "kernels": limits}))
    return tools[1].Limits.load(folder / "limits.json")


def test_what_rises_is_named(tools: tuple[Any, Any, Any], tmp_path: Path) -> None:
    limits = table(tools, tmp_path)
    assert limits.exceeded([kernel(tools)]) == []
    assert limits.exceeded([kernel(tools, registers=25)]) == ["op: f: 25 registers, at most 24"]
    assert limits.exceeded([kernel(tools, stack=8)]) == ["op: f: 8 stack, at most 0"]
    worse = kernel(tools, loops=kernel(tools).loops[2:])
    assert limits.exceeded([worse]) == ["op: f: 4 instructions for 4 pixels (copies), at most 3"]
    none = limits.exceeded([kernel(tools, loops=())])
    assert none == ["op: f: no loop loads 16 and stores 16 bytes for 4 pixels (copies)"]
    others = limits.exceeded([kernel(tools, name="g")])
    assert "g has no limits" in others[0]
    assert "f of limits.json is no kernel" in others[1]
    assert len(others) == 2
    assert limits.exceeded([kernel(tools, arch=80, registers=99)]) == []  # its figures are its own
    assert limits.exceeded([]) == []
    assert limits.hot_loops(kernel(tools)) == "3 / 4 px"
    assert limits.hot_loops(kernel(tools, loops=())) == "? / 4 px"
    assert limits.hot_loops(kernel(tools, name="g")) == "–"


def test_limits_are_lowered_and_never_raised(tools: tuple[Any, Any, Any], tmp_path: Path) -> None:
    limits = table(tools, tmp_path, instructions=5, registers=20)
    limits.kernels["op"]["gone"] = {"registers": 1, "stack": 0, "loops": []}
    limits.kernels["other op"] = {"h": {"registers": 1, "stack": 0, "loops": []}}
    limits.lower([kernel(tools, registers=24), kernel(tools, name="new", stack=8), kernel(tools, name="old", arch=80)])
    limits.save()
    again = tools[1].Limits.load(tmp_path / "limits.json")
    assert again == limits
    assert again.kernels["op"]["f"]["registers"] == 20
    assert again.kernels["op"]["f"]["loops"][0]["instructions"] == 3
    assert again.kernels["op"]["new"] == {"registers": 24, "stack": 8, "loops": []}
    assert sorted(again.kernels["op"]) == ["f", "new"]
    assert sorted(again.kernels["other op"]) == ["h"]


def test_the_table_is_as_it_would_be_written(tools: tuple[Any, Any, Any], tmp_path: Path) -> None:
    limits = tools[1].Limits.load()
    before = limits.file.read_text()
    limits.file = tmp_path / "limits.json"
    limits.save()
    assert limits.file.read_text() == before
