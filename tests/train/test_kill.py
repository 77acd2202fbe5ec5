"""A run that is killed again and again, at any moment, ends with the weights of one that was left alone.

FASTPOSE_KILLS=50 pytest -m slow tests/train/test_kill.py: as often as that, instead of a few times.
"""

from __future__ import annotations

import io
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from rich.console import Console

from fastpose.models import load_model
from fastpose.train.checkpoint import load_state
from fastpose.train.loop import train
from fastpose.train.recipe import parse_recipe

KILLS = int(os.environ.get("FASTPOSE_KILLS", "3"))
OPTIONS = ["eval.every=1000", "train.ema.decay=0.9"]


@pytest.mark.skipif(os.name != "posix", reason="kills as POSIX does")
@pytest.mark.parametrize("most", [1, pytest.param(KILLS, marks=pytest.mark.slow)])
def test_killed_runs_lose_unsaved_steps_only(recipe_text, tmp_path, one_thread, most):
    options = [*OPTIONS, f"train.epochs={4 * most + 4}"]
    whole, out, recipe = tmp_path / "whole", tmp_path / "killed", tmp_path / "recipe.yaml"
    train(parse_recipe(recipe_text, options), whole, console=Console(file=io.StringIO()))
    recipe.write_text(recipe_text)
    choose = random.Random(0)
    kills, epochs = 0, [0]
    for _ in range(10 * most):
        process = _start(recipe, out, options)
        if kills < most:
            _wait_for_steps(process, out / "log.csv")
            time.sleep(choose.uniform(0, 0.7))
            kills += process.poll() is None
            process.send_signal(signal.SIGKILL)
        errors = process.communicate()[1].decode()
        assert process.returncode in (0, -signal.SIGKILL), errors
        if (out / "state.pt").exists():
            epochs.append(load_state(out / "state.pt")["epoch"])  # whole, whenever it was killed
            assert epochs[-1] >= epochs[-2]
        if (out / "last.safetensors").exists():
            load_model(out / "last.safetensors")
        if process.returncode == 0:
            break
    print(f"{kills} kills; epochs done after each: {epochs}")
    assert kills == most or process.returncode == 0
    assert epochs[-1] == 4 * most + 4
    ended, undisturbed = (load_state(folder / "state.pt") for folder in (out, whole))
    for part in ("model", "average"):
        for name, tensor in undisturbed[part].items():
            assert torch.equal(tensor, ended[part][name]), name
    assert not list(out.glob(".*.tmp"))


def _start(recipe: Path, out: Path, options: list[str]) -> subprocess.Popen[bytes]:
    resume = ["--resume"] if (out / "state.pt").exists() else []
    program = "import sys, torch; torch.set_num_threads(1); from fastpose.cli import main; main(sys.argv[1:])"
    command = [sys.executable, "-c", program, "train", str(recipe), *options, "--out", str(out), *resume]
    (out / "log.csv").unlink(missing_ok=True)  # its coming back says that steps are being done
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def _wait_for_steps(process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 120
    while process.poll() is None and not log.exists():
        assert time.monotonic() < deadline, "the run did not begin"
        time.sleep(0.01)
