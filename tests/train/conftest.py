"""A recipe over the drawn figures, small enough to train within seconds."""

import os
import signal
from contextlib import contextmanager

import pytest
import torch

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
