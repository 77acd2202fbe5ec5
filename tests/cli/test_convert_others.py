"""``fastpose convert`` and ``fastpose info`` on files of other programs."""

from __future__ import annotations

import pytest
import torch
from click.testing import CliRunner
from other_layouts import OFFICIAL, repository_names, with_experts

from fastpose.cli import main
from fastpose.models import create_model, load_model, read_checkpoint

NAME = "vitpose_small.coco_256x192"


@pytest.fixture(scope="module")
def plus(tmp_path_factory):
    """A ViTPose++ of six data sets, as its repository saves it."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("plus") / "vitpose+_small.pth"
    torch.save({"state_dict": with_experts(create_model(NAME).state_dict(), OFFICIAL)}, path)
    return path


def _run(verb, *arguments):
    return CliRunner().invoke(main, [verb, *map(str, arguments)])


def test_an_expert_becomes_a_file_with_its_keypoints_and_crops(plus, tmp_path):
    out = tmp_path / "m.safetensors"
    result = _run("convert", plus, out, "--model", NAME, "--expert", "wholebody")
    assert result.exit_code == 0, result.output
    assert "133 keypoints" in result.output
    model = load_model(out)
    assert (model.spec.skeleton.name, model.spec.udp, model.spec.codec.kind) == ("coco_wholebody133", False, "gaussian")
    assert torch.equal(model.head.final_layer.bias, read_checkpoint(plus).tensors["associate_heads.4.final_layer.bias"])

    result = _run("convert", plus, out, "--model", NAME)
    assert result.exit_code == 0, result.output
    assert load_model(out).spec == create_model(NAME).spec
    assert _run("convert", plus, out, "--model", NAME, "--expert", "0").exit_code == 0
    assert load_model(out).spec == create_model(NAME).spec


def test_which_expert_is_meant_must_be_clear(plus, tmp_path):
    out = tmp_path / "m.safetensors"
    for arguments, message in (
        (("--expert", "lsp"), "expected one of coco, aic, mpii, ap10k, apt36k, wholebody, or a number from 0 to 5"),
        (("--num-keypoints", "9"), "do not tell which is meant; expert (--expert) says it"),
        (
            ("--num-keypoints", "9", "--expert", "coco"),
            "not the weights of vitpose_small.coco_256x192 with 9 keypoints",
        ),
    ):
        result = _run("convert", plus, out, "--model", NAME, *arguments)
        assert (result.exit_code, message in result.stderr) == (2, True), result.output
    assert not out.exists()
    assert _run("convert", plus, out, "--model", NAME).exit_code == 0
    result = _run("convert", out, out, "--expert", "coco")
    assert (result.exit_code, "--expert: m.safetensors says itself" in result.stderr) == (2, True)


def test_info_says_whose_names_a_file_has_and_which_experts(plus):
    result = _run("info", plus)
    assert result.exit_code == 0, result.output
    for words in ("ViTPose's repository", "apt36k", f"{NAME} (17 keypoints)"):
        assert words in result.output


def test_simple_baselines_files_become_networks_that_read_bgr(tmp_path):
    model = create_model("resnet18_slim")
    torch.save(repository_names(model.state_dict()), tmp_path / "pose_resnet.pth.tar")
    result = _run("convert", tmp_path / "pose_resnet.pth.tar", tmp_path / "m.safetensors", "--model", "resnet18_slim")
    assert result.exit_code == 0, result.output
    assert "channel_order bgr, as Simple Baselines' repository trained" in result.stderr
    assert load_model(tmp_path / "m.safetensors").spec == model.spec.replace(channel_order="bgr")
