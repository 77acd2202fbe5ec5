"""A run and its surroundings: what it saves and when, the folder that it has to itself, the process that it runs in."""

import io
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch
from rich.console import Console

import fastpose
from fastpose.cli import main
from fastpose.data.loader import Loader
from fastpose.evaluate import Evaluator
from fastpose.models import create_model
from fastpose.train import precision
from fastpose.train.checkpoint import CheckpointError, load_state, open_folder, save_state
from fastpose.train.distributed import TrainingError
from fastpose.train.epoch import Trainer
from fastpose.train.loop import train
from fastpose.train.precision import choose_precision
from fastpose.train.recipe import RecipeError, parse_recipe
from fastpose.train.run import Run
from fastpose.train.setup import build_model, build_phases
from fastpose.train.sources import build_data


def run(text, out, *overrides, resume=False):
    console = Console(file=io.StringIO(), width=300)
    return train(parse_recipe(text, list(overrides)), out, resume=resume, console=console), console.file.getvalue()


def same_weights(one, two):
    one, two = (load_state(folder / "state.pt") for folder in (one, two))
    parts = [(one[part], two[part]) for part in ("model", "average") if one[part]]
    return all(a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a) for a, b in parts)


# Saved before it is validated


@pytest.mark.parametrize("epoch", [1, 3])
def test_a_validation_that_fails_loses_nothing(recipe_text, tmp_path, monkeypatch, epoch):
    options = ("train.epochs=3", "train.ema.decay=0.9", "augment.colour_prob=0.5")
    whole, _ = run(recipe_text, tmp_path / "whole", *options)
    measure, calls = Evaluator.__call__, iter(range(1, 10))

    def failing(self, *args, **named):
        if next(calls) == epoch:
            raise ValueError("the disk of the validation is gone")
        return measure(self, *args, **named)

    console = Console(file=io.StringIO(), width=300)
    with monkeypatch.context() as patched:
        patched.setattr(Evaluator, "__call__", failing)
        with pytest.raises(ValueError, match="disk of the validation is gone"):
            train(parse_recipe(recipe_text, list(options)), tmp_path / "parts", console=console)
    said = f"epoch {epoch} is saved, but its validation failed: --resume validates it again and goes on"
    assert said in console.file.getvalue()
    saved = Run.read(tmp_path / "parts")
    assert (saved.epoch, saved.steps, saved.validation_due, saved.finished) == (epoch, 3 * epoch, True, False)

    again, _ = run(recipe_text, tmp_path / "parts", *options, resume=True)
    assert again.finished
    assert (again.best, again.best_epoch, again.steps) == (whole.best, whole.best_epoch, 9)
    assert again.curve("metric")[1].tolist() == whole.curve("metric")[1].tolist()
    assert same_weights(tmp_path / "whole", tmp_path / "parts")
    best, other = (fastpose.load_model(r.best_checkpoint).state_dict() for r in (whole, again))
    assert all(torch.equal(best[name], other[name]) for name in best)


def test_a_run_whose_validation_cannot_be_mended_goes_on_without(recipe_text, tmp_path, monkeypatch):
    def failing(self, *args, **named):
        raise ValueError("never")

    with monkeypatch.context() as patched:
        patched.setattr(Evaluator, "__call__", failing)
        with pytest.raises(ValueError, match="never"):
            run(recipe_text, tmp_path)
    done, said = run(recipe_text, tmp_path, "data.val=null", resume=True)
    assert done.finished
    assert done.steps == 6
    assert "nothing is validated" in said
    assert done.best_checkpoint.is_file()


def test_a_state_of_the_version_before_is_resumed(recipe_text, tmp_path, at_step):
    run(recipe_text, tmp_path / "whole")
    with at_step(2):
        run(recipe_text, tmp_path / "parts")
    state = load_state(tmp_path / "parts" / "state.pt")
    del state["validation_due"]
    save_state(tmp_path / "parts" / "state.pt", state)
    done, _ = run(recipe_text, tmp_path / "parts", resume=True)
    assert done.finished
    assert same_weights(tmp_path / "whole", tmp_path / "parts")


# A folder of its own


