"""The loop: it learns, resumes to the same weights, and survives what goes wrong."""

import csv
import io
import os
import shutil
import signal

import pytest
import torch
from rich.console import Console

from fastpose.models import load_model, objective
from fastpose.train import loop
from fastpose.train.checkpoint import CheckpointError, load_state
from fastpose.train.loop import TrainingError, train
from fastpose.train.recipe import load_recipe, parse_recipe


def quiet():
    return Console(file=io.StringIO(), width=200)


def run(text, out, *overrides, resume=False, console=None):
    return train(parse_recipe(text, list(overrides)), out, resume=resume, console=console or quiet())


@pytest.fixture(autouse=True)
def _as_before():
    yield
    torch.use_deterministic_algorithms(False)


def weights(folder):
    state = load_state(folder / "state.pt")
    return {**state["model"], **{f"average.{k}": v for k, v in (state["average"] or {}).items()}}


def test_learns_the_figures(recipe_text, tmp_path):
    outcome = run(recipe_text, tmp_path, "train.epochs=30", "eval.every=30", "train.ema.decay=0.9")
    assert outcome.finished
    assert outcome.steps == 90
    assert outcome.best == outcome.last["PCK@0.2"] > 0.9
    model = load_model(tmp_path / "best.safetensors")
    assert model.spec.input_size == (64, 64)
    with (tmp_path / "log.csv").open() as file:
        losses = [float(row["loss"]) for row in csv.DictReader(file) if row["loss"]]
    assert len(losses) == 90
    assert sum(losses[-5:]) < 0.5 * sum(losses[:5])


def test_the_resolved_recipe_is_written(recipe_text, tmp_path):
    run(recipe_text, tmp_path, "train.epochs=1")
    assert parse_recipe((tmp_path / "recipe.yaml").read_text()) == parse_recipe(recipe_text, ["train.epochs=1"])


@pytest.mark.parametrize("interrupt_at", [2, 3, 4])  # within an epoch, at its end, in the next one
def test_resume_gives_the_weights_of_an_uninterrupted_run(recipe_text, tmp_path, monkeypatch, interrupt_at):
    options = ("train.ema.decay=0.99", "augment.colour_prob=0.5", "train.phases=[{input_size: [64, 32]}, {}]")
    run(recipe_text, tmp_path / "whole", *options)

    step = loop.RunLog.step

    def stop(self, **values):
        step(self, **values)
        if values["step"] == interrupt_at:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(loop.RunLog, "step", stop)
    first = run(recipe_text, tmp_path / "parts", *options)
    assert not first.finished
    assert first.steps == interrupt_at
    monkeypatch.setattr(loop.RunLog, "step", step)
    torch.manual_seed(12345)  # nothing may depend on what the process did before
    second = run(recipe_text, tmp_path / "parts", *options, resume=True)
    assert second.finished
    assert second.steps == 6

    whole, parts = weights(tmp_path / "whole"), weights(tmp_path / "parts")
    assert whole.keys() == parts.keys()
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
    with (tmp_path / "parts" / "log.csv").open() as file:
        steps = [int(row["step"]) for row in csv.DictReader(file) if row["loss"]]
    assert steps == [1, 2, 3, 4, 5, 6]


