"""The loop: it learns, resumes to the same weights, and survives what goes wrong."""

import csv
import io
import json
import shutil
import time
import types

import numpy as np
import pytest
import torch
from rich.console import Console

from fastpose.codecs import heatmap
from fastpose.data.dataset import PhotoStore
from fastpose.models import load_model
from fastpose.train import epoch as epoch_module
from fastpose.train import loop
from fastpose.train.checkpoint import CheckpointError, load_state
from fastpose.train.loop import TrainingError, train
from fastpose.train.recipe import RecipeError, load_recipe, parse_recipe
from fastpose.train.setup import build_model


def quiet():
    return Console(file=io.StringIO(), width=200)


def run(text, out, *overrides, resume=False, console=None):
    return train(parse_recipe(text, list(overrides)), out, resume=resume, console=console or quiet())


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
def test_resume_gives_the_weights_of_an_uninterrupted_run(recipe_text, tmp_path, at_step, interrupt_at):
    options = ("train.ema.decay=0.99", "augment.colour_prob=0.5", "train.phases=[{input_size: [64, 32]}, {}]")
    run(recipe_text, tmp_path / "whole", *options)
    with at_step(interrupt_at):
        first = run(recipe_text, tmp_path / "parts", *options)
    assert not first.finished
    assert first.steps == interrupt_at
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


def test_resume_with_accumulation_and_an_exponential_average(recipe_text, tmp_path, at_step):
    # 6 batches of 4 in an epoch, of which the last step has two.
    options = (
        "train.batch_size=4", "train.accumulate=4", "train.ema={decay: 0.99, ramp: exponential, buffers: true}",
        "augment.pixels={hsv: {}, blur: {prob: 0.5}}", "train.precision=float32",
    )  # fmt: skip
    whole = run(recipe_text, tmp_path / "whole", *options)
    assert whole.steps == 4
    with at_step(3):
        assert run(recipe_text, tmp_path / "parts", *options).steps == 3
    assert run(recipe_text, tmp_path / "parts", *options, resume=True).steps == 4
    whole, parts = weights(tmp_path / "whole"), weights(tmp_path / "parts")
    assert all(torch.equal(whole[name], parts[name]) for name in whole)


def test_accumulated_gradients_are_those_of_the_whole_batch(recipe_text, tmp_path):
    # Without batch statistics a step over 2 x 4 crops is one over 8.
    options = ("train.epochs=1", "train.freeze=[backbone.*, head.deconv_layers.*]", "data.val=null", "log.every=1")
    run(recipe_text, tmp_path / "whole", *options)
    run(recipe_text, tmp_path / "parts", *options, "train.batch_size=4", "train.accumulate=2")
    whole, parts = weights(tmp_path / "whole"), weights(tmp_path / "parts")
    start = weights(tmp_path / "whole").keys()
    assert any("final_layer" in name for name in start)
    for name in whole:
        torch.testing.assert_close(parts[name], whole[name], rtol=1e-3, atol=1e-5)


def test_the_rate_follows_the_batch_and_the_first_line_says_so(recipe_text, tmp_path):
    console = quiet()
    options = ("train.base_batch_size=64", "train.epochs=1", "train.schedule.warmup=0", "data.val=null")
    run(recipe_text, tmp_path, *options, console=console)
    assert "lr 0.00025 for 8 crops in a step (0.002 for 64)" in console.file.getvalue()
    with (tmp_path / "log.csv").open() as file:
        assert float(next(csv.DictReader(file))["lr"]) == pytest.approx(0.00025)


def test_frozen_parts_stay_as_they_are(recipe_text, tmp_path):
    run(recipe_text, tmp_path / "start", "train.epochs=1", "train.optimizer.lr=1e-12")
    init = f"model.init={tmp_path / 'start' / 'last.safetensors'}"
    run(recipe_text, tmp_path / "out", init, "train.freeze=[backbone.*]", "train.epochs=2")
    before, after = (load_model(tmp_path / name / "last.safetensors").state_dict() for name in ("start", "out"))
    same = {name for name in before if torch.equal(before[name], after[name])}
    assert {name for name in before if name.startswith("backbone.")} <= same
    assert "head.final_layer.weight" not in same


