"""Recipes: validation, overrides, and messages that help."""

from pathlib import Path

import pytest

from fastpose.metrics import METRICS
from fastpose.train.recipe import Recipe, RecipeError, list_recipes, load_recipe, parse_recipe

TEXT = """
model: {name: resnet18_slim}
data: {train: [{annotations: a.json, teacher: {file: t.json}}]}
"""


def test_defaults_and_round_trip():
    recipe = parse_recipe(TEXT, ["train.ema={decay: 0.99}", "augment.rotate=45"])
    assert recipe.train.ema.decay == 0.99
    assert recipe.augment.scale == (0.5, 1.5)
    assert parse_recipe(recipe.to_yaml()) == recipe


@pytest.mark.parametrize(
    ("override", "value"),
    [
        ("train.epochs=7", lambda r: r.train.epochs == 7),
        ("train.optimizer.lr=1e-3", lambda r: r.train.optimizer.lr == 1e-3),
        ("data.train.0.repeats=0.5", lambda r: r.data.train[0].repeats == 0.5),
        ("data.train.0.teacher.sure=0.9", lambda r: r.data.train[0].teacher.sure == 0.9),
        ("train.phases=[{share: 2, input_size: [64, 48]}, {}]", lambda r: r.train.phases[0].input_size == (64, 48)),
        ("data.root=/a=b", lambda r: r.data.root == "/a=b"),
        ("train.ema.decay=0.9", lambda r: r.train.ema.decay == 0.9),
        ("train.clip_grad=null", lambda r: r.train.clip_grad is None),
        ("data.train.0.format=mpii", lambda r: r.data.train[0].format == "mpii"),
        ("data={train: [{annotations: b.json}]}", lambda r: r.data.train[0].annotations == "b.json"),
    ],
)
def test_overrides(override, value):
    assert value(parse_recipe(TEXT, [override]))


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("train.epoch=4", "unknown key train.epoch; did you mean train.epochs"),
        ("augment.flip_prop=1", "unknown key augment.flip_prop; did you mean augment.flip_prob"),
        ("data.train.0.teacher.disagre=1", "did you mean data.train.teacher.disagree"),
        ("trian.epochs=4", "unknown key trian; did you mean train"),
        ("train.optimizer.name=adamm", "train.optimizer.name.*'adamm'"),
        ("train.epochs=many", "train.epochs.*'many'"),
        ("train.epochs=0", "train.epochs.*got 0"),
        ("augment.scale=[2, 1]", "augment.*scale"),
        ("train.epochs", "expected key=value"),
        ("train.epochs.x=1", "expected key=value|is a value|train.epochs"),
        ("data.train.3.repeats=1", "data.train.3.repeats: expected a position from 0 to 1"),
        ("data.train.0.synthetic={}", "either annotations or synthetic"),
        ("data.train.0.format=voc", "format: expected one of 300w, .*coco, .*got 'voc'"),
        ("data.train.0={synthetic: {}, format: coco}", "format, split, images and teacher go with annotations"),
        ("train.epochs=1 train.phases=2", "train.epochs"),
        ("train.freeze=[", "not valid YAML"),
        pytest.param("train.freeze=" + "[" * 500, "nested too deeply", id="nested"),
        pytest.param("train.freeze=" + "[" * 200 + "]" * 200, "nested too deeply", id="nested and closed"),
        pytest.param("model.options=" + "{a: " * 200 + "1" + "}" * 200, "nested too deeply", id="nested mappings"),
        pytest.param("model.options." + "a." * 5000 + "b=1", "a key of at most 20 parts, got 5003", id="dotted"),
        pytest.param("train.epochs=1" + ":59" * 50_000, "a number of 150001 characters", id="in base 60"),
        pytest.param("train.epochs=" + "9" * 5000, "a number of 5000 characters", id="digits"),
        ("train.epochs=2001-13-13", "not valid YAML: month must be"),
        ("train.epochs=!!bool x", "not valid YAML"),
        ("train.optimizer.lr=.inf", "train.optimizer.lr: input should be a finite number"),
        ("augment.scale=[1, .inf]", "augment.scale.1: input should be a finite number"),
        ("data.train.0.teacher={file: a, disagree: .inf}", "disagree: input should be a finite number"),
    ],
)
def test_mistakes_are_named(override, said):
    with pytest.raises(RecipeError, match=said):
        parse_recipe(TEXT, [override])


@pytest.mark.parametrize(
    "text", ["/data #3/set: one", "no", "~x", "1.5", "1e3", "[a", "'a'", "{b}", " a ", "null.json", "a=b"]
)
def test_text_stays_as_it_was_typed(text):
    recipe = parse_recipe(
        TEXT, [f"{key}={text}" for key in ("name", "data.root", "data.train.0.annotations", "model.init")]
    )
    assert [recipe.name, recipe.data.root, recipe.data.train[0].annotations, recipe.model.init] == [text] * 4


