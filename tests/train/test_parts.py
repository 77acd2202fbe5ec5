"""Optimizer, schedule, moving average, state files, phases."""

import json
import math
import re
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from torch import nn

from fastpose.models import create_model, save_model
from fastpose.train.checkpoint import CheckpointError, load_state, save_state
from fastpose.train.ema import MovingAverage
from fastpose.train.optim import (
    build_optimizer,
    freeze,
    learning_rate_factor,
    scaled_lr,
    set_learning_rate,
    set_training_mode,
)
from fastpose.train.recipe import RecipeError, parse_recipe
from fastpose.train.settings import EmaSettings, OptimizerSettings, ScheduleSettings
from fastpose.train.setup import build_model, build_phases, check_core
from fastpose.train.sources import build_data, build_evaluator

FIGURES = json.loads((Path(__file__).parents[1] / "data" / "schedule_figures.json").read_text())


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


def test_rates_are_those_of_mmengine_step_by_step():
    stepped = ScheduleSettings(kind="step", warmup=12, warmup_start=0.001, milestones=[17 / 21, 20 / 21])
    flat_then_cosine = ScheduleSettings(warmup=15, warmup_start=1e-5, begin=0.5, final=0.05)
    for key, lr, schedule in (("step", 5e-4, stepped), ("cosine", 4e-3, flat_then_cosine)):
        expected = FIGURES[key]
        # Images in batches of 48: what counts is that a milestone falls on the first step of its epoch.
        total = 48 * len(expected)
        rates = [lr * learning_rate_factor(schedule, n, 48 * n / total) for n in range(len(expected))]
        assert rates == pytest.approx(expected, rel=1e-9)


def test_rates_are_those_of_torch_step_by_step():
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=2.0)
    warmup = torch.optim.lr_scheduler.LinearLR(optimizer, 0.01, total_iters=29)
    course = torch.optim.lr_scheduler.MultiStepLR(optimizer, [170 * 10, 200 * 10], 0.1)
    schedule = ScheduleSettings(kind="step", warmup=30, warmup_start=0.01)
    for step in range(2100):
        expected = optimizer.param_groups[0]["lr"]
        assert 2 * learning_rate_factor(schedule, step, step * 7 / (2100 * 7)) == pytest.approx(expected, rel=1e-9)
        optimizer.step()
        warmup.step()
        course.step()