def test_patience_and_numbered_models(recipe_text, tmp_path):
    console = quiet()
    options = ("train.optimizer.lr=1e-12", "train.epochs=9", "eval.patience=2", "train.keep=2")
    outcome = run(recipe_text, tmp_path, *options, console=console)
    assert outcome.finished
    assert outcome.steps == 3 * (outcome.best_epoch + 2) < 27
    assert "2 validations no better than the best" in console.file.getvalue()
    last = outcome.best_epoch + 2
    assert sorted(p.name for p in tmp_path.glob("epoch_*")) == [f"epoch_{n:04}.safetensors" for n in (last - 1, last)]
    assert load_model(tmp_path / f"epoch_{last:04}.safetensors").spec.input_size == (64, 64)


def test_float16_scales_the_loss_and_survives_a_resume(recipe_text, tmp_path):
    size = ("model.options.input_size=[32, 32]", "train.batch_size=2", "data.train.0.repeats=0.2")  # slow on CPUs
    options = ("train.precision=float16", "train.deterministic=false", "data.val=null", *size)
    outcome = run(recipe_text, tmp_path, *options, "train.epochs=1")
    state = load_state(tmp_path / "state.pt")
    assert state["precision"] == "float16"
    # Every step that overflowed halved the scale.
    assert state["scaler"]["scale"] == 65536.0 / 2**outcome.skipped_steps
    assert run(recipe_text, tmp_path, *options, "train.epochs=2", resume=True).finished


def test_compilation(recipe_text, tmp_path, monkeypatch):
    calls = []

    def fake(model):
        def compiled(x):
            calls.append(tuple(x.shape))
            if len(calls) > 2:
                raise RuntimeError("no compiler\nlong story")
            return model(x)

        return compiled

    monkeypatch.setattr(torch, "compile", fake)
    console = quiet()
    outcome = run(recipe_text, tmp_path, "train.compile=true", "train.epochs=2", console=console)
    assert outcome.finished
    assert calls == [(8, 3, 64, 64)] * 3
    assert console.file.getvalue().count("train.compile: goes on without, RuntimeError: no compiler") == 1


def test_recomputing_where_the_network_can(recipe_text, tmp_path):
    with pytest.raises(RecipeError, match="grad_checkpointing: ResNet has none"):
        run(recipe_text, tmp_path / "a", "train.grad_checkpointing=true")
    options = ("model.name=hrnet_w32", "train.grad_checkpointing=true", "train.epochs=1", "data.val=null")
    recipe = parse_recipe(recipe_text, list(options))
    assert build_model(recipe, print).backbone.grad_checkpointing


@pytest.mark.parametrize(("wait", "work", "said"), [(1, 10, 0), (5, 10, 1), (2, 1, 0)])  # the last: epochs of 9 seconds
def test_waiting_for_photos_is_said_once(recipe_text, tmp_path, monkeypatch, wait, work, said):
    """By a clock of its own, on which photos and steps take as many seconds as they are said to."""
    now = 0.0
    note, batches = loop.RunLog.step, loop.Loader.epoch

    def slow_batches(self, *args):
        nonlocal now
        for batch in batches(self, *args):
            now += wait
            yield batch

    def slow_step(self, **values):
        nonlocal now
        note(self, **values)
        now += work

    clock = types.SimpleNamespace(perf_counter=lambda: now, monotonic=time.monotonic)
    monkeypatch.setattr(epoch_module, "time", clock)
    monkeypatch.setattr(loop.Loader, "epoch", slow_batches)
    monkeypatch.setattr(loop.RunLog, "step", slow_step)
    console = quiet()
    run(recipe_text, tmp_path, "data.val=null", console=console)
    text = console.file.getvalue()
    assert text.count("loading bounds the run: for") == said
    assert text.count("loading bounds the run: for 33% of epoch 1 the network waited") == said


