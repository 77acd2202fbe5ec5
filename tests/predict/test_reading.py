"""Photos that are files in a list are read ahead of their turn, and nobody notices but the clock."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence

import cv2
import numpy as np
import pytest
from spot_model import random_spots

from fastpose.data.images import ImageError
from fastpose.predict import reading

pytestmark = pytest.mark.usefixtures("ahead_threads")


@pytest.fixture
def files(tmp_path):
    """Forty photos of different sizes, as files, and their boxes."""
    cases = [random_spots(seed) for seed in range(40)]
    paths = [tmp_path / f"{number}.png" for number in range(40)]
    for path, (image, _, _) in zip(paths, cases, strict=True):
        cv2.imwrite(str(path), image)
    return paths, [box for _, _, box in cases]


@pytest.fixture
def read(monkeypatch):
    """What is read, by name, and the threads that did it."""
    calls = []
    read_image = reading.read_image

    def counted(path):
        calls.append((path.name, threading.current_thread().name))
        return read_image(path)

    monkeypatch.setattr(reading, "read_image", counted)
    return calls


def settled(calls, expected):
    """How many there are when nothing more happens."""
    deadline = time.monotonic() + 10
    while len(calls) < expected and time.monotonic() < deadline:
        time.sleep(0.005)
    time.sleep(0.05)
    return len(calls)


def test_lists_give_what_iterators_give(predictor, files, read):
    paths, boxes = files
    wanted = list(predictor(iter(paths), iter(boxes), batch_size=16))
    assert {thread for _, thread in read} == {threading.current_thread().name}
    pairs = list(zip(paths, boxes, strict=True))
    calls = (
        lambda: predictor(paths, boxes, batch_size=16),
        lambda: predictor(tuple(map(str, paths)), iter(boxes), batch_size=16),
        lambda: list(predictor.stream(pairs, batch_size=16)),
    )
    for call in calls:
        read.clear()
        found = call()
        assert sorted(name for name, _ in read) == sorted(path.name for path in paths)
        assert any(thread.startswith("fastpose-ahead") for _, thread in read)
        for poses, other in zip(found, wanted, strict=True):
            assert poses.path == other.path
            np.testing.assert_array_equal(poses.keypoints, other.keypoints)
            np.testing.assert_array_equal(poses.scores, other.scores)
            assert poses.milliseconds["read"] > 0


def test_files_and_pixels_in_one_list(predictor, files, read):
    paths, boxes = files
    mixed = [cv2.imread(str(path)) if number % 3 else path for number, path in enumerate(paths)]
    wanted = predictor(paths, boxes)
    read.clear()
    for number, (poses, other) in enumerate(zip(predictor(mixed, boxes), wanted, strict=True)):
        np.testing.assert_array_equal(poses.keypoints, other.keypoints)
        assert poses.path == (None if number % 3 else paths[number])
    assert len(read) == 14


def test_one_photo_takes_no_thread(predictor, files, read):
    paths, boxes = files
    predictor(paths[0], boxes[0])
    predictor(paths[:1], boxes[:1])
    assert [thread for _, thread in read] == [threading.current_thread().name] * 2


def test_as_far_ahead_as_there_is_room(predictor, files, read, monkeypatch):
    paths, boxes = files
    monkeypatch.setitem(reading.Prefetch.__init__.__kwdefaults__, "most", 5)
    stream = predictor.stream(list(zip(paths, boxes, strict=True)), batch_size=1)
    for taken in range(1, 4):
        next(stream)
        assert settled(read, taken + 5) == taken + 5
    stream.close()
    stream = predictor(iter(paths), iter(boxes), batch_size=1)
    read.clear()
    for taken in range(1, 4):
        next(stream)
        assert settled(read, taken) == taken


def test_what_a_class_makes_when_it_is_asked_is_not_asked_for_ahead(predictor, files):
    paths, boxes = files
    asked = []

    class Made(Sequence):
        def __len__(self):
            return len(paths)

        def __getitem__(self, number):
            asked.append(number)
            return paths[number], boxes[number]

    stream = predictor.stream(Made(), batch_size=1)
    next(stream)
    assert asked == [0]


@pytest.mark.parametrize("first", [0, 11])
def test_the_first_bad_photo_ends_it_in_its_turn(predictor, files, first, ahead_threads):
    paths, boxes = files
    paths[first].write_bytes(b"")
    paths[first + 1].unlink()
    found = []
    stream = predictor.stream(list(zip(paths, boxes, strict=True)), batch_size=1)
    with pytest.raises(ImageError, match=f"/{first}.png: is empty"):
        found.extend(poses.path for poses in stream)
    assert found == paths[:first]
    with pytest.raises(ImageError, match=f"/{first}.png: is empty") as caught:
        predictor(paths, boxes)
    assert caught.tb is not None
    assert not ahead_threads(), "not even while somebody holds the traceback"


def test_a_bad_box_ends_the_threads_too(predictor, files, ahead_threads):
    paths, boxes = files
    boxes[3] = [[5, 5, 5, 9]]
    with pytest.raises(ValueError, match=r"/3.png: boxes: row 0 .* no width"):
        predictor(paths, boxes)
    assert not ahead_threads()


def test_left_early(predictor, files, read, ahead_threads):
    paths, boxes = files
    stream = predictor.stream(list(zip(paths, boxes, strict=True)) * 20, batch_size=1)
    next(stream)
    assert ahead_threads()
    stream.close()
    assert not ahead_threads()
    begun = len(read)
    assert begun < 100
    stream = predictor.stream(list(zip(paths, boxes, strict=True)), batch_size=1)
    next(stream)
    del stream
    assert not ahead_threads()


def test_a_bad_photo_leaves_the_others_to_be_read(files):
    paths, boxes = files
    paths[5].write_bytes(b"")
    pairs = list(zip(paths, boxes, strict=True))
    with reading.read_ahead(paths) as alone, reading.read_pairs_ahead(pairs) as paired:
        read, read_pairs = list(alone), list(paired)
    assert [photo.path for photo in read if isinstance(photo, reading.Photo)] == paths[:5] + paths[6:]
    for error in (read[5], read_pairs[5][0]):
        with pytest.raises(ImageError, match=r"/5.png: is empty"):
            reading.read(error)
    assert [boxes for _, boxes in read_pairs] == boxes
