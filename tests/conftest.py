"""Fixtures that every test may use; the markers stand in pyproject.toml."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import fastpose


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    import torch

    if torch.cuda.is_available():
        return
    skip = pytest.mark.skip(reason="no CUDA device")
    for item in items:
        if item.get_closest_marker("cuda") is not None:
            item.add_marker(skip)


@pytest.fixture(autouse=True)
def same_on_every_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    """``--dtype auto`` is float32, whatever the processor, so that figures do not depend on it."""
    monkeypatch.setattr("fastpose.devices._has_amx", lambda: False)


def _shared_folder() -> Path:
    named = os.environ.get("FASTPOSE_SHARED")
    return Path(named) if named else Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of reference figures and sample data; skips the test by name where it is absent."""
    folder = _shared_folder()
    if not (folder / "reference").is_dir():
        pytest.skip(f"no reference folder at {folder} (set FASTPOSE_SHARED)")
    return folder


@pytest.fixture(scope="session")
def data() -> Path:
    """The small files that the tests carry with them."""
    return Path(__file__).resolve().parent / "data"


@pytest.fixture(scope="session")
def torchrun() -> Callable[..., subprocess.CompletedProcess[str]]:
    """A function that runs ``fastpose`` in so many processes, as torchrun starts them: their number, then words."""

    def run(count: int, *words: object) -> subprocess.CompletedProcess[str]:
        command = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={count}", "-m", "fastpose"]
        return subprocess.run(
            [sys.executable, *command, *map(str, words)],
            capture_output=True,
            text=True,
            timeout=300,
            env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(fastpose.__file__).parents[1])},
            check=False,
        )

    return run


@pytest.fixture(scope="session")
def draw_set() -> Callable[..., None]:
    """The function that draws a set: folder, name, number of figures, seed."""
    from drawn_figures import draw

    return draw


@pytest.fixture(scope="session")
def figures(tmp_path_factory: pytest.TempPathFactory, draw_set: Callable[..., None]) -> Path:
    """A folder with ``train.json`` (24 figures) and ``val.json`` (8)."""
    folder = tmp_path_factory.mktemp("figures")
    draw_set(folder, "train", 24)
    draw_set(folder, "val", 8, seed=1)
    return folder


@pytest.fixture
def ahead_threads() -> Iterator[Callable[[], list[threading.Thread]]]:
    """A function that gives the threads which read ahead now; none may be left after the test."""

    def running() -> list[threading.Thread]:
        return [thread for thread in threading.enumerate() if thread.name.startswith("fastpose-ahead")]

    yield running
    assert not running()


@pytest.fixture(
    params=["sse2", "avx2", "avx512"] if platform.machine() in ("x86_64", "AMD64") else ["neon", "baseline"]
)
def simd(request: pytest.FixtureRequest) -> Iterator[str]:
    """Runs the test once per SIMD level of this processor, with that level forced."""
    from fastpose import _C

    if request.param not in _C.build_info()["simd_supported"]:
        pytest.skip(f"this processor has no {request.param}")
    before = _C.build_info()["simd"]
    _C.set_simd_level(request.param)
    yield request.param
    _C.set_simd_level(before)
