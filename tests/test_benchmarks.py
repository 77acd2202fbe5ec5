"""The benchmarks can be run as their README says."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def test_pytest_finds_every_benchmark() -> None:
    """By the options that pyproject.toml gives, and without what tests/conftest.py does."""
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", "benchmarks"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    found = Counter(line.split("::")[0] for line in done.stdout.splitlines() if "::" in line)
    assert set(found) == {f"benchmarks/{path.name}" for path in (ROOT / "benchmarks").glob("bench_*.py")}
