"""The package's files about data sets that are trained on together: `data=body8 data.root=FOLDER`."""

from __future__ import annotations

from pathlib import Path

import pytest

from fastpose.models import find_entry, list_entries
from fastpose.models.zoo.datasets import MIXTURES
from fastpose.skeletons import match_skeletons
from fastpose.train.overrides import list_mixtures
from fastpose.train.recipe import RecipeError, load_recipe

# Of whom there is no reader; each file says so.
MISSING = {"cocktail14": {"interhand2.6m"}, "hand5": {"halpe"}}


def an_entry(mixture: str) -> str:
    return next(entry.name for entry in list_entries() if entry.dataset == mixture)


def test_every_mixture_of_the_zoo_is_there():
    trained_on = {entry.dataset for entry in list_entries()} & set(MIXTURES)
    assert set(list_mixtures()) == trained_on - {"people"}  # that of the carried model has a recipe of its own
    assert sum(entry.dataset in list_mixtures() for entry in list_entries()) >= 50


@pytest.mark.parametrize("name", list_mixtures())
def test_holds_the_sets_that_it_should(name):
    recipe = load_recipe(an_entry(name), [f"data={name}", "data.root=/data"])
    sources = recipe.data.train
    assert {source.format for source in sources} == set(MIXTURES[name]) - MISSING.get(name, set())
    assert str(recipe.data.root) == "/data"
    assert recipe.data.val is not None


@pytest.mark.parametrize("name", list_mixtures())
def test_every_set_labels_keypoints_of_the_networks(name):
    from fastpose.data.readers.coco_sets import COCO_SETS
    from fastpose.skeletons import get_skeleton

    of_format = {"coco": "coco17", "aic": "aic14", "crowdpose": "crowdpose14", "mpii": "mpii16", "jhmdb": "jhmdb15"}
    of_format |= {"posetrack18": "posetrack18_17", "coco_wholebody": "coco_wholebody133", "ubody": "coco_wholebody133"}
    of_format |= {"coco_wholebody_face": "coco_wholebody_face68", "coco_wholebody_hand": "coco_wholebody_hand21"}
    entry = find_entry(an_entry(name))
    for source in load_recipe(entry.name, [f"data={name}"]).data.train:
        own = (
            COCO_SETS[source.format].skeleton if source.format in COCO_SETS else get_skeleton(of_format[source.format])
        )
        assert match_skeletons(own, entry.spec.skeleton), source.format


def test_official_numbers():
    """COCO counts three times beside AI Challenger, and a tenth of UBody is shown, as the configurations have it."""
    repeats = {name: {s.format: s.repeats for s in load_recipe(an_entry(name), [f"data={name}"]).data.train}
               for name in ("coco_aic", "coco_ubody")}  # fmt: skip
    assert repeats == {"coco_aic": {"coco": 3, "aic": 1}, "coco_ubody": {"coco_wholebody": 1, "ubody": 0.1}}


def test_who_gives_no_data_is_told_the_name():
    with pytest.raises(RecipeError, match=r"it needs data: data=body8 data.root=FOLDER, or data.root"):
        load_recipe("rtmpose_m.body8_256x192")
    with pytest.raises(RecipeError, match=r"it needs data: data.root=FOLDER data.train"):
        load_recipe("rtmpose_m.coco_256x192")


def test_a_file_of_that_name_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    Path("body8").write_text("{}")
    recipe = load_recipe("rtmpose_m.body8_256x192", ["data=body8"])
    assert [source.annotations for source in recipe.data.train] == ["body8"]


def test_from_python():
    recipe = load_recipe("rtmpose_m.body8_256x192", {"data": "body8", "data.root": "/sets"})
    assert len(recipe.data.train) == 7
    assert str(recipe.data.root) == "/sets"
