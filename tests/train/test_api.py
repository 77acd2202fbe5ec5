"""Training from Python: ``fastpose.train(recipe, out)``, and what a run can be asked."""

import inspect
import io
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from rich.console import Console

import fastpose
from fastpose.train.checkpoint import CheckpointError
from fastpose.train.recipe import RecipeError
from fastpose.train.run import Run

PAGE = Path(__file__).parents[2] / "docs" / "training.md"


def quiet():
    return Console(file=io.StringIO(), width=200)


@pytest.fixture(scope="module")
def run(recipe_text, tmp_path_factory):
    """A run of two epochs over the figures."""
    recipe = yaml.safe_load(recipe_text)
    overrides = {"train": {"optimizer": {"lr": 1e-3}}, "train.epochs": 2}
    return fastpose.train(recipe, tmp_path_factory.mktemp("api") / "run", console=quiet(), **overrides)


def test_what_became_of_it(run):
    assert run.finished
    assert (run.epoch, run.steps, run.skipped_steps, run.images_seen, run.precision) == (2, 6, 0, 48, "float32")
    assert run.best == max(run.curve("metric")[1])
    assert run.best_epoch in (1, 2)
    assert fastpose.load_model(run.best_checkpoint).spec.input_size == (64, 64)
    assert fastpose.load_model(run.last_checkpoint).spec.input_size == (64, 64)


def test_its_curve(run):
    steps, losses = run.curve("loss")
    assert steps.tolist() == [1, 2, 3, 4, 5, 6]
    assert (losses > 0).all()
    assert run.curve("metric")[0].tolist() == [3, 6]
    assert 5e-4 < run.curve("lr")[1].max() <= 1e-3
    rows = run.log()
    assert [row["step"] for row in rows if "loss" in row] == steps.tolist()
    assert {type(row["step"]) for row in rows} == {int}
    assert [row["weights"] for row in rows if "metric" in row] == ["trained", "trained"]
    assert all(value != "" for row in rows for value in row.values())
    assert len(run.curve("no such column")[0]) == 0


def test_a_run_of_before(run, tmp_path):
    again = Run.read(run.folder)
    told = {name: value for name, value in vars(run).items() if name != "last"}
    assert told == {name: value for name, value in vars(again).items() if name != "last"}
    assert np.array_equal(again.curve()[1], run.curve()[1])
    with pytest.raises(CheckpointError, match=r"state\.pt: No such file"):
        Run.read(tmp_path)


def test_it_is_refused_as_in_a_shell(recipe_text, tmp_path):
    recipe = yaml.safe_load(recipe_text)
    with pytest.raises(RecipeError, match=r"unknown key train\.epoch; did you mean train\.epochs"):
        fastpose.train(recipe, tmp_path, train={"epoch": 1})
    with pytest.raises(RecipeError, match="did you mean synthetic_demo"):
        fastpose.train("synthetic_dem", tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("first", ["import fastpose.train.recipe", "fastpose.train", "from fastpose import train"])
def test_function_and_package_share_a_name(first):
    code = f"""
import fastpose
{first}
import fastpose.train.overrides
from fastpose.train import train
assert callable(fastpose.train) and callable(train)
assert fastpose.train.overrides.RecipeError
try:
    fastpose.train("none", "nowhere")
except ValueError as error:
    assert "no recipe or zoo entry is named 'none'" in str(error)
else:
    raise SystemExit("it was not called")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_editors_see_what_it_takes():
    assert inspect.signature(fastpose.train) == inspect.signature(fastpose.train.train)


def test_the_example_of_the_page(tmp_path, monkeypatch):
    (code,) = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.M | re.S)
    small = (
        ('train={"epochs": 3}', 'train={"epochs": 1, "batch_size": 4}, model={"options": {"input_size": [64, 64]}}'),
        ('data={"train": [{"synthetic": {"scenes": 64}}]}', 'data={"train": [{"synthetic": {"scenes": 8}}]}'),
    )
    for old, new in small:
        assert old in code
        code = code.replace(old, new)
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(compile(code, str(PAGE), "exec"), names)
    assert names["run"].finished
    assert (tmp_path / "runs/demo/best.safetensors").is_file()
    assert names["steps"].tolist() == [1, 2, 3, 4]
    assert (names["losses"] > 0).all()
    assert names["steps_validated"].tolist() == [4]
