"""Photos that cannot be read: a step is that of the others alone, worked out from a run over nothing but these."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
import torch

from fastpose.cli import main
from fastpose.models import load_model

UNREADABLE = ("train1.png", "train4.png", "train6.png")

RECIPE = """
name: one_step
model: {name: resnet18_slim, skeleton: coco17, options: {input_size: [64, 64]}}
data: {root: ROOT, train: [{annotations: FILE}], cache_gb: 0.1}
augment: {half_body_prob: 0, shift_prob: 0, scale_prob: 0, rotate_prob: 0, flip_prob: 0}
train:
  epochs: 1
  batch_size: 8
  optimizer: {name: sgd, lr: 0.5, weight_decay: 0.0}
  schedule: {warmup: 0}
  precision: float32
  deterministic: true
  seed: 3
log: {every: 1}
"""


def run(folder: Path, file: Path, crops: int) -> tuple[dict[str, str], dict[str, torch.Tensor]]:
    """The line of the only step, and the weights after it."""
    folder.mkdir()
    (folder / "recipe.yaml").write_text(RECIPE.replace("ROOT", str(file.parent)).replace("FILE", file.name))
    with pytest.raises(SystemExit) as stop:
        main(["train", str(folder / "recipe.yaml"), "--out", str(folder / "out"), f"train.batch_size={crops}"])
    assert stop.value.code == 0
    with (folder / "out" / "log.csv").open() as lines:
        (step,) = [row for row in csv.DictReader(lines) if row["loss"]]
    return step, load_model(folder / "out" / "last.safetensors").state_dict()


def test_a_step_is_that_of_the_photos_that_can_be_read(draw_set, tmp_path: Path) -> None:
    draw_set(tmp_path, "train", 8)
    content = json.loads((tmp_path / "train.json").read_text())
    gone = {image["id"] for image in content["images"] if image["file_name"] in UNREADABLE}
    few = {
        **content,
        "images": [image for image in content["images"] if image["id"] not in gone],
        "annotations": [person for person in content["annotations"] if person["image_id"] not in gone],
    }
    (tmp_path / "few.json").write_text(json.dumps(few))
    for name in UNREADABLE:
        (tmp_path / name).write_bytes(b"no photo")
    whole, weights = run(tmp_path / "all", tmp_path / "train.json", 8)
    part, expected = run(tmp_path / "few", tmp_path / "few.json", 5)
    # The mean of five crops, not of eight with three that are nothing.
    assert float(whole["loss"]) == pytest.approx(float(part["loss"]), rel=1e-4)
    assert float(whole["grad_norm"]) == pytest.approx(float(part["grad_norm"]), rel=1e-3)
    assert weights.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(weights[name], value, rtol=1e-3, atol=1e-5, msg=name)
