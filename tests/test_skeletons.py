"""Skeletons: indices follow from names, and a skeleton that contradicts itself is refused."""

import json

import pytest

from fastpose.skeletons import COCO17, LSP14, Skeleton, find_skeleton, get_skeleton, list_skeletons


def test_coco17():
    assert COCO17.num_keypoints == 17
    assert COCO17.flip_index == (0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15)
    assert COCO17.upper_body_indices == tuple(range(11))
    assert COCO17.lower_body_indices == tuple(range(11, 17))
    assert COCO17.sigmas[:6] == (0.026, 0.025, 0.025, 0.035, 0.035, 0.079)
    assert COCO17.joint_weights == (1,) * 7 + (1.2, 1.2, 1.5, 1.5, 1, 1, 1.2, 1.2, 1.5, 1.5)
    assert len(COCO17.links) == 19


def test_lsp14():
    assert LSP14.flip_index == (5, 4, 3, 2, 1, 0, 11, 10, 9, 8, 7, 6, 12, 13)
    assert LSP14.keypoints[LSP14.index("head_top")] == "head_top"
    with pytest.raises(KeyError, match="has no keypoint 'nose'"):
        LSP14.index("nose")


@pytest.mark.parametrize("name", list_skeletons())
def test_flipping_twice_changes_nothing(name):
    skeleton = get_skeleton(name)
    assert tuple(skeleton.flip_index[i] for i in skeleton.flip_index) == tuple(range(skeleton.num_keypoints))
    assert skeleton.mirror_known
    assert Skeleton.from_dict(skeleton.to_dict()) == skeleton


def test_data_sets_skeletons_are_those_of_the_figures(data):
    """Figures: what MMPose 1.3 knows of the data sets."""
    figures = json.loads((data / "skeleton_figures.json").read_text(encoding="utf-8"))
    assert {*figures, "lsp14"} == set(list_skeletons())
    for name, expected in figures.items():
        skeleton = get_skeleton(name)
        assert skeleton.name == name
        assert list(skeleton.keypoints) == expected["keypoints"]
        assert list(skeleton.flip_index) == expected["flip_index"]
        assert list(skeleton.lower_body_indices) == expected["lower_body"]
        assert sorted(sorted(link) for link in skeleton.link_indices) == expected["links"]
        # MMPose has no sigmas for sets that are not measured by OKS, one weight too few for COCO and AI Challenger
        # together, and a point of a vest whose counterpart in the mirror is not its own.
        assert list(skeleton.sigmas) == (expected["sigmas"] or [0.079] * len(expected["keypoints"]))
        assert skeleton.sigmas_known == bool(expected["sigmas"])
        weights = expected["joint_weights"]
        assert list(skeleton.joint_weights) == weights + [1.0] * (skeleton.num_keypoints - len(weights))


def test_pairs_are_found_by_name():
    names = ["nose", "left_eye", "right_eye", "paw_left", "paw_right", "l_ear", "r_ear", "a_left_b", "a_right_b"]
    skeleton = Skeleton.from_names("horse", names)
    assert skeleton.flip_index == (0, 2, 1, 4, 3, 6, 5, 8, 7)
    assert skeleton.sigmas == (0.079,) * 9


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("left_eye", "right_eye"),
        ("Left Eye", "Right Eye"),
        ("left-eye", "Right_Eye"),
        ("leftEye", "rightEye"),
        ("lefteye", "righteye"),
        ("l_eye", "r_eye"),
        ("L Eye", "R Eye"),
        ("eye_l", "eye_r"),
        ("eye.L", "eye.R"),
        ("eyeL", "eyeR"),
        ("EyeLeft", "EyeRight"),
        ("LEye", "REye"),
        ("leye", "reye"),
        ("LEYE", "REYE"),
        ("Eye (left)", "Eye (right)"),
    ],
)
def test_every_way_to_write_a_side_makes_a_pair(left, right):
    face = Skeleton.from_names("face", ["Nose", right, left])
    assert face.flip_pairs == ((left, right),)
    assert face.flip_index == (0, 2, 1)
    assert face.sigmas == (0.026, 0.025, 0.025)
    assert (face.mirror_known, face.sigmas_known, face.warnings) == (True, True, [])


