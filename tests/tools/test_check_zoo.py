"""tools/check_zoo.py: what it says of an entry, and that an interrupted run goes on."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from fastpose.models import find_entry, list_entries
from fastpose.models.zoo.datasets import parts_of
from fastpose.skeletons import AIC14, COCO17

TOOLS = Path(__file__).parents[2] / "tools"
NAME = "litehrnet18.coco_256x192"


@pytest.fixture
def check_zoo(monkeypatch):
    monkeypatch.syspath_prepend(str(TOOLS))
    return importlib.import_module("check_zoo")


@pytest.fixture
def people(tmp_path):
    """A folder with two annotated people in one photo of noise."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "coco"
    folder.mkdir()
    cv2.imwrite(str(folder / "1.png"), rng.integers(0, 256, (120, 200, 3), np.uint8))
    people = []
    for number in range(2):
        points = (
            np.c_[rng.uniform((100 * number, 10), (100 * number + 90, 100), (17, 2)), np.full(17, 2)]
            .round(1)
            .ravel()
            .tolist()
        )
        people.append({"id": number + 1, "image_id": 1, "category_id": 1, "iscrowd": 0, "num_keypoints": 17})
        people[-1] |= {"keypoints": points, "bbox": [100 * number, 10, 100, 100], "area": 10000}
    category = {"id": 1, "name": "person", "keypoints": list(COCO17.keypoints), "skeleton": []}
    images = [{"id": 1, "file_name": "1.png", "width": 200, "height": 120}]
    content = {"images": images, "annotations": people, "categories": [category]}
    (folder / "test_coco.json").write_text(json.dumps(content))
    return tmp_path


def run(check_zoo, monkeypatch, *words):
    monkeypatch.setattr("sys.argv", ["check_zoo.py", *map(str, words)])
    return check_zoo.main()


def test_an_entry_is_checked_once(check_zoo, people, monkeypatch, capsys):
    results = people / "results.json"
    words = people, "--pattern", NAME, "--results", results
    assert run(check_zoo, monkeypatch, *words) == 0
    (result,) = json.loads(results.read_text()).values()
    assert (result["keys"], result["parameters"], result["loads"], result["learns"]) == (True,) * 4
    assert result["error"] < 1e-5
    assert "1 entries, 0 not right" in capsys.readouterr().out
    monkeypatch.setattr(check_zoo, "check", lambda *_: pytest.fail("it was checked again"))
    assert run(check_zoo, monkeypatch, *words) == 0


def test_what_is_wrong_is_said(check_zoo, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(check_zoo.figures, "TOLERANCE", 1e-12)
    results = tmp_path / "results.json"
    assert run(check_zoo, monkeypatch, "--pattern", NAME, "--results", results) == 1
    assert f"1 not right: {NAME}" in capsys.readouterr().out
    monkeypatch.setattr(check_zoo, "load_official", lambda model: 1 / 0)
    assert run(check_zoo, monkeypatch, "--pattern", NAME, "--results", results, "--again") == 1
    assert "WRONG ZeroDivisionError" in capsys.readouterr().out


# --- the people that an entry is trained on -----------------------------------------------------------------------
@pytest.fixture
def zoo_samples(monkeypatch):
    monkeypatch.syspath_prepend(str(TOOLS))
    return importlib.import_module("zoo_samples")


@pytest.mark.shared
def test_every_entry_is_trained_on_its_own_data_set(zoo_samples, shared):
    folder = shared / "data" / "samples"
    if not folder.is_dir():
        pytest.skip(f"no sample photos at {folder}")
    borrowed = {}
    for entry in {(entry.dataset, entry.spec.skeleton): entry for entry in list_entries()}.values():
        people = zoo_samples.two_people(entry, folder)
        assert (len(people), people.skeleton) == (2, entry.spec.skeleton), entry.name
        assert (people.visible > 0).any(1).all(), entry.name
        assert all(people.image_paths[photo].is_file() for photo in people.image_index), entry.name
        if not set(parts_of(entry.dataset)) & set(zoo_samples.SAMPLES):
            borrowed[entry.dataset] = people.source
    assert {name: Path(file).parent.name for name, file in borrowed.items()} == {"exlpose": "aic"}  # the same keypoints


def test_a_sample_is_chosen_by_data_set_then_by_skeleton(zoo_samples, people):
    coco, mpii, hand = map(find_entry, (NAME, "litehrnet18.mpii_256x256", "resnet50.onehand10k_256x256"))
    chosen = zoo_samples.two_people(coco, people)
    assert (chosen.ids.tolist(), chosen.skeleton) == ([1, 2], COCO17)
    lent = zoo_samples.two_people(mpii, people)  # no MPII here: 12 of its 16 keypoints are COCO's
    assert (lent.skeleton.name, lent.annotated.sum(1).tolist()) == ("mpii16", [12, 12])
    with pytest.raises(ValueError, match="no sample of 'onehand10k', nor one with most keypoints of 'onehand10k21'"):
        zoo_samples.two_people(hand, people)


def test_of_a_mixture_one_of_each(zoo_samples, people, monkeypatch):
    monkeypatch.setitem(zoo_samples.SAMPLES, "aic", ("aic/test_aic.json", "coco"))
    content = json.loads((people / "coco" / "test_coco.json").read_text())
    content["categories"][0]["keypoints"] = list(AIC14.keypoints)
    for person in content["annotations"]:
        person["keypoints"] = person["keypoints"][: 3 * 14]
        person["id"] += 10
    (people / "aic").mkdir()
    (people / "aic" / "test_aic.json").write_text(json.dumps(content))
    chosen = zoo_samples.two_people(find_entry("hrnet_w32_combine.coco_aic_256x192"), people)
    assert chosen.ids.tolist() == [1, 11]
    assert chosen.annotated.sum(1).tolist() == [17, 14]


def test_a_photo_is_found_by_the_end_of_its_path(zoo_samples, people):
    photo = Path("/else/where/1.png")
    assert zoo_samples.find_photo(photo, people / "coco") == people / "coco" / "1.png"
    assert zoo_samples.find_photo(photo, people) == photo


def test_a_distilled_entry_learns_from_a_teacher(check_zoo, zoo_samples, people, tmp_path):
    content = json.loads((people / "coco" / "test_coco.json").read_text())
    zeros = {
        f"{part}_kpts": [0] * 3 * n for part, n in (("foot", 6), ("face", 68), ("lefthand", 21), ("righthand", 21))
    }
    for person in content["annotations"]:
        person |= {**zeros, **{f"{part}_valid": False for part in ("foot", "face", "lefthand", "righthand")}}
    (people / "coco" / "test_coco_wholebody.json").write_text(json.dumps(content))
    for name in ("rtmpose_tiny_distilled_l", "rtmpose_tiny_distilled"):  # first and second stage
        result = check_zoo.check_training(find_entry(name), people)
        assert result["learns"], result
