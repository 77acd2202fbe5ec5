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
        ((tmp_path / "none.pth", tmp_path / "m.safetensors", "--model", NAME), "cannot be read"),
    ]
    for arguments, message in cases:
        result = _run(*arguments)
        assert result.exit_code == 2, arguments
        assert message in result.stderr
    assert not (tmp_path / "m.safetensors").exists()
