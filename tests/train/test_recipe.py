"""Recipes: validation, overrides, and messages that help."""

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
        ("data.train.0.format=voc", "format: expected one of aic, coco, .*got 'voc'"),
        ("data.train.0={synthetic: {}, format: coco}", "format, images and teacher go with annotations"),
        ("train.epochs=1 train.phases=2", "train.epochs"),
        ("data.root=[", "not valid YAML"),
        ("train.optimizer.lr=.inf", "train.optimizer.lr: input should be a finite number"),
        ("augment.scale=[1, .inf]", "augment.scale.1: input should be a finite number"),
        ("data.train.0.teacher={file: a, disagree: .inf}", "disagree: input should be a finite number"),
    ],
)
def test_mistakes_are_named(override, said):
    with pytest.raises(RecipeError, match=said):
        parse_recipe(TEXT, [override])


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
