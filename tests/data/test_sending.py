"""Batches for a GPU: the CPU's, from no more pixels than crops show; through a stand-in for CUDA."""

from __future__ import annotations

import contextlib
import threading
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from test_loader import SPEC, dataset

from fastpose.data import loader as loader_module
from fastpose.data.augment import Augmentation
from fastpose.data.loader import Loader
from fastpose.data.pixels import Blur, HueSaturationValue, PixelChanges
from fastpose.data.sending import CudaSender, Sender, make_sender, shown_parts
from fastpose.data.synthetic import synthetic_records
from fastpose.geometry import flip_matrices, invert_matrices
from fastpose.ops import affine_crop
from fastpose.views import build_views

PIXELS = PixelChanges(hsv=HueSaturationValue(), blur=Blur())
CASES = {
    "plain": ({}, {}),
    "several groups": ({}, {"batch_size": 10}),
    "views": ({}, {"views": build_views(SPEC, (0.8, 1.3), (-30.0, 0.0))}),
    "random": ({"colour_prob": 0.5}, {}),
    "pixels": ({"pixels": PIXELS}, {}),
    "reduced": ({}, {"reduce": True}),
}


def make_fake(device):
    return FakeSender(device) if device.type == "cuda" else Sender(device)


class FakeSender(CudaSender):
    """As `CudaSender`, on the CPU; sees to it that one thread makes the batches, and another takes them."""

    def __init__(self, device):
        assert device.type == "cuda"
        Sender.__init__(self, torch.device("cpu"))
        self.thread, self.sent, self.moments = None, 0, 0

    @contextlib.contextmanager
    def making(self):
        self.thread = threading.get_ident()
        yield
        self.thread = None

    def send(self, values):
        assert self.thread == threading.get_ident()
        return values.clone()

    def _pinned(self, count):
        assert self.thread == threading.get_ident()
        self.sent += count
        return torch.full((count,), 255, dtype=torch.uint8)

    def mark(self):
        self.moments += 1
        return self.moments

    def wait(self, moment, tensors):
        assert moment >= 1
        assert self.thread != threading.get_ident()


@pytest.fixture(scope="module")
def scenes():
    return synthetic_records(5, seed=3, size=(96, 128), people=2)


@pytest.mark.parametrize("case", CASES)
def test_the_same_batches_as_on_the_cpu(case, scenes, monkeypatch):
    changes, options = CASES[case]
    options = {"batch_size": 4, "seed": 5, **options}
    if changes or case in ("several groups", "reduced"):
        options["augmentation"] = Augmentation(**changes)
    if case == "several groups":
        monkeypatch.setattr(loader_module, "MAX_HELD_BYTES", 1)  # as if each photo filled the memory
    expected = list(Loader(dataset(scenes), SPEC, **options).epoch(2))
    monkeypatch.setattr(loader_module, "make_sender", make_fake)
    loader = Loader(dataset(scenes), SPEC, device="cuda", **options)
    found = list(loader.epoch(2))
    assert len(found) == len(expected) > 0
    for ours, theirs in zip(found, expected, strict=True):
        # Positions are counted from the part's corner, so their last digits differ; a tenth of a grey level is 0.002.
        torch.testing.assert_close(ours.images, theirs.images, atol=2e-3, rtol=0)
        assert ours.images.is_contiguous(memory_format=torch.channels_last)
        for name in ("keypoints", "weights", "annotated"):
            torch.testing.assert_close(getattr(ours, name), getattr(theirs, name), atol=0, rtol=0)
        np.testing.assert_array_equal(ours.matrices, theirs.matrices)
        np.testing.assert_array_equal(ours.people, theirs.people)
    assert loader._sender.moments == len(found)


def test_no_more_is_sent_than_crops_show(scenes, monkeypatch):
    monkeypatch.setattr(loader_module, "make_sender", make_fake)
    data = dataset(scenes, labelled_only=False)
    data.boxes[:] = np.array([50, 40, 62, 56])
    loader = Loader(data, SPEC, batch_size=len(data), device="cuda")
    (batch,) = loader.epoch()
    assert len(batch.people) == 10
    padded = 1.25 * 16 + 4  # the box, made to fit the crop, and the pixels around it
    assert loader._sender.sent <= 5 * (padded * padded * 3 + 16)


