"""Zoo entries: facts of the official table, as data that holds together."""

from __future__ import annotations

import importlib
import json
import re
import sys
from pathlib import Path

import pytest
from model_figures import figures_of

from fastpose.codecs import build_codec
from fastpose.models import create_model, find_entry, list_architectures, list_entries
from fastpose.models.registry import architecture_options
from fastpose.train.recipe import Recipe

TOOLS = Path(__file__).parents[2] / "tools"


def test_names_say_what_an_entry_is():
    entries = list_entries()
    assert len({entry.alias for entry in entries if entry.alias}) == len([entry for entry in entries if entry.alias])
    for entry in entries:
        stem, _, tag = entry.name.partition(".")
        assert re.fullmatch(rf"{entry.architecture}(_[a-z0-9]+)*", stem)
        assert tag == "{}_{}x{}".format(entry.dataset, *entry.spec.input_size)


def test_arguments_are_options_that_differ_from_the_defaults():
    for entry in list_entries():
        assert entry.architecture in list_architectures()
        defaults = json.loads(json.dumps(architecture_options(entry.architecture)))
        for key, value in entry.arguments.items():
            assert value != defaults[key]


def test_entries_count_their_parameters():
    for entry in list_entries():
        figures = figures_of(entry.alias)
        if figures is not None:
            assert entry.parameters == figures["parameters"]
        assert entry.gflops > 0


@pytest.mark.parametrize(
    ("name", "gflops"),  # as the papers and MMPose's tables say
    [
        ("resnet50.coco_256x192", 5.46),
        ("hrnet_w32.coco_256x192", 7.7),
        ("litehrnet18.coco_256x192", 0.20),
        ("litehrnet30.coco_384x288", 0.70),
    ],
)
def test_gflops_are_those_of_the_papers(name, gflops):
    assert find_entry(name).gflops == pytest.approx(gflops, rel=0.02)


def test_weights_name_their_hash():
    without = [entry.name for entry in list_entries() if "url" in entry.weights and "sha256" not in entry.weights]
    # Their files' names have none, or seven digits of it.
    assert without == [
        "hrnet_w32.exlpose_256x192",
        "rtmpose_m.hand5_256x256",
        *(e.name for e in list_entries("rtmw_[lm].*")),
    ]
    for entry in list_entries():
        assert set(entry.weights) in ({"url", "sha256"}, {"url"}, {"carried"}, set())
        hashes = re.findall(r"-([0-9a-f]{8})_\d{8}\.pth$", entry.weights.get("url", ""))
        assert hashes == [entry.weights[key] for key in ("sha256",) if key in entry.weights]


def test_metrics_are_fractions_and_the_first_sums_up():
    for entry in list_entries():
        for name, value in entry.metrics.items():
            assert 0 < value <= (100 if name == "EPE" else 1)  # which is in pixels
        if entry.alias and entry.metrics:
            first = re.match("[A-Za-z]+", next(iter(entry.metrics)))[0]
            assert first in ("AP", "Mean", "Total", "Whole", "PCK", "PCKh", "NME")


@pytest.mark.parametrize("entry", list_entries(), ids=lambda entry: entry.name)
def test_recipes_are_recipes(entry):
    parts = {"model": {"name": entry.name}, "data": {"train": [{"synthetic": {}}]}}
    recipe = Recipe.model_validate({**parts, **entry.recipe})
    assert recipe.train.optimizer.lr > 0
    assert set(entry.recipe) <= {"augment", "train", "eval"}
    epochs = re.search(r"-(\d+)e_", entry.alias or "")  # names of distilled networks do not say it
    if epochs:
        assert entry.recipe["train"]["epochs"] == int(epochs[1])


def test_facts():
    entry = find_entry("resnet152_dark.coco_384x288")
    assert entry.alias == "td-hm_res152_dark-8xb32-210e_coco-384x288"
    assert (entry.metrics["AP"], entry.spec.codec.blur_kernel, entry.spec.codec.shifts_mirror) == (0.757, 17, True)
    assert entry.recipe["train"]["batch_size"] == 256
    entry = find_entry("hrnet_w32_udp_regress.coco_256x192")
    assert entry.spec.codec == build_codec("udp_combined", heatmap_size=(64, 48))
    assert (entry.spec.udp, entry.spec.codec.shifts_mirror, entry.spec.output_channels) == (True, False, 51)
    entry = find_entry("hrnet_w32_combine.coco_aic_256x192")
    assert (entry.spec.skeleton.name, entry.dataset) == ("coco_aic19", "coco_aic")
    assert find_entry("hrnet_w32_merge.coco_aic_256x192").spec.skeleton.name == "coco17"
    entry = find_entry("resnet50_2deconv.jhmdb_sub2_256x256")
    assert (entry.arguments, entry.spec.codec.heatmap_size) == ({"deconv_channels": [256, 256]}, (32, 32))
    assert (entry.metrics["Mean (box)"], entry.metrics["Mean (torso)"]) == (0.952, 0.737)
    assert find_entry("hrnet_w32.humanart_256x192").metrics["AP (COCO)"] == 0.741
    entry = find_entry("hrnet_w48.posetrack18_256x192")
    assert (entry.metrics["Total (true boxes)"], entry.metrics["Total (detected boxes)"]) == (0.846, 0.774)


def test_what_an_entry_starts_from():
    starts = {
        "hrnet_w32.coco_256x192": "imagenet",
        "litehrnet18.coco_256x192": None,
        "resnet50_rle_pretrained.coco_256x192": "coco",
        "rtmpose_l.body8_256x192": "body8",
        "rtmpose_m.ap10k_256x256": "coco_aic",
        "rtmpose_tiny.face6_256x256": "imagenet",
        "rtmw_l.cocktail14_256x192": "coco_ubody",
    }
    assert {name: find_entry(name).starts_from for name in starts} == starts


def test_addresses_are_addresses():
    for entry in list_entries():
        assert "url" not in entry.weights or entry.weights["url"].startswith("https://"), entry.name


def test_a_stem_stands_for_its_smallest_coco_network():
    assert find_entry("hrnet_w32").name == "hrnet_w32.coco_256x192"
    assert find_entry("hrnet_w32_udp").name == "hrnet_w32_udp.coco_256x192"
    assert create_model("resnet50", num_keypoints=2).name == "resnet50.coco_256x192"


@pytest.mark.shared
def test_entries_are_those_of_the_table(shared, monkeypatch):
    monkeypatch.syspath_prepend(str(TOOLS))
    monkeypatch.delitem(sys.modules, "make_zoo", raising=False)
    make_zoo = importlib.import_module("make_zoo")
    monkeypatch.setattr(make_zoo, "size", lambda *_: (0, 0.0))
    folder = TOOLS.parent / "fastpose" / "models" / "zoo" / "entries"
    carried = {data["name"]: data for file in folder.glob("*.json") for data in json.loads(file.read_text("utf-8"))}
    rows = [
        row
        for table in ("zoo.json", "zoo_wider.json")
        for row in json.loads((shared / "reference" / table).read_text(encoding="utf-8"))
    ]
    students = {Path(row["config"]).stem: row for row in rows}
    made = []
    for row in rows:
        try:
            made.append(make_zoo.entry(row, students, make_zoo.Counter())[1])
        except make_zoo.NotYetError:
            assert find_entry(Path(row["config"]).stem) is None
    make_zoo.name_teachers(made)
    for data in made:
        expected = carried[data["name"]]
        assert {**data, "parameters": expected["parameters"], "gflops": expected["gflops"]} == expected
