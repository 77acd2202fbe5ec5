"""The commands of docs/finetuning.md, run as they stand there."""

import json
import os
import re
import shlex
import subprocess
import sys
import time
from pathlib import Path

import pytest

import fastpose
from fastpose.cli import main
from fastpose.models import load_model

PAGE = Path(__file__).parents[2] / "docs" / "finetuning.md"


def blocks():
    """(language, text) of each code block that is run; those without a language are only shown."""
    return re.findall(r"^```(python|bash|yaml)\n(.*?)^```", PAGE.read_text(), re.M | re.S)


def run_page(folder, changes=()):
    """Run the page in a folder; ``changes`` are pairs of text and what stands there instead."""
    environment = os.environ | {"PYTHONPATH": str(Path(fastpose.__file__).parents[1])}
    for language, text in blocks():
        for old, new in changes:
            text = text.replace(old, new)
        if language == "yaml":
            (folder / "stick.yaml").write_text(text)
            continue
        lines = text.replace("\\\n", " ").splitlines()
        words = [shlex.split(line) for line in lines] if language == "bash" else [["python", "-c", text]]
        for command in filter(None, words):
            command = [
                sys.executable,
                *(["-m"] if command[0] == "fastpose" else []),
                *command[command[0] == "python" :],
            ]
            result = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=1200)
            assert result.returncode == 0, (command, result.stderr)
    return [json.loads((folder / f"{name}.json").read_text())["figures"]["AP"] for name in ("head", "all", "scratch")]


def test_the_commands_of_the_page(tmp_path, monkeypatch):
    """In this process, on so little that nothing is learned."""
    small = {
        "192": "16",
        "100, 60_000": "4, 60_000",
        "[96, 96]": "[32, 32]",
        "epochs: 4": "epochs: 1",
        "epochs=8": "epochs=1",
    }
    monkeypatch.chdir(tmp_path)
    for language, text in blocks():
        for old, new in small.items():
            text = text.replace(old, new)
        if language == "yaml":
            Path("stick.yaml").write_text(text)
        elif language == "python":
            exec(compile(text, str(PAGE), "exec"), {})
        else:
            for line in filter(None, text.replace("\\\n", " ").splitlines()):
                program, *words = shlex.split(line)
                assert program == "fastpose"
                with pytest.raises(SystemExit) as stop:
                    main(words)
                assert not stop.value.code, line
    for name in ("head", "all", "scratch"):
        assert json.loads(Path(f"{name}.json").read_text())["figures"].keys() >= {"AP"}
    assert len(json.loads(Path("stick.json").read_text())[0]["people"]) == 1
    assert Path("stick.jpg").is_file()


@pytest.mark.slow
def test_the_page_in_small(tmp_path):
    small = (("192", "96"), ("100, 60_000", "40, 60_000"))
    _, everything, scratch = run_page(tmp_path, small)
    assert everything > scratch + 0.02
    poses = json.loads((tmp_path / "stick.json").read_text())
    assert len(poses[0]["people"]) == 1
    assert (tmp_path / "stick.jpg").is_file()
    assert (tmp_path / "sheet.jpg").is_file()
    skeleton = load_model(tmp_path / "runs/all/best.safetensors").spec.skeleton
    assert (skeleton.name, skeleton.num_keypoints, skeleton.flip_index) == ("stick7", 7, (0, 1, 2, 4, 3, 6, 5))


@pytest.mark.slow
def test_the_figures_of_the_page(tmp_path):
    started, before = time.perf_counter(), os.times()
    found = run_page(tmp_path)
    used = sum(os.times()[2:4]) - sum(before[2:4])  # by the commands
    print(f"AP {found}; {used:.0f} s of CPU time, {time.perf_counter() - started:.0f} s by the clock")
    table = [float(value) for value in re.findall(r"^\| .* epochs \| ([0-9.]+) \|$", PAGE.read_text(), re.M)]
    assert len(table) == 3
    assert found == pytest.approx(table, abs=0.08)  # of another machine's arithmetic
    head, everything, scratch = found
    assert everything > head + 0.05
    assert everything > scratch + 0.25
