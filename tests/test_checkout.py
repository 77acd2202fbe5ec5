"""A checkout's folder `fastpose` in front of the installed package: what is wrong is said, and what to do."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import fastpose

PACKAGE = Path(fastpose.__file__).parent
EXAMPLE = "from fastpose import ops; import numpy as np; ops.affine_crop([], np.zeros((0, 2, 3)), size=(2, 2))"


@pytest.fixture
def run(tmp_path):
    """A function that runs the example in a checkout without a core, with more folders where packages lie."""
    clone = tmp_path / "clone"
    shutil.copytree(PACKAGE, clone / "fastpose", ignore=shutil.ignore_patterns("_C.*", "__pycache__", "carried", "zoo"))
    (clone / "csrc").mkdir()

    def call(*places: Path) -> str:
        # Without `site`, so that no link of an editable installation leads to the core of this checkout.
        others = [place for place in sys.path if "site-packages" in place]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join([*map(str, places), *others])}
        command = [sys.executable, "-S", "-c", EXAMPLE]
        done = subprocess.run(command, cwd=clone, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 1, done.stderr
        return done.stderr.splitlines()[-1]

    return call


def test_sources_that_hide_the_installed_package(run, tmp_path):
    installed = tmp_path / "site"
    (installed / "fastpose").mkdir(parents=True)
    (installed / "fastpose" / "_C.abi3.so").touch()
    message = run(installed)
    assert message.startswith(f"ImportError: Python took FastPose's sources in {tmp_path / 'clone' / 'fastpose'} for")
    assert f"installed in {installed / 'fastpose'}" in message
    assert "Run it in another folder" in message
    assert "pip install -e ." in message


def test_sources_alone_are_to_be_built(run, tmp_path):
    (tmp_path / "site" / "fastpose").mkdir(parents=True)
    message = run(tmp_path / "site")
    assert message.startswith("ImportError: the native core fastpose._C cannot be loaded: No module named")
    assert "pip install ." in message
