"""Optimizer, schedule, moving average, state files, phases."""

import cv2
import numpy as np
import pytest
import torch
from torch import nn

from fastpose.models import create_model, save_model
from fastpose.train.checkpoint import CheckpointError, load_state, save_state
from fastpose.train.ema import MovingAverage
from fastpose.train.optim import build_optimizer, learning_rate_factor
from fastpose.train.recipe import EmaSettings, OptimizerSettings, RecipeError, ScheduleSettings, parse_recipe
from fastpose.train.setup import build_data, build_evaluator, build_model, build_phases, pick_device


def test_cosine_with_warmup():
    schedule = ScheduleSettings(warmup=100, warmup_start=0.1, final=0.02)
    assert learning_rate_factor(schedule, 0, 0.0) == pytest.approx(0.1)
    assert learning_rate_factor(schedule, 49, 0.0) == pytest.approx(0.1 + 0.9 * 49 / 99)
    assert learning_rate_factor(schedule, 99, 0.0) == pytest.approx(1.0)
    assert learning_rate_factor(schedule, 1000, 0.5) == pytest.approx(0.51)
    assert learning_rate_factor(schedule, 1000, 1.0) == pytest.approx(0.02)


def test_steps():
    schedule = ScheduleSettings(kind="step", warmup=0, milestones=[0.5, 0.9], factor=0.1)
    factors = [learning_rate_factor(schedule, 9, progress) for progress in (0.0, 0.49, 0.5, 0.89, 0.95)]
    assert factors == pytest.approx([1, 1, 0.1, 0.1, 0.01])


@pytest.mark.parametrize("name", ["adamw", "adam", "sgd"])
def test_weight_decay_spares_biases_and_normalisation(name):
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    optimizer = build_optimizer(model, OptimizerSettings(name=name, lr=0.1, weight_decay=0.5))
    decayed, spared = optimizer.param_groups
    assert [p.ndim for p in decayed["params"]] == [4]
    assert [p.ndim for p in spared["params"]] == [1, 1, 1]
    assert (decayed["weight_decay"], spared["weight_decay"]) == (0.5, 0)


def test_moving_average_by_hand():
    model = nn.BatchNorm1d(1)
    with torch.no_grad():
        average = MovingAverage(model, EmaSettings(decay=0.5))
        model.weight.fill_(3.0)
        model.running_mean.fill_(8.0)
        average.update(step=0)  # decay (1 + 0) / (10 + 0) = 0.1
        assert average.model.weight.item() == pytest.approx(0.1 * 1 + 0.9 * 3)
        assert average.model.running_mean.item() == 8.0
        model.weight.fill_(0.0)
        average.update(step=1000)  # decay 0.5
        assert average.model.weight.item() == pytest.approx(1.4)
    assert not any(p.requires_grad for p in average.model.parameters())


def test_state_file(tmp_path):
    path = tmp_path / "state.pt"
    save_state(path, {"tensor": torch.arange(3), "nested": {"list": [1, 2.5, None, "text"]}})
    state = load_state(path)
    assert state["nested"] == {"list": [1, 2.5, None, "text"]}
    assert torch.equal(state["tensor"], torch.arange(3))
    assert [file.name for file in tmp_path.iterdir()] == ["state.pt"]  # nothing temporary is left


def test_a_damaged_state_is_named(tmp_path):
    path = tmp_path / "state.pt"
    with pytest.raises(CheckpointError, match=r"state\.pt: No such file"):
        load_state(path)
    save_state(path, {"tensor": torch.zeros(100)})
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(CheckpointError, match=r"state\.pt: not a training state, or damaged"):
        load_state(path)
    torch.save({"weights": 1}, path)
    with pytest.raises(CheckpointError, match="not a training state of this version"):
        load_state(path)


def test_a_failed_save_leaves_the_old_state(tmp_path, monkeypatch):
    path = tmp_path / "state.pt"
    save_state(path, {"step": 1})

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        save_state(path, {"step": 2})
    assert load_state(path)["step"] == 1
    assert [file.name for file in tmp_path.iterdir()] == ["state.pt"]


def phases_of(text):
    recipe = parse_recipe(
        "model: {name: resnet18_slim}\ndata: {train: [{annotations: a.json}]}\n", [text, "train.epochs=10"]
    )
    return build_phases(recipe, create_model("resnet18_slim"))


