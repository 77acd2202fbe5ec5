"""Sets with different keypoints trained together: what body8 and cocktail14 are, in small."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from fastpose.models import create_model
from fastpose.skeletons import COCO17, Skeleton, get_skeleton, match_skeletons
from fastpose.train.loop import train
from fastpose.train.recipe import load_recipe, parse_recipe
from fastpose.train.sources import build_data

SETS = {
    "aic": "aic14",
    "coco_wholebody": "coco_wholebody133",
    "crowdpose": "crowdpose14",
    "halpe": "halpe136",
    "humanart21": "humanart21",
    "jhmdb": "jhmdb15",
    "mpii": "mpii16",
    "posetrack18": "posetrack18_17",
    "wflw": "wflw98",
}


def points_of(skeleton: Skeleton, truth: Any) -> Any:
    """[K, 3]: the drawn figure's points where they have the same name, others in the middle of it."""
    centre = truth[:, :2].mean(0)
    points = np.tile([*centre, 2.0], (skeleton.num_keypoints, 1))
    for name, origin in match_skeletons(COCO17, skeleton).items():
        points[skeleton.index(name)] = truth[COCO17.index(str(origin))]
    return points


def in_format(name: str, content: dict[str, Any]) -> Any:
    """The drawn figures as another data set would have annotated them."""
    skeleton = get_skeleton(SETS[name])
    people: list[Any] = []
    photos = {image["id"]: image["file_name"] for image in content["images"]}
    for entry in content["annotations"]:
        points = points_of(skeleton, np.reshape(entry["keypoints"], (17, 3)))
        x, y, width, height = entry["bbox"]
        centre, scale = [x + width / 2, y + height / 2], max(width, height) / 200
        if name == "mpii":
            known = {"joints": points[:, :2].tolist(), "joints_vis": [1] * 16}
            people.append({"image": photos[entry["image_id"]], "center": centre, "scale": scale, **known})
            continue
        person = {**entry, "keypoints": (points + ([1, 1, 0] if name == "jhmdb" else 0)).ravel().tolist()}
        if name == "coco_wholebody":
            values, ends = person["keypoints"], np.cumsum([0, 17, 6, 68, 21, 21]) * 3
            keys = ("keypoints", "foot_kpts", "face_kpts", "lefthand_kpts", "righthand_kpts")
            person |= {key: values[a:b] for key, a, b in zip(keys, ends[:-1], ends[1:], strict=True)}
            person |= {f"{part}_valid": True for part in ("foot", "face", "lefthand", "righthand")}
        if name == "humanart21":
            person["keypoints_21"] = person["keypoints"]
        people.append(person | {"center": centre, "scale": scale})
    return people if name == "mpii" else {**content, "annotations": people, "categories": []}


@pytest.fixture(scope="module")
def folder(figures: Path) -> Path:
    content = json.loads((figures / "train.json").read_text())
    content["images"] = content["images"][:4]
    kept = {image["id"] for image in content["images"]}
    content["annotations"] = [entry for entry in content["annotations"] if entry["image_id"] in kept]
    for name in SETS:
        (figures / f"mixed_{name}.json").write_text(json.dumps(in_format(name, content)))
    return figures


def recipe_of(folder: Path, skeleton: str, *more: str) -> Any:
    sources = ", ".join(f"{{annotations: mixed_{name}.json, format: {name}}}" for name in SETS if name not in more)
    return parse_recipe(
        f"model: {{name: resnet18_slim, skeleton: {skeleton}, options: {{input_size: [64, 64]}}}}\n"
        f"data: {{root: {folder}, train: [{{annotations: train.json}}, {sources}], cache_gb: 0.1}}\n"
        "train: {epochs: 8, batch_size: 16, optimizer: {lr: 2.0e-3}, precision: float32}\nlog: {every: 1}\n"
    )


@pytest.mark.parametrize("name", ["halpe26", "coco_wholebody133"])
def test_points_that_a_set_has_not_weigh_nothing(folder: Path, name: str) -> None:
    target, said = get_skeleton(name), []  # type: ignore[var-annotated]
    spec = create_model("resnet18_slim", skeleton=target).spec
    without = ("wflw",) if name == "halpe26" else ()
    data = build_data(recipe_of(folder, name, *without), spec, said.append)
    start = 24
    truth = json.loads((folder / "train.json").read_text())["annotations"][:4]
    shared = [target.index(point) for point in COCO17.keypoints]
    np.testing.assert_array_equal(np.flatnonzero(data.weights[0]), shared)
    for set_name in (n for n in SETS if n not in without):
        rows = slice(start, start := start + 4)
        has = target.indices(match_skeletons(get_skeleton(SETS[set_name]), target))
        lacking = np.setdiff1d(np.arange(target.num_keypoints), has)
        assert data.weights[rows][:, list(has)].min() == 1, set_name
        assert not data.weights[rows][:, lacking].any(), set_name
        assert not data.annotated[rows][:, lacking].any(), set_name
        same = [k for k in shared if k in has and set_name != "wflw"]
        wanted = np.stack([np.reshape(entry["keypoints"], (17, 3))[:, :2] for entry in truth])
        moved = wanted[:, [shared.index(k) for k in same]]
        np.testing.assert_allclose(data.keypoints[rows][:, same], moved, atol=1e-3, err_msg=set_name)
    assert start == len(data)
    notes = [line for line in said if line.startswith("keypoints:")]
    if name == "halpe26":
        assert "head without labels" not in notes[0]
        assert "face-0, face-1, " in notes[0]  # whole bodies have more than the network
        assert len(notes[0]) < 300
    else:
        assert notes[0].startswith("keypoints: head_top, neck, top_head, head, hip, belly, pelvis, thorax and ")


@pytest.mark.parametrize("name", ["halpe26", "coco_wholebody133"])
def test_training_on_all_of_them_lowers_the_loss(folder: Path, tmp_path: Path, name: str) -> None:
    recipe = recipe_of(folder, name, *(("wflw",) if name == "halpe26" else ()))
    assert train(recipe, tmp_path / "out", console=Console(file=io.StringIO())).finished
    with open(tmp_path / "out" / "log.csv") as file:
        losses = [float(row["loss"]) for row in csv.DictReader(file) if row["loss"]]
    steps = len(losses) // 8  # of an epoch: single batches are of sets with few or with many keypoints
    assert np.mean(losses[-steps:]) < 0.8 * np.mean(losses[:steps])


def test_a_set_of_other_things_is_refused(folder: Path) -> None:
    spec = create_model("resnet18_slim", skeleton=get_skeleton("halpe26")).spec
    with pytest.raises(ValueError, match="'wflw98' and 'halpe26' have no keypoint name in common"):
        build_data(recipe_of(folder, "halpe26"), spec, print)


def test_the_mixture_on_the_page_of_data_sets(tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "data.md").read_text()
    file = tmp_path / "body8.yaml"
    file.write_text(page.split("```yaml\n")[1].split("```")[0])
    recipe = parse_recipe("model: {name: resnet18_slim}", [f"data={file}"])
    formats = [source.format for source in recipe.data.train]
    assert formats == [None, "aic", "crowdpose", None, None, None, None]
    carried = load_recipe("rtmpose_m.body8_256x192", ["data=body8"]).data
    assert [source.annotations for source in recipe.data.train] == [source.annotations for source in carried.train]
    assert recipe.data.val is not None
    assert carried.val is not None
    assert recipe.data.val.annotations == carried.val.annotations
