"""Terms of the data sets: one table, which the page of data sets and the official configurations agree with."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from fastpose.data.readers import list_formats
from fastpose.models import find_entry, list_entries
from fastpose.models.zoo.datasets import DATA_SETS, MIXTURES, data_terms, parts_of, training_sets, weights_licence

DOCS = Path(__file__).resolve().parents[2] / "docs"
READERS = {
    "AicDataset": "aic",
    "COFWDataset": "cofw",
    "CocoDataset": "coco",
    "CocoWholeBodyDataset": "coco_wholebody",
    "CocoWholeBodyFaceDataset": "coco_wholebody_face",
    "CocoWholeBodyHandDataset": "coco_wholebody_hand",
    "CrowdPoseDataset": "crowdpose",
    "Face300WDataset": "300w",
    "FreiHandDataset": "freihand",
    "HalpeDataset": "halpe",
    "HalpeHandDataset": "halpe",
    "HumanArt21Dataset": "humanart21",
    "InterHand2DDoubleDataset": "interhand2.6m",
    "JhmdbDataset": "jhmdb",
    "LapaDataset": "lapa",
    "MpiiDataset": "mpii",
    "OneHand10KDataset": "onehand10k",
    "PoseTrack18Dataset": "posetrack18",
    "Rhd2DDataset": "rhd2d",
    "UBody2dDataset": "ubody",
    "WFLWDataset": "wflw",
}


def test_every_entry_has_terms():
    for entry in list_entries():
        assert training_sets(entry), entry.name
        assert data_terms(entry)
        assert (weights_licence(entry) is None) == (not entry.weights)
    assert set().union(*MIXTURES.values()) <= set(DATA_SETS)


def test_every_format_has_terms():
    assert set(list_formats()) - set(DATA_SETS) == {"ultralytics"}


def test_terms_say_what_the_use_is():
    for name, dataset in DATA_SETS.items():
        first = dataset.terms.split(";")[0]
        assert first == dataset.use, name
        assert not dataset.page.startswith("http")


def test_the_strictest_terms_of_all_sets():
    assert data_terms(find_entry("hrnet_w32.coco_256x192")) == "labels CC BY 4.0"
    assert data_terms(find_entry("rtmpose_m.ap10k_256x256")) == "unknown"  # it starts from AI Challenger, too
    assert data_terms(find_entry("cspnext_m_udp.ap10k_256x256")) == "CC BY 4.0"
    assert data_terms(find_entry("rtmpose_m.body8_256x192")) == "non-commercial"  # MPII is in it
    assert list(training_sets(find_entry("rtmpose_m.coco_256x192"))) == ["coco", "aic"]


def test_parts():
    assert parts_of("jhmdb_sub2") == ("jhmdb",)
    assert parts_of("animalkingdom_p3_bird") == ("animalkingdom",)
    assert parts_of("deepfashion2_sling_dress") == ("deepfashion2",)
    assert parts_of("deepfashion_full") == ("deepfashion_full",)
    assert parts_of("freihand2d") == ("freihand",)
    assert parts_of("coco_aic") == ("coco", "aic")


def test_the_page_of_data_sets_says_the_same():
    table = (DOCS / "data.md").read_text(encoding="utf-8").split("| `format` | points | terms |")[1].split("\n\n")[0]
    seen = set()
    for row in table.splitlines()[2:]:
        formats, _, terms, page, _ = row.strip("| ").split(" | ")
        (first, *more) = re.findall(r"`([^`]+)`", formats)
        for name in (first, *(first.split("_")[0] + other if other.startswith("_") else other for other in more)):
            dataset = DATA_SETS[name]
            assert (terms.replace("*", ""), page) == (dataset.terms, dataset.page), name
            seen.add(name)
    assert seen == set(DATA_SETS) & set(list_formats())


@pytest.mark.shared
def test_mixtures_are_those_of_the_official_configurations(shared):
    tables = ("zoo.json", "zoo_wider.json")
    rows = [row for table in tables for row in json.loads((shared / "reference" / table).read_text(encoding="utf-8"))]
    seen = set()
    for row in rows:
        entry = find_entry(Path(row["config"]).stem)
        parts = readers(row["train"])
        if entry.dataset in MIXTURES and parts:
            assert parts == set(MIXTURES[entry.dataset]), entry.name
            seen.add(entry.dataset)
    assert seen == set(MIXTURES) - {"people"}


def readers(data):
    """The data sets in a configuration's training part that consists of several."""
    if isinstance(data, list):
        return set().union(*map(readers, data))
    if not isinstance(data, dict):
        return set()
    own = {READERS[data["type"]]} if data.get("type") in READERS else set()
    return own.union(*map(readers, data.values()))
