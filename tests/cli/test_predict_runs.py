"""``fastpose predict`` on many photos: read ahead, interrupted, failing late."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest


def _at_photo(monkeypatch, name, action):
    """Something is done when the photo of that name is to be read."""
    from fastpose.predict import reading as module

    read = module.read_image

    def reading(path):
        if Path(path).name == name:
            action()
        return read(path)

    monkeypatch.setattr(module, "read_image", reading)


def _at_turn(monkeypatch, name, action):
    """Something is done when it is the turn of the photo of that name, which may have been read before."""
    from fastpose.predict import finder

    clean_boxes = finder.clean_boxes

    def checking(boxes, size, where):
        if Path(where).name == name:
            action()
        return clean_boxes(boxes, size, where)

    monkeypatch.setattr(finder, "clean_boxes", checking)


def test_photos_are_read_ahead_and_once(run, photos, monkeypatch):
    from fastpose.predict import reading as module

    read_image, calls = module.read_image, []

    def reading(path):
        calls.append((path.name, threading.current_thread()))
        return read_image(path)

    names = [f"{number:02}.jpg" for number in range(30)]
    for name in names:
        (photos / name).write_bytes((photos / "b.jpg").read_bytes())
    (photos / "11.jpg").write_bytes(b"")
    (photos / "12.jpg").unlink()
    monkeypatch.setattr(module, "read_image", reading)
    result = run(*names, "--boxes", "whole", "--json", "o.json", "--out", "drawn")
    assert result.exit_code == 2
    assert [line.split(" ")[1] for line in result.stderr.splitlines()[:2]] == ["11.jpg:", "12.jpg:"]
    assert sorted(name for name, _ in calls) == names
    assert any(thread.name.startswith("fastpose-ahead") for _, thread in calls)
    assert not any(thread.is_alive() for _, thread in calls if thread is not threading.current_thread())
    kept = names[:11] + names[13:]
    assert [entry["file"] for entry in json.loads((photos / "o.json").read_text())] == kept
    assert len(os.listdir(photos / "drawn")) == len(kept)
    calls.clear()
    assert run("b.jpg", "--boxes", "whole").exit_code == 0
    assert calls == [("b.jpg", threading.current_thread())]


@pytest.fixture
def interruptible() -> Iterator[None]:
    """SIGINT as a terminal's programs have it: those that a shell starts in the background are born ignoring it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_it_keeps_what_it_found(run, photos, monkeypatch, number):
    def call():
        return run("7.png", "a.jpg", "b.jpg", "--boxes", "boxes.json", "--batch-size", 1, "--json", "o.json")

    boxes = json.loads((photos / "boxes.json").read_text())
    (photos / "boxes.json").write_text(json.dumps(boxes | {"a.jpg": boxes["b.jpg"]}))
    (photos / "a.jpg").write_bytes((photos / "b.jpg").read_bytes())
    before = signal.getsignal(signal.SIGTERM)
    assert call().exit_code == 0
    whole = json.loads((photos / "o.json").read_text())
    (photos / "o.json").unlink()
    with monkeypatch.context() as patched:
        _at_turn(patched, "b.jpg", lambda: os.kill(os.getpid(), number))
        result = call()
    assert (result.exit_code, result.stderr) == (130, "interrupted after 2 of 3 photos; o.json has these\n")
    assert json.loads((photos / "o.json").read_text()) == whole[:2]
    assert signal.getsignal(signal.SIGTERM) is before
    with monkeypatch.context() as patched:
        _at_turn(patched, "7.png", lambda: os.kill(os.getpid(), number))
        result = call()
    assert (result.exit_code, result.stderr) == (130, "interrupted after 0 of 3 photos\n")
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("fastpose-ahead")]
    assert json.loads((photos / "o.json").read_text()) == whole[:2]


def test_a_failure_late_in_a_run_keeps_what_was_found(run, photos, monkeypatch):
    def fail():
        raise RuntimeError("out of memory")

    _at_photo(monkeypatch, "b.jpg", fail)
    words = ("7.png", "b.jpg", "--boxes", "boxes.json", "--batch-size", 1)
    result = run(*words, "--json", "o.json", "--format", "coco")
    assert result.exit_code == 2
    said, error = result.stderr.splitlines()
    assert said == "ended after 1 of 2 photos; o.json has these"
    assert error.startswith("Error: RuntimeError: out of memory")
    assert [entry["image_id"] for entry in json.loads((photos / "o.json").read_text())] == [7, 7]
    result = run(*words)
    assert result.stderr.splitlines()[0] == "ended after 1 of 2 photos; stdout has these"
    assert [entry["file"] for entry in json.loads(result.stdout)] == ["7.png"]
    with pytest.raises(RuntimeError, match="out of memory"):
        run(*words, "--debug")
