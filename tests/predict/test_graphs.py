"""Batches in few sizes, captured and replayed, results read late: the same as without; through a stand-in for CUDA."""

from __future__ import annotations

import copy
import itertools
import pickle
import threading
import warnings

import numpy as np
import pytest
import torch
from spot_model import random_spots, spot_model

from fastpose.engines import cuda_graphs as graphs
from fastpose.engines.engine import bucket_size
from fastpose.models import create_model
from fastpose.predict import Predictor


def crowd(counts, seed=0):
    """Photos and boxes, so many of each; every box is another one."""
    rng = np.random.default_rng(seed)
    photos = [random_spots(number, (100, 120))[0] for number in range(len(counts))]
    boxes = []
    for count in counts:
        corner = rng.uniform(0, 20, (count, 2))
        boxes.append(np.concatenate([corner, corner + rng.uniform(60, 90, (count, 2))], 1).astype(np.float32))
    return photos, boxes


def assert_same(ours, theirs, atol=1e-4):
    assert len(ours) == len(theirs)
    for a, b in zip(ours, theirs, strict=True):
        assert len(a) == len(b)
        np.testing.assert_allclose(a.keypoints, b.keypoints, atol=atol)
        np.testing.assert_allclose(a.scores, b.scores, atol=1e-5)
        assert (a.visibility is None) == (b.visibility is None)
        if a.visibility is not None:
            np.testing.assert_allclose(a.visibility, b.visibility, atol=1e-5)


def test_sizes_are_few_and_waste_little():
    for most in (1, 7, 16, 63, 64, 100, 128, 512):
        sizes = [bucket_size(count, most) for count in range(1, most + 1)]
        assert sizes == sorted(sizes)
        assert sizes[-1] == most
        assert all(count <= size <= most for count, size in enumerate(sizes, 1))
        for count, size in enumerate(sizes, 1):
            assert size < max(2 * count, 2) if count <= 8 else size - count < max(8, count / 4)
    assert sorted({bucket_size(count, 64) for count in range(1, 65)}) == [1, 2, 4, 8, 16, 24, 32, 40, 48, 56, 64]
    assert len({bucket_size(count, 512) for count in range(1, 513)}) < graphs.MOST_BUCKETS


def test_the_first_of_a_size_runs_as_it_is_the_second_is_captured_the_third_replayed(graphed):
    seen = []
    model = spot_model(flip_test=False)
    model.backbone.register_forward_pre_hook(lambda module, inputs: seen.append(len(inputs[0])))
    predictor, cuda = graphed(model)
    _, (boxes,) = crowd([5])
    image = random_spots(0, (100, 120))[0]
    wanted = Predictor(model, device="cpu")(image, boxes)
    del seen[:]
    for rows, captured, replays in (([5], [], 0), ([8, 8], [8], 1), ([8], [8], 2), ([8], [8], 3)):
        found = predictor(image, boxes)
        assert_same([found], [wanted])
        assert seen == rows  # the stand-in computes to capture, and again to replay
        assert (cuda.captured, cuda.replays) == (captured, replays)
        del seen[:]


@pytest.mark.parametrize("flip", [False, True])
def test_changing_numbers_of_people(flip, graphed):
    theirs = Predictor(spot_model(flip_test=flip), device="cpu")
    ours, cuda = graphed(spot_model(flip_test=flip))
    for turn, count in enumerate([3, 1, 7, 3, 20, 5, 17, 1, 3, 40, 8, 2, 33, 18, 40]):
        photos, boxes = crowd([count, 0, 2], seed=turn)
        assert_same(ours(photos, boxes, batch_size=16), theirs(photos, boxes, batch_size=16))
        # What others left in the rows beyond must not matter.
        with torch.inference_mode():
            for bucket in ours.engine._buckets.values():
                bucket.crops.fill_(torch.nan)
    assert sorted(cuda.captured) == ([8, 16, 24, 32] if flip else [4, 8, 16])
    assert cuda.replays > 2 * len(cuda.captured)


@pytest.mark.parametrize("head", ["heatmap", "visibility", "regression"])
@pytest.mark.parametrize("flip", [False, True])
def test_every_kind_of_output(head, flip, graphed):
    torch.manual_seed(0)
    options = {"codec": {"kind": "regression"}} if head == "regression" else {}
    model = create_model("mobilenetv2", input_size=(64, 64), head=head, **options).eval()
    ours, cuda = graphed(model)
    theirs = Predictor(model, device="cpu")
    for turn in range(3):
        photos, boxes = crowd([3, 4, 2], seed=turn)
        wanted = theirs(photos, boxes, batch_size=16, flip_test=flip)
        found = ours(photos, boxes, batch_size=16, flip_test=flip)
        # A fresh network's maps are flat: two maxima may change places over a rounding.
        near = [np.abs(a.keypoints - b.keypoints).max(-1) < 0.1 for a, b in zip(found, wanted, strict=True)]
        assert np.concatenate(near).mean() > 0.95
        for a, b in zip(found, wanted, strict=True):
            np.testing.assert_allclose(a.scores, b.scores, atol=1e-4)
            assert (a.visibility is None) == (head != "visibility")
            if a.visibility is not None:
                np.testing.assert_allclose(a.visibility, b.visibility, atol=1e-4)
    assert cuda.captured == [24 if flip else 16]
    assert cuda.replays == 2


