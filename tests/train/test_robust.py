"""What goes wrong around a run: photos, disks, rates. It goes on, or ends with one clear line; what was saved is whole.

The small disks are tmpfs mounts, which only root can make; a limit on the size of files stands in for everybody.
"""

import csv
import io
import os
import shutil
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from rich.console import Console

import fastpose
from fastpose.cli import main
from fastpose.data import dataset as dataset_module
from fastpose.data.images import read_image
from fastpose.models import load_model
from fastpose.train import loop
from fastpose.train.checkpoint import load_state
from fastpose.train.log import RunLog
from fastpose.train.log_file import LogFile
from fastpose.train.loop import TrainingError, train
from fastpose.train.recipe import parse_recipe


@pytest.fixture(autouse=True)
def _no_thread_is_left():
    yield
    assert not [thread for thread in threading.enumerate() if thread.name == "fastpose-loader"]


@pytest.fixture
def small_disk(tmp_path):
    """A function that makes a file system of so many bytes; its folder."""
    made = []

    def mount(size):
        folder = tmp_path / f"disk{len(made)}"
        folder.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
        if sys.platform != "linux" or subprocess.run(command, capture_output=True, check=False).returncode:
            pytest.skip("only root can mount a small file system")
        made.append(folder)
        return folder

    yield mount
    for folder in made:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(folder, leave=0):
    """Use up a disk but for so many bytes; deleting the file that comes back frees it."""
    ballast = folder / "ballast"
    free = shutil.disk_usage(folder).free
    ballast.write_bytes(bytes(max(0, free - leave)))
    return ballast


def run(text, out, *overrides, resume=False):
    console = Console(file=io.StringIO(), width=300)
    outcome = train(parse_recipe(text, list(overrides)), out, resume=resume, console=console)
    return outcome, console.file.getvalue()


def weights(folder):
    return load_state(folder / "state.pt")["model"]


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def leftovers(folder):
    return [path.name for path in folder.iterdir() if path.name.endswith(".tmp")]


# Photos


@pytest.mark.parametrize(
    "error", [MemoryError("cannot allocate"), cv2.error("bad"), RuntimeError("odd"), ZeroDivisionError("odd")]
)
def test_decoding_that_fails_in_any_way_costs_one_photo(recipe_text, tmp_path, monkeypatch, error):
    def load(path):
        if Path(path).name in ("train3.png", "val1.png"):
            raise error
        return read_image(path)

    monkeypatch.setattr(dataset_module, "load_image", load)
    outcome, text = run(recipe_text, tmp_path)
    assert outcome.finished
    assert outcome.steps == 6
    assert len(outcome.failed_photos) == 2
    named = (tmp_path / "skipped.txt").read_text()
    assert "train3.png" in named
    assert type(error).__name__ in named
    assert f"2 photos could not be read and were left out; {tmp_path / 'skipped.txt'} names them" in text


def test_a_photo_that_fails_once_is_tried_again_in_the_next_epoch(recipe_text, tmp_path, monkeypatch):
    tries = Counter()

    def load(path):
        name = Path(path).name
        tries[name] += 1
        if name in ("train3.png", "val1.png") and tries[name] == 1:
            raise TimeoutError("the share does not answer")
        return read_image(path)

    monkeypatch.setattr(dataset_module, "load_image", load)
    outcome, _ = run(recipe_text, tmp_path, "data.cache_gb=0", "train.epochs=3")
    assert tries["train3.png"] == tries["val1.png"] == 3
    assert [Path(text.split(":")[0]).name for text in outcome.failed_photos] == ["train3.png", "val1.png"]
    assert (tmp_path / "skipped.txt").read_text().count("does not answer") == 2


def test_a_loader_that_fails_outside_of_photos_ends_the_run(recipe_text, tmp_path, monkeypatch):
    from fastpose.data import loader

    calls = iter(range(100))
    real = loader.make_crops

    def crops(*arguments):
        if next(calls) == 2:
            raise MemoryError("no room for the crops")
        return real(*arguments)

    monkeypatch.setattr(loader, "make_crops", crops)
    with pytest.raises(MemoryError, match="no room for the crops"):
        run(recipe_text, tmp_path)


def copied(figures, tmp_path):
    shutil.copytree(figures, tmp_path / "data")
    return tmp_path / "data", (f"data.root={tmp_path / 'data'}", "data.cache_gb=0")