def test_what_the_recipe_says_now_counts_when_a_run_goes_on(recipe_text, tmp_path):
    decays = "weight_decay: {}, norm_decay: 1, bias_decay: 1"
    first = f"train.optimizer={{lr: 1.0e-3, {decays.format(0)}}}"
    run(recipe_text, tmp_path, first, "train.epochs=1", "data.val=null")
    console = quiet()
    then = f"train.optimizer={{lr: 1.0e-3, betas: [0.8, 0.9], {decays.format(0.5)}}}"
    options = (then, "train.precision=bfloat16", "data.val=null")
    assert run(recipe_text, tmp_path, *options, resume=True, console=console).steps == 6
    assert "bfloat16 on cpu" in console.file.getvalue()
    state = load_state(tmp_path / "state.pt")
    assert state["precision"] == "bfloat16"
    assert {(*group["betas"], group["weight_decay"]) for group in state["optimizer"]["param_groups"]} == {
        (0.8, 0.9, 0.5)
    }


def test_another_optimizer_cannot_go_on(recipe_text, tmp_path):
    run(recipe_text, tmp_path, "train.epochs=1", "data.val=null")
    with pytest.raises(CheckpointError, match=r"state.pt: its optimizer is adamw, that of the recipe sgd"):
        run(recipe_text, tmp_path, "train.optimizer.name=sgd", "data.val=null", resume=True)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["eval.metric=mpii_pckh"], r"eval.metric: mpii_pckh cannot be measured \(.*no head boxes"),
        (["eval.metric=jhmdb_pck"], r"eval.metric: jhmdb_pck cannot be measured \(visible: expected shape \[N, 15\]"),
        (["data.skeleton.keypoints=[nose, left_eye]", "model.skeleton=data"], "pck needs right_shoulder, .*has not"),
        (["data.val.annotations=heads.json"], "pck has nothing to measure in .*heads.json"),
    ],
)
def test_what_cannot_be_measured_is_said_before_the_first_epoch(figures, recipe_text, tmp_path, options, said):
    content = json.loads((figures / "val.json").read_text())
    for person in content["annotations"]:
        person["keypoints"][15:] = [0] * 36  # the face alone
    (figures / "heads.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=said):
        run(recipe_text, tmp_path, *options)
    assert not (tmp_path / "log.csv").exists()


def test_a_box_of_no_size_is_left_out(figures, recipe_text, tmp_path):
    content = json.loads((figures / "train.json").read_text())
    content["annotations"][0]["bbox"] = [10, 10, 1e-5, 1e-5]
    (figures / "tiny_box.json").write_text(json.dumps(content))
    console = quiet()
    options = ("data.train.0.annotations=tiny_box.json", "data.val=null", "train.batch_size=23", "train.epochs=1")
    assert run(recipe_text, tmp_path, *options, console=console).steps == 1
    assert "23 people" in console.file.getvalue()


def test_same_seed_same_weights_other_seed_others(recipe_text, tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        run(recipe_text, tmp_path / name, f"train.seed={seed}", "train.epochs=1", "data.val=null")
    a, b, c = (weights(tmp_path / name) for name in "abc")
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert any(not torch.equal(a[name], c[name]) for name in a)


def bad_losses(monkeypatch, bad):
    """Make the loss NaN at the calls (from 1) for which ``bad`` says so."""
    calls = iter(range(1, 10_000))
    real = heatmap.heatmap_loss

    def loss(predicted, *args, **kwargs):
        value = real(predicted, *args, **kwargs)
        return value * float("nan") if bad(next(calls)) else value

    monkeypatch.setattr(heatmap, "heatmap_loss", loss)


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


def test_reduced_photos_are_asked_for_by_the_recipe(recipe_text, tmp_path, monkeypatch):
    asked = []

    def read_reduced(store, number, step):
        asked.append(step)
        return store.read(number), np.eye(2, 3)

    monkeypatch.setattr(PhotoStore, "read_reduced", read_reduced)
    size = "model.options.input_size=[32, 32]"
    run(recipe_text, tmp_path, "train.epochs=1", "data.reduce=true", "data.cache_gb=0", size)
    assert len(asked) == 24
    assert set(asked) == {2}


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
    options = ("model.name=mobilenetv2", "model.codec={kind: regression}", "train.loss.weight=1", "train.epochs=1")
    console = quiet()
    outcome = run(recipe_text, tmp_path, *options, f"model.options.head={head}", console=console)
    assert outcome.finished, console.file.getvalue()  # a signal from outside, as timeout's, ends a run as Ctrl-C does
    assert (outcome.steps, outcome.skipped_steps) == (3, 0)
