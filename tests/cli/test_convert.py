"""``fastpose convert``."""

from __future__ import annotations

import pytest
import torch
from click.testing import CliRunner

from fastpose.cli import main
from fastpose.models import create_model, find_entry, load_model, read_checkpoint, save_model

NAME = "litehrnet18.coco_256x192"


@pytest.fixture(scope="module")
def official(tmp_path_factory):
    """A checkpoint in the old layout, under its published file's name."""
    torch.manual_seed(0)
    tensors = {
        key.replace("head.", "keypoint_head.", 1) if key.startswith("head.") else key: value
        for key, value in create_model(NAME).state_dict().items()
    }
    path = tmp_path_factory.mktemp("official") / find_entry(NAME).weights["url"].rsplit("/", 1)[1]
    torch.save({"meta": {}, "state_dict": tensors}, path)
    return path


def _run(*arguments):
    return CliRunner().invoke(main, ["convert", *map(str, arguments)])


def test_converted_file_is_a_model_by_itself(official, tmp_path):
    result = _run(official, tmp_path / "m.safetensors")
    assert result.exit_code == 0, result.output
    assert NAME in result.output
    model = load_model(tmp_path / "m.safetensors")
    expected = torch.load(official, weights_only=True)["state_dict"]
    assert torch.equal(model.head.final_layer.weight, expected["keypoint_head.final_layer.weight"])
    assert model.spec == find_entry(NAME).spec
    assert read_checkpoint(tmp_path / "m.safetensors").metadata["source"] == official.name


@pytest.mark.parametrize(("dtype", "share"), [("float16", 0.6), ("int8", 0.45)])
def test_smaller_types_make_smaller_files(official, tmp_path, dtype, share):
    whole, small = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    assert _run(official, whole, "--model", NAME).exit_code == 0
    assert _run(official, small, "--model", NAME, "--dtype", dtype).exit_code == 0
    assert small.stat().st_size < share * whole.stat().st_size


def test_a_file_that_says_what_it_is_keeps_its_spec(tmp_path):
    model = create_model("resnet18_slim", input_size=(64, 64), padding=1.5, num_keypoints=3)
    own, small = tmp_path / "own.safetensors", tmp_path / "small.safetensors"
    save_model(model, own, metadata={"licence": "mine"})
    result = _run(own, small, "--dtype", "int8")
    assert result.exit_code == 0, result.output
    assert load_model(small).spec == model.spec
    assert read_checkpoint(small).metadata["licence"] == "mine"
    assert _run(own, own, "--model", "resnet18_slim", "--dtype", "int8").exit_code == 0
    assert own.stat().st_size < 1.01 * small.stat().st_size
    refused = _run(own, small, "--model", "resnet50")
    assert (refused.exit_code, "says itself that it is resnet18_slim" in refused.output) == (2, True)


def test_what_cannot_be_converted_is_named(official, tmp_path):
    other = tmp_path / "mine.pth"
    other.write_bytes(official.read_bytes())
    cases = [
        ((official, tmp_path / "m.pth"), "expected a name that ends in .safetensors"),
        ((other, tmp_path / "m.safetensors"), "--model says what it is"),
        ((other, tmp_path / "m.safetensors", "--model", "resnet50"), "not the weights of resnet50.coco_256x192"),
        ((other, tmp_path / "m.safetensors", "--model", "resnet50"), f"its entries fit {NAME}, "),
        ((tmp_path / "none.pth", tmp_path / "m.safetensors", "--model", NAME), "cannot be read"),
    ]
    for arguments, message in cases:
        result = _run(*arguments)
        assert result.exit_code == 2, arguments
        assert message in result.stderr
    assert not (tmp_path / "m.safetensors").exists()


# --- other keypoints ----------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def own_training(tmp_path_factory):
    """What MMPose leaves of a training for three keypoints."""
    path = tmp_path_factory.mktemp("own") / "best_epoch.pth"
    torch.save({"meta": {}, "state_dict": create_model(NAME, num_keypoints=3).state_dict()}, path)
    return path


def test_messages_lead_to_a_file(own_training, tmp_path):
    """Each error says what the next command needs."""
    out = tmp_path / "m.safetensors"
    first = _run(own_training, out)
    assert (first.exit_code, "--model says what it is" in first.stderr) == (2, True)
    assert f"its entries fit {NAME}, " in first.stderr
    assert "with --num-keypoints 3)" in first.stderr
    second = _run(own_training, out, "--model", NAME)
    assert (second.exit_code, "with --num-keypoints 3" in second.stderr) == (2, True)
    third = _run(own_training, out, "--model", NAME, "--num-keypoints", 3)
    assert third.exit_code == 0, third.output
    assert "3 keypoints" in third.stdout
    assert "its flip test is off" in third.stderr
    assert "--keypoints nose,left_eye" in third.stderr
    model = load_model(out)
    assert model.spec.skeleton.keypoints == ("keypoint_0", "keypoint_1", "keypoint_2")
    assert not model.spec.flip_test
    fourth = _run(own_training, out, "--model", NAME, "--keypoints", "tail, left_paw,right_paw")
    assert (fourth.exit_code, fourth.stderr) == (0, "")
    model = load_model(out)
    assert model.spec.skeleton.flip_pairs == (("left_paw", "right_paw"),)
    assert model.spec.flip_test == find_entry(NAME).spec.flip_test
    expected = torch.load(own_training, weights_only=True)["state_dict"]
    assert torch.equal(model.head.final_layer.weight, expected["head.final_layer.weight"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--num-keypoints", "4"), "with --num-keypoints 3"),
        (("--num-keypoints", "0"), "0 is not in the range x>=1"),
        (("--num-keypoints", "3", "--keypoints", "a,b"), "expected 3 names"),
        (("--keypoints", "a,,b"), "expected names with commas between them"),
        (("--keypoints", "a,a,b"), "named twice: a"),
    ],
)
def test_other_keypoints_are_checked(own_training, tmp_path, options, message):
    result = _run(own_training, tmp_path / "m.safetensors", "--model", NAME, *options)
    assert result.exit_code == 2
    assert message in result.stderr
    assert not (tmp_path / "m.safetensors").exists()


def test_what_a_file_says_of_its_keypoints_stands(tmp_path):
    own = tmp_path / "own.safetensors"
    save_model(create_model("resnet18_slim", input_size=(64, 64), num_keypoints=3), own)
    for options in (("--num-keypoints", 3), ("--keypoints", "a,b,c")):
        result = _run(own, tmp_path / "m.safetensors", *options)
        assert result.exit_code == 2
        assert f"{options[0]}: own.safetensors says itself what its keypoints are" in result.stderr


def test_predict_with_a_checkpoint_names_convert(own_training, tmp_path):
    photo = tmp_path / "photo.png"
    photo.write_bytes(b"")
    result = CliRunner().invoke(main, ["predict", str(photo), "--model", str(own_training)])
    assert result.exit_code == 2
    assert f"`fastpose convert {own_training} best_epoch.safetensors` makes a file that does" in result.stderr