def test_two_runs_do_not_share_a_folder(recipe_text, tmp_path, capsys):
    out, recipe = tmp_path / "out", tmp_path / "recipe.yaml"
    recipe.write_text(recipe_text)
    with open_folder(parse_recipe(recipe_text), out, False):
        for resume in (False, True):
            with pytest.raises(CheckpointError, match=f"^{out}: another run is writing to this folder"):
                run(recipe_text, out, resume=resume)
        with pytest.raises(SystemExit) as stop:
            main(["train", str(recipe), "--out", str(out)])
    assert stop.value.code == 2
    assert capsys.readouterr().err.splitlines() == [
        f"Error: {out}: another run is writing to this folder; choose another --out"
    ]
    assert run(recipe_text, out, "train.epochs=1", "data.val=null")[0].finished


def test_the_lock_vanishes_with_its_process(recipe_text, tmp_path):
    code = f"""
import sys, time
from pathlib import Path
from fastpose.train.checkpoint import open_folder
from fastpose.train.recipe import parse_recipe
with open_folder(parse_recipe({recipe_text!r}), Path({str(tmp_path)!r}), False):
    print("held", flush=True)
    time.sleep(600)
"""
    recipe = parse_recipe(recipe_text)
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "held\n"
        with pytest.raises(CheckpointError, match="another run"), open_folder(recipe, tmp_path, False):
            pass
        process.kill()
    with open_folder(recipe, tmp_path, False) as state:
        assert state is None


# The process


def process():
    return {
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "warn_only": torch.is_deterministic_algorithms_warn_only_enabled(),
        "random": torch.get_rng_state().tolist(),
        "filters": list(warnings.filters),
    }


@pytest.mark.parametrize("fails", [False, True])
def test_the_process_is_left_as_it_was(recipe_text, tmp_path, monkeypatch, fails):
    kept = []
    monkeypatch.setattr("fastpose.train.process.keep_memory", lambda: kept.append(True) or True)
    monkeypatch.setattr("fastpose.train.process.release_memory", lambda: kept.append(False))
    torch.manual_seed(7)
    torch.use_deterministic_algorithms(True, warn_only=True)
    before = process()
    try:
        if fails:
            monkeypatch.setattr(Trainer, "validate", lambda self: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                run(recipe_text, tmp_path)
        else:
            run(recipe_text, tmp_path, "train.deterministic=false", "train.epochs=1", "data.val=null")
        after = process()
    finally:
        torch.use_deterministic_algorithms(False)
    assert after == before
    assert kept == [True, False]


# Precision


def test_precision_follows_from_recipe_and_device(recipe_text, tmp_path, monkeypatch):
    options = ["train.precision=auto", "train.deterministic=false", "train.epochs=1", "data.val=null"]
    for amx, expected in ((True, "bfloat16"), (False, "float32")):
        monkeypatch.setattr(precision, "_has_amx", lambda amx=amx: amx)
        assert choose_precision(parse_recipe(recipe_text, options), torch.device("cpu")) == expected
        deterministic = parse_recipe(recipe_text, [*options, "train.deterministic=true"])
        assert choose_precision(deterministic, torch.device("cpu")) == "float32"
    monkeypatch.setattr(precision, "_has_amx", lambda: True)
    first, said = run(recipe_text, tmp_path, *options)
    assert first.precision == load_state(tmp_path / "state.pt")["precision"] == "bfloat16"
    assert "bfloat16 on cpu" in said
    monkeypatch.setattr(precision, "_has_amx", lambda: False)  # another machine goes on as this one began
    second, said = run(recipe_text, tmp_path, *options, "train.epochs=2", resume=True)
    assert second.precision == load_state(tmp_path / "state.pt")["precision"] == "bfloat16"
    assert "bfloat16 on cpu" in said


def test_a_gpu_has_its_own_rule(recipe_text, monkeypatch):
    recipe = parse_recipe(recipe_text, ["train.precision=auto", "train.deterministic=false"])
    for capability, expected in (((9, 0), "bfloat16"), ((7, 5), "float16")):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device, found=capability: found)
        assert choose_precision(recipe, torch.device("cuda")) == expected


# Data


def test_a_file_of_annotations_is_trained_on(recipe_text, figures, tmp_path):
    done, said = run(recipe_text, tmp_path / "a", f"data={figures / 'train.json'}", "train.epochs=1")
    assert done.finished
    assert "train.json: 24 people" in said
    assert said.count("data.val is not given, so nothing is validated") == 1
    assert done.best_checkpoint.is_file()
    done, said = run(
        recipe_text, tmp_path / "b", f"data={figures / 'train.json'}", "data.val.annotations=val.json", "train.epochs=1"
    )
    assert done.best is not None
    assert "nothing is validated" not in said


# Photos that cannot be read


