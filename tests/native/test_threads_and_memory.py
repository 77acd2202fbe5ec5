"""Builds and runs shortage.cpp: threads and memory that the system does not give."""

from __future__ import annotations

import platform
from pathlib import Path

import pytest
from native_build import CORE, ROOT, compiler, run_or_fail


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="default attributes of threads as in glibc")
def test_shortage(tmp_path: Path) -> None:
    program = tmp_path / "shortage"
    flags = ["-std=c++17", "-O1", "-pthread", "-Wall", "-Wextra", f"-I{ROOT / 'csrc'}"]
    sources = [str(ROOT / "tests" / "native" / "shortage.cpp"), *map(str, CORE)]
    run_or_fail([compiler(), *flags, *sources, "-o", str(program)])
    run_or_fail([str(program)])
