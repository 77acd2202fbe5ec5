"""A data set of drawn figures, small enough to train on within seconds."""

import json
import os
import signal
from contextlib import contextmanager

import cv2
import numpy as np
import pytest
import torch

from fastpose.skeletons import COCO17

PLACES = {  # of a standing figure, as fractions of its box
    "nose": (0.5, 0.08), "left_eye": (0.55, 0.05), "right_eye": (0.45, 0.05), "left_ear": (0.6, 0.07),
    "right_ear": (0.4, 0.07), "left_shoulder": (0.75, 0.22), "right_shoulder": (0.25, 0.22), "left_elbow": (0.9, 0.38),
    "right_elbow": (0.1, 0.38), "left_wrist": (0.95, 0.55), "right_wrist": (0.05, 0.55), "left_hip": (0.65, 0.55),
    "right_hip": (0.35, 0.55), "left_knee": (0.7, 0.75), "right_knee": (0.3, 0.75), "left_ankle": (0.7, 0.95),
    "right_ankle": (0.3, 0.95),
}  # fmt: skip


def draw(folder, name, count, seed=0):
    """Photos and a COCO-style file ``name`` with one dotted figure each, in ``folder``."""
    rng = np.random.default_rng(seed)
    colours = np.random.default_rng(99).integers(60, 256, (17, 3)).tolist()
    images, annotations = [], []
    for number in range(count):
        picture = np.full((90, 80, 3), rng.integers(0, 50), np.uint8)
        left, top = rng.uniform(8, 16, 2)
        width, height = rng.uniform(44, 52), rng.uniform(60, 66)
        points = []
        for joint, key in enumerate(COCO17.keypoints):
            x, y = left + PLACES[key][0] * width, top + PLACES[key][1] * height
            cv2.circle(picture, (round(x), round(y)), 3, colours[joint], -1)
            points += [round(float(x), 2), round(float(y), 2), 2]
        file_name = f"{name}{number}.png"
        cv2.imwrite(str(folder / file_name), picture)
        images.append({"id": number + 1, "file_name": file_name, "width": 80, "height": 90})
        annotations.append(
            {
                "id": number + 1, "image_id": number + 1, "category_id": 1, "iscrowd": 0, "num_keypoints": 17,
                "keypoints": points, "bbox": [left, top, width, height], "area": width * height,
            }
        )  # fmt: skip
    category = {"id": 1, "name": "person", "keypoints": list(COCO17.keypoints), "skeleton": []}
    content = {"images": images, "annotations": annotations, "categories": [category]}
    (folder / f"{name}.json").write_text(json.dumps(content))


@pytest.fixture(scope="session")
def draw_set():
    """The function that draws a set: folder, name, number of figures, seed."""
    return draw


@pytest.fixture(scope="session")
def figures(tmp_path_factory):
    """A folder with ``train.json`` (24 figures) and ``val.json`` (8)."""
    folder = tmp_path_factory.mktemp("figures")
    draw(folder, "train", 24)
    draw(folder, "val", 8, seed=1)
    return folder


RECIPE = """
name: tiny
model: {name: resnet18_slim, skeleton: coco17, options: {input_size: [64, 64]}}
data:
  root: ROOT
  train: [{annotations: train.json}]
  val: {annotations: val.json}
  cache_gb: 0.1
augment: {half_body_prob: 0, scale: [0.9, 1.1], rotate: 10.0}
train:
  epochs: 2
  batch_size: 8
  optimizer: {lr: 2.0e-3}
  schedule: {warmup: 2}
  precision: float32
  deterministic: true
eval: {metric: pck, every: 1}
log: {every: 1}
"""


@pytest.fixture(scope="session")
def recipe_text(figures):
    """YAML of a run over the figures: 2 epochs of 3 steps."""
    return RECIPE.replace("ROOT", str(figures))


@pytest.fixture(scope="module")
def one_thread():
    """One thread, as the processes have that the results are compared with."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def at_step(monkeypatch):
    """``with at_step(n, action)``: something is done once optimizer step n is noted; Ctrl-C where nothing is named."""
    # Not above: what trains on a GPU is collected on machines without rich too, and a conftest that fails ends it all.
    from fastpose.train.log import RunLog

    note = RunLog.step

    @contextmanager
    def during(step, action=lambda: os.kill(os.getpid(), signal.SIGINT)):
        def noting(self, **values):
            note(self, **values)
            if values["step"] == step:
                action()

        with monkeypatch.context() as patched:
            patched.setattr(RunLog, "step", noting)
            yield

    return during