def test_several_views(graphed):
    ours, cuda = graphed(spot_model())
    theirs = Predictor(spot_model(), device="cpu")
    options = {"scales": (1.0, 1.2), "rotations": (0.0, 10.0), "batch_size": 12}
    for turn in range(3):
        photos, boxes = crowd([4, 1], seed=turn)
        assert_same(ours(photos, boxes, **options), theirs(photos, boxes, **options), atol=1e-3)
    assert 24 in cuda.captured  # three people, four crops each, and these mirrored


def test_lists_are_read_late_and_in_order(graphed):
    ours, cuda = graphed(spot_model(flip_test=False))
    photos, boxes = crowd([4, 3, 5, 4])
    wanted = Predictor(spot_model(flip_test=False), device="cpu")(photos, boxes)
    assert_same(ours(photos, boxes, batch_size=4), wanted)
    assert cuda.log == ["launch", "launch", "launch", "read", "read", "launch", "read", "read"]
    del cuda.log[:]
    assert_same(list(ours.stream(list(zip(photos, boxes, strict=True)), batch_size=8)), wanted)
    assert cuda.log == ["launch", "launch", "read", "read"]


def test_an_iterator_gets_its_poses_as_early_as_ever(graphed):
    ours, cuda = graphed(spot_model(flip_test=False))
    drawn = 0

    def camera():
        nonlocal drawn
        for seed in itertools.count():
            drawn += 1
            yield random_spots(seed)[0]

    stream = ours(camera(), itertools.repeat([[5, 5, 80, 80]]), batch_size=1)
    for expected in range(1, 6):
        assert len(next(stream)) == 1
        assert drawn == expected
    assert cuda.log == ["launch", "read"] * 5
    stream = ours(camera(), itertools.repeat([[5, 5, 80, 80]]), batch_size=4)
    drawn = 0
    next(stream)
    assert drawn == 4


def test_a_network_that_cannot_be_captured_is_named_once_and_runs_on(graphed):
    ours, cuda = graphed(spot_model(flip_test=False))
    theirs = Predictor(spot_model(flip_test=False), device="cpu")
    photos, boxes = crowd([3])
    ours(photos, boxes)
    ours(photos, boxes)
    assert cuda.captured == [4]
    cuda.refuse = RuntimeError("CUDA error: operation not permitted when stream is capturing\nmore about it")
    photos, boxes = crowd([7])
    ours(photos, boxes)
    with pytest.warns(UserWarning, match=r"^the network cannot be captured .*: CUDA error: .* is capturing$") as caught:
        assert_same(ours(photos, boxes), theirs(photos, boxes))
    assert len(caught) == 1
    cuda.refuse, replays = None, cuda.replays
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for count in (7, 3, 3, 12, 12, 12):
            photos, boxes = crowd([count])
            assert_same(ours(photos, boxes), theirs(photos, boxes))
    assert (cuda.captured, cuda.replays) == ([4], replays)
    assert not ours.engine._buckets


def test_an_error_of_the_network_itself_is_not_hidden(graphed):
    model = spot_model(flip_test=False)
    ours, _ = graphed(model)
    photos, boxes = crowd([3])

    def fail(module, inputs):
        raise RuntimeError("out of memory")

    ours.engine.network.backbone.register_forward_pre_hook(fail)
    with pytest.raises(RuntimeError, match="out of memory"):
        ours(photos, boxes)


def test_there_is_no_end_of_sizes_but_of_graphs(graphed, monkeypatch):
    monkeypatch.setattr(graphs, "MOST_BUCKETS", 3)
    ours, cuda = graphed(spot_model(flip_test=False))
    theirs = Predictor(spot_model(flip_test=False), device="cpu")
    for count in (9, 10, 11, 12, 13):
        photos, boxes = crowd([count])
        for _ in range(3):
            assert_same(ours(photos, boxes, batch_size=count), theirs(photos, boxes))
    assert cuda.captured == [9, 10, 11]


def test_autocast_around_a_capture_does_not_last(graphed):
    torch.manual_seed(0)
    model = create_model("resnet18_slim", input_size=(64, 64)).eval()
    ours, _ = graphed(model)
    photos, boxes = crowd([4])
    wanted = ours(photos, boxes)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        ours(photos, boxes)
    np.testing.assert_array_equal(ours(photos, boxes)[0].scores, wanted[0].scores)


def test_threads_take_turns(graphed):
    ours, cuda = graphed(spot_model(flip_test=False))
    theirs = Predictor(spot_model(flip_test=False), device="cpu")
    cases = [crowd([3, 2, seed + 1], seed) for seed in range(4)]
    wanted = [theirs(*case) for case in cases]
    cases = [case for case in cases for _ in range(4)]
    found = [[] for _ in cases]

    def work(number):
        for _ in range(5):
            found[number].append(ours(*cases[number], batch_size=4))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(len(cases))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number, results in enumerate(found):
        assert len(results) == 5
        for result in results:
            assert_same(result, wanted[number // 4])
    assert sorted(cuda.captured) == sorted(set(cuda.captured))


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, lambda given: pickle.loads(pickle.dumps(given))])
def test_copies_begin_without_graphs(duplicate, graphed):
    ours, cuda = graphed(spot_model(flip_test=False))
    photos, boxes = crowd([5])
    wanted = [ours(photos, boxes) for _ in range(3)][-1]
    again = duplicate(ours)
    assert_same(again(photos, boxes), wanted)
    if duplicate is not copy.copy:  # which shares it
        assert again.engine is not ours.engine
        assert not again.engine._buckets
        assert again.engine.network is not ours.engine.network
    assert cuda.replays == (3 if duplicate is copy.copy else 2)
