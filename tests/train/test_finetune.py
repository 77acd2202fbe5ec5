"""Training on data of one's own: other keypoints, other starts, and what people get wrong."""

import io
import json
import shutil

import cv2
import numpy as np
import pytest
import torch
from rich.console import Console

from fastpose.data.records import DataError
from fastpose.models import create_model, load_model, save_model
from fastpose.skeletons import COCO17, Skeleton, get_skeleton
from fastpose.train.loop import train
from fastpose.train.optim import limit_warmup
from fastpose.train.recipe import RecipeError, load_recipe, parse_recipe
from fastpose.train.settings import ScheduleSettings
from fastpose.train.setup import build_model
from fastpose.train.sources import build_data, build_evaluator, data_skeleton

SMALL = ("model.options={input_size: [64, 64]}", "train.batch_size=8", "train.precision=float32", "train.epochs=1")


def own_set(folder, figures, names, *, change=None, parts=("train", "val")):
    """The drawn figures with only the keypoints ``names``: pairs (own name, COCO's)."""
    folder.mkdir(exist_ok=True)
    rows = [COCO17.index(origin) for _, origin in names]
    for part in parts:
        content = json.loads((figures / f"{part}.json").read_text())
        for entry in content["annotations"]:
            points = np.reshape(entry["keypoints"], (17, 3))[rows]
            entry["keypoints"], entry["num_keypoints"] = points.ravel().tolist(), len(rows)
        content["categories"][0] |= {"name": "person", "keypoints": [name for name, _ in names]}
        if change:
            change(content)
        for image in content["images"]:
            shutil.copy(figures / image["file_name"], folder)
        (folder / f"{part}.json").write_text(json.dumps(content))
    (folder / "my.yaml").write_text("train: [{annotations: train.json}]\nval: {annotations: val.json}\n")
    return folder


STICK = [("head", "nose"), ("left_hand", "left_wrist"), ("right_hand", "right_wrist"), ("tail", "left_ankle")]


def run(recipe, out):
    console = Console(file=io.StringIO(), width=300)
    outcome = train(recipe, out, console=console)
    assert outcome.finished
    return outcome, console.file.getvalue()


def recipe_of(folder, *overrides, name="resnet18_slim"):
    data = f"data={folder / 'my.yaml'}"
    return load_recipe(name, [data, *SMALL, *overrides]) if "." in name else _plain(name, data, *overrides)


def _plain(name, *overrides):
    return parse_recipe(f"model: {{name: {name}, skeleton: data}}", [*overrides[:1], *SMALL, *overrides[1:]])


def test_a_zoo_entry_on_own_keypoints_from_published_weights(figures, tmp_path):
    folder = own_set(tmp_path / "set", figures, STICK)
    start = create_model("resnet18_slim_refined.people_160x160", pretrained=True)
    options = ("model.skeleton=data", "model.pretrained=true", "train.freeze=[backbone.*]")
    outcome, _ = run(recipe_of(folder, *options, name="resnet18_slim_refined.people_160x160"), tmp_path / "out")
    model = load_model(tmp_path / "out" / "best.safetensors")
    assert model.spec.skeleton.keypoints == tuple(name for name, _ in STICK)
    assert model.spec.skeleton.flip_index == (0, 2, 1, 3)
    for name, tensor in start.backbone.state_dict().items():
        assert torch.equal(tensor, model.backbone.state_dict()[name]), name
    assert "AP" in outcome.last


def test_names_are_relative_to_the_data_file_unless_it_says_a_root(figures, tmp_path, monkeypatch):
    folder = own_set(tmp_path / "set", figures, STICK)
    monkeypatch.chdir(tmp_path)
    assert (
        len(
            build_data(
                recipe_of(folder),
                create_model("resnet18_slim").spec.replace(skeleton=data_skeleton(recipe_of(folder))),
                print,
            )
        )
        == 24
    )
    (folder / "my.yaml").write_text(f"train: [{{annotations: {folder / 'train.json'}}}]")  # absolute
    assert data_skeleton(recipe_of(folder)).keypoints[0] == "head"
    (folder / "my.yaml").write_text("root: set\ntrain: [{annotations: train.json}]")  # from the working directory
    assert data_skeleton(recipe_of(folder)).keypoints[0] == "head"
    (folder / "my.yaml").write_text("root: gone\ntrain: [{annotations: train.json}]")
    with pytest.raises(DataError, match=r"gone.train\.json"):
        data_skeleton(recipe_of(folder))


