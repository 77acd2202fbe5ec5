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
import torch

from benchmarks.cuda import __main__ as command
from benchmarks.cuda import loading, pipeline, timing

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
importlib.import_module("benchmarks.cuda.loading")
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


def test_parts_that_it_has_not_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PARTS", "tests benchmark")
    done = run("--dry", str(tmp_path / "results"))
    assert done.returncode == 2
    assert "expected some of tests, sanitizer, profile, benchmarks, got 'benchmark'" in done.stderr
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


def test_a_kill_in_the_middle_leaves_the_figures_there_were(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "device.json"
    command.write(path, "ops", {}, {"cases": [1, 2]})
    whole = Path.write_text

    def cut_short(file: Path, text: str) -> int:
        whole(file, text[: len(text) // 2])
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "write_text", cut_short)
    with pytest.raises(KeyboardInterrupt):
        command.write(path, "ops", {}, {"cases": [1, 2, 3]})
    assert json.loads(path.read_text())["ops"] == {"cases": [1, 2]}


def test_an_op_that_fails_is_a_failure_and_a_peer_that_does_is_absent() -> None:
    def broken(_: object) -> None:
        raise RuntimeError("no such thing")

    contenders = {timing.OP: lambda _: 1, f"{timing.OP} (otherwise)": broken, "peer": broken}
    case = timing.Case("op", None, lambda: None, contenders, lambda ours, theirs: None)
    result = timing.run_case(case, timing.Clock(torch.device("cpu"), rounds=2, seconds=1e-4))
    assert result["failed"] == {f"{timing.OP} (otherwise)": "RuntimeError: no such thing"}
    assert result["absent"] == {"peer": "RuntimeError: no such thing"}
    assert set(result["contenders"]) == {timing.OP, f"{timing.OP} [graph]"}


def test_a_capture_that_fails_leaves_the_other_ways_their_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: timing.Clock, call: object) -> None:
        raise RuntimeError("not capturable")

    monkeypatch.setattr(timing.Clock, "capture", refuse)
    clock = timing.Clock(torch.device("cpu"), rounds=2, seconds=1e-4)
    (result,) = pipeline.pipeline(clock, dry=True, only="2 people")
    assert set(result["failed"]) == {pipeline.BY_HAND, pipeline.ALONE}
    assert "near_the_stand_in" in result["contenders"][pipeline.FASTPOSE]


@pytest.mark.slow
def test_the_dry_run_goes_through_every_step(tmp_path: Path) -> None:
    done = run("--dry", str(tmp_path))
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"dry.json", "dry.log"}
    report = json.loads((tmp_path / "dry.json").read_text())
    assert report["machine"]["dry"] is True
    assert [step["status"] for step in report["steps"]] == [0] * 7
    timed = {case["case"].split()[0] for case in report["ops"]["cases"]}
    assert timed == {"affine_crop", "box_nms", "heatmap_decode", "heatmap_encode", "heatmap_loss", "oks", "oks_nms"}
    assert not any("wrong" in case for case in report["ops"]["cases"])
    # Bytes that must move are judged by a copy of as many, in a graph as the op itself.
    judged = [case for case in report["ops"]["cases"] if case["moved_bytes"]]
    assert judged
    assert all(case["contenders"]["copy [graph]"]["of_copy"] == 1 for case in judged)
    assert all("of_copy" in case["contenders"]["fastpose [graph]"] for case in judged)
    assert {"affine_crop 32 crops of 64×48, parameters on the CPU"} < {case["case"] for case in report["ops"]["cases"]}
    assert report["pipeline"]["cases"]
    assert report["training"]["cases"]
    (case,) = report["loading"]["cases"]
    assert {loading.RESIDENT, loading.LOADER, loading.TRAIN, loading.TRAIN_RESIDENT} < set(case["contenders"])


@pytest.mark.slow
def test_what_ncu_looks_at_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PARTS", "profile")
    done = run("--dry", str(tmp_path))
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr
    steps = json.loads((tmp_path / "dry.json").read_text())["steps"]
    assert [(step["step"], step["status"]) for step in steps] == [("every kernel, small", 0), ("what ncu looks at", 0)]