def test_a_batch_of_nobody(monkeypatch):
    monkeypatch.setattr(loader_module, "make_sender", make_fake)
    gone = synthetic_records(2, seed=1, size=(96, 128))
    data = dataset(gone)
    monkeypatch.setattr(data.photos, "read", lambda number: None)
    (batch,) = Loader(data, SPEC, batch_size=2, augmentation=Augmentation(), device="cuda").epoch()
    assert batch.images.shape == (0, 3, 64, 48)


def test_an_error_while_sending_reaches_the_caller(scenes, monkeypatch):
    monkeypatch.setattr(loader_module, "make_sender", make_fake)
    loader = Loader(dataset(scenes), SPEC, batch_size=4, device="cuda")
    monkeypatch.setattr(loader._sender, "_pinned", lambda count: torch.empty(-count))
    with pytest.raises(RuntimeError, match="negative dimension"):
        list(loader.epoch())


def random_matrices(rng, count):
    angle, scale = rng.uniform(-np.pi, np.pi, count), np.exp(rng.uniform(-3, 3, count))
    cos, sin = scale * np.cos(angle), scale * np.sin(angle)
    centre = rng.uniform(-40, 140, (count, 2, 1))
    linear = np.stack([np.stack([cos, -sin], 1), np.stack([sin, cos], 1)], 1)
    return np.concatenate([linear, np.array([[15.0], [19.0]]) - linear @ centre], axis=2)


@pytest.mark.parametrize("seed", range(20))
def test_parts_hold_all_that_crops_show(seed):
    """Whatever is outside of the part may be anything: the crop stays the same."""
    rng = np.random.default_rng(seed)
    sizes = [(int(h), int(w)) for h, w in rng.integers(1, 120, (4, 2))]
    photos = [rng.integers(0, 256, (*size, 3), dtype=np.uint8) for size in sizes]
    index = rng.integers(0, 4, 12)
    matrices = random_matrices(rng, 12)
    if seed % 2:
        matrices = flip_matrices(matrices, 31)
    parts = shown_parts(matrices, index, sizes, (40, 31))
    assert (parts[:, :2] >= 0).all()
    assert (parts[:, 2:] > parts[:, :2]).all()
    blank = []
    for photo, (x, y, right, bottom) in zip(photos, parts, strict=True):
        assert right <= photo.shape[1]
        assert bottom <= photo.shape[0]
        other = 255 - photo
        other[y:bottom, x:right] = photo[y:bottom, x:right]
        blank.append(other)
    crops = [affine_crop(given, matrices, index, size=(40, 31)) for given in (photos, blank)]
    np.testing.assert_array_equal(*crops)


def test_parts_are_no_larger_than_needed():
    # The crop's 10x8 pixels show every second pixel of the photo from (30, 20) on.
    matrices = invert_matrices(np.array([[[2.0, 0, 30], [0, 2, 20]]]))
    assert shown_parts(matrices, np.array([0]), [(100, 100)], (10, 8)).tolist() == [[29, 19, 47, 41]]
    # Outside of the photo one pixel is left, as there is no picture without any.
    far = invert_matrices(np.array([[[2.0, 0, 500], [0, 2, -90]]]))
    assert shown_parts(far, np.array([0]), [(60, 70)], (10, 8)).tolist() == [[69, 0, 70, 1]]


def test_a_core_without_cuda_makes_crops_on_the_cpu(monkeypatch):
    monkeypatch.setattr("fastpose.data.sending.C", SimpleNamespace(with_cuda=False))
    sender = make_sender(torch.device("cuda"))
    assert type(sender) is Sender
    assert (sender.device.type, sender.crops_on.type) == ("cuda", "cpu")


def test_a_device_that_is_neither_gets_its_batches_moved(scenes):
    loader = Loader(dataset(scenes), SPEC, batch_size=4, device="meta")
    for batch in loader.epoch():
        assert {batch.images.device.type, batch.keypoints.device.type} == {"meta"}


def test_who_decodes(scenes, monkeypatch):
    """A network on the CPU needs the processors itself; one on a GPU leaves them to this machine's processes."""
    monkeypatch.setattr(loader_module, "make_sender", make_fake)
    make = lambda **options: Loader(dataset(scenes), SPEC, batch_size=4, **options).workers  # noqa: E731
    for count, processes, expected in ((1, "1", 2), (12, "1", 12), (12, "4", 3), (200, "8", 16)):
        monkeypatch.setattr("fastpose.data.sending.processors", lambda count=count: count)
        monkeypatch.setenv("LOCAL_WORLD_SIZE", processes)
        assert make(device="cuda") == expected
        assert make() == 2
        assert make(device="cuda", workers=5) == make(workers=5) == 5
