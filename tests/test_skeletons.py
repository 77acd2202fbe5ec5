"""Skeletons: indices follow from names, and a skeleton that contradicts itself is refused."""

import json

import pytest

from fastpose.skeletons import COCO17, LSP14, Skeleton, get_skeleton, list_skeletons


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
        # MMPose has no sigmas for TRB, and one weight too few for COCO and AI Challenger together.
        assert list(skeleton.sigmas) == (expected["sigmas"] or [0.079] * 40)
        weights = expected["joint_weights"]
        assert list(skeleton.joint_weights) == weights + [1.0] * (skeleton.num_keypoints - len(weights))


def test_pairs_are_found_by_name():
    names = ["nose", "left_eye", "right_eye", "paw_left", "paw_right", "l_ear", "r_ear", "a_left_b", "a_right_b"]
    skeleton = Skeleton.from_names("horse", names)
    assert skeleton.flip_index == (0, 2, 1, 4, 3, 6, 5, 8, 7)
    assert skeleton.sigmas == (0.079,) * 9
    assert Skeleton.from_names("camel", ["leftEar", "rightEar", "aleft_b", "aright_b"]).flip_index == (1, 0, 2, 3)
    assert Skeleton.from_names("half", ["left_eye", "tail"]).flip_index == (0, 1)


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
