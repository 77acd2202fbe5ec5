"""The best model by a metric that is an error has the lowest figure."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from fastpose.metrics import METRICS
from fastpose.train.epoch import Trainer


class _Evaluator:
    """Says what it was given."""

    def __init__(self, metric: str, measure: Callable[..., dict[str, float]]) -> None:
        self.metric, self.metric_name, self.failed = METRICS[metric], METRICS[metric].figure, ()
        self._measure = measure

    def __call__(self, network: Any, **options: Any) -> dict[str, float]:
        return self._measure(network, **options)


@pytest.mark.parametrize(
    ("metric", "figures", "best", "kept"),
    [
        ("face_nme", [(0.06, 0.07), (0.08, 0.05), (0.09, 0.06)], (0.05, 2, "ema"), ["trained", "ema"]),
        ("coco_ap", [(0.06, 0.07), (0.08, 0.05), (0.07, 0.06)], (0.08, 2, "trained"), ["ema", "trained"]),
    ],
)
def test_which_is_kept(metric: str, figures: list[tuple[float, float]], best: tuple[Any, ...], kept: list[str]) -> None:
    saved: list[str] = []
    run = SimpleNamespace(best=None, best_epoch=None, best_weights=None, no_better=0, last={}, steps=0)
    size = SimpleNamespace(input_size=(64, 64))
    trainer: Any = SimpleNamespace(
        run=run,
        recipe=SimpleNamespace(eval=SimpleNamespace(flip_test=False), train=SimpleNamespace(epochs=3)),
        autocast=None,
        state=SimpleNamespace(network=SimpleNamespace(full_model=lambda kind: kind), model=SimpleNamespace(spec=size)),
        log=SimpleNamespace(metrics=lambda **_: None),
        _unjudged={},
        _save_model=lambda network, *_: saved.append(network),
    )
    for epoch, pair in enumerate(figures):
        values = dict(zip(("trained", "ema"), pair, strict=True))

        def measure(kind: str, values: dict[str, float] = values, **_: Any) -> dict[str, float]:
            return {METRICS[metric].figure: values[kind]}

        evaluator: Any = _Evaluator(metric, measure)
        Trainer._measure(trainer, evaluator, {"trained": "trained", "ema": "ema"}, SimpleNamespace(spec=size), epoch)
    assert (run.best, run.best_epoch, run.best_weights) == best
    assert saved == kept
    assert run.no_better == 1
