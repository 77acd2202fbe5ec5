"""The mean of the last epochs' weights: its values, its statistics, the choice among the kinds, and resuming."""

import csv
import io
from contextlib import nullcontext

import pytest
import torch
from rich.console import Console
from safetensors import safe_open
from torch import nn

from fastpose.models import load_model
from fastpose.train.averaging import WeightAverage
from fastpose.train.checkpoint import load_state
from fastpose.train.loop import train
from fastpose.train.recipe import RecipeError, parse_recipe


def run(text, out, *overrides, resume=False):
    console = Console(file=io.StringIO(), width=300)
    outcome = train(parse_recipe(text, list(overrides)), out, resume=resume, console=console)
    return outcome, console.file.getvalue()


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)).train()


def test_mean_by_hand():
    model = network()
    average = WeightAverage(model)
    with torch.no_grad():
        for value in (1.0, 2.0, 6.0):
            model[0].weight.fill_(value)
            model[1].running_mean.fill_(value)
            average.update(model)
    assert average.count == 3
    torch.testing.assert_close(average.model[0].weight, torch.full_like(model[0].weight, 3.0))
    assert average.model[1].running_mean[0] == 6  # statistics are no weights
    assert not any(parameter.requires_grad for parameter in average.model.parameters())
    other = WeightAverage(network())
    other.load_state_dict(average.state_dict())
    for averaged in (average, other):
        averaged.update(model)
    torch.testing.assert_close(other.model[0].weight, average.model[0].weight, rtol=0, atol=0)


def test_statistics_are_those_of_the_batches_and_frozen_ones_stay():
    model = network()
    model[1].requires_grad_(False)
    model[1].running_mean.fill_(0.5)
    average = WeightAverage(model)
    average.update(model)
    batches = [torch.randn(5, 3, 4, 4) for _ in range(3)]
    average.estimate_statistics(batches, nullcontext)
    assert (average.model[1].running_mean == 0.5).all()
    with torch.no_grad():
        seen = [average.model[:3](batch) for batch in batches]
    mean = torch.stack([x.mean((0, 2, 3)) for x in seen]).mean(0)
    variance = torch.stack([x.var((0, 2, 3)) for x in seen]).mean(0)
    torch.testing.assert_close(average.model[3].running_mean, mean)
    torch.testing.assert_close(average.model[3].running_var, variance)
    assert not average.model[3].training
    assert average.model[3].momentum == 0.1
    assert model[3].running_mean.abs().sum() == 0  # the trained network's own stay


SWA = ("train.epochs=4", "train.swa.epochs=2")


def test_the_mean_of_the_last_epochs(recipe_text, tmp_path):
    run(recipe_text, tmp_path, *SWA, "eval.weights=[trained]", "train.keep=4")
    state = load_state(tmp_path / "state.pt")["swa"]
    assert state["count"] == 2
    third, fourth = (load_model(tmp_path / f"epoch_000{n}.safetensors").state_dict() for n in (3, 4))
    for name, value in state["model"].items():
        if "running" not in name and "tracked" not in name:
            torch.testing.assert_close(value, (third[name] + fourth[name]) / 2)


def test_the_best_kind_of_weights_is_kept_and_said(recipe_text, tmp_path):
    options = (*SWA, "train.ema.decay=0.5", "eval.weights=[trained, ema, swa]", "log.every=1", "train.epochs=20")
    outcome, text = run(recipe_text, tmp_path, *options, "train.swa.epochs=10")
    lines = [line.split("PCK@0.2 ")[1] for line in text.splitlines() if "PCK@0.2" in line]
    assert len(lines) == 20
    assert all("swa" not in line for line in lines[:10])
    assert all("swa" in line for line in lines[10:])
    with (tmp_path / "log.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["metric"]]
    assert outcome.best == pytest.approx(max(float(row["metric"]) for row in rows))
    assert [row["weights"] for row in rows] == [line.split("of ")[1].split(",")[0] for line in lines]
    for line in lines:  # the first of each line is the best of that validation
        figures = [float(word) for word in line.replace(",", " ").split() if word[0].isdigit()]
        assert max(figures) == figures[0]
    with safe_open(tmp_path / "best.safetensors", "pt") as file:
        assert file.metadata()["weights"] == outcome.best_weights == rows[outcome.best_epoch - 1]["weights"]
    assert text.splitlines()[-1].endswith(
        f"at epoch {outcome.best_epoch} ({outcome.best_weights}): {tmp_path}/best.safetensors"
    )


def test_without_validation_the_mean_is_the_best(recipe_text, tmp_path):
    run(recipe_text, tmp_path, *SWA, "data.val=null")
    best, averaged = load_model(tmp_path / "best.safetensors").state_dict(), load_state(tmp_path / "state.pt")["swa"]
    assert all(torch.equal(best[name], value) for name, value in averaged["model"].items())


# Within the epochs before the mean begins, at its first epoch's end, and within the epoch after that.
@pytest.mark.parametrize("interrupt_at", [4, 9, 11])
def test_resume_gives_the_same_mean(recipe_text, tmp_path, at_step, interrupt_at):
    options = (*SWA, "train.ema.decay=0.9", "train.swa.batches=2", "train.phases=[{input_size: [64, 32]}, {share: 3}]")
    run(recipe_text, tmp_path / "whole", *options)
    with at_step(interrupt_at):
        assert not run(recipe_text, tmp_path / "parts", *options)[0].finished
    assert run(recipe_text, tmp_path / "parts", *options, resume=True)[0].finished
    whole, parts = (load_state(tmp_path / name / "state.pt") for name in ("whole", "parts"))
    assert whole["swa"]["count"] == parts["swa"]["count"] == 2
    for one, other in ((whole, parts), (whole["swa"], parts["swa"])):
        assert all(torch.equal(value, other["model"][name]) for name, value in one["model"].items())
    assert (whole["best"], whole["best_weights"]) == (parts["best"], parts["best_weights"])
    best = [load_model(tmp_path / name / "best.safetensors").state_dict() for name in ("whole", "parts")]
    assert all(torch.equal(value, best[1][name]) for name, value in best[0].items())


def test_weights_that_nobody_makes_cannot_be_validated(recipe_text):
    with pytest.raises(RecipeError, match=r"eval\.weights: swa needs train\.swa"):
        parse_recipe(recipe_text, ["eval.weights=[trained, swa]"])
    assert parse_recipe(recipe_text, ["train.swa={}", "train.ema={}"]).judged == ["ema", "swa"]
    assert parse_recipe(recipe_text, []).judged == ["trained"]
