"""docs/ops.md: its examples, its table of ops and its training script, run as they stand there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import fastpose
from fastpose import ops

PAGE = Path(__file__).parents[2] / "docs" / "ops.md"
SCRIPT = '"""Finds a green head'


def blocks() -> list[str]:
    """The page's code."""
    return re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.M | re.S)


def run(folder: Path, *words: str) -> float:
    """The mean OKS that the script prints."""
    (script,) = (block for block in blocks() if block.startswith(SCRIPT))
    (folder / "train_discs.py").write_text(script, encoding="utf-8")
    environment = os.environ | {"PYTHONPATH": str(Path(fastpose.__file__).parents[1]), "OMP_NUM_THREADS": "1"}
    result = subprocess.run(
        [sys.executable, *words],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    losses = [float(value) for value in re.findall(r"^epoch \d+: loss ([0-9.]+)$", result.stdout, re.M)]
    assert len(losses) == 3
    assert losses[-1] < losses[0]
    (found,) = re.findall(r"^mean OKS ([0-9.]+)$", result.stdout, re.M)
    return float(found)


def test_the_examples_run() -> None:
    names: dict[str, object] = {}
    for block in blocks():
        if not block.startswith(SCRIPT):
            exec(block, names)  # the page's own code; an example goes on from the one before


def test_every_op_stands_on_the_page() -> None:
    page = PAGE.read_text(encoding="utf-8")
    for name in ops.__all__:
        assert re.search(rf"^\| `{name}` \|", page, re.M), name
    links = re.findall(r"\]\(([^)#]+)\)", page)
    assert links
    assert all((PAGE.parent / link).is_file() for link in links)


def test_the_script_in_small(tmp_path: Path) -> None:
    assert run(tmp_path, "train_discs.py", "--photos", "256", "--compile", "aot_eager") > 0.8


@pytest.mark.slow
def test_the_script_as_it_stands(tmp_path: Path) -> None:
    assert run(tmp_path, "train_discs.py") > 0.9


@pytest.mark.slow
def test_the_script_in_two_processes(tmp_path: Path) -> None:
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")
    assert run(tmp_path, *launcher, "train_discs.py", "--compile", "aot_eager") > 0.8
