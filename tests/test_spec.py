"""PoseSpec: it survives JSON, and every wrong value is refused by name."""

import json

import pytest

from fastpose.codecs import build_codec, change_codec
from fastpose.skeletons import COCO17, LSP14, Skeleton
from fastpose.spec import PoseSpec

SPEC = PoseSpec(COCO17, (256, 192), build_codec("gaussian", heatmap_size=(64, 48)))


def test_json_round_trip():
    codec = build_codec("udp_combined", heatmap_size=(32, 24), radius_factor=0.1)
    spec = PoseSpec(LSP14, (128, 96), codec, 1.5, True, "bgr", (1, 2, 3), (4, 5, 6), False)
    assert PoseSpec.from_json(spec.to_json()) == spec
    assert PoseSpec.from_json(SPEC.to_json()) == SPEC
    assert hash(SPEC) == hash(PoseSpec.from_json(SPEC.to_json()))


def test_output_channels():
    assert SPEC.output_channels == 17
    assert SPEC.replace(codec=build_codec("udp_combined", heatmap_size=(64, 48))).output_channels == 51


def test_heatmap_follows_the_input():
    assert SPEC.replace(input_size=(128, 96)).codec.heatmap_size == (32, 24)
    with pytest.raises(ValueError, match="input_size"):
        SPEC.replace(input_size=(130, 96))


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("padding", "1.25", "padding: expected a number"),
        ("padding", 0, "padding: expected a number above 0"),
        ("padding", float("inf"), "padding: expected a number above 0 that is finite"),
        ("mean", [0, float("-inf"), 0], "mean: expected a number that is finite"),
        ("udp", 1, "udp: expected true or false"),
        ("channel_order", "gbr", "channel_order: expected one of rgb, bgr"),
        ("std", [1, 0, 1], "std: expected a number above 0"),
        ("mean", [1, 2], "mean: expected three numbers"),
        ("input_size", [256], "input_size: expected"),
        ("output_stages", 0, "output_stages"),
        ("sharpness", 1, "unknown keys sharpness"),
        ("codec", {"kind": "fisher"}, "codec.kind"),
        ("codec", {"kind": "gaussian"}, "codec: missing keys heatmap_size"),
        ("codec", {"kind": "gaussian", "heatmap_size": None}, "codec.heatmap_size"),
        ("codec", {"kind": "gaussian", "heatmap_size": [64, 48], "sharpness": 1}, "codec: unknown keys sharpness"),
        ("codec", "gaussian", "codec: expected an object"),
        ("codec", {"kind": "dark", "heatmap_size": [64, 48], "blur_kernel": 10}, "codec.blur_kernel: expected an odd"),
        ("skeleton", {"name": "x"}, "skeleton: missing keys"),
    ],
)
def test_wrong_values_are_named(key, value, message):
    data = json.loads(SPEC.to_json())
    data[key] = value
    with pytest.raises(ValueError, match=message):
        PoseSpec.from_json(json.dumps(data))


def test_missing_key_and_no_json():
    data = json.loads(SPEC.to_json())
    del data["codec"]
    with pytest.raises(ValueError, match="missing keys codec"):
        PoseSpec.from_json(json.dumps(data))
    with pytest.raises(ValueError, match="not valid JSON"):
        PoseSpec.from_json("{")
    for depth in (200, 100_000):
        data["codec"] = 0
        text = json.dumps(data).replace('"codec": 0', f'"codec": {"[" * depth}{"]" * depth}')
        with pytest.raises(ValueError, match="spec: nested too deeply"):
            PoseSpec.from_json(text)


def test_headers_of_older_files():
    """All kinds' parameters stood in every codec, and the shift of the mirrored map beside it."""
    data = json.loads(SPEC.to_json())
    data["flip_shift"] = True
    more = {"kernel_size": 11, "blur_kernel": 11, "radius_factor": 0.0546875}
    data["codec"] = {"kind": "gaussian", "heatmap_size": [64, 48], "sigma": 2.0, **more}
    assert PoseSpec.from_json(json.dumps(data)) == SPEC
    data["codec"] = {"kind": "regression", "heatmap_size": None, "sigma": 2.0, **more}
    assert PoseSpec.from_json(json.dumps(data)).codec == build_codec("regression")


def test_the_shift_of_the_mirror_follows_the_codec():
    """It was a value of its own, which `codec.kind=udp` kept: a perfect network was then biased by two pixels."""
    shifts = {"gaussian": True, "dark": True, "udp": False, "udp_combined": False, "megvii": False}
    for kind, shift in shifts.items():
        assert change_codec(SPEC.codec, kind=kind).shifts_mirror == shift


def test_nothing_is_mirrored_where_nobody_knows_what_changes_places():
    """A skeleton of eyeX and eyeY has sides, perhaps; the flip test averaged left with right."""
    skeleton = Skeleton("eyes", ("nose", "left_one", "right_other"), flip_pairs=None)
    spec = SPEC.replace(skeleton=skeleton)
    assert (SPEC.mirrors(), SPEC.mirrors(False), SPEC.mirrors(True)) == (True, False, True)
    assert (spec.mirrors(), spec.mirrors(False)) == (False, False)
    assert PoseSpec.from_json(spec.to_json()).mirrors() is False
    with pytest.raises(ValueError, match="flip_test: eyes: it is not known which keypoints change places"):
        spec.mirrors(True)