def test_without_validation_and_with_one_keypoint(figures, tmp_path):
    folder = own_set(tmp_path / "set", figures, [("tip", "nose")])
    (folder / "my.yaml").write_text("train: [{annotations: train.json}]")
    outcome, _ = run(recipe_of(folder), tmp_path / "out")
    assert outcome.best is None
    model = load_model(tmp_path / "out" / "best.safetensors")
    assert model.spec.num_keypoints == 1
    assert build_evaluator(recipe_of(folder)) is None


def test_one_keypoint_is_measured(figures, tmp_path):
    outcome, _ = run(recipe_of(own_set(tmp_path / "set", figures, [("tip", "nose")])), tmp_path / "out")
    assert 0 <= outcome.last["AP"] <= 1


def test_grey_photos_and_another_category_number(figures, tmp_path):
    def change(content):
        content["categories"][0]["id"] = 7
        content["categories"].append({"id": 1, "name": "background"})
        for entry in content["annotations"]:
            entry["category_id"] = 7

    folder = own_set(tmp_path / "set", figures, STICK, change=change)
    for photo in folder.glob("*.png"):
        cv2.imwrite(str(photo), cv2.cvtColor(cv2.imread(str(photo)), cv2.COLOR_BGR2GRAY))
    outcome, _ = run(recipe_of(folder, "train.epochs=2"), tmp_path / "out")
    assert outcome.last["AP"] >= 0
    assert not outcome.failed_photos
    assert outcome.steps == 6


def test_names_without_sides_have_no_pairs_until_somebody_says_them(figures, tmp_path):
    names = [("a", "nose"), ("b", "left_wrist"), ("c", "right_wrist")]
    folder = own_set(tmp_path / "set", figures, names)
    assert data_skeleton(recipe_of(folder)).flip_index == (0, 1, 2)
    more = "data.skeleton={name: abc, flip_pairs: [[b, c]], sigmas: [0.1, 0.2, 0.3], joint_weights: [1, 2, 2]}"
    recipe = recipe_of(folder, more)
    skeleton = data_skeleton(recipe)
    assert (skeleton.name, skeleton.flip_index, skeleton.joint_weights) == ("abc", (0, 2, 1), (1, 2, 2))
    assert build_model(recipe, print).spec.skeleton == skeleton
    assert build_evaluator(recipe).skeleton.sigmas == (0.1, 0.2, 0.3)
    assert run(recipe, tmp_path / "out")[0].finished


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("{flip_pairs: [[b, d]]}", "no keypoint is named d"),
        ("{sigmas: [0.1]}", "sigmas has 1 entries, expected 3"),
        ("{keypoints: [a, z]}", "no keypoint 'z'"),
        ("{flip_pair: [[b, c]]}", "unknown key data.skeleton.flip_pair; did you mean data.skeleton.flip_pairs"),
    ],
)
def test_mistakes_about_keypoints_are_named(figures, tmp_path, value, said):
    folder = own_set(tmp_path / "set", figures, [("a", "nose"), ("b", "left_wrist"), ("c", "right_wrist")])
    with pytest.raises(RecipeError, match=said):
        data_skeleton(recipe_of(folder, f"data.skeleton={value}"))


def test_some_of_the_keypoints_in_another_order(figures, tmp_path):
    recipe = recipe_of(own_set(tmp_path / "set", figures, STICK), "data.skeleton.keypoints=[tail, head]")
    outcome, _ = run(recipe, tmp_path / "out")
    assert load_model(tmp_path / "out" / "best.safetensors").spec.skeleton.keypoints == ("tail", "head")
    assert outcome.last["AP"] >= 0
    whole = build_data(
        recipe_of(tmp_path / "set"),
        create_model("resnet18_slim", skeleton=data_skeleton(recipe_of(tmp_path / "set"))).spec,
        print,
    )
    part = build_data(recipe, build_model(recipe, print).spec, print)
    np.testing.assert_array_equal(part.keypoints, whole.keypoints[:, [3, 0]])


def test_a_skeleton_named_like_a_known_one(figures, tmp_path):
    recipe = recipe_of(own_set(tmp_path / "set", figures, STICK), "data.skeleton.name=coco17")
    run(recipe, tmp_path / "out")
    model = load_model(tmp_path / "out" / "best.safetensors")
    assert model.spec.skeleton.name == "coco17"
    assert model.spec.skeleton.keypoints != get_skeleton("coco17").keypoints


