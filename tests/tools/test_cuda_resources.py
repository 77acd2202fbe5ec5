"""tools/cuda_resources.py: what it reads in the compiler's report, and that it compiles."""

from __future__ import annotations

import importlib
import shutil
from pathlib import Path
from typing import Any

import pytest

TOOLS = Path(__file__).parents[2] / "tools"

# Of CUDA 13.0, shortened; the names are those of kernels here, the figures of the last one are made up.
UNIT = "_ZN8fastpose63_GLOBAL__N__26b2c2ce_20_heatmap_loss_cuda_cu_8ee9bd6e"
LOSS = UNIT + "19heatmap_loss_kernelI6__halffEEvNS_15HeatmapLossArgsEPKdb"
SUM = UNIT + "10sum_kernelENS_15HeatmapLossArgsE"
REPORT = f"""ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function '{SUM}' for 'sm_75'
ptxas info    : Function properties for {SUM}
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 24 registers, used 1 barriers, 32 bytes smem, 1000 bytes cmem[0], 8 bytes cmem[2]
ptxas info    : Compile time = 19.241 ms
ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function '{LOSS}' for 'sm_100'
ptxas info    : Function properties for __internal_trig_reduction_slowpath
    40 bytes stack frame, 99 bytes spill stores, 99 bytes spill loads
ptxas info    : Function properties for {LOSS}
    8 bytes stack frame, 16 bytes spill stores, 20 bytes spill loads
ptxas info    : Used 72 registers, used 1 barriers, 8 bytes cumulative stack size, 32 bytes smem
ptxas info    : Compile time = 419.027 ms
ptxas info    : Compiling entry function '{SUM}' for 'sm_100a'
ptxas info    : Function properties for {SUM}
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 24 registers
"""


@pytest.fixture
def resources(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(TOOLS))
    return importlib.import_module("cuda_resources")


def test_reads_a_report(resources: Any) -> None:
    kernels = resources.parse(REPORT)
    assert kernels == [
        resources.Kernel(SUM, 75, 24, 0, 0, 0, 32, 1000),
        resources.Kernel(LOSS, 100, 72, 8, 16, 20, 32, None),
        resources.Kernel(SUM, 100, 24, 0, 0, 0, 0, None),
    ]
    assert [kernel.spills for kernel in kernels] == [False, True, False]
    assert resources.parse("") == []
    with pytest.raises(ValueError, match="sm_75"):
        resources.parse(REPORT[: REPORT.index("ptxas info    : Used 24")])


def test_names_and_tables(resources: Any) -> None:
    assert resources.short("void fastpose::(anonymous namespace)::f<float, (int)8>(fastpose::Args)") == "f<float, 8>"
    assert resources.short("fastpose::(anonymous namespace)::g(fastpose::Args, double const*)") == "g"
    assert resources.short("void fastpose::(anonymous namespace)::h<__half, __nv_bfloat16>(int)") == "h<half, bfloat16>"
    kernels = [
        resources.Kernel("f", arch, 24, 0, 0, 0, 32, constant) for arch, constant in ((75, 9), (90, 1), (100, 1))
    ]
    limits = resources.Limits("13.0", 90, {})
    assert resources.table(kernels, limits, markdown=True).splitlines()[2:] == [
        "| `f` | 75 | 24 | 0 | 0 | 0 | 32 | 9 | – |",
        "| `f` | 90, 100 | 24 | 0 | 0 | 0 | 32 | 1 | – |",
    ]
    plain = resources.table(kernels, limits, markdown=False).splitlines()
    assert plain[0].split()[:2] == ["kernel", "sm"]
    assert [line.split()[:3] for line in plain[1:]] == [["f", "75", "24"], ["f", "90", "24"], ["f", "100", "24"]]


def test_a_spill_is_a_failure(resources: Any, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    found = resources.parse(REPORT)
    monkeypatch.setattr(resources.shutil, "which", lambda *_, **__: "nvcc")
    monkeypatch.setattr(resources, "compiler_version", lambda: "13.0")
    monkeypatch.setattr(resources, "measure", lambda *_: found)
    assert resources.main([]) == 1
    assert f"{LOSS} (sm_100) spills" in capsys.readouterr().err
    monkeypatch.setattr(resources, "measure", lambda *_: found[:1])
    assert resources.main([]) == 0


def test_a_limit_exceeded_is_a_failure(resources: Any, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    def kernel(registers: int) -> Any:
        return resources.Kernel("f", 90, registers, 0, 0, 0, 0, None, "op")

    limits = resources.Limits("13.0", 90, {"op": {"f": {"registers": 24, "stack": 0, "loops": []}}})
    monkeypatch.setattr(resources.shutil, "which", lambda *_, **__: "nvcc")
    monkeypatch.setattr(resources.Limits, "load", lambda: limits)
    monkeypatch.setattr(resources, "compiler_version", lambda: "13.0")
    monkeypatch.setattr(resources, "measure", lambda *_: [kernel(24)])
    assert resources.main([]) == 0
    monkeypatch.setattr(resources, "measure", lambda *_: [kernel(25)])
    assert resources.main([]) == 1
    assert "op: f: 25 registers, at most 24" in capsys.readouterr().err
    # Another compiler makes other code: its figures are printed, and nothing is claimed about them.
    monkeypatch.setattr(resources, "compiler_version", lambda: "12.4")
    assert resources.main([]) == 0
    assert "CUDA 13.0 and were not looked at: this is 12.4" in capsys.readouterr().err


def has_cuobjdump() -> bool:
    import sys

    sys.path.insert(0, str(TOOLS))
    try:
        importlib.import_module("cuda_resources").cuobjdump()
    except SystemExit:
        return False
    finally:
        sys.path.remove(str(TOOLS))
    return True


@pytest.mark.skipif(shutil.which("nvcc") is None or not has_cuobjdump(), reason="no nvcc or no cuobjdump")
def test_compiles_an_op(resources: Any, capsys: Any) -> None:
    assert resources.main(["--op", "oks", "--archs", "80;90", "--markdown"]) == 0
    printed = capsys.readouterr().out
    assert "| `oks_kernel<float>` |" in printed
    assert "| `oks_kernel<double>` |" in printed
    with pytest.raises(SystemExit, match="--op ok: "):
        resources.main(["--op", "ok", "--archs", "90"])
