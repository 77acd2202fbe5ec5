"""``fastpose``, ``fastpose info`` and ``fastpose models``."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

import fastpose
from fastpose.cli import main
from fastpose.models import list_entries


def call(*words):
    return CliRunner().invoke(main, list(words), catch_exceptions=False)


def test_help_and_version():
    result = call("--help")
    assert result.exit_code == 0
    for verb in ("predict", "train", "eval", "convert", "models", "info"):
        assert f"\n  {verb} " in result.stdout
        assert call(verb, "--help").exit_code == 0
    assert call("--version").stdout == f"fastpose, version {fastpose.__version__}\n"


@pytest.mark.parametrize(
    ("verb", "hint"),
    [
        ("frobnicate", "there are predict, train, eval, convert, models, info"),
        ("predct", "did you mean predict?"),
        ("Train", "did you mean train?"),
        ("evaluate", "did you mean eval?"),
        ("test", "did you mean eval?"),
        ("list", "did you mean models?"),
    ],
)
def test_unknown_verb(verb, hint):
    result = call(verb, "--data", "x")
    assert result.exit_code == 2
    assert result.stderr.startswith(f"Error: no verb is named {verb!r}; {hint} (see ")
    assert result.stderr.count("\n") == 1


def test_unknown_options():
    assert "'--boxes'" in call("predict", "a.jpg", "--bxes", "1,2,3,4").stderr
    assert "No such option '--frob'" in call("--frob").stderr


def test_help_does_not_wait_for_torch():
    code = (
        "import sys\nfrom fastpose.cli import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit:\n    pass\n"
        "heavy = {'torch', 'cv2', 'numpy', 'rich'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    root = Path(__file__).resolve().parents[2]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(root), os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("policy", [None, "active"])
def test_threads_do_not_spin_for_long(policy):
    """Spinning threads made a network twenty times as slow beside a busy program. Read when torch is imported."""
    code = (
        "import os, sys\nfrom fastpose.cli import main\nassert 'torch' not in sys.modules\n"
        "try:\n    main(['models', '--names', 'alexnet*'])\nexcept SystemExit:\n    pass\n"
        "assert 'torch' in sys.modules\nprint('spins', os.environ.get('GOMP_SPINCOUNT'))\n"
    )
    root = Path(__file__).resolve().parents[2]
    unset = {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"}
    environment = {name: value for name, value in os.environ.items() if name not in unset}
    environment["PYTHONPATH"] = os.pathsep.join([str(root), os.environ.get("PYTHONPATH", "")])
    if policy:
        environment["OMP_WAIT_POLICY"] = policy
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert f"spins {None if policy else 6000}" in done.stdout, done.stderr


def test_info_says_what_runs_here():
    facts = json.loads(call("info", "--json").stdout)
    assert facts["fastpose"] == fastpose.__version__
    assert facts["python"] == platform.python_version()
    assert facts["torch"] == torch.__version__
    assert facts["numpy"] == np.__version__
    assert facts["devices"][0] == "cpu"
    assert facts["simd"].split()[0] in facts["simd"].split()[-1].split("/")
    text = call("info").stdout
    for name in facts:
        assert f"{name} " in text


def test_info_without_the_core(monkeypatch):
    from fastpose.ops import _native

    monkeypatch.setattr(_native, "C", _native._Missing("no core here"))
    facts = json.loads(call("info", "--json").stdout)
    assert facts["native core"] == "missing: no core here"
    assert "simd" not in facts


def test_models_lists_what_fits():
    result = call("models", "resnet50*")
    assert result.exit_code == 0
    assert "resnet50.coco_256x192" in result.stdout
    assert "litehrnet" not in result.stdout
    names = call("models", "--names", "*").stdout.split()
    assert names == fastpose.list_models()
    assert call("models", "--names", "litehrnet").stdout.split() == fastpose.list_models("*litehrnet*")
    table = call("models").stdout
    for name in fastpose.list_models("*.*"):
        assert name in table


@pytest.mark.parametrize("pattern", ["nothing_like_it", "x*"])
def test_models_finds_nothing(pattern):
    result = call("models", pattern)
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1
    assert pattern in result.stderr


def test_models_names_the_nearest():
    assert "did you mean resnet50" in call("models", "resnt50").stderr
    assert "did you mean hrnet_w32" in call("models", "hrnet_w23*").stderr


def test_models_says_size_and_result_of_each():
    line = next(line for line in call("models", "hrnet_w32.coco_256x192").stdout.splitlines() if "w32" in line)
    assert line.split() == [
        *("hrnet_w32.coco_256x192", "body", "17", "256x192", "7.64", "28.5M", "AP", "0.746"),
        *("Apache-2.0", "labels", "CC", "BY", "4.0"),
    ]


def test_info_about_a_model():
    facts = json.loads(call("info", "--json", "td-hm_hrnet-w32_udp-regress-8xb64-210e_coco-256x192").stdout)
    assert facts["model"] == "hrnet_w32_udp_regress.coco_256x192"
    assert facts["parameters"] == 28537235
    assert facts["codec"] == {
        "kind": "udp_combined",
        "heatmap_size": [64, 48],
        "radius_factor": 0.0546875,
        "blur_kernel": 11,
    }
    assert facts["published"]["AP"] == 0.759
    assert (facts["topic"], facts["starts from"]) == ("body", "imagenet")
    assert facts["weights' licence"] == "Apache-2.0, that of the project that publishes them"
    assert facts["training data"] == "labels CC BY 4.0"
    assert facts["terms of the data sets"] == {"coco": "labels CC BY 4.0; photos as on Flickr"}
    assert facts["recipe: train"]["epochs"] == 210
    text = call("info", "mspn50_x2").stdout
    assert "mspn50_x2.coco_256x192" in text
    assert "stages 2" in text
    assert "hardest 8" in text
    alone = json.loads(call("info", "--json", "resnet18").stdout)
    assert (alone["model"], alone["keypoints"][0]) == ("resnet18", "nose")
    assert "GFLOPs" not in alone


def test_info_about_an_unknown_model():
    result = call("info", "resnt50")
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1
    assert "did you mean resnet50" in result.stderr


# --- files ---------------------------------------------------------------------------------------------------------
@pytest.fixture
def small(tmp_path):
    model = fastpose.create_model("resnet18_slim", input_size=(64, 64), padding=1.5, num_keypoints=3)
    path = tmp_path / "small.safetensors"
    fastpose.save_model(model, path, metadata={"licence": "mine"}, dtype=torch.float16)
    return path


def test_info_about_a_model_file(small):
    facts = json.loads(call("info", "--json", str(small)).stdout)
    assert facts["file"] == str(small)
    assert facts["model"] == "resnet18_slim"
    assert facts["box padding"] == 1.5
    assert facts["input (height, width)"] == [64, 64]
    assert facts["codec"]["kind"] == "gaussian"
    assert facts["keypoints"] == ["keypoint_0", "keypoint_1", "keypoint_2"]
    assert facts["parameters"] == sum(p.numel() for p in fastpose.load_model(small).parameters())
    assert facts["metadata"] == {"format": "pt", "licence": "mine"}
    assert "float16" in facts["entries"]
    assert "licence mine" in call("info", str(small)).stdout


def test_info_about_a_detector_file(tmp_path):
    from fastpose.detection.person_detector import DetectorSpec, save_detector

    spec = DetectorSpec(widths=(8, 8, 8, 8, 8), depths=(0, 0, 0, 0), neck=8, side=64)
    save_detector(spec.build(), spec, tmp_path / "small.safetensors")
    facts = json.loads(call("info", str(tmp_path / "small.safetensors"), "--json").stdout)
    assert (facts["finds"], facts["threshold"], facts["network"]["neck"]) == ("people", 0.4, 8)
    assert facts["input"] == "photos of 64 pixels, the longer side"
    (tmp_path / "cut.safetensors").write_bytes((tmp_path / "small.safetensors").read_bytes()[:-99])
    assert "cut.safetensors: damaged or cut short" in call("info", str(tmp_path / "cut.safetensors")).stderr


def test_info_says_which_detector_is_carried(monkeypatch):
    assert "pixels, the longer side" in json.loads(call("info", "--json").stdout)["carried detector"]
    monkeypatch.setattr("fastpose.detection.sources._CARRIED_FILE", "gone.safetensors")
    assert "missing: carried: the package should hold" in json.loads(call("info", "--json").stdout)["carried detector"]


def test_info_about_a_checkpoint(tmp_path):
    entry = next(e for e in list_entries("litehrnet18.*") if e.name == "litehrnet18.coco_256x192")
    path = tmp_path / "best_epoch.pth"
    torch.save({"state_dict": fastpose.create_model(entry.name, num_keypoints=3).state_dict()}, path)
    facts = json.loads(call("info", "--json", str(path)).stdout)
    assert facts["parts"].keys() == {"backbone", "head"}
    assert facts["published as"] == []
    assert "litehrnet18.coco_256x192 (3 keypoints)" in facts["fits"]
    # What it says to do can be done as it stands.
    words = facts["convert"].replace("best_epoch.safetensors", str(tmp_path / "out.safetensors")).split()
    assert words[:2] == ["fastpose", "convert"]
    assert call(*words[1:]).exit_code == 0
    assert fastpose.load_model(tmp_path / "out.safetensors").spec.num_keypoints == 3

    published = tmp_path / Path(entry.weights["url"]).name
    torch.save({"state_dict": fastpose.create_model(entry.name).state_dict()}, published)
    facts = json.loads(call("info", "--json", str(published)).stdout)
    assert facts["published as"] == [entry.name]
    assert facts["convert"].endswith(f"{published.stem}.safetensors")

    torch.save({"layer.weight": torch.zeros(3, 4)}, path)
    facts = json.loads(call("info", "--json", str(path)).stdout)
    assert (facts["fits"], facts["parts"]) == ([], {"layer": "1 entry"})
    assert "convert" not in facts


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("gone.pth", None, "gone.pth: cannot be read"),
        ("photo.safetensors", b"\xff\xd8\xff\xe0 a photo", "expected safetensors or a file that torch.save wrote"),
        ("cut.safetensors", b"\x10\0\0\0\0\0\0\0{", "damaged or cut short"),
    ],
)
def test_info_about_what_is_no_model_file(tmp_path, name, content, words):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    result = call("info", str(tmp_path / name))
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1
    assert words in result.stderr