@pytest.mark.parametrize(
    ("settings", "decays"),
    [
        ({}, {"0.weight": 1, "0.bias": 0, "1.weight": 0, "1.bias": 0, "table": 1}),
        ({"norm_decay": 1, "bias_decay": 0.5}, {"0.weight": 1, "0.bias": 0.5, "1.weight": 1, "1.bias": 1, "table": 1}),
        ({"no_decay": ["tab", "0.w"]}, {"0.weight": 0, "0.bias": 0, "1.weight": 0, "1.bias": 0, "table": 0}),
    ],
)
def test_weight_decay_rules(settings, decays):
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.LayerNorm(4))
    model.table = nn.Parameter(torch.zeros(5))  # neither a bias nor of a normalisation, though flat
    optimizer = build_optimizer(model, OptimizerSettings(weight_decay=1.0, **settings))
    found = {p: group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    assert {name: found[p] for name, p in model.named_parameters()} == decays


def test_rate_by_layer():
    model = create_model("vitpose_small")
    optimizer = build_optimizer(model, OptimizerSettings(lr=0.1, layer_decay=0.5))
    set_learning_rate(optimizer, 0.2)
    rates = {p: group["lr"] for group in optimizer.param_groups for p in group["params"]}
    layers = {
        "head.final_layer.weight": 13,
        "backbone.ln1.weight": 13,
        "backbone.layers.11.attn.qkv.bias": 12,
        "backbone.layers.0.ln1.weight": 1,
        "backbone.patch_embed.projection.weight": 0,
        "backbone.pos_embed": 0,
    }
    for name, layer in layers.items():
        assert rates[model.get_parameter(name)] == pytest.approx(0.2 * 0.5 ** (13 - layer))
    with pytest.raises(RecipeError, match=r"layer_decay: .* does not count its layers"):
        build_optimizer(create_model("resnet18_slim"), OptimizerSettings(layer_decay=0.5))


def test_rate_by_batch():
    def lr(*overrides):
        recipe = parse_recipe("model: {name: resnet18_slim}\ndata: {train: [{annotations: a.json}]}", list(overrides))
        return scaled_lr(recipe.train, 32)

    assert lr("train.optimizer.lr=0.1") == 0.1
    assert lr("train.optimizer.lr=0.1", "train.base_batch_size=256") == pytest.approx(0.0125)
    assert lr("train.optimizer.lr=0.1", "train.base_batch_size=256", "train.accumulate=8") == pytest.approx(0.1)


def test_freeze():
    model = create_model("resnet18_slim")
    freeze(model, ["backbone.layer1.*", "backbone.*.bias"])
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    assert not any(
        n.startswith("backbone.layer1.") or (n.startswith("backbone") and n.endswith("bias")) for n in trained
    )
    assert "backbone.layer2.0.conv1.weight" in trained
    set_training_mode(model)
    assert not model.backbone.layer1[0].bn1.training
    assert model.backbone.layer2[0].bn1.training  # its weight is still trained
    assert sum(len(g["params"]) for g in build_optimizer(model, OptimizerSettings()).param_groups) == len(trained)
    with pytest.raises(
        RecipeError, match=r"train\.freeze\.1: no parameter fits 'body\.\*'; names begin with backbone, head"
    ):
        freeze(model, ["head.*", "body.*"])
    with pytest.raises(RecipeError, match="nothing is left to train"):
        freeze(model, ["*"])


def test_exponential_average_is_that_of_mmpose():
    model = nn.BatchNorm1d(1)
    average = MovingAverage(model, EmaSettings(decay=1 - 0.0002, ramp="exponential", buffers=True))
    with torch.no_grad():
        for step, expected in enumerate(FIGURES["average"]):
            model.weight.fill_(math.sin(step))
            model.running_mean.fill_(math.cos(step))
            average.update(step)
            found = average.model.weight.item(), average.model.running_mean.item()
            assert found == pytest.approx(expected, abs=1e-6)
    assert average.decay(10**6) == pytest.approx(0.9998)


def test_published_weights_and_other_keypoints():
    text = (
        "data: {train: [{annotations: a.json}]}\nmodel: {name: resnet18_slim_refined, pretrained: true, skeleton: NAME}"
    )
    own = build_model(parse_recipe(text.replace("NAME", "null")), print)
    other = build_model(parse_recipe(text.replace("NAME", "lsp14")), print)
    assert (own.spec.num_keypoints, other.spec.num_keypoints) == (17, 14)
    for name, tensor in own.backbone.state_dict().items():
        assert torch.equal(tensor, other.backbone.state_dict()[name])
    with pytest.raises(RecipeError, match="one of pretrained, backbone and init"):
        parse_recipe(text, ["model.init=a.safetensors"])


def test_backbone_of_a_classifier(tmp_path, monkeypatch):
    monkeypatch.setenv("FASTPOSE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("FASTPOSE_MIRROR", str(tmp_path / "mirror"))
    start = create_model("resnet18_slim").backbone.state_dict()
    file = tmp_path / "classifier.pth"
    torch.save({**start, "fc.weight": torch.zeros(10, 5)}, file)
    text = "data: {train: [{annotations: a.json}]}\nmodel: {name: resnet18_slim}"
    model = build_model(parse_recipe(text, [f"model.backbone={file}"]), print)
    assert all(torch.equal(tensor, start[name]) for name, tensor in model.backbone.state_dict().items())
    with pytest.raises(
        RecipeError, match=r"classifier\.pth: not the weights of a backbone of resnet50.* and \d+ more, of"
    ):
        build_model(parse_recipe(text, [f"model.backbone={file}", "model.name=resnet50"]), print)
    with pytest.raises(RecipeError, match=r"FASTPOSE_MIRROR"):
        build_model(parse_recipe(text, ["model.backbone=https://example.org/gone.pth"]), print)


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
    with pytest.raises(RecipeError, match=r"train\.phases\.0\.input_size: .* gives \[17, 48, 36\], expected"):
        phases_of("train.phases=[{input_size: [192, 136]}, {}]")
    with pytest.raises(RecipeError, match=r"train\.phases\.1\.input_size: the last phase"):
        phases_of("train.phases=[{}, {input_size: [128, 96]}]")
    base = "data: {train: [{annotations: a.json}]}\nmodel: "
    for model, said in (
        ("{name: resnet18_slimm}", "did you mean"),
        ("{name: resnet18_slim, options: {nonsense: 1}}", "nonsense"),
        ("{name: resnet18_slim, skeleton: lsp15}", "lsp15"),
        ("{name: resnet18_slim, codec: {kind: gauss}}", "codec.kind"),
        (
            "{name: gone.safetensors}",
            "expected a zoo name or an architecture, .*; model.init takes the weights",
        ),
        ("{name: resnet18_slim, init: gone.safetensors}", r"gone\.safetensors: .*expected a file of weights$"),
        ("{name: resnet18_slim, options: {input_size: 64}}", r"input_size: expected \(height, width\) .* got 64"),
        (
            "{name: resnet18_slim, options: {input_size: [64]}}",
            r"input_size: expected .* got \(64,\)",
        ),
    ):
        with pytest.raises(RecipeError, match=said):
            build_model(parse_recipe(base + model), print)


def test_a_gpu_without_a_core_for_it(monkeypatch):
    heatmaps = create_model("mobilenetv2", input_size=(64, 64))
    coordinates = create_model("mobilenetv2", input_size=(64, 64), head="regression", codec={"kind": "regression"})
    gpu, cpu = torch.device("cuda"), torch.device("cpu")
    monkeypatch.setattr("fastpose.train.setup.C", SimpleNamespace(with_cuda=False))
    with pytest.raises(RecipeError, match="reinstall with FASTPOSE_CUDA=on"):
        check_core(heatmaps, gpu)
    check_core(coordinates, gpu)
    check_core(heatmaps, cpu)
    monkeypatch.setattr("fastpose.train.setup.C", SimpleNamespace(with_cuda=True))
    check_core(heatmaps, gpu)


def test_names_may_begin_at_home(figures, monkeypatch):
    monkeypatch.setenv("HOME", str(figures.parent))
    monkeypatch.setenv("USERPROFILE", str(figures.parent))
    file = f"~/{figures.name}/val.json"
    text = f"data: {{root: ~/{figures.name}, train: [{{annotations: train.json}}]}}\nmodel: {{name: resnet18_slim}}"
    recipe = parse_recipe(text, [f"data.val.annotations={file}"])
    assert len(build_data(recipe, build_model(recipe, print).spec, print)) == 24
    assert len(build_evaluator(recipe)) == 8
    recipe = parse_recipe(text, [f"model.init=~/{figures.name}/gone.safetensors"])
    with pytest.raises(RecipeError, match=re.escape(str(figures / "gone.safetensors"))):
        build_model(recipe, print)


def test_validation_on_detected_boxes(figures, tmp_path):
    boxes = [
        {"image_id": 1, "category_id": 1, "bbox": [10, 10, 40, 60], "score": 0.9},
        {"image_id": 1, "category_id": 1, "bbox": [30, 10, 40, 60], "score": 0.4},
    ]
    (tmp_path / "boxes.json").write_text(json.dumps(boxes))
    text = f"""
model: {{name: resnet18_slim}}
data: {{root: {figures}, train: [{{annotations: train.json}}], val: {{annotations: val.json}}}}
"""
    assert len(build_evaluator(parse_recipe(text))) == 8
    evaluator = build_evaluator(parse_recipe(text, [f"data.detections={tmp_path / 'boxes.json'}", "eval.nms=none"]))
    assert (len(evaluator), evaluator.metric.name, evaluator.nms) == (2, "coco_ap", "none")
    spec = create_model("resnet18_slim", skeleton="lsp14").spec
    assert build_evaluator(parse_recipe(text), spec).metric.name == "pck"  # what both skeletons have
    with pytest.raises(RecipeError, match=r"data\.detections: goes with average precision .* not with pck"):
        build_evaluator(parse_recipe(text, [f"data.detections={tmp_path / 'boxes.json'}", "eval.metric=pck"]))


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
    other = parse_recipe(recipe.to_yaml(), ["data.train.0.split=val", "data.val.split=train"])
    assert len(build_data(other, model.spec, print)) == 2
    assert len(build_evaluator(other)) == 3
