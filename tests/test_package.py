"""What holds for the package as a whole: the floors, the cost of importing it, its metadata, its native core."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

import fastpose

PACKAGE = Path(fastpose.__file__).parent
ROOT = PACKAGE.parent

# From the ground up; a module may import what stands before its own entry. Names in one tuple stand side by side and
# do not see each other.
FLOORS = (
    ("_version", "checks", "streams", "world"),
    ("files",),
    ("skeletons",),
    ("geometry",),
    ("_C",),
    ("ops",),
    ("codecs", "devices", "metrics", "tracking"),
    ("spec",),
    ("views",),
    ("models", "data"),
    ("engines", "detection", "video"),
    ("inference",),
    ("predict", "evaluate"),
    ("train", "integrations"),
    ("cli",),
    ("__main__",),
)
LEVEL = {name: level for level, names in enumerate(FLOORS) for name in names}


def imported_parts(file: Path) -> set[str]:
    """The parts of the package (`ops`, `models`, ...) that a file imports, anywhere in it."""
    package = ["fastpose", *file.relative_to(PACKAGE).parts[:-1]]
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            names.update({module} if module != "fastpose" else {f"fastpose.{alias.name}" for alias in node.names})
    return {name.split(".")[1] for name in names if name.startswith("fastpose.")}


def test_imports_point_downward() -> None:
    wrong = []
    for file in sorted(PACKAGE.rglob("*.py")):
        if file == PACKAGE / "__init__.py":
            continue  # the lazy list of public names sees everything
        part = file.relative_to(PACKAGE).parts[0].removesuffix(".py")
        others = (other for other in imported_parts(file) if other in LEVEL and other != part)
        wrong += [f"{file.relative_to(PACKAGE)} imports {other}" for other in others if LEVEL[other] >= LEVEL[part]]
    assert not wrong


def test_every_part_has_a_floor() -> None:
    parts = {
        p.name.removesuffix(".py") for p in PACKAGE.iterdir() if p.suffix == ".py" or (p / "__init__.py").is_file()
    }
    assert parts - {"__init__"} <= set(LEVEL)


def test_ops_compare_types_as_the_tracer_of_old_torch_can() -> None:
    """torch.compile of 2.4 does not see through ``isinstance(x, A | B)``."""
    for path in sorted((PACKAGE / "ops").glob("*.py")):
        for call in ast.walk(ast.parse(path.read_text())):
            if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "isinstance":
                assert not isinstance(call.args[1], ast.BinOp), f"{path.name}:{call.lineno}: a tuple, not a union"


def test_no_file_is_longer_than_five_hundred_lines() -> None:
    files = [f for d in ("fastpose", "csrc", "tests") for f in (ROOT / d).rglob("*") if f.suffix in CODE]
    lengths = {str(f.relative_to(ROOT)): len(f.read_text(encoding="utf-8").splitlines()) for f in files}
    assert not {name: n for name, n in lengths.items() if n > 500}


CODE = {".py", ".cpp", ".h", ".cu"}


def run(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, **environment}, check=False
    )


def test_import_is_cheap() -> None:
    heavy = ("cv2", "pycocotools", "rich", "pydantic", "matplotlib", "scipy", "yaml", "safetensors", "fastpose._C")
    code = (
        "import sys, torch, time; before = set(sys.modules); t = time.perf_counter(); import fastpose; "
        "took = time.perf_counter() - t; new = set(sys.modules) - before; "
        f"print(took, [m for m in {heavy} if m in new])"
    )
    results = [run(code).stdout.split(maxsplit=1) for _ in range(2)]
    assert min(float(took) for took, _ in results) < 0.3
    assert results[0][1].strip() == "[]"


def test_public_names_are_there() -> None:
    for name in fastpose.__all__:
        assert getattr(fastpose, name) is not None
    assert set(fastpose.__all__) <= set(dir(fastpose))
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = fastpose.no_such_name


def test_one_version() -> None:
    from fastpose import _C

    assert re.fullmatch(r"\d+\.\d+\.\d+\S*", fastpose.__version__)
    assert _C.__version__ == fastpose.__version__


def test_setup_needs_nothing_that_windows_lacks() -> None:
    code = "import os, runpy, sys; sys.modules['fcntl'] = None; sys.argv = ['setup.py', '-q', '--name']; "
    result = run(code + f"os.chdir({str(ROOT)!r}); runpy.run_path('setup.py')")
    assert result.returncode == 0, result.stderr


# --- the native core ----------------------------------------------------------------------------------------------
def test_core_needs_no_torch() -> None:
    code = "import sys, fastpose._C as c; print('torch' in sys.modules, 'numpy' in sys.modules, c.get_num_threads())"
    result = run(code, OMP_NUM_THREADS="3")
    assert result.stdout.split() == ["False", "False", "3"], result.stderr


@pytest.mark.parametrize("wanted", ["sse2", "avx2", "avx512"])
def test_simd_level_is_forced_by_the_environment(wanted: str) -> None:
    from fastpose import _C

    if wanted not in _C.build_info()["simd_supported"]:
        pytest.skip(f"this processor has no {wanted}")
    result = run("import fastpose._C as c; print(c.build_info()['simd'])", FASTPOSE_SIMD=wanted)
    assert result.stdout.strip() == wanted


def test_an_unknown_simd_level_says_so() -> None:
    result = run("from fastpose import ops; import numpy; ops.oks", FASTPOSE_SIMD="avx1024")
    assert result.returncode == 0, "importing works, using says why not"
    result = run(
        "from fastpose import ops; import numpy as np; ops.affine_crop([], np.zeros((0, 2, 3)), size=(2, 2))",
        FASTPOSE_SIMD="avx1024",
    )
    assert "FASTPOSE_SIMD=avx1024 cannot be used" in result.stderr


def test_a_cuda_tensor_without_a_cuda_build_says_how_to_get_one() -> None:
    from fastpose import _C

    if _C.with_cuda:
        pytest.skip("this core was built with CUDA")
    with pytest.raises(RuntimeError, match="FASTPOSE_CUDA=on"):
        _C.fail_without_cuda("affine_crop")


def test_a_daemon_thread_may_compute_when_the_interpreter_ends() -> None:
    code = """