def test_keypoints_that_do_not_match_are_said(figures, tmp_path):
    said = []
    folder = own_set(tmp_path / "set", figures, [("nose", "nose"), ("tail", "left_ankle")])
    build_data(recipe_of(folder), create_model("resnet18_slim").spec, said.append)
    assert "left_eye" in said[-1]
    assert said[-1].endswith("without labels; tail left out (model.skeleton=data trains the keypoints of the data)")
    folder = own_set(tmp_path / "other", figures, [("tail", "left_ankle")])
    with pytest.raises(RecipeError, match=r"no keypoint name in common \(model\.skeleton=data"):
        build_data(recipe_of(folder), create_model("resnet18_slim").spec, print)


def test_an_ultralytics_file_is_a_data_file(tmp_path):
    for part, people in (("train", 3), ("val", 2)):
        for kind in ("images", "labels"):
            (tmp_path / "set" / kind / part).mkdir(parents=True)
        cv2.imwrite(str(tmp_path / "set/images" / part / "a.png"), np.full((40, 40, 3), 90, np.uint8))
        line = "0 0.5 0.5 0.8 0.8 0.3 0.4 2 0.7 0.4 2 0.5 0.8 1"
        (tmp_path / "set/labels" / part / "a.txt").write_text("\n".join([line] * people))
    file = tmp_path / "set" / "my.yaml"
    text = "{train: images/train, kpt_shape: [3, 3], flip_idx: [1, 0, 2], names: {0: horse}, VAL}"
    file.write_text(text.replace("VAL", "val: images/val"))
    recipe = _plain("resnet18_slim", f"data={file}")
    model = build_model(recipe, print)
    assert model.spec.skeleton.flip_index == (1, 0, 2)
    assert len(build_data(recipe, model.spec, print)) == 3
    assert len(build_evaluator(recipe)) == 2
    file.write_text(text.replace(", VAL", ""))
    assert build_evaluator(_plain("resnet18_slim", f"data={file}")) is None


def test_starting_weights_must_be_of_this_architecture(tmp_path):
    text = "{model: {name: resnet18_slim, init: FILE}, data: {train: [{annotations: a.json}]}}"
    file = tmp_path / "start.safetensors"
    save_model(create_model("litehrnet18"), file)
    with pytest.raises(RecipeError, match=r"(?s)init: .*not the weights of resnet18_slim.*model\.backbone="):
        build_model(parse_recipe(text.replace("FILE", str(file))), print)
    # As many keypoints, but others: a last layer that fits by shape is not loaded.
    other = Skeleton.from_names("other", [f"p{i}" for i in range(17)])
    start = create_model("resnet18_slim", skeleton=other)
    save_model(start, file)
    said = []
    model = build_model(parse_recipe(text.replace("FILE", str(file))), said.append)
    assert "other keypoints" in said[0]
    assert torch.equal(model.backbone.conv1.weight, start.backbone.conv1.weight)
    assert not torch.equal(model.head.final_layer.weight, start.head.final_layer.weight)


def test_freezing_nothing_or_a_wrong_name(figures, tmp_path):
    folder = own_set(tmp_path / "set", figures, STICK)
    with pytest.raises(RecipeError, match=r"train\.freeze\.0: no parameter fits 'backbon\.\*'; names begin with"):
        build_model(recipe_of(folder, "train.freeze=[backbon.*]"), print)
    with pytest.raises(RecipeError, match=r"train\.freeze.*list"):
        recipe_of(folder, "train.freeze=backbone.*")


def test_warm_up_of_a_short_run(recipe_text, figures, tmp_path):
    schedule = ScheduleSettings(warmup=500)
    assert limit_warmup(schedule, 60).warmup == 12
    assert limit_warmup(schedule, 2500) == schedule
    assert limit_warmup(schedule.model_copy(update={"warmup_limit": 1.0}), 313).warmup == 313
    recipe = parse_recipe(recipe_text, ["train.schedule.warmup=500", "train.epochs=5", "eval.every=5"])
    _, text = run(recipe, tmp_path / "out")
    assert "warm-up 3 of 15 steps" in text
    rates = [float(line.split(",")[4]) for line in (tmp_path / "out" / "log.csv").read_text().splitlines()[1:16]]
    assert rates[0] == pytest.approx(2e-3 * 0.001)
    assert max(rates) > 0.9 * 2e-3
    # The official runs of small sets keep what they had.
    for name in ("resnet50.jhmdb_sub1_256x256", "cpm.jhmdb_sub3_368x368"):
        official = load_recipe(name, ["data.train=[{annotations: a.json}]"]).train.schedule
        assert limit_warmup(official, 600).warmup == 500