@pytest.mark.parametrize(
    "names",
    [
        ["left_eye", "tail"],  # no counterpart
        ["left_eye", "right_eye", "left_ear"],
        ["left_eye", "right_eye", "Left Eye"],  # two
        ["left_eye", "r_eye"],
        ["leftEar", "rightEar", "aleft_b"],
        ["eyel", "eyer"],  # a side, perhaps
        ["LSHO", "RSHO"],
        ["keypoint_0", "keypoint_1"],
        ["1", "2", "3"],
    ],
)
def test_a_mirror_that_is_not_known(names):
    skeleton = Skeleton.from_names("half", names)
    assert skeleton.flip_pairs is None
    assert not skeleton.mirror_known
    assert skeleton.flip_index == tuple(range(len(names)))
    assert "in a mirror" in skeleton.warnings[0]
    assert Skeleton.from_dict(json.loads(json.dumps(skeleton.to_dict()))) == skeleton


def test_a_mirror_that_changes_nothing():
    assert Skeleton.from_names("fish", ["mouth", "fin", "tail"]).flip_pairs == ()
    assert Skeleton.from_names("spot", ["keypoint_0"]).mirror_known
    assert Skeleton("corners", ("1", "2")).mirror_known  # so it was said
    # Files of earlier versions say this of names in which no pair was found.
    assert not Skeleton("face", ("eyeL", "eyeR")).mirror_known


def test_one_side_alone_has_no_mirror():
    assert COCO17.select(["nose", "left_eye", "right_eye"]).flip_pairs == (("left_eye", "right_eye"),)
    assert COCO17.select(["nose", "left_eye"]).flip_pairs is None
    assert Skeleton.from_names("numbers", ["1", "2"]).select(["1"]).flip_pairs is None


def test_coco_by_other_names():
    for spelled in (
        [name.replace("_", " ").title() for name in COCO17.keypoints],
        [name.replace("left_", "L-").replace("right_", "R-") for name in COCO17.keypoints],
        [f"{name.split('_')[1]}{name[0].upper()}" if "_" in name else name for name in COCO17.keypoints],
    ):
        assert find_skeleton(spelled) is COCO17
        assert Skeleton.from_names("other", spelled).sigmas == COCO17.sigmas
    assert find_skeleton(COCO17.keypoints[::-1]) is None
    assert Skeleton.from_names("turned", COCO17.keypoints[::-1]).sigmas == COCO17.sigmas[::-1]
    horse = Skeleton.from_names("horse", ["Nose", "Left Eye", "Right Eye", "Tail"])
    assert horse.sigmas == (0.079,) * 4
    assert not horse.sigmas_known
    assert "made up" in horse.warnings[0]
    assert not Skeleton.from_names("two noses", ["nose", "left_nose"]).sigmas_known


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"keypoints": ("a", "a")}, "named twice: a"),
        ({"keypoints": ()}, "empty"),
        ({"sigmas": (0.1,)}, "sigmas has 1 entries, expected 2"),
        ({"sigmas": (0.1, 0.0)}, "above 0"),
        ({"sigmas": (0.1, float("inf"))}, "finite"),
        ({"joint_weights": (1.0, float("nan"))}, "joint_weights must be finite and at least 0"),
        ({"flip_pairs": (("a", "c"),)}, "no keypoint is named c"),
        ({"flip_pairs": (("a", "b"), ("b", "a"))}, "two flip_pairs"),
    ],
)
def test_contradictions_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        Skeleton(**{"name": "s", "keypoints": ("a", "b"), **changes})


def test_lists_make_the_same_skeleton_as_tuples():
    lists = Skeleton("s", ["a", "b"], [["a", "b"]], [["a", "b"]], [0.1, 0.2], [1.0, 2.0], ["b"])
    assert lists == Skeleton.from_dict(json.loads(json.dumps(lists.to_dict())))
    assert hash(lists) == hash(Skeleton.from_dict(lists.to_dict()))


def test_unknown_name():
    with pytest.raises(ValueError, match="coco17"):
        get_skeleton("coco18")


def test_of_equal_keypoints_the_first_set_is_found():
    assert find_skeleton(COCO17.keypoints) is COCO17
    assert find_skeleton(get_skeleton("mhp16").keypoints) is get_skeleton("mpii16")
