"""docs/weights.md beside the tables in the code."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from fastpose.models import create_model
from fastpose.models.experts import EXPERTS
from fastpose.models.layouts import LAYOUTS, STATE_DICTS

PAGE = (Path(__file__).parents[2] / "docs" / "weights.md").read_text(encoding="utf-8")


def _first_cells(heading):
    table = re.search(rf"\| {re.escape(heading)} \|.*\n\|[-|]+\n((?:\|.*\n)+)", PAGE)[1]
    return [line.split("|")[1].strip() for line in table.splitlines()]


def test_all_layouts_are_listed():
    assert set(_first_cells("layout")) == {"this package's own", *(layout.name for layout in LAYOUTS)}
    assert all(f"`{key}`" in PAGE for key in STATE_DICTS)


def test_all_experts_are_listed_in_order():
    assert _first_cells("`expert`") == [f"`{expert.name}`" for expert in EXPERTS]
    for number, expert in enumerate(EXPERTS):
        crops = "UDP" if expert.spec.get("udp", True) else "plain"
        assert f"| `{expert.name}` | {number} | `{expert.skeleton}` | {crops} |" in PAGE


@pytest.mark.parametrize("size", ["small", "base"])
def test_the_network_of_the_example_is_that_of_convert(size):
    spec = create_model(f"vitpose_{size}", skeleton="aic14", udp=False, codec={"kind": "gaussian"}).spec
    assert (spec.udp, spec.codec.kind) == (False, "gaussian")