def test_no_text_where_none_is_a_choice():
    recipe = parse_recipe(TEXT, ["model.init=a", "data.train.0.format=coco"])
    for none in ("null", "~", ""):
        assert parse_recipe(recipe.to_yaml(), [f"model.init={none}"]).model.init is None
    assert parse_recipe(TEXT, ["name=null"]).name == "null"


def test_data_of_one_file_of_annotations(tmp_path):
    data = load_recipe("synthetic_demo", [f"data={tmp_path / 'set #1' / 'train.json'}"]).data
    assert (data.root, data.train[0].annotations, data.val) == (str(tmp_path / "set #1"), "train.json", None)
    both = load_recipe("synthetic_demo", [f"data={tmp_path / 'train.json'}", "data.val.annotations=no.json"]).data
    assert (both.train[0].annotations, both.val.annotations) == ("train.json", "no.json")
    assert load_recipe("synthetic_demo", {"data": tmp_path / "train.json"}).data.root == str(tmp_path)


def test_values_of_python():
    recipe = load_recipe(
        parse_recipe(TEXT, ["train.optimizer={lr: 0.1, weight_decay: 0.2}"]),
        {
            "train": {"epochs": 3, "optimizer": {"lr": 0.5}, "phases": [{"input_size": (64, 48)}, {}]},
            "train.batch_size": 4,
            "data": {"root": Path("/a"), "train": {0: {"repeats": 2}}},
            "data.val": {"annotations": "no"},
        },
    )
    assert (recipe.train.epochs, recipe.train.batch_size) == (3, 4)
    assert (recipe.train.optimizer.lr, recipe.train.optimizer.weight_decay) == (0.5, 0.2)
    assert recipe.train.phases[0].input_size == (64, 48)
    assert (recipe.data.root, recipe.data.train[0].annotations, recipe.data.train[0].repeats) == ("/a", "a.json", 2)
    assert recipe.data.val.annotations == "no"
    assert load_recipe(recipe.model_dump()) == load_recipe(recipe) == recipe
    with pytest.raises(RecipeError, match=r"unknown key train\.epoch; did you mean train\.epochs"):
        load_recipe(recipe, {"train": {"epoch": 3}})
    with pytest.raises(RecipeError, match=r"train\.epochs\.x: epochs is a value"):
        load_recipe(recipe, {"train.epochs.x": 3})
    with pytest.raises(TypeError):
        load_recipe(3)


def test_every_metric_can_be_named():
    for name in METRICS:
        assert parse_recipe(TEXT, [f"eval.metric={name}"]).eval.metric == name
    assert parse_recipe(TEXT).eval.metric == "auto"


def test_more_phases_than_epochs():
    with pytest.raises(RecipeError, match="2 phases do not fit into 1 epochs"):
        parse_recipe(TEXT, ["train.epochs=1", "train.phases=[{}, {}]"])


def test_files(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text(TEXT)
    assert isinstance(load_recipe(file), Recipe)
    file.write_text("model: [")
    with pytest.raises(RecipeError, match=r"mine\.yaml: not valid YAML"):
        load_recipe(file)
    levels = [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 10)]
    file.write_text("\n".join(["a0: &a0 x", *levels]))
    with pytest.raises(RecipeError, match=r"mine\.yaml: not usable YAML: too long with all aliases written out"):
        load_recipe(file)
    file.write_text("[" * 100_000)
    with pytest.raises(RecipeError, match=r"mine\.yaml: nested too deeply"):
        load_recipe(file)
    file.unlink()
    file.symlink_to("/dev/zero")
    for read in (lambda: load_recipe(file), lambda: parse_recipe(TEXT, [f"data={file}"])):
        with pytest.raises(RecipeError, match=r"mine\.yaml: is a device, expected a regular file"):
            read()
    file.unlink()
    file.write_text("- 1")
    with pytest.raises(RecipeError, match="expected keys and values"):
        load_recipe(file)
    with pytest.raises(RecipeError, match=r"gone\.yaml"):
        load_recipe(tmp_path / "gone.yaml")


def test_names_of_the_package():
    assert "resnet18_slim_refined_lspet" in list_recipes()
    with pytest.raises(RecipeError, match="did you mean resnet18_slim_refined_lspet"):
        load_recipe("resnet18_slim_refined_lsp")


@pytest.mark.parametrize("name", list_recipes())
def test_every_packaged_recipe_is_valid(name):
    recipe = load_recipe(name)
    assert recipe.name == name


def test_photos_are_reduced_or_kept():
    assert parse_recipe(TEXT, ["data.reduce=true", "data.cache_gb=0"]).data.reduce
    with pytest.raises(RecipeError, match="cache_gb: with reduce no photos are kept, expected 0 or none, got 2"):
        parse_recipe(TEXT, ["data.reduce=true", "data.cache_gb=2"])
