"""Batches made on a GPU: the CPU's, whoever takes them, and nobody waits."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from test_loader import SPEC, dataset
from test_sending import CASES

from fastpose.data import loader as loader_module
from fastpose.data.augment import Augmentation
from fastpose.data.loader import Loader
from fastpose.data.records import PoseRecords
from fastpose.data.synthetic import synthetic_records
from fastpose.models import carried_file, create_model, load_model
from fastpose.ops import heatmap_loss

pytestmark = pytest.mark.cuda
# Where a crop of bytes is blended in fixed point, it is 0.004 grey levels off at most; rounded pixels are changed.
ATOL = 2e-3


@pytest.fixture(scope="module")
def scenes() -> PoseRecords:
    return synthetic_records(5, seed=3, size=(96, 128), people=2)


@pytest.mark.parametrize("case", CASES)
def test_the_same_batches_as_on_the_cpu(case: str, scenes: PoseRecords, monkeypatch: pytest.MonkeyPatch) -> None:
    changes, given = CASES[case]
    options: dict[str, Any] = {"batch_size": 4, "seed": 5, **given}
    if changes or case in ("several groups", "reduced"):
        options["augmentation"] = Augmentation(**changes)
    if case == "several groups":
        monkeypatch.setattr(loader_module, "MAX_HELD_BYTES", 1)
    expected = list(Loader(dataset(scenes), SPEC, **options).epoch(2))
    found = list(Loader(dataset(scenes), SPEC, device="cuda", **options).epoch(2))
    assert len(found) == len(expected) > 0
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.images.is_cuda
        assert ours.images.is_contiguous(memory_format=torch.channels_last)
        torch.testing.assert_close(ours.images.cpu(), theirs.images, atol=ATOL, rtol=0)
        for name in ("keypoints", "weights", "annotated"):
            torch.testing.assert_close(getattr(ours, name).cpu(), getattr(theirs, name), atol=0, rtol=0)
        np.testing.assert_array_equal(ours.people, theirs.people)


@pytest.mark.parametrize("own_stream", [False, True])
def test_a_slow_consumer_finds_its_batches_whole(own_stream: bool, scenes: PoseRecords) -> None:
    """Memory of a batch that was dropped in Python is not written to before the work on it is done."""
    options: dict[str, Any] = {"batch_size": 5, "augmentation": Augmentation(), "seed": 1}
    expected = [
        batch.images.sum((1, 2, 3)) for e in range(8) for batch in Loader(dataset(scenes), SPEC, **options).epoch(e)
    ]
    slow = torch.randn(4096, 4096, device="cuda")
    stream = torch.cuda.Stream() if own_stream else torch.cuda.current_stream()
    found = []
    loader = Loader(dataset(scenes), SPEC, device="cuda", **options)
    stream.wait_stream(torch.cuda.current_stream())  # for what is in `slow`
    with torch.cuda.stream(stream):
        for epoch in range(8):
            for batch in loader.epoch(epoch):
                for _ in range(4):
                    slow = (slow @ slow).clamp(-1, 1)
                found.append(batch.images.sum((1, 2, 3)) + slow[0, 0] * 0)
                del batch
    torch.cuda.synchronize()
    assert len(found) == len(expected)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours.cpu(), theirs, atol=5.0, rtol=0)  # of 9216 values, each within 0.0005


def test_neither_the_loader_nor_a_step_waits(scenes: PoseRecords) -> None:
    model = create_model("mobilenetv2", input_size=(64, 64)).cuda().to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(model.parameters(), 1e-4, fused=True)
    spec = model.spec
    loader = Loader(dataset(scenes), spec, batch_size=5, augmentation=Augmentation(colour_prob=0.5), device="cuda")

    def step(batch: Any) -> None:
        with torch.autocast("cuda", dtype=torch.bfloat16):
            maps = model(batch.images)
        heatmap_loss(maps.float(), batch.keypoints, batch.weights, spec.codec, spec.input_size).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    for batch in loader.epoch(0):
        step(batch)
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")  # in every thread
    try:
        for batch in loader.epoch(1):
            step(batch)
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_an_evaluation_predicts_what_the_cpu_does(scenes: PoseRecords) -> None:
    pytest.importorskip("yaml")  # which benchmarks/gpu.sh does without
    from fastpose.evaluate import Evaluator

    model = load_model(carried_file())
    there = [Evaluator(scenes, batch_size=3).predict(model.to(device)) for device in ("cpu", "cuda")]
    # Convolutions in TF32: a joint between two peaks may jump to the other one.
    same = np.abs(there[0].keypoints - there[1].keypoints).max(-1) < 0.5
    assert same.mean() > 0.95
    np.testing.assert_allclose(there[0].scores, there[1].scores, atol=2e-2)
    assert there[0].scores.mean() > 0.2  # people who can be found
