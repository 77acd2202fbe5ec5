"""Random order: the groups among each other, and the contenders within each, so that these stay neighbours in time."""

from __future__ import annotations

import os
import random
from itertools import groupby
from typing import Any

import pytest

SEED = int(os.environ.get("FASTPOSE_BENCH_SEED", random.SystemRandom().randrange(1 << 32)))


def pytest_report_header() -> str:
    return f"benchmarks: order from FASTPOSE_BENCH_SEED={SEED}"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    def group(item: Any) -> tuple[str, int, str]:
        params = item.callspec.params
        return params["case"].name, params["count"], params["caches"]

    order = random.Random(SEED)
    ours = [item for item in items if item.path.name.startswith("bench_")]
    groups = [list(members) for _, members in groupby(sorted(ours, key=group), key=group)]
    order.shuffle(groups)
    for members in groups:
        order.shuffle(members)
    items[:] = [item for members in groups for item in members] + [item for item in items if item not in ours]