import threading, time
import numpy as np
from fastpose import ops

def work():
    while True:
        ops.affine_crop(np.zeros((480, 640, 3), np.uint8), np.tile(np.eye(2, 3), (64, 1, 1)), size=(256, 192))

threading.Thread(target=work, daemon=True).start()
time.sleep(0.3)
"""
    result = run(code)
    assert (result.returncode, result.stderr) == (0, "")


def test_only_the_entry_point_is_visible() -> None:
    from fastpose import _C

    if sys.platform != "linux":
        pytest.skip("reads an ELF symbol table with nm")
    symbols = subprocess.run(["nm", "-D", "--defined-only", _C.__file__], capture_output=True, text=True, check=True)
    names = {line.split()[-1] for line in symbols.stdout.splitlines()}
    assert names == {"PyInit__C"}


def test_vector_wrapper_agrees_with_scalars(tmp_path: Path) -> None:
    """Compiles tests/cpp/test_simd.cpp once per level that this processor can run."""
    from fastpose import _C

    flags = {
        "sse2": "-msse2",
        "avx2": "-mavx2 -mfma -mf16c",
        "avx512": "-mavx512f -mavx512bw -mavx512dq -mavx512vl -mavx2 -mfma -mf16c -Wno-maybe-uninitialized",
        "neon": "",
        "baseline": "",
    }
    compiler = os.environ.get("CXX") or sysconfig.get_config_var("CXX").split()[0]
    for level in [*_C.build_info()["simd_supported"], "baseline"]:
        program = tmp_path / level
        command = [compiler, "-std=c++17", "-O2", "-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math", "-Wall"]
        command += ["-Werror", f"-I{ROOT / 'csrc'}", f"-DFASTPOSE_SIMD_NS={level}", f"-DFASTPOSE_SIMD_{level}=1"]
        command += [*flags[level].split(), str(ROOT / "tests" / "cpp" / "test_simd.cpp"), "-o", str(program)]
        subprocess.run(command, check=True)
        result = subprocess.run([program], capture_output=True, text=True, check=False)
        assert result.returncode == 0, f"{level}: {result.stdout}"
