"""The predictor's graphs, streams and late results on CUDA: the CPU's poses, in whatever numbers they are asked for."""

from __future__ import annotations

import copy
import gc
import threading
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from spot_model import random_spots, spot_model
from torch import nn

from fastpose.models import PoseModel, create_model
from fastpose.predict import Poses, Predictor

pytestmark = pytest.mark.cuda
DEVICE = torch.device("cuda")

FAMILIES: dict[str, dict[str, Any]] = {
    "hrnet_w32": {}, "litehrnet18": {}, "vitpose_small": {}, "swin_tiny": {}, "pvtv2_b2": {}, "hrformer_small": {},
    "rsn18": {}, "scnet50": {}, "shufflenetv2": {}, "cspnext_tiny": {}, "resnet18_slim_refined": {},
    "mobilenetv2 visibility": {"head": "visibility"},
    "mobilenetv2 rle": {"head": "rle", "codec": {"kind": "regression"}},
}  # fmt: skip


@pytest.fixture(autouse=True)
def exact() -> Iterator[None]:
    """No TF32, as results are compared with the CPU's; no warning that the network cannot be captured."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*cannot be captured")
        yield
    torch.backends.cudnn.allow_tf32 = before


def crowd(people: int, seed: int = 0) -> tuple[list[Any], list[Any]]:
    """People of photos of several sizes, up to 30 of each, with a box each of their own."""
    rng = np.random.default_rng(seed)
    photos, boxes = [], []
    while people:
        count = min(people, int(rng.integers(1, 31)))
        photos.append(random_spots(len(photos), (100 + 10 * (len(photos) % 3), 120))[0])
        corner = rng.uniform(0, 20, (count, 2))
        boxes.append(np.concatenate([corner, corner + rng.uniform(60, 90, (count, 2))], 1).astype(np.float32))
        people -= count
    return photos, boxes


def joined(results: list[Poses]) -> tuple[Any, Any]:
    """Keypoints and scores of everybody."""
    return np.concatenate([poses.keypoints for poses in results]), np.concatenate([poses.scores for poses in results])


def assert_same(ours: list[Poses], theirs: list[Poses]) -> None:
    assert [len(poses) for poses in ours] == [len(poses) for poses in theirs]
    (points, scores), (wanted, wanted_scores) = joined(ours), joined(theirs)
    np.testing.assert_allclose(points, wanted, atol=0.05)
    np.testing.assert_allclose(scores, wanted_scores, atol=1e-3)
    for poses in ours:
        assert set(poses.milliseconds) == {"crop", "network", "decode"}
        assert all(spent >= 0 for spent in poses.milliseconds.values())


def replayed(predictor: Predictor) -> set[int]:
    """Sizes of the graphs that there are."""
    return {size for size, bucket in predictor.engine._buckets.items() if bucket.replay}  # type: ignore[attr-defined]


@pytest.mark.parametrize("flip", [False, True])
def test_any_number_of_people(flip: bool) -> None:
    model = spot_model(flip_test=flip)
    ours, theirs = Predictor(model, device=DEVICE), Predictor(model, device="cpu")
    for turn in range(4):
        for people in (1, 3, 64, 65, 200):
            photos, boxes = crowd(people, seed=turn)
            assert_same(ours(photos, boxes), theirs(photos, boxes))
    full = 128 if flip else 64
    assert replayed(ours) == ({2, 8, 16, full} if flip else {1, 4, 8, full})


@pytest.mark.parametrize("batch_size", [1, 7, 50])
def test_other_batches(batch_size: int) -> None:
    ours, theirs = Predictor(spot_model(), device=DEVICE), Predictor(spot_model(), device="cpu")
    for turn in range(3):
        photos, boxes = crowd(90, seed=turn)
        assert_same(ours(photos, boxes, batch_size=batch_size), theirs(photos, boxes))
        assert_same(list(ours(iter(photos), iter(boxes), batch_size=batch_size)), theirs(photos, boxes))
    views = {"scales": (1.0, 1.2), "rotations": (0.0, 10.0)}
    photos, boxes = crowd(40, seed=5)
    for _ in range(3):
        assert_same(ours(photos, boxes, **views), theirs(photos, boxes, **views))


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("flip", [False, True])
def test_half_precision_is_near(flip: bool, dtype: str) -> None:
    ours = Predictor(spot_model(flip_test=flip), device=DEVICE, dtype=dtype)
    theirs = Predictor(spot_model(flip_test=flip), device="cpu")
    for turn in range(4):
        photos, boxes = crowd(70, seed=turn)
        (points, scores), (wanted, wanted_scores) = joined(ours(photos, boxes)), joined(theirs(photos, boxes))
        # There are equal neighbours around a peak; a heatmap pixel is four crop pixels, about one of the photo each.
        assert np.abs(points - wanted).max() < (12 if dtype == "bfloat16" else 6)
        np.testing.assert_allclose(scores, wanted_scores, atol=0.01)


@pytest.mark.parametrize("family", FAMILIES)
def test_networks_are_captured_and_give_the_same(family: str) -> None:
    torch.manual_seed(0)
    model = create_model(family.split()[0], input_size=(128, 96), **FAMILIES[family]).eval()
    predictor = Predictor(model, device=DEVICE)
    for seed in (1, 1, 1, 2):
        # Once without graphs, as a reference with the same arithmetic: a copy begins anew, and its first call is eager.
        photos, boxes = crowd(20, seed=seed)
        found, wanted = predictor(photos, boxes), copy.deepcopy(predictor)(photos, boxes)
        (points, scores), (wanted_points, wanted_scores) = joined(found), joined(wanted)
        np.testing.assert_allclose(scores, wanted_scores, rtol=1e-3, atol=1e-4)
        # A fresh network's maps are flat: two maxima may change places over a rounding.
        assert (np.abs(points - wanted_points).max(-1) < 0.5).mean() > 0.9
        for a, b in zip(found, wanted, strict=True):
            assert (a.visibility is None) == (b.visibility is None)
            if a.visibility is not None and b.visibility is not None:
                np.testing.assert_allclose(a.visibility, b.visibility, atol=1e-3)
    assert len(replayed(predictor)) == 1


def test_threads_and_streams_share_a_predictor() -> None:
    ours, theirs = Predictor(spot_model(), device=DEVICE), Predictor(spot_model(), device="cpu")
    cases = [crowd(people, seed) for seed, people in enumerate((90, 37, 90))]
    wanted = [theirs(*case) for case in cases]
    found: list[list[list[Poses]]] = [[] for _ in cases]

    def work(number: int) -> None:
        # The last one on the default stream.
        with torch.cuda.stream(None if number == 2 else torch.cuda.Stream(DEVICE)):
            for _ in range(20):
                found[number].append(ours(*cases[number]))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(len(cases))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number, results in enumerate(found):
        assert len(results) == 20
        for result in results:
            assert_same(result, wanted[number])


def test_waits_for_nothing_but_results() -> None:
    ours, theirs = Predictor(spot_model(), device=DEVICE), Predictor(spot_model(), device="cpu")
    photos, boxes = crowd(200)
    for _ in range(3):
        ours(photos, boxes)
    torch.cuda.synchronize(DEVICE)
    torch.cuda.set_sync_debug_mode("error")
    try:
        found = ours(photos, boxes)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert_same(found, theirs(photos, boxes))


def test_work_that_is_still_going_on_is_waited_for() -> None:
    # The stream is busy when photos are sent, when crops are cut and when results are read.
    ours, theirs = Predictor(spot_model(), device=DEVICE), Predictor(spot_model(), device="cpu")
    for turn in range(4):
        photos, boxes = crowd(150, seed=turn)
        torch.cuda._sleep(50_000_000)
        assert_same(ours(photos, boxes, batch_size=16), theirs(photos, boxes))


def test_photos_of_every_kind_of_memory() -> None:
    ours, theirs = Predictor(spot_model(), device=DEVICE), Predictor(spot_model(), device="cpu")
    photos, boxes = crowd(100)
    wanted = theirs(photos, boxes)
    tensors = [torch.from_numpy(photo) for photo in photos]
    for kind in (photos, tensors, [each.pin_memory() for each in tensors], [each.to(DEVICE) for each in tensors]):
        for _ in range(3):
            assert_same(ours(kind, boxes), wanted)


def test_streams_that_are_left_early_do_no_harm() -> None:
    ours, theirs = Predictor(spot_model(), device=DEVICE), Predictor(spot_model(), device="cpu")
    photos, boxes = crowd(120)
    wanted = theirs(photos, boxes)
    for _ in range(3):
        for poses in ours.stream(list(zip(photos, boxes, strict=True)), batch_size=8):
            np.testing.assert_allclose(poses.keypoints, wanted[0].keypoints, atol=0.05)
            break
        assert_same(ours(photos, boxes, batch_size=8), wanted)


class _Asks(nn.Module):
    """Looks at a value on the device, which cannot be captured."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x if float(x.sum()) > -1e9 else -x


