"""Which keypoints of two skeletons are the same: by name, by meaning, by number on faces."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fastpose.skeletons import Skeleton, get_skeleton, list_skeletons, match_skeletons


def match(source: str, target: str) -> dict[str, Any]:
    return dict(match_skeletons(get_skeleton(source), get_skeleton(target)))


def test_a_skeleton_matches_itself() -> None:
    for name in list_skeletons():
        assert match(name, name) == {point: point for point in get_skeleton(name).keypoints}


def test_no_keypoint_is_taken_twice() -> None:
    """But in the middle of two."""
    for source in list_skeletons():
        for target in list_skeletons():
            single = [origin for origin in match(source, target).values() if isinstance(origin, str)]
            assert len(set(single)) == len(single), (source, target)


@pytest.mark.parametrize(
    ("source", "target", "count", "some"),
    [
        ("coco_wholebody133", "coco17", 17, {"left_ear": "left_ear"}),
        ("halpe26", "coco17", 17, {"nose": "nose"}),
        ("coco17", "halpe26", 17, {"nose": "nose"}),
        ("aic14", "coco17", 12, {"left_hip": "left_hip"}),
        ("aic14", "coco_aic19", 14, {"head_top": "head_top", "neck": "neck"}),
        ("mpii16", "halpe26", 14, {"head": "head_top", "neck": "upper_neck"}),
        ("crowdpose14", "halpe26", 14, {"head": "top_head", "neck": "neck"}),
        ("posetrack18_17", "halpe26", 16, {"head": "head_top"}),
        ("jhmdb15", "halpe26", 14, {"head": "head", "neck": "neck"}),
        ("coco_wholebody133", "halpe26", 23, {"left_heel": "left_heel"}),
        ("humanart21", "coco_wholebody133", 21, {"left_forefinger4": "left_finger", "right_big_toe": "right_toe"}),
        ("rhd21", "coco_wholebody_hand21", 21, {"thumb4": "thumb4"}),
        ("wflw98", "coco_wholebody133", 68, {"face-8": "kpt-16", "face-36": "kpt-60", "face-67": "kpt-95"}),
        ("wflw98", "300w68", 68, {"kpt-8": "kpt-16"}),
        ("300w68", "lapa106", 64, {"kpt-68": ("kpt-37", "kpt-38"), "kpt-103": "kpt-67"}),
        ("cofw29", "lapa106", 27, {"kpt-66": "kpt-8", "kpt-16": "kpt-28"}),
        ("aflw19", "wflw98", 0, {}),
        ("coco_wholebody133", "coco_wholebody_face68", 68, {"face-3": "face-3"}),
    ],
)
def test_pairs(source: str, target: str, count: int, some: dict[str, Any]) -> None:
    found = match(source, target)
    assert len(found) == count
    assert some.items() <= found.items()
    assert list(found) == [name for name in get_skeleton(target).keypoints if name in found]


def test_a_mirror_agrees() -> None:
    """The partner of a keypoint is matched with the partner of what it is matched with."""
    for source, target in (("wflw98", "lapa106"), ("lapa106", "300w68"), ("300w68", "lapa106"), ("cofw29", "lapa106")):
        one, other = get_skeleton(source), get_skeleton(target)
        found = match(source, target)
        for name, origin in found.items():
            origins = (origin,) if isinstance(origin, str) else origin
            mirrored = {one.keypoints[one.flip_index[one.index(o)]] for o in origins}
            partner = other.keypoints[other.flip_index[other.index(name)]]
            expected = found[partner]
            assert mirrored == {expected} if isinstance(expected, str) else set(expected), (source, target, name)


def test_spelling_and_choice() -> None:
    mine = Skeleton.from_names("mine", ["Left Eye", "R_Eye", "Head top", "tail"])
    assert match_skeletons(mine, get_skeleton("coco17")) == {"left_eye": "Left Eye", "right_eye": "R_Eye"}
    both = Skeleton.from_names("both", ["head", "head_top"])
    assert match_skeletons(get_skeleton("halpe26"), both) == {"head": "head"}  # the same name before the same meaning
    few = get_skeleton("wflw98").select(["kpt-96", "kpt-97"])
    assert match_skeletons(get_skeleton("wflw98"), few) == {"kpt-96": "kpt-96", "kpt-97": "kpt-97"}


SOURCES = {
    "AicDataset": "aic14",
    "COFWDataset": "cofw29",
    "CocoWholeBodyDataset": "coco_wholebody133",
    "CocoWholeBodyFaceDataset": "coco_wholebody_face68",
    "CrowdPoseDataset": "crowdpose14",
    "Face300WDataset": "300w68",
    "HalpeDataset": "halpe136",
    "HumanArt21Dataset": "humanart21",
    "JhmdbDataset": "jhmdb15",
    "LapaDataset": "lapa106",
    "MpiiDataset": "mpii16",
    "OCHumanDataset": "ochuman17",
    "PoseTrack18Dataset": "posetrack18_17",
    "Rhd2DDataset": "rhd21",
    "WFLWDataset": "wflw98",
}
TARGETS = {
    17: "coco17",
    21: "coco_wholebody_hand21",
    26: "halpe26",
    106: "lapa106",
    133: "coco_wholebody133",
}


def converted(settings: Any) -> Iterator[dict[str, Any]]:
    """Every data set of a zoo entry that is brought to another skeleton."""
    if isinstance(settings, dict):
        if any(step["type"] == "KeypointConverter" for step in settings.get("pipeline") or ()):
            yield settings
        for value in settings.values():
            yield from converted(value)
    elif isinstance(settings, list):
        for value in settings:
            yield from converted(value)


@pytest.mark.shared
def test_equal_to_the_tables_of_combined_sets(shared: Path) -> None:
    entries = json.loads((shared / "reference" / "zoo_wider.json").read_text())
    seen = set()
    for data in (data for entry in entries for part in ("train", "val") for data in converted(entry[part])):
        step = next(step for step in data["pipeline"] if step["type"] == "KeypointConverter")
        if data["type"] not in SOURCES:
            assert data["type"] == "InterHand2DDoubleDataset"
            continue
        source, target = get_skeleton(SOURCES[data["type"]]), get_skeleton(TARGETS[step["num_keypoints"]])
        wanted: dict[str, Any] = {}
        for origin, place in step["mapping"]:
            names = [source.keypoints[i] for i in (origin if isinstance(origin, list) else [origin])]
            wanted[target.keypoints[place]] = names[0] if len(names) == 1 else tuple(names)
        found = match_skeletons(source, target)
        different = {name for name in {*wanted, *found} if wanted.get(name) != found.get(name)}
        if (source.name, target.name) == ("cofw29", "lapa106"):
            # MMPose puts the eyes of COFW where WFLW's are, which in LaPa are the nose and other points of the eyes.
            eyes = (62, 64, 66, 68, 70, 72, 74, 75, 77, 79, 81)
            assert different == {f"kpt-{number}" for number in eyes}
        else:
            assert not different, (source.name, target.name)
        seen.add((source.name, target.name))
    assert len(seen) == 31
