"""tools/label_people.py and tools/train_detector.py: labels brought together, pictures, who answers for whom, a run."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import yaml

from fastpose.detection.network import decode_boxes, place_centers
from fastpose.detection.person_detector import DetectorSpec

TOOLS = Path(__file__).parents[2] / "tools"


@pytest.fixture
def label(monkeypatch):
    monkeypatch.syspath_prepend(str(TOOLS))
    return importlib.import_module("label_people")


@pytest.fixture
def train(label):
    return importlib.import_module("train_detector")


@pytest.fixture
def pictures(label):
    return importlib.import_module("detector_pictures")


@pytest.fixture
def loss(label):
    return importlib.import_module("detector_loss")


def test_boxes_that_overlap_are_fused_by_score(label):
    first = np.array([[0, 0, 10, 20, 0.9], [50, 0, 60, 20, 0.4]])
    second = np.array([[2, 0, 12, 20, 0.3]])
    fused = label.fuse_boxes([first, second], [1.0, 1.0])
    np.testing.assert_allclose(fused[0], [0.5, 0, 10.5, 20, 0.6])
    np.testing.assert_allclose(fused[1], [50, 0, 60, 20, 0.2])  # the second detector did not see it
    # Two boxes of one detector are two people, however near.
    assert len(label.fuse_boxes([np.array([[0, 0, 10, 20, 0.9], [1, 0, 11, 20, 0.8]])], [1.0])) == 2
    assert label.fuse_boxes([np.empty((0, 5))], [1.0]).shape == (0, 5)


def test_labelling_goes_on_after_a_line_that_was_cut_short(label, tmp_path):
    out = tmp_path / "labels.jsonl"
    asked: list[str] = []

    def answer(name):
        asked.append(name)
        return {"n": len(name)}

    label._extend(out, ["a", "bb"], answer)
    out.write_text(out.read_text() + '{"photo": "ccc", "n', encoding="utf-8")
    label._extend(out, ["a", "bb", "ccc"], answer)
    assert asked == ["a", "bb", "ccc"]
    assert [line["n"] for line in label.read_lines(out)] == [1, 2, 3]


def test_sure_points_become_annotations(label, tmp_path):
    points = [[float(i), float(2 * i), 0.9 if i < 12 else 0.1] for i in range(17)]
    people = [{"box": [0, 0, 20, 40, 0.8], "points": points}, {"box": [0, 0, 9, 9, 0.8], "points": [[1, 1, 0.1]] * 17}]
    file = tmp_path / "points.jsonl"
    file.write_text(json.dumps({"photo": "a.jpg", "size": [50, 60], "people": people}) + "\n", encoding="utf-8")
    monkey = importlib.import_module("argparse").Namespace
    label.write_coco(monkey(points=file, out=tmp_path / "people.json", sure=0.45, first_id=7))
    content = json.loads((tmp_path / "people.json").read_text())
    assert content["images"] == [{"id": 7, "file_name": "a.jpg", "height": 50, "width": 60}]
    (person,) = content["annotations"]
    assert (person["num_keypoints"], person["bbox"], person["image_id"]) == (12, [0, 0, 20, 40], 7)
    assert person["keypoints"][3:6] == [1, 2, 2]
    assert person["keypoints"][-3:] == [0, 0, 0]


@pytest.fixture
def photos(pictures, tmp_path):
    """Grey photos with one red person each, a rectangle."""
    folder = tmp_path / "photos"
    folder.mkdir()
    images, annotations = [], []
    rng = np.random.default_rng(0)
    for number in range(6):
        photo = np.full((120, 160, 3), 90, np.uint8)
        x, y = rng.integers(20, 90), rng.integers(10, 50)
        photo[y : y + 60, x : x + 30] = (0, 0, 255)
        cv2.imwrite(str(folder / f"{number}.png"), photo)
        images.append({"id": number, "file_name": f"{number}.png", "height": 120, "width": 160})
        box = [int(x), int(y), 30, 60]
        annotations.append(
            {"id": number + 1, "image_id": number, "category_id": 1, "bbox": box, "area": 1800, "iscrowd": 0}
        )
    content = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "person"}]}
    (tmp_path / "people.json").write_text(json.dumps(content), encoding="utf-8")
    return tmp_path


SET = {"photos": "photos", "annotations": "people.json", "share": 1.0}


def test_boxes_lie_on_what_the_picture_shows(pictures, photos):
    data = pictures.Photos()
    data.add_set(photos, SET)
    spec = DetectorSpec()
    maker = pictures.PictureMaker(data, spec, 3, 10**8)
    images, boxes, _ = maker.batch(0, 40, 128)
    again, _, _ = maker.batch(0, 40, 128)
    assert torch.equal(images, again)
    assert images.shape == (40, 3, 128, 128)
    pixels = (images.permute(0, 2, 3, 1) * torch.tensor(spec.std) + torch.tensor(spec.mean)).numpy()
    checked = 0
    for picture, rows in zip(pixels, boxes, strict=True):
        red = picture[..., 2] - picture[..., 0] > 60
        for x0, y0, x1, y1, sure in rows:
            assert sure == 1
            inner = red[round(y0 + 1.5) : round(y1 - 1.5), round(x0 + 1.5) : round(x1 - 1.5)]
            assert inner.mean() > 0.95
            checked += 1
        covered = np.zeros_like(red)
        for x0, y0, x1, y1, _ in rows:
            covered[max(0, int(y0) - 2) : int(y1) + 3, max(0, int(x0) - 2) : int(x1) + 3] = True
        assert (red & ~covered).sum() <= 400  # slivers, which are no people to be found
    assert checked > 25


def test_a_box_is_answered_for_by_places_that_fit_it(loss):
    centers, strides = place_centers((64, 64))
    boxes = torch.tensor([[[4.0, 4.0, 36.0, 60.0, 1.0], [41.0, 9.0, 47.0, 15.0, 0.5], [0, 0, 0, 0, 0]]])
    there = torch.tensor([[True, True, False]])
    reach = torch.stack([strides] * 4, 1)[None] * 2
    predicted = decode_boxes(reach, centers)
    scores = torch.full((1, len(centers)), 0.01)
    best, positive, quality = loss.assign(scores, predicted, boxes, there, centers, strides)
    assert positive.any()
    assert set(best[positive].tolist()) == {0, 1}  # the small one, too, and not what is not there
    assert (quality[~positive] == 0).all()
    ious, _ = loss.pair_ious(predicted[0], boxes[0, 0, :4])
    of_first = positive[0] & (best[0] == 0)
    assert quality[0][of_first].max() == pytest.approx(ious[of_first].max().item(), abs=1e-5)
    ious, _ = loss.pair_ious(predicted[0], boxes[0, 1, :4])
    of_second = positive[0] & (best[0] == 1)
    assert quality[0][of_second].max() == pytest.approx(0.5 * ious[of_second].max().item(), abs=1e-5)


def test_what_is_ignored_is_no_background(loss):
    centers, strides = place_centers((64, 64))
    logits = torch.zeros(1, len(centers), requires_grad=True)
    distances = torch.full((1, len(centers), 4), 9.0, requires_grad=True)
    region = np.array([[0, 0, 32, 64]], np.float32)
    score_loss, box_loss = loss.detection_loss((logits, distances), [np.empty((0, 5))], [region], centers, strides)
    (score_loss + box_loss).backward()
    inside = centers[:, 0] < 32
    assert (logits.grad[0, inside] == 0).all()
    assert (logits.grad[0, ~inside] > 0).all()


def test_a_run_learns_and_goes_on_where_it_was(train, photos, monkeypatch, capsys):
    recipe = {
        "root": str(photos), "seed": 1, "size": 96, "steps": 60, "batch_size": 8, "lr": 4e-3, "weight_decay": 0.01,
        "warmup": 10, "cooldown": 0.5, "ema": 0.9, "clip_grad": 10.0, "bfloat16": False, "cache_gb": 0.1,
        "model": {"widths": [8, 8, 16, 16, 16], "depths": [0, 1, 1, 1], "neck": 16, "side": 96}, "sets": [SET],
        "eval": {"every": 30, "annotations": "people.json", "photos": "photos"},
    }  # fmt: skip
    (photos / "detector.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
    out = photos / "run"
    for steps in (30, 60):
        monkeypatch.setattr(
            sys, "argv", ["train_detector.py", str(photos / "detector.yaml"), str(out), "--steps", str(steps)]
        )
        train.main()
    assert "goes on at step 30" in capsys.readouterr().out
    state = torch.load(out / "state.pt", weights_only=True)
    assert state["step"] == 60
    figures = [float(line.split("AP50=")[1].split(",")[0]) for line in (out / "log.csv").read_text().split()]
    assert len(figures) == 2
    assert figures[-1] > 0.7
    assert (out / "best.safetensors").exists()


def test_a_picture_in_a_mirror_has_its_boxes_and_its_teacher_there_too(pictures):
    size = 64
    centers, _ = place_centers((size, size))
    boxes = torch.cat([centers - 3, centers + torch.tensor([5.0, 2.0])], 1)[None]
    images = torch.arange(3 * size * size, dtype=torch.float32).reshape(1, 3, size, size)
    rows = [np.array([[1, 2, 11, 20, 0.5]], np.float32)]
    batch = pictures.Batch(
        images, rows, [np.empty((0, 4), np.float32)], pictures.Taught(centers[None, :, 0], boxes, [images])
    )
    seen = batch.mirrored()
    assert torch.equal(seen.images[..., 0], images[..., -1])
    np.testing.assert_array_equal(seen.boxes[0], [[53, 2, 63, 20, 0.5]])
    scores, corners = seen.taught.scores, seen.taught.boxes
    assert torch.equal(seen.taught.features[0], seen.images)
    assert torch.equal(scores[0], size - centers[:, 0])  # each place's score is that of the place across
    assert torch.equal(
        corners[0], torch.cat([centers - torch.tensor([5.0, 3.0]), centers + torch.tensor([3.0, 2.0])], 1)
    )
    again = seen.mirrored()
    assert torch.equal(again.images, images)
    assert torch.equal(again.taught.boxes, boxes)