def test_a_network_that_cannot_be_captured_runs_without() -> None:
    plain = spot_model()
    model = PoseModel(nn.Sequential(_Asks(), plain.backbone), nn.Identity(), plain.spec)
    ours, theirs = Predictor(model, device=DEVICE), Predictor(plain, device="cpu")
    photos, boxes = crowd(20)
    wanted = theirs(photos, boxes)
    assert_same(ours(photos, boxes), wanted)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(3):
            assert_same(ours(photos, boxes), wanted)
    assert len([each for each in caught if "cannot be captured" in str(each.message)]) == 1
    # And the device is as it was.
    torch.rand(5, device=DEVICE)
    other = Predictor(plain, device=DEVICE)
    for _ in range(3):
        assert_same(other(photos, boxes), wanted)
    assert replayed(other) == {40}


@pytest.mark.parametrize("inference", [False, True])
def test_graphs_of_others_go_on(inference: bool) -> None:
    # Random numbers in graphs come from tensors that all graphs of a process share.
    gc.collect()

    @torch.inference_mode(inference)
    def drawing() -> tuple[torch.cuda.CUDAGraph, torch.Tensor]:
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            return graph, torch.rand(1000, device=DEVICE)

    photos, boxes = crowd(20)
    predictor = Predictor(spot_model(), device=DEVICE)
    first = drawing() if inference else None
    for _ in range(3):
        predictor(photos, boxes)
    with torch.inference_mode(inference):
        for graph, values in filter(None, (first, drawing())):
            graph.replay()
            before = values.clone()
            graph.replay()
            assert not torch.equal(values, before)
    predictor(photos, boxes)
    assert replayed(predictor) == {40}
    torch.rand(5, device=DEVICE)


def test_memory_does_not_grow() -> None:
    ours = Predictor(spot_model(), device=DEVICE)
    photos, boxes = crowd(200)
    for _ in range(4):
        ours(photos, boxes)
    before = torch.cuda.memory_allocated(DEVICE)
    for _ in range(10):
        ours(photos, boxes)
    assert torch.cuda.memory_allocated(DEVICE) <= before


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="one GPU")
def test_another_device_than_the_current_one() -> None:
    ours, theirs = Predictor(spot_model(), device="cuda:1"), Predictor(spot_model(), device="cpu")
    assert ours.device == torch.device("cuda", 1)
    photos, boxes = crowd(100)
    for _ in range(3):
        assert_same(ours(photos, boxes), theirs(photos, boxes))
    assert torch.cuda.current_device() == 0
