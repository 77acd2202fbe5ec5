"""A group of one process on a GPU trains as a process without a group."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
import torch

SGD = "train.optimizer={name: sgd, lr: 0.05, weight_decay: 1e-4}"  # see test_distributed.py


def losses(folder: Path) -> list[float]:
    with (folder / "log.csv").open() as file:
        return [float(row["loss"]) for row in csv.DictReader(file) if row["loss"]]


@pytest.mark.cuda
@pytest.mark.parametrize("options", [[], ["train.sync_batchnorm=true"], ["train.sharded=true"]])
def test_one_process_of_nccl_trains_as_without(options: list[str], recipe_text: str, tmp_path: Path) -> None:
    for name in ("pydantic", "rich", "yaml"):  # which benchmarks/gpu.sh does without
        pytest.importorskip(name)
    from fastpose.models import load_model
    from fastpose.train.loop import train
    from fastpose.train.recipe import parse_recipe

    small = ["train.device=cuda", "train.deterministic=false", SGD]
    train(parse_recipe(recipe_text, small), tmp_path / "plain")
    torch.distributed.init_process_group(
        "cpu:gloo,cuda:nccl", init_method=f"file://{tmp_path / 'meeting'}", rank=0, world_size=1
    )
    try:
        train(parse_recipe(recipe_text, [*small, *options]), tmp_path / "group")
    finally:
        torch.distributed.destroy_process_group()
    assert losses(tmp_path / "group") == pytest.approx(losses(tmp_path / "plain"), rel=1e-2)
    assert load_model(tmp_path / "group" / "last.safetensors").spec.input_size == (64, 64)