def test_the_others_count_for_those_that_cannot_be_read(recipe_text, tmp_path, draw_set):
    """Loss and gradient of a batch are those of the crops that there are, worked out here without the loop."""
    data = tmp_path / "data"
    data.mkdir()
    draw_set(data, "train", 8)
    for number in (1, 4, 6):
        (data / f"train{number}.png").unlink()
    options = [f"data.root={data}", "data.val=null", "train.epochs=1", "train.channels_last=false"]
    done, _ = run(recipe_text, tmp_path / "out", *options)

    recipe = parse_recipe(recipe_text, options)
    torch.manual_seed(recipe.train.seed)
    model = build_model(recipe, print).train()
    (phase,) = build_phases(recipe, model)
    people = build_data(recipe, model.spec, print)
    loader = Loader(people, model.spec, batch_size=8, augmentation=phase.augmentation, seed=recipe.train.seed)
    (batch,) = loader.epoch(0)
    assert len(batch.people) == 5
    weights = batch.weights * torch.tensor(model.spec.skeleton.joint_weights)
    loss = phase.loss(model(batch.images), batch.keypoints, weights, batch.annotated)
    loss.backward()
    gradient = torch.cat([parameter.grad.flatten() for parameter in model.parameters()]).norm()
    assert done.curve("loss")[1] == pytest.approx([loss.item()], rel=1e-4)
    assert done.curve("grad_norm")[1] == pytest.approx([gradient.item()], rel=1e-3)


# Batches of one crop, where BatchNorm sees maps of one pixel

SMALL = "model={name: mobilenetv2, skeleton: coco17, options: {input_size: [32, 32]}}"


def test_which_networks_need_two_crops(recipe_text):
    for name, size, expected in (
        ("mobilenetv2", 64, 1), ("mobilenetv2", 32, 2), ("resnest50", 64, 2), ("vitpose_small", 32, 1),
    ):  # fmt: skip
        recipe = parse_recipe(recipe_text, [f"model.name={name}", f"model.options.input_size=[{size}, {size}]"])
        (phase,) = build_phases(recipe, create_model(name, input_size=(size, size)))
        assert phase.least_crops == expected, name


def test_a_batch_of_one_is_refused_before_the_run(recipe_text, tmp_path):
    with pytest.raises(
        RecipeError, match=r"train\.batch_size: expected at least 2, got 1: at \[32, 32\] the network has"
    ):
        run(recipe_text, tmp_path, SMALL, "train.batch_size=1")
    with pytest.raises(RecipeError, match=r"train\.phases\.0\.batch_size: expected at least 2"):
        run(recipe_text, tmp_path, "model.name=mobilenetv2", "train.phases=[{input_size: [32, 32], batch_size: 1}, {}]")
    assert not (tmp_path / "log.csv").exists()
    frozen = parse_recipe(recipe_text, [SMALL, "train.batch_size=1", "train.freeze=[backbone.*]"])
    assert build_phases(frozen, build_model(frozen, print))[0].least_crops == 1
    together = parse_recipe(recipe_text, [SMALL, "train.batch_size=1", "train.sync_batchnorm=true"])
    assert build_phases(together, build_model(together, print), 2)[0].least_crops == 1
    with pytest.raises(RecipeError, match="data: 1 crop in an epoch, and this network needs two"):
        run(recipe_text, tmp_path / "one", SMALL, "data.train.0.repeats=0.05", "train.batch_size=2")


def test_a_crop_that_is_left_over_is_left_out(recipe_text, figures, tmp_path, draw_set):
    data = tmp_path / "data"
    data.mkdir()
    draw_set(data, "train", 4)
    (data / "train2.png").unlink()  # one of a pair
    options = (SMALL, f"data.root={data}", "train.batch_size=2", "data.val=null", "train.swa.epochs=1")
    done, _ = run(recipe_text, tmp_path / "out", *options, "eval.weights=[swa]")
    assert done.finished
    assert done.steps == 2  # of the whole pair in each epoch
    assert [Path(reason.split(":")[0]).name for reason in done.failed_photos] == ["train2.png"]
    (data / "train0.png").unlink()
    (data / "train1.png").unlink()
    with pytest.raises(TrainingError, match="no photo can be read"):
        run(recipe_text, tmp_path / "none", *options)


def test_a_state_that_is_no_file_is_refused_at_once(tmp_path):
    (tmp_path / "state.pt").symlink_to("/dev/zero")
    with pytest.raises(CheckpointError, match=r"state\.pt: is a device, expected a regular file"):
        load_state(tmp_path / "state.pt")
