"""The recipes of the zoo's entries: all of them can be used, and say what the table says."""

import functools
from collections import Counter

import numpy as np
import pytest
import torch

from fastpose.data.augment import draw_seeds, draw_table, make_crops
from fastpose.data.pixels import change_pixels
from fastpose.models import create_model, find_entry, list_entries
from fastpose.train.distillation import _check_fit
from fastpose.train.optim import build_optimizer, learning_rate_factor, scaled_lr
from fastpose.train.recipe import RecipeError, load_recipe, parse_recipe
from fastpose.train.setup import build_phases

DATA = ["data.train.0.annotations=train.json"]
TABLE = [entry.name for entry in list_entries() if entry.alias]


@functools.cache
def network(architecture, arguments):
    name = next(e.name for e in list_entries() if (e.architecture, str(e.arguments)) == (architecture, arguments))
    with torch.device("meta"):
        return create_model(name)


@pytest.mark.parametrize("name", TABLE)
def test_every_entry_builds_optimizer_schedule_and_augmentation(name):
    entry = find_entry(name)
    recipe = load_recipe(name, DATA)
    assert recipe.name == recipe.model.name == name
    assert parse_recipe(recipe.to_yaml()) == recipe
    train = recipe.train
    assert scaled_lr(train, train.batch_size) == train.optimizer.lr
    assert learning_rate_factor(train.schedule, 0, 0.0) == train.schedule.warmup_start
    assert learning_rate_factor(train.schedule, train.schedule.warmup - 1, 0.01) == pytest.approx(1)

    model = network(entry.architecture, str(entry.arguments))
    optimizer = build_optimizer(model, train.optimizer)
    count = sum(len(group["params"]) for group in optimizer.param_groups)
    assert count == sum(parameter.requires_grad for parameter in model.parameters())

    boxes, points = np.float32([[20, 20, 80, 120]]), np.full((1, entry.spec.num_keypoints, 2), 50, np.float32)
    for augment in [recipe.augment, *(phase.augment for phase in train.phases if phase.augment)]:
        crops = make_crops(boxes, points, np.ones_like(points[..., 0]), draw_table(0, 0, 1), entry.spec, augment)
        assert np.isfinite(crops.matrices).all()
        if augment.pixels is not None:
            pixels = np.full((*entry.spec.input_size, 3), 128, np.uint8)
            change_pixels(pixels, int(draw_seeds(0, 0, 1)[0]), augment.pixels, rgb=True)


def test_no_entry_of_the_table_is_without_a_recipe():
    assert len(TABLE) == 372
    assert all({"augment", "train", "eval"} <= set(find_entry(name).recipe) for name in TABLE)


def test_vitpose_huge():
    recipe = load_recipe("vitpose_huge.coco_256x192", DATA)
    optimizer = build_optimizer(network("vitpose_huge", "{}"), recipe.train.optimizer)
    scales = sorted({group["lr_scale"] for group in optimizer.param_groups})
    assert scales == pytest.approx([0.85**power for power in range(33, -1, -1)])
    assert {group["weight_decay"] for group in optimizer.param_groups} == {0.0, 0.1}
    assert recipe.train.clip_grad == 1.0


def test_hrformer_decays_all_but_the_position_bias():
    model = network("hrformer_small", str(find_entry("hrformer_small").arguments))
    optimizer = build_optimizer(model, load_recipe("hrformer_small", DATA).train.optimizer)
    decays = {p: group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    assert all((decays[p] == 0) == ("relative_position_bias_table" in name) for name, p in model.named_parameters())


def test_cspnext_changes_its_augmentation_after_epoch_180():
    recipe = load_recipe("cspnext_s_udp.coco_256x192", [*DATA, "train.batch_size=64", "train.accumulate=16"])
    assert recipe.train.ema.decay == 1 - 0.0002
    assert recipe.train.ema.ramp == "exponential"
    first, second = build_phases(recipe, create_model("cspnext_s_udp.coco_256x192"))
    assert (first.epochs, second.first_epoch, second.epochs) == (180, 180, 30)
    assert (first.augmentation.pixels.holes.prob, second.augmentation.pixels.holes.prob) == (1.0, 0.5)
    assert (first.augmentation.scale, second.augmentation.scale) == ((0.6, 1.4), (0.75, 1.25))
    assert first.lr == second.lr == 4e-3 * 1024 / recipe.train.base_batch_size


def test_distilled_entries_name_teachers_that_fit():
    taught = {name: recipe.train.distill for name in TABLE if (recipe := load_recipe(name, DATA)).train.distill}
    assert len(taught) == 14
    assert sum(settings.head_only for settings in taught.values()) == 7
    for name, settings in taught.items():
        assert (settings.features, settings.logits) == ((0, 1) if settings.head_only else (7e-5, 0.1))
        assert settings.fade != settings.head_only
        assert settings.labels == (0 if settings.head_only else 1)
        teacher = find_entry(settings.teacher)
        # A second stage learns from a first one of one's own.
        assert bool(settings.weights or teacher.weights) != settings.head_only
        assert (teacher.architecture == find_entry(name).architecture) == settings.head_only
        with torch.device("meta"):
            _check_fit(create_model(name), create_model(settings.teacher), settings)


def test_evaluation_is_that_of_the_table():
    evals = {name: load_recipe(name, DATA).eval for name in TABLE}
    counts = Counter((find_entry(name).topic, settings.metric) for name, settings in evals.items())
    assert counts == {
        ("body", "coco_ap"): 161,
        ("body", "mpii_pckh"): 31,
        ("body", "jhmdb_pck"): 9,
        ("body", "crowdpose_ap"): 7,
        ("body", "auto"): 7,  # Halpe
        ("body", "posetrack_ap"): 5,
        ("wholebody", "auto"): 49,
        ("hand", "auto"): 22,
        ("face", "auto"): 23,
        ("animal", "coco_ap"): 11,
        ("animal", "auto"): 13,
        ("fashion", "auto"): 34,
    }
    assert sum(not settings.use_area for settings in evals.values()) == 10
    assert sum(settings.nms == "none" for settings in evals.values()) == 8
    assert sum(settings.score_mode == "bbox_rle" for settings in evals.values()) == 6


def test_data_comes_from_the_user(tmp_path):
    with pytest.raises(RecipeError, match=r"resnet50\.coco_256x192: it needs data: .*or data=FILE"):
        load_recipe("resnet50.coco_256x192")
    file = tmp_path / "mine.yaml"
    file.write_text("root: /photos\ntrain: [{annotations: a.json}]\n")
    by_file = load_recipe("resnet50.coco_256x192", [f"data={file}", "data.train.1.annotations=b.json"])
    by_keys = load_recipe(
        "resnet50.coco_256x192",
        ["data.root=/photos", "data.train.0.annotations=a.json", "data.train.1.annotations=b.json"],
    )
    assert by_file == by_keys
    assert by_keys.train.optimizer.name == "adam"
    file.write_text("data: {root: /photos, train: [{annotations: a.json}]}\n")
    assert load_recipe("resnet50", [f"data={file}"]).data.root == "/photos"
    with pytest.raises(RecipeError, match=r"gone\.yaml: No such file"):
        load_recipe("resnet50", ["data=gone.yaml"])
    with pytest.raises(RecipeError, match=r"did you mean resnet50\.coco_256x192"):
        load_recipe("resnet50.coco_256x19", DATA)