def test_same_seed_same_weights_other_seed_others(recipe_text, tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        run(recipe_text, tmp_path / name, f"train.seed={seed}", "train.epochs=1", "data.val=null")
    a, b, c = (weights(tmp_path / name) for name in "abc")
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert any(not torch.equal(a[name], c[name]) for name in a)


def bad_losses(monkeypatch, bad):
    """Make the loss NaN at the calls (from 1) for which ``bad`` says so."""
    calls = iter(range(1, 10_000))
    real = objective.heatmap_loss

    def loss(predicted, *args, **kwargs):
        value = real(predicted, *args, **kwargs)
        return value * float("nan") if bad(next(calls)) else value

    monkeypatch.setattr(objective, "heatmap_loss", loss)


def test_a_step_without_a_finite_loss_is_skipped(recipe_text, tmp_path, monkeypatch):
    bad_losses(monkeypatch, lambda call: call in (2, 3))
    outcome = run(recipe_text, tmp_path, "train.nan_limit=3")
    assert outcome.finished
    assert outcome.skipped_steps == 2
    after = weights(tmp_path)
    assert all(torch.isfinite(value).all() for value in after.values() if value.is_floating_point())
    # The running statistics forget the skipped steps too: 6 steps less 2.
    assert {value.item() for name, value in after.items() if name.endswith("num_batches_tracked")} == {4}


def test_too_many_bad_steps_end_the_run(recipe_text, tmp_path, monkeypatch):
    bad_losses(monkeypatch, lambda call: call > 1)
    with pytest.raises(TrainingError, match="4 steps in a row without a finite loss"):
        run(recipe_text, tmp_path, "train.nan_limit=4")


def test_a_photo_that_cannot_be_read_is_left_out_and_named(recipe_text, figures, tmp_path):
    shutil.copytree(figures, tmp_path / "data")
    broken = tmp_path / "data" / "train3.png"
    broken.write_bytes(broken.read_bytes()[:40])
    (tmp_path / "data" / "val2.png").unlink()
    outcome = run(recipe_text, tmp_path / "out", f"data.root={tmp_path / 'data'}")
    assert outcome.finished
    assert len(outcome.failed_photos) == 2
    named = (tmp_path / "out" / "skipped.txt").read_text()
    assert "train3.png" in named
    assert "val2.png" in named


def test_no_photo_can_be_read(recipe_text, figures, tmp_path):
    for name in ("train.json", "val.json"):
        shutil.copy(figures / name, tmp_path)
    with pytest.raises(TrainingError, match="no photo"):
        run(recipe_text, tmp_path / "out", f"data.root={tmp_path}")


def test_a_run_is_not_overwritten(recipe_text, tmp_path):
    run(recipe_text, tmp_path, "train.epochs=1")
    with pytest.raises(CheckpointError, match="holds a run already"):
        run(recipe_text, tmp_path, "train.epochs=1")


def test_resume_of_nothing_and_of_another_model(recipe_text, tmp_path):
    with pytest.raises(CheckpointError, match=r"state\.pt"):
        run(recipe_text, tmp_path / "empty", resume=True)
    assert not (tmp_path / "empty").exists()
    run(recipe_text, tmp_path / "one", "train.epochs=1")
    with pytest.raises(CheckpointError, match="another model"):
        run(recipe_text, tmp_path / "one", "model.options.input_size=[64, 32]", resume=True)


def test_phases_and_starting_weights(recipe_text, tmp_path):
    run(recipe_text, tmp_path / "small", "train.epochs=1", "model.options.input_size=[64, 32]")
    start = f"model.init={tmp_path / 'small' / 'last.safetensors'}"
    outcome = run(recipe_text, tmp_path / "large", start, "train.optimizer.lr=1e-12", "data.val=null", "train.epochs=1")
    assert outcome.finished
    small, large = (load_model(tmp_path / name / "last.safetensors") for name in ("small", "large"))
    for name, parameter in large.named_parameters():
        torch.testing.assert_close(parameter, small.get_parameter(name), atol=1e-8, rtol=1e-6)


def test_without_validation_the_last_weights_are_the_best(recipe_text, tmp_path):
    outcome = run(recipe_text, tmp_path, "data.val=null", "train.epochs=1")
    assert outcome.best is None
    last, best = (load_model(tmp_path / name) for name in ("last.safetensors", "best.safetensors"))
    assert all(torch.equal(a, b) for a, b in zip(last.state_dict().values(), best.state_dict().values(), strict=True))


def test_bfloat16_and_tensorboard(recipe_text, tmp_path):
    pytest.importorskip("tensorboard")
    outcome = run(
        recipe_text,
        tmp_path,
        "train.precision=bfloat16",
        "train.deterministic=false",
        "log.tensorboard=true",
        "train.epochs=1",
    )
    assert outcome.finished
    assert any((tmp_path / "events").iterdir())
    assert load_state(tmp_path / "state.pt")["precision"] == "bfloat16"


def test_coco_ap_and_two_sources(recipe_text, figures, draw_set, tmp_path):
    shutil.copytree(figures, tmp_path / "data")
    draw_set(tmp_path / "data", "more", 5, seed=3)
    console = quiet()
    outcome = run(
        recipe_text,
        tmp_path / "out",
        f"data.root={tmp_path / 'data'}",
        "data.train=[{annotations: train.json}, {annotations: more.json, repeats: 2}]",
        "eval.metric=coco_ap",
        "train.epochs=1",
        console=console,
    )
    assert outcome.steps == (24 + 10) // 8
    assert 0 <= outcome.best <= 1
    assert "more.json: 5 people" in console.file.getvalue()


def test_the_best_model_is_of_the_full_input_size(recipe_text, tmp_path):
    console = quiet()
    phases = "train.phases=[{input_size: [32, 32]}, {}]"
    outcome = run(recipe_text, tmp_path, phases, "train.epochs=4", console=console)
    text = console.file.getvalue()
    assert text.count("PCK@0.2") == 4
    assert "best so far" not in text[: text.index("epoch 3/4")]
    assert outcome.best_epoch in (3, 4)


def test_the_demo_recipe_needs_nothing_but_the_package(tmp_path):
    recipe = load_recipe(
        "synthetic_demo",
        [
            "data.train.0.synthetic.scenes=32", "data.val.synthetic.scenes=8", "train.epochs=1", "train.batch_size=8",
            "model.options.input_size=[64, 64]", "train.precision=float32",
        ],
    )  # fmt: skip
    outcome = train(recipe, tmp_path, console=quiet())
    assert outcome.finished
    assert outcome.steps == 4


@pytest.mark.parametrize("head", ["regression", "rle"])
def test_networks_that_give_coordinates_are_trained_too(recipe_text, tmp_path, head):
    options = ("model.name=resnet50", "model.codec={kind: regression}", "train.loss.weight=1", "train.epochs=1")
    assert run(recipe_text, tmp_path, *options, f"model.options.head={head}").finished