def test_photos_that_vanish_or_shrink_between_epochs(recipe_text, figures, tmp_path, at_step):
    data, options = copied(figures, tmp_path)

    def spoil():
        (data / "train5.png").unlink()
        whole = (data / "train6.png").read_bytes()
        (data / "train6.png").write_bytes(whole[: len(whole) // 2])

    with at_step(3, spoil):
        outcome, _ = run(recipe_text, tmp_path / "out", *options, "data.val=null", "train.epochs=4")
    assert outcome.finished
    assert outcome.steps == 12
    assert sorted(Path(text.split(":")[0]).name for text in outcome.failed_photos) == ["train5.png", "train6.png"]


@pytest.mark.parametrize(
    ("step", "said", "saved"),  # early in an epoch, and at its end, when only the validation is left
    [(13, r"\d+ photos that were read before cannot be read any more", 1), (24, "no photo can be read", 2)],
)
def test_photos_that_are_all_gone_end_the_run_and_it_resumes(
    recipe_text, figures, tmp_path, at_step, step, said, saved
):
    data, options = copied(figures, tmp_path)
    options = (*options, "train.epochs=3", "train.batch_size=2", "train.ema.decay=0.9")
    run(recipe_text, tmp_path / "whole", *options)
    missing = pytest.raises((TrainingError, ValueError), match=said + r": .*\.png: no such file")
    with at_step(step, lambda: data.rename(tmp_path / "elsewhere")), missing:
        run(recipe_text, tmp_path / "out", *options)
    assert load_state(tmp_path / "out" / "state.pt")["epoch"] == saved
    (tmp_path / "elsewhere").rename(data)
    outcome, _ = run(recipe_text, tmp_path / "out", *options, resume=True)
    assert outcome.finished
    assert same(weights(tmp_path / "out"), weights(tmp_path / "whole"))


def test_a_disk_that_goes_away_in_the_first_epoch_is_noticed_in_it(
    recipe_text, figures, tmp_path, monkeypatch, at_step
):
    data, options = copied(figures, tmp_path)
    monkeypatch.setattr("fastpose.train.epoch._UNREADABLE", 4)
    missing = pytest.raises(TrainingError, match=r"no photo of 4 crops in a row can be read: .*\.png: no such file")
    with at_step(3, lambda: data.rename(tmp_path / "elsewhere")), missing:
        run(recipe_text, tmp_path / "out", *options, "train.batch_size=1", "data.val=null")


# Disks


@pytest.mark.parametrize(("leave", "saved"), [(0, 2), (14 << 20, 2), (34 << 20, 3)])
def test_a_full_disk_ends_the_run_and_it_resumes(recipe_text, small_disk, tmp_path, at_step, leave, saved):
    # best and last are 10 MB each and the state is 29 MB; each is written beside the old one. The third epoch's state
    # is written before its validation, whose best model is the first, and after it.
    disk = small_disk("150m")
    options = ("eval.every=2", "train.epochs=4")
    run(recipe_text, tmp_path / "whole", *options)
    full = pytest.raises(OSError, match="No space left on device")
    with at_step(7, lambda: fill(disk, leave)), full as error:  # in the third of four epochs
        run(recipe_text, disk / "out", *options, "eval.every=3")
    assert Path(error.value.filename) == disk / "out" / "state.pt"
    assert load_state(disk / "out" / "state.pt")["epoch"] == saved
    assert load_model(disk / "out" / "last.safetensors")
    assert not leftovers(disk / "out")
    (disk / "ballast").unlink()
    outcome, _ = run(recipe_text, disk / "out", *options, resume=True)
    assert outcome.finished
    assert same(weights(disk / "out"), weights(tmp_path / "whole"))


def test_a_log_on_a_full_disk_loses_rows_only(small_disk):
    disk = small_disk("16k")
    said = []
    log = LogFile(disk / "log.csv", ("step", "loss"), 0, said.append)
    log.write({"step": 0, "loss": "x" * 100})
    ballast = fill(disk)
    for step in range(1, 200):
        log.write({"step": step, "loss": "x" * 100})
    ballast.unlink()
    log.write({"step": 200, "loss": "last"})
    log.close()
    with (disk / "log.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert 10 < len(rows) < 190
    assert [row["step"] for row in rows[:-1]] == [str(step) for step in range(len(rows) - 1)]
    assert all(row["loss"] == "x" * 100 for row in rows[:-1])
    assert rows[-1] == {"step": "200", "loss": "last"}
    assert said == [f"{disk / 'log.csv'}: cannot be written (No space left on device); goes on without these rows"]


def test_whatever_a_power_cut_left_of_a_log_the_run_goes_on(recipe_text, tmp_path):
    options = ("train.epochs=2", "data.val=null")
    run(recipe_text, tmp_path, "train.epochs=1", "data.val=null")
    file = tmp_path / "log.csv"
    file.write_bytes(file.read_bytes() + b"2,0,1\n\xff\n4,\0\0\0\0\n")
    run(recipe_text, tmp_path, *options, resume=True)
    with file.open() as lines:
        assert [row["step"] for row in csv.DictReader(lines)] == ["1", "2", "3", "2", "4", "5", "6"]
    file.write_text("of;something;else\n1;2;3\n")
    run(recipe_text, tmp_path, "train.epochs=3", "data.val=null", resume=True)
    with file.open() as lines:
        assert [row["step"] for row in csv.DictReader(lines)] == ["7", "8", "9"]


def test_tensorboard_on_a_full_disk_is_given_up(small_disk, monkeypatch):
    pytest.importorskip("tensorboard")
    loud = []
    monkeypatch.setattr(threading, "excepthook", loud.append)
    disk = small_disk("64k")
    console = Console(file=io.StringIO(), width=300)
    with RunLog(disk, 100, every=1, tensorboard=True, console=console) as log:
        log._rows = LogFile(None, ("step",), 0, print)
        fill(disk)
        for step in range(1, 2000):
            log.metrics(
                step=step,
                epoch=0,
                epochs=1,
                name="AP",
                results={"trained": {f"v{i}": 1.0 for i in range(9)} | {"AP": 1.0}},
                kind="trained",
                best=False,
            )
            if log._events is None:
                break
    text = console.file.getvalue()
    assert text.count("cannot be written") == 1
    assert f"{disk / 'events'}: cannot be written" in text
    assert not loud
    assert threading.excepthook == loud.append


def test_tensorboard_shows_every_step_of_a_resumed_run_once(recipe_text, tmp_path, at_step):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    run(recipe_text, tmp_path, "log.tensorboard=true", "train.epochs=1")
    with at_step(5):
        run(recipe_text, tmp_path, "log.tensorboard=true", "train.epochs=3", resume=True)
    run(recipe_text, tmp_path, "log.tensorboard=true", "train.epochs=3", resume=True)
    events = accumulator.EventAccumulator(str(tmp_path / "events")).Reload()
    assert [event.step for event in events.Scalars("train/loss")] == list(range(1, 10))
    assert [event.step for event in events.Scalars("eval/PCK@0.2")] == [3, 6, 9]


def test_a_run_goes_on_where_only_its_log_is_in_the_way(recipe_text, small_disk, monkeypatch):
    disk = small_disk("150m")
    ballast = []
    note = RunLog.step

    def noting(self, **values):
        if values["step"] == 2:
            ballast.append(fill(disk))
        for _ in range(60):  # more rows than fit into what is left of the last page
            note(self, **values)
        if values["step"] == 3:
            ballast.pop().unlink()

    monkeypatch.setattr(loop.RunLog, "step", noting)
    outcome, text = run(recipe_text, disk / "out")
    assert outcome.finished
    assert text.count("log.csv: cannot be written (No space left on device)") == 1


def test_a_folder_that_cannot_be_written_is_said_at_once(recipe_text, small_disk, tmp_path, capsys):
    disk = small_disk("1m")
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(recipe_text)
    for out in (disk / "new", disk):
        with pytest.raises(SystemExit) as stop:
            main(["train", str(recipe), "--out", str(out)])
        assert stop.value.code == 2
        said = capsys.readouterr().err.splitlines()
        assert said == [f"Error: {out}: Read-only file system"]


@pytest.mark.skipif(os.name != "posix", reason="limits as POSIX does")
def test_a_state_that_is_too_large_for_a_limit_is_one_line(recipe_text, tmp_path):
    """Without root: files of 20 MB at most, which networks fit into and states do not."""
    recipe, out = tmp_path / "recipe.yaml", tmp_path / "out"
    recipe.write_text(recipe_text)
    run(recipe_text, tmp_path / "whole")
    options = ["data.val=null"]

    def call(limit, *more):
        program = (
            f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit})); import sys, torch; "
            "torch.set_num_threads(1); from fastpose.cli import main; main(sys.argv[1:])"
        )
        command = [sys.executable, "-c", program, "train", str(recipe), *options, "--out", str(out), *more]
        environment = os.environ | {"PYTHONPATH": str(Path(fastpose.__file__).parents[1])}
        return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300, check=False)

    result = call(20 << 20)
    assert result.returncode == 2
    assert result.stderr.splitlines()[-1] == f"Error: {out / 'state.pt'}: File too large"
    assert not (out / "state.pt").exists()
    assert not leftovers(out)
    result = call(100 << 20)
    assert result.returncode == 0, result.stderr


# Rates


def test_a_rate_that_explodes_ends_the_run_and_leaves_the_state_from_before(recipe_text, tmp_path, at_step):
    options = ("train.epochs=12", "data.val=null", "train.schedule.warmup=0", "train.nan_limit=6")
    with at_step(3):
        run(recipe_text, tmp_path, *options)
    before = weights(tmp_path)
    with pytest.raises(TrainingError, match=r"6 steps in a row without a finite loss and gradient.*smaller train"):
        run(recipe_text, tmp_path, *options, "train.optimizer.lr=1e38", resume=True)
    after = weights(tmp_path)
    assert same(before, after)
    assert all(torch.isfinite(value).all() for value in after.values())
    outcome, _ = run(recipe_text, tmp_path, *options, resume=True)  # with the rate of the recipe
    assert outcome.finished
    assert np.isfinite(next(iter(weights(tmp_path).values())).numpy()).all()