def test_phases_share_the_epochs():
    phases = phases_of("train.phases=[{share: 3, input_size: [128, 96], sigma: 1.5}, {share: 1, batch_size: 16}]")
    assert [(p.first_epoch, p.epochs) for p in phases] == [(0, 8), (8, 2)]
    assert phases[0].spec.input_size == (128, 96)
    assert phases[0].spec.codec.heatmap_size == (32, 24)
    assert phases[0].spec.codec.sigma == 1.5
    assert phases[1].spec.input_size == (256, 192)
    assert (phases[0].batch_size, phases[1].batch_size) == (64, 16)


def test_every_phase_has_an_epoch():
    phases = phases_of("train.phases=[{share: 1000}, {share: 1}, {share: 1}]")
    assert [(p.first_epoch, p.epochs) for p in phases] == [(0, 8), (8, 1), (9, 1)]


def test_what_does_not_fit_is_named():
    with pytest.raises(RecipeError, match=r"train\.phases\.0: input_size"):
        phases_of("train.phases=[{input_size: [130, 96]}]")
    with pytest.raises(RecipeError, match=r"train\.phases\.0\.input_size: .* maps of .*, expected \[48, 34\]"):
        phases_of("train.phases=[{input_size: [192, 136]}, {}]")
    with pytest.raises(RecipeError, match=r"train\.phases\.1\.input_size: the last phase"):
        phases_of("train.phases=[{}, {input_size: [128, 96]}]")
    base = "data: {train: [{annotations: a.json}]}\nmodel: "
    for model, said in (
        ("{name: resnet18_slimm}", "did you mean"),
        ("{name: resnet18_slim, options: {nonsense: 1}}", "nonsense"),
        ("{name: resnet18_slim, skeleton: lsp15}", "lsp15"),
        ("{name: resnet18_slim, codec: {kind: gauss}}", "codec.kind"),
        ("{name: resnet18_slim, init: gone.safetensors}", r"gone\.safetensors"),
    ):
        with pytest.raises(RecipeError, match=said):
            build_model(parse_recipe(base + model), print)
    with pytest.raises(RecipeError, match=r"train\.device: 'gpu'"):
        pick_device("gpu")


def test_codec_of_the_recipe():
    text = "data: {train: [{annotations: a.json}]}\nmodel: {name: resnet18_slim, codec: {kind: dark, sigma: 1.5}}"
    codec = build_model(parse_recipe(text), print).spec.codec
    assert (codec.kind, codec.sigma, codec.heatmap_size) == ("dark", 1.5, (64, 48))


def test_other_keypoints_keep_the_rest_of_the_starting_weights(tmp_path):
    start = create_model("resnet18_slim")
    save_model(start, tmp_path / "start.safetensors")
    text = f"""
data: {{train: [{{annotations: a.json}}]}}
model: {{name: resnet18_slim, skeleton: lsp14, init: {tmp_path / "start.safetensors"}}}
"""
    said = []
    model = build_model(parse_recipe(text), said.append)
    assert torch.equal(model.backbone.conv1.weight, start.backbone.conv1.weight)
    assert "2 entries" in said[0]
    assert "head.final_layer" in said[0]


def test_one_file_about_training_and_validation(tmp_path):
    """A YAML data set gives a recipe's sources the part that they are for."""
    label = " ".join(["0 0.5 0.5 0.8 0.8", *["0.5 0.5 2"] * 17])
    for part, people in (("train", 3), ("val", 2)):
        for folder in ("images", "labels"):
            (tmp_path / "set" / folder / part).mkdir(parents=True)
        cv2.imwrite(str(tmp_path / "set/images" / part / "a.png"), np.zeros((20, 20, 3), np.uint8))
        (tmp_path / "set/labels" / part / "a.txt").write_text("\n".join([label] * people))
    flip = [0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15]
    (tmp_path / "data.yaml").write_text(
        f"{{path: set, train: images/train, val: images/val, kpt_shape: [17, 3], flip_idx: {flip}}}"
    )
    recipe = parse_recipe(
        f"model: {{name: resnet18_slim, skeleton: coco17}}\n"
        f"data: {{root: {tmp_path}, train: [{{annotations: data.yaml}}], val: {{annotations: data.yaml}}}}"
    )
    model = build_model(recipe, print)
    assert len(build_data(recipe, model.spec, print)) == 3
    assert len(build_evaluator(recipe)) == 2
