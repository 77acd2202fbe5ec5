"""The predictor and a training step on CUDA, against the CPU."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from spot_model import random_spots, spot_model

from fastpose.detection.person_detector import DetectorSpec, PersonDetector
from fastpose.models import create_model
from fastpose.models.objective import build_loss
from fastpose.predict import Predictor, find_people

pytestmark = pytest.mark.cuda
DEVICE = torch.device("cuda")


@pytest.fixture(autouse=True)
def exact_convolutions() -> Iterator[None]:
    """No TF32: results are compared with the CPU's."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    yield
    torch.backends.cudnn.allow_tf32 = before


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("flip_test", [False, True])
def test_keypoints_are_where_the_spots_are(flip_test: bool, dtype: str) -> None:
    cases = [random_spots(seed) for seed in range(10)]
    predictor = Predictor(spot_model(flip_test=flip_test), device=DEVICE, dtype=dtype)
    found = predictor([case[0] for case in cases], [case[2] for case in cases], batch_size=4)
    for poses, (_, points, _) in zip(found, cases, strict=True):
        # A heatmap pixel is four crop pixels; bfloat16 has equal neighbours around a peak.
        assert np.abs(poses.keypoints[0] - points).max() < (2 if dtype == "bfloat16" else 1) * 4 * 2.1


def test_photos_may_lie_on_the_gpu() -> None:
    image, _, boxes = random_spots(3)
    predictor = Predictor(spot_model(), device=DEVICE)
    wanted = predictor(image, boxes)
    np.testing.assert_array_equal(predictor(torch.from_numpy(image).to(DEVICE), boxes).keypoints, wanted.keypoints)


def test_a_real_network_gives_the_same() -> None:
    torch.manual_seed(0)
    model = create_model("resnet18_slim", input_size=(128, 96)).eval()
    image, _, boxes = random_spots(1, (150, 120))
    many = np.repeat(boxes, 9, axis=0)
    ours = Predictor(model, device=DEVICE)(image, many, batch_size=4)
    theirs = Predictor(model, device="cpu")(image, many, batch_size=4)
    np.testing.assert_allclose(ours.scores, theirs.scores, rtol=1e-3, atol=1e-4)
    assert (np.abs(ours.keypoints - theirs.keypoints).max(-1) < 0.5).mean() > 0.9  # equal peaks of an untrained network


def test_people_are_found_on_the_gpu() -> None:
    torch.manual_seed(0)
    spec = DetectorSpec(widths=(8, 8, 16, 16, 16), depths=(0, 1, 1, 1), neck=16, side=64)
    net = spec.build()
    images = [random_spots(seed)[0] for seed in range(40)]
    ours, theirs = (
        list(find_people(images, PersonDetector(net, spec, threshold=1e-4, device=device), max_people=2))
        for device in (DEVICE, "cpu")
    )
    for a, b in zip(ours, theirs, strict=True):
        assert len(a) == len(b) > 0
        np.testing.assert_allclose(a.box_scores, b.box_scores, rtol=1e-2)
    detector = PersonDetector(net, spec, threshold=1e-4, device=DEVICE)
    found = Predictor(spot_model(), device=DEVICE, detector=detector)(images, max_people=2)
    for poses, people in zip(found, ours, strict=True):
        assert len(poses) <= len(people)
        assert set(poses.milliseconds) == {"detect", "crop", "network", "decode"}


def test_a_training_step() -> None:
    gradients, losses = [], []
    for device in (DEVICE, torch.device("cpu")):
        torch.manual_seed(0)
        model = create_model("resnet18_slim", input_size=(64, 64)).to(device)
        images = torch.randn((4, 3, 64, 64), generator=torch.Generator().manual_seed(1)).to(device)
        points = torch.rand((4, 17, 2), generator=torch.Generator().manual_seed(2)).to(device) * 64
        loss = build_loss(model.head, model.spec)
        optimizer = torch.optim.Adam(model.parameters(), 1e-3)
        seen = []
        for step in range(6):
            value = loss(model(images), points, torch.ones(4, 17, device=device))
            optimizer.zero_grad(set_to_none=True)
            value.backward()
            if step == 0:
                gradients.append([p.grad.detach().cpu().clone() for p in model.parameters() if p.grad is not None])
            optimizer.step()
            seen.append(float(value.detach()))
        losses.append(seen)
        assert seen[-1] < seen[0]
    np.testing.assert_allclose(losses[0][0], losses[1][0], rtol=1e-4)
    assert gradients[0]
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-2, atol=1e-3 * float(theirs.abs().max()) + 1e-9)


def test_a_step_under_autocast_does_not_wait() -> None:
    model = create_model("resnet18_slim", input_size=(64, 64)).to(DEVICE)
    model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    images = torch.randn((4, 3, 64, 64), device=DEVICE)
    points, weights = torch.rand((4, 17, 2), device=DEVICE) * 64, torch.ones(4, 17, device=DEVICE)
    loss = build_loss(model.head, model.spec)

    def step() -> None:
        with torch.autocast("cuda", dtype=torch.bfloat16):
            maps = model(images)
        loss(maps, points, weights).backward()

    step()
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        step()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert all(p.grad is None or bool(p.grad.isfinite().all()) for p in model.parameters())
