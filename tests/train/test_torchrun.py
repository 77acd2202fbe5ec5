"""How processes that train together meet and part: torchrun, one that is killed, one that hangs."""

from __future__ import annotations

import csv
import gc
import io
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console

from fastpose.models import load_model
from fastpose.train import loop
from fastpose.train.checkpoint import CheckpointError, load_state, save_state
from fastpose.train.distributed import FirstProcessError, join_processes
from fastpose.train.epoch import Trainer
from fastpose.train.loop import TrainingError, train
from fastpose.train.recipe import parse_recipe

pytestmark = pytest.mark.usefixtures("one_thread")

NOTHING_TO_VALIDATE = "data.val=null"


@pytest.fixture(scope="module")
def text(recipe_text):
    return recipe_text


def run(text: str, out: Path, options: list[str]) -> None:
    train(parse_recipe(text, options), out, console=Console(file=io.StringIO()))


def test_a_lost_connection_is_told_from_other_errors(monkeypatch):
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: False)
    with pytest.raises(RuntimeError, match="shape") as raised, join_processes(torch.device("cpu")):
        raise RuntimeError("shape mismatch")
    assert not isinstance(raised.value, TrainingError)


def parting_worker(rank: int, size: int, text: str, folder: Path, ports: list[int]) -> None:
    """Runs that end well, in an error and before they begin; counts what holds the processes' group when they part."""
    torch.set_num_threads(1)
    os.environ.update(RANK=str(rank), WORLD_SIZE=str(size), MASTER_ADDR="127.0.0.1", MASTER_PORT=str(ports.pop()))
    held: list[int] = []
    part = torch.distributed.destroy_process_group

    def counted() -> None:
        kind = torch.nn.parallel.DistributedDataParallel
        held.append(sum(type(thing) is kind for thing in gc.get_objects()))
        part()

    torch.distributed.destroy_process_group = counted
    options = ["train.batch_size=4", "train.epochs=1"]
    run(text, folder / "well", [*options, NOTHING_TO_VALIDATE])
    Trainer.validate = lambda self: 1 / 0  # type: ignore[assignment]
    os.environ["MASTER_PORT"] = str(ports.pop())  # the first process's store ends with each meeting
    with pytest.raises(ZeroDivisionError):
        run(text, folder / "badly", options)
    os.environ["MASTER_PORT"] = str(ports.pop())
    with pytest.raises((CheckpointError, FirstProcessError)):
        run(text, folder / "badly", options)
    save_state(folder / f"held{rank}.pt", {"held": held})


def test_no_process_holds_the_group_when_they_part(text, tmp_path):
    """Freed later, by DistributedDataParallel, it now and then waited for ever."""
    torch.multiprocessing.spawn(parting_worker, (2, text, tmp_path, [free_port() for _ in range(3)]), nprocs=2)
    for rank in range(2):
        assert load_state(tmp_path / f"held{rank}.pt")["held"] == [0, 0, 0]


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


ENVIRONMENT = {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join([str(Path(loop.__file__).parents[2])])}


def start(count: int, recipe: Path, out: Path, *words: str) -> list[subprocess.Popen[str]]:
    """``fastpose train`` in so many processes, as torchrun starts them."""
    port = free_port()
    processes = []
    for rank in range(count):
        several = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(count), "LOCAL_WORLD_SIZE": str(count)}
        environment = os.environ | ENVIRONMENT | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)} | several
        command = [sys.executable, "-m", "fastpose", "train", str(recipe), "--out", str(out), *words]
        processes.append(
            subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        )
    return processes


def wait_for(happened: Any, processes: list[subprocess.Popen[str]]) -> None:
    deadline = time.monotonic() + 120
    while not happened():
        assert time.monotonic() < deadline
        assert all(process.poll() is None for process in processes)
        time.sleep(0.01)


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="kills as POSIX does")
@pytest.mark.parametrize("killed", [0, 1])
def test_a_killed_process_ends_the_run_which_others_continue(killed, text, tmp_path):
    recipe, out = tmp_path / "recipe.yaml", tmp_path / "out"
    recipe.write_text(text)
    options = [NOTHING_TO_VALIDATE, "train.batch_size=4"]
    processes = start(2, recipe, out, *options, "train.epochs=1000")
    wait_for((out / "state.pt").exists, processes)
    processes[killed].kill()
    errors = processes[1 - killed].communicate(timeout=60)[1]
    processes[killed].communicate()
    assert processes[1 - killed].returncode == 2
    said = [line for line in errors.splitlines() if "Error" in line]
    assert len(said) == 1, errors
    assert "another process of the run has ended" in said[0]

    done = load_state(out / "state.pt")["epoch"]
    assert done >= 1
    (alone,) = start(1, recipe, out, NOTHING_TO_VALIDATE, f"train.epochs={done + 1}", "--resume")
    errors = alone.communicate(timeout=120)[1]
    assert alone.returncode == 0, errors
    assert load_state(out / "state.pt")["steps"] == 3 * (done + 1)
    again = start(2, recipe, out, *options, f"train.epochs={done + 2}", "--resume")
    for process in again:
        errors = process.communicate(timeout=120)[1]
        assert process.returncode == 0, errors
    state = load_state(out / "state.pt")
    assert (state["steps"], state["images_seen"]) == (3 * (done + 2), 24 * (done + 2))


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="stops as POSIX does")
def test_a_process_that_hangs_is_given_up(text, tmp_path):
    recipe, out = tmp_path / "recipe.yaml", tmp_path / "out"
    recipe.write_text(text)
    processes = start(2, recipe, out, NOTHING_TO_VALIDATE, "train.epochs=1000", "train.timeout=0.3")
    wait_for((out / "state.pt").exists, processes)
    processes[1].send_signal(signal.SIGSTOP)
    try:
        errors = processes[0].communicate(timeout=120)[1]
    finally:
        processes[1].kill()
        processes[1].communicate()
    assert processes[0].returncode == 2
    said = [line for line in errors.splitlines() if "Error" in line]
    assert len(said) == 1, errors
    assert "another process of the run has ended, hangs or cannot be reached" in said[0]


@pytest.mark.slow
def test_torchrun(text, tmp_path, torchrun):
    recipe, out = tmp_path / "recipe.yaml", tmp_path / "out"
    recipe.write_text(text)
    done = torchrun(2, "train", recipe, "train.batch_size=4", "--out", out)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("done in") == 1
    with (out / "log.csv").open() as file:
        losses = [float(row["loss"]) for row in csv.DictReader(file) if row["loss"]]
    assert len(losses) == 6
    assert np.isfinite(losses).all()
    assert load_model(out / "best.safetensors").spec.input_size == (64, 64)
