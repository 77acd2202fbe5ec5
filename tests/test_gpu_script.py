"""benchmarks/gpu.sh where there is no GPU: it says so; and its steps work on the CPU."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SCRIPT = ROOT / "benchmarks" / "gpu.sh"

# What a machine may lack that has what the script needs.
COLLECT = """
import importlib, sys
for name in "click hypothesis matplotlib onnxruntime pycocotools pydantic rich scipy tensorboard yaml".split():
    sys.modules[name] = None
import pytest
importlib.import_module("benchmarks.cuda.sanitize")
importlib.import_module("benchmarks.cuda.pipeline")
sys.exit(pytest.main(["-q", "--collect-only", "-m", "cuda", "-p", "no:cacheprovider", *sys.argv[1:]]))
"""


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHON": sys.executable, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    command = ["bash", str(SCRIPT), *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)


pytestmark = pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")


def test_without_a_gpu_it_skips_by_name(tmp_path: Path) -> None:
    done = run(str(tmp_path / "results"))
    assert (done.returncode, done.stdout) == (0, "skipped: no CUDA device\n"), done.stderr
    assert not (tmp_path / "results").exists()


def test_all_it_runs_is_found_on_a_bare_machine() -> None:
    files = sorted((ROOT / "tests").rglob("test_*.py"))
    marked = [str(path) for path in files if re.search(r"mark\.cuda", path.read_text())]
    environment = os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    done = subprocess.run(
        [sys.executable, "-c", COLLECT, *marked], env=environment, cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr
    for path in marked:
        assert Path(path).relative_to(ROOT).as_posix() in done.stdout


@pytest.mark.slow
def test_the_dry_run_goes_through_every_step(tmp_path: Path) -> None:
    done = run("--dry", str(tmp_path))
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"dry.json", "dry.log"}
    report = json.loads((tmp_path / "dry.json").read_text())
    assert report["machine"]["dry"] is True
    assert [step["status"] for step in report["steps"]] == [0] * 5
    timed = {case["case"].split()[0] for case in report["ops"]["cases"]}
    assert timed == {"affine_crop", "heatmap_decode", "heatmap_encode", "heatmap_loss", "oks", "oks_nms"}
    assert not any("wrong" in case for case in report["ops"]["cases"])
    assert report["pipeline"]["cases"]
    assert report["training"]["cases"]
